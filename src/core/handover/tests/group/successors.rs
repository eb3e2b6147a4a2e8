//! Which member of the group is a successor.

use super::*;

fn current(names: &[&str], desired_capacity: i32) -> Answer {
    Answer::GroupState(Some(GroupState {
        members: names.iter().map(|name| member(name, "InService")).collect(),
        desired_capacity,
        max_size: 9,
        capacity_rebalance: true,
        ..empty_group()
    }))
}

/// A running instance, launched so many seconds after the notice.
fn instance(name: &str, launched: i64, tag: Option<&str>) -> Instance {
    Instance {
        launch_time: Some(epoch() + jiff::SignedDuration::from_secs(launched)),
        tags: tag.map(|tag| (tag.to_owned(), String::new())).into_iter().collect(),
        ..running(name)
    }
}

/// The world that Find sees: the group's members, its desired capacity, and what EC2 knows.
struct Seen {
    members: Vec<&'static str>,
    desired: i32,
    instances: Vec<Instance>,
}

impl Told {
    /// Lets time pass to this, or to the first call of this duty, while Find sees this.
    fn seeing(&mut self, seen: &Seen, end: u64, duty: DutyId) -> Option<Call> {
        while self.now <= end {
            for Due { duty: of, call, .. } in self.handover.due(at(self.now)) {
                let answer = match &call {
                    _ if of == duty => return Some(call),
                    Call::DescribeGroupSettings { .. } => Some(self.settings()),
                    Call::DescribeAutoScalingGroup { .. } => Some(self.of_group(current(&seen.members, seen.desired))),
                    Call::DescribeInstances { instance_ids } => {
                        let asked = seen.instances.iter().filter(|it| instance_ids.contains(&it.instance_id));
                        Some(Answer::Instances(asked.cloned().collect()))
                    }
                    Call::DescribeTargetHealth { targets, .. } if of != DutyId::Leave(0) => {
                        let row = |target: &Target| TargetHealth {
                            target: target.clone(),
                            state: if target.id == US { TargetState::Draining } else { TargetState::Healthy },
                            reason: None,
                        };
                        let names = seen.instances.iter().map(|it| it.instance_id.to_string());
                        let whole: Vec<Target> = names.map(|id| Target { id, port: 80 }).collect();
                        let asked = if targets.is_empty() { &whole } else { targets };
                        Some(Answer::Health(asked.iter().map(row).collect()))
                    }
                    call => well(call),
                };
                if let Some(answer) = answer {
                    self.handover.answered(at(self.now), of, answer);
                }
            }
            self.now += 100;
        }
        None
    }
}

#[test]
fn a_denied_launch_leaves_no_doubt_of_the_process_before_and_no_fellows_successor_is_taken_for_ours() {
    let mut told = told(plan_of(group(&[])), When::Auto, |incident| incident.start.earlier = Earlier::Perhaps);
    told.until(2_000, DutyId::Ask);
    told.answer(DutyId::Ask, members("InService"));
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
    told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
    let next = told.until(2_000, DutyId::Ask);
    assert!(matches!(next, Some(Call::DetachInstances { decrement: false, .. })), "{next:?}");
}

#[test]
fn a_new_member_of_a_group_that_nobody_has_raised_is_no_successor_of_a_launch_in_doubt() {
    for (desired, decrements) in [(3, false), (4, true)] {
        let mut told =
            told(plan_of(group(&[])), When::SuccessorHealthy, |incident| incident.start.earlier = Earlier::Perhaps);
        told.until(2_000, DutyId::Ask);
        told.answer(DutyId::Ask, members("InService"));
        assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        told.answer(DutyId::Ask, refused("ValidationError", "exceeds MaxSize"));
        let seen = Seen {
            members: vec![US, "i-other", "i-old", "i-new"],
            desired,
            instances: vec![instance("i-other", -900, None), instance("i-old", -900, None), instance("i-new", 5, None)],
        };
        match told.seeing(&seen, 60_000, DutyId::Ask) {
            Some(Call::DetachInstances { decrement, .. }) => assert_eq!(decrement, decrements, "{desired}"),
            other => panic!("{desired}: {other:?}"),
        }
        assert!(told.now < 15_000 || decrements, "{}", told.now);
    }
}

#[test]
fn a_launch_that_was_refused_before_a_restart_leaves_no_doubt_and_one_without_an_answer_does() {
    let full = || refused("ValidationError", "exceeds MaxSize");
    let silence = || Answer::Failed(Failure::unanswered("no answer"));
    // A token that was refused and asked for once more is in doubt as well.
    for (answer, asks_again, decrements) in [(full(), false, false), (silence(), false, true), (full(), true, true)] {
        let mut told = told(plan_of(group(&[])), When::Auto, |_| {});
        assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        told.answer(DutyId::Ask, answer.clone());
        assert!(told.until(4_000, DutyId::Ask).is_some());
        told.restart();
        assert!(matches!(told.until(10_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
        told.answer(DutyId::Ask, members("InService"));
        assert!(matches!(told.until(10_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        if asks_again {
            told.restart();
            assert!(matches!(told.until(10_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
            told.answer(DutyId::Ask, members("InService"));
            assert!(matches!(told.until(10_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        }
        told.answer(DutyId::Ask, full());
        // An operator has scaled out meanwhile.
        let instances = [("i-other", -900), ("i-old", -900), ("i-new", 5)].map(|(name, at)| instance(name, at, None));
        let seen = Seen { members: vec![US, "i-other", "i-old", "i-new"], desired: 4, instances: instances.to_vec() };
        let mut next = told.seeing(&seen, 60_000, DutyId::Ask);
        while matches!(next, Some(Call::DescribeAutoScalingGroup { .. })) {
            told.answer(DutyId::Ask, current(&seen.members, seen.desired));
            next = told.seeing(&seen, 60_000, DutyId::Ask);
        }
        match next {
            Some(Call::DetachInstances { decrement, .. }) => {
                assert_eq!(decrement, decrements, "{answer:?} {asks_again}")
            }
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

#[test]
fn without_a_record_what_an_earlier_process_had_launched_is_found_and_what_fellows_had_is_not() {
    // Another boot has another token, and so has the zone after one that has refused.
    for (new, fellow, launches) in [(1, false, false), (0, false, true), (1, true, true), (2, true, false)] {
        let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |incident| {
            (incident.planned_before, incident.start.earlier) = (false, Earlier::Perhaps);
            incident.start.launches_since = incident.start.successors_since;
        });
        let others = [("i-other", -900, fellow.then_some(LEAVING_TAG)), ("i-old", -900, None)];
        let others = others.into_iter().chain([("i-new", 5, None), ("i-newer", 9, None)].into_iter().take(new));
        let instances: Vec<_> = others.clone().map(|(name, at, tag)| instance(name, at, tag)).collect();
        let members = others.map(|(name, ..)| name).chain([US]).collect();
        let seen = Seen { members, desired: 3 + new as i32, instances };
        let mut next = told.seeing(&seen, 60_000, DutyId::Ask);
        loop {
            let answer = match &next {
                Some(Call::DescribeAutoScalingGroup { .. }) => current(&seen.members, seen.desired),
                Some(Call::DescribeInstances { .. }) => Answer::Instances(seen.instances.clone()),
                Some(Call::LaunchInstances { .. }) if launches => break,
                Some(Call::DetachInstances { decrement: true, .. }) if !launches => break,
                other => panic!("{new} {fellow}: {other:?}"),
            };
            told.answer(DutyId::Ask, answer);
            next = told.seeing(&seen, 60_000, DutyId::Ask);
        }
        assert_eq!(told.handover.successor_id(), (!launches).then(|| id("i-new")));
    }
}

#[test]
fn health_in_a_group_that_the_owner_registers_is_asked_for_by_name_where_its_port_is_known() {
    for (group_port, named) in [(Some(8080), vec![80, 8080]), (Some(80), vec![80]), (None, Vec::new())] {
        let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
        let registration = Registration { group_port, ..registration(WEB, US, &[80]) };
        let plan = Some(plan_of(group(&[])));
        let known = LookedUp { registrations: Some(vec![registration]), plan, ..LookedUp::default() };
        let settings = HandoverSettings {
            leave: LeaveSettings { when: When::AtOnce, ..LeaveSettings::default() },
            ..HandoverSettings::default()
        };
        told.handover = Handover::begin(told.handover.incident().clone(), settings, known, at(1_000));
        let instances = [("i-other", -900), ("i-old", -900), ("i-new", 5)].map(|(name, at)| instance(name, at, None));
        let seen = Seen { members: vec!["i-other", "i-old", "i-new"], desired: 3, instances: instances.to_vec() };
        let Some(Call::DescribeTargetHealth { targets, .. }) = told.seeing(&seen, 60_000, DutyId::Register(0)) else {
            panic!("a look at the successor's health")
        };
        let expected: Vec<Target> = named.into_iter().map(|port| Target { id: "i-new".into(), port }).collect();
        assert_eq!(targets, expected, "{group_port:?}");
    }
}

/// Two victims of a group whose own target group is another one: their successors are ours to register.
fn with_foreign_target_group(how: GroupRequest) -> Told {
    let mut group = group(&[]);
    group.capacity_rebalance = how == GroupRequest::Observe;
    group.target_groups = Vec::new();
    group.members = ["i-other", "i-fellow", US].map(|name| member(name, "InService")).to_vec();
    Told { target_groups: Vec::new(), ..told(Plan::Group { group, how }, When::AtOnce, |_| {}) }
}

#[test]
fn a_member_that_ec2_does_not_know_yet_may_be_a_successor() {
    let mut told = with_foreign_target_group(GroupRequest::Detach);
    let mut seen =
        Seen { members: vec!["i-other", "i-one", "i-two"], desired: 3, instances: vec![instance("i-one", 5, None)] };
    told.seeing(&seen, 60_000, DutyId::MemberState);
    assert!(told.handover.outcome().is_none(), "{:#?}", told.handover.outcome());
    seen.instances.push(instance("i-two", 6, None));
    told.seeing(&seen, 110_000, DutyId::MemberState);
    let outcome = told.handover.outcome().expect("the end");
    assert!(outcome.complete && format!("{outcome:?}").contains("i-one, i-two, running"), "{outcome:#?}");
}

#[test]
fn where_the_mark_of_a_fellow_victim_lags_a_victim_looks_on_for_its_successor() {
    let mut told = with_foreign_target_group(GroupRequest::Observe);
    let (one, two) = (instance("i-one", 5, None), instance("i-two", 30, None));
    let mut seen = Seen {
        members: vec![US, "i-fellow", "i-other", "i-one"],
        desired: 3,
        instances: vec![instance("i-fellow", -900, None), instance("i-other", -900, None), one, two],
    };
    told.seeing(&seen, 45_000, DutyId::MemberState);
    assert!(told.handover.outcome().is_none(), "{:#?}", told.handover.outcome());
    seen.members.push("i-two");
    told.seeing(&seen, 110_000, DutyId::MemberState);
    let outcome = told.handover.outcome().expect("the end");
    assert!(outcome.complete && format!("{outcome:?}").contains("i-one, i-two, running"), "{outcome:#?}");
}

#[test]
fn a_group_that_rebalances_by_now_is_followed_to_the_end_though_it_has_a_hook_and_a_fellow_goes_too() {
    for hooks in [&[][..], &["drain"]] {
        let mut group = group(hooks);
        group.target_groups = Vec::new();
        group.members = ["i-other", "i-fellow", US].map(|name| member(name, "InService")).to_vec();
        let mut told = told(plan_of(group), When::Auto, |_| {});
        (told.rebalances, told.target_groups) = (true, Vec::new());
        let fellow = instance("i-fellow", -900, Some(LEAVING_TAG));
        let (one, two) = (instance("i-one", 5, None), instance("i-two", 15, None));
        let mut seen = Seen {
            members: vec![US, "i-fellow", "i-other", "i-one"],
            desired: 3,
            instances: vec![fellow, instance("i-other", -900, None), one, two],
        };
        told.seeing(&seen, 20_000, DutyId::MemberState);
        let reports = format!("{:?}", told.handover.reports());
        assert!(!reports.contains("i-one, running"), "{hooks:?}: a successor of two is not all: {reports}");
        seen.members.push("i-two");
        assert!(
            told.seeing(&seen, 110_000, DutyId::LastLook(0)).is_some(),
            "{hooks:?}: {:#?}",
            told.handover.reports()
        );
        let healthy = ["i-one", "i-two"].map(|id| Target { id: id.into(), port: 80 });
        let row = |target| TargetHealth { target, state: TargetState::Healthy, reason: None };
        told.answer(DutyId::LastLook(0), Answer::Health(healthy.map(row).to_vec()));
        told.seeing(&seen, 110_000, DutyId::MemberState);
        let outcome = told.handover.outcome().expect("the end before the deadline");
        assert!(outcome.complete && format!("{outcome:?}").contains("i-one, i-two, running"), "{outcome:#?}");
    }
}

#[test]
fn a_group_that_somebody_has_lowered_to_its_least_size_is_left_without_lowering_it_further() {
    for (desired, min, decrements) in [(3, 3, false), (4, 4, false), (4, 3, true)] {
        let mut told = told(plan_of(group(&[])), When::Auto, |_| {});
        assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        let launched = Launched { instances: vec![id("i-new")], errors: Vec::new() };
        told.answer(DutyId::Ask, Answer::Launched(launched));
        let seen = Seen { members: Vec::new(), desired, instances: vec![instance("i-new", 5, None)] };
        let mut next = told.seeing(&seen, 119_000, DutyId::Ask);
        while matches!(next, Some(Call::DescribeAutoScalingGroup { .. })) {
            told.answer(DutyId::Ask, current(&seen.members, seen.desired));
            next = told.seeing(&seen, 119_000, DutyId::Ask);
        }
        assert!(matches!(next, Some(Call::DetachInstances { decrement: true, .. })), "{next:?}");
        let refusal = "Currently, desiredSize equals minSize (3). Terminating instance without replacement will violate \
                       group's min size constraint.";
        told.answer(DutyId::Ask, refused("ValidationError", refusal));
        assert!(matches!(told.seeing(&seen, 119_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
        told.answer(
            DutyId::Ask,
            Answer::GroupState(Some(GroupState {
                members: [US, "i-old", "i-new"].map(|name| member(name, "InService")).to_vec(),
                desired_capacity: desired,
                min_size: min,
                max_size: 9,
                ..empty_group()
            })),
        );
        let mut remarks = std::iter::from_fn(|| told.handover.take_remark());
        assert_eq!(remarks.any(|remark| !remark.starts_with("not done yet")), !decrements, "a person is told");
        let wake = told.handover.wake();
        assert!(wake.is_some_and(|wake| wake <= at(told.now + 500)), "soon: {wake:?} at {}", told.now);
        match told.seeing(&seen, told.now + 1_000, DutyId::Ask) {
            Some(Call::DetachInstances { decrement, .. }) => assert_eq!(decrement, decrements, "{desired} {min}"),
            other => panic!("{desired} {min}: {other:?}"),
        }
    }
}

#[test]
fn a_group_with_weights_is_asked_for_the_weight_of_this_instance_and_counted_in_weights() {
    let weighted = |name: &str| GroupMember { weight: Some(4), ..member(name, "InService") };
    let mut group = group(&[]);
    group.members = [US, "i-a", "i-b"].map(weighted).to_vec();
    group.desired_capacity = 12;
    let mut told = told(plan_of(group), When::Auto, |_| {});
    let launch = told.until(2_000, DutyId::Ask);
    assert!(matches!(launch, Some(Call::LaunchInstances { capacity: 4, .. })), "{launch:?}");
    told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DetachInstances { decrement: false, .. })));
    told.answer(DutyId::Ask, Answer::Accepted);
    assert!(matches!(told.until(60_000, DutyId::Find), Some(Call::DescribeAutoScalingGroup { .. })));
    let members = ["i-a", "i-b", "i-new"].map(weighted).to_vec();
    let current = GroupState { members, desired_capacity: 12, max_size: 40, ..empty_group() };
    told.answer(DutyId::Find, Answer::GroupState(Some(current)));
    assert!(matches!(told.until(60_000, DutyId::Find), Some(Call::DescribeInstances { .. })));
    told.answer(DutyId::Find, Answer::Instances(vec![running("i-new")]));
    assert_eq!(told.until(100_000, DutyId::Find), None, "as many weigh in as are wanted");
}

fn ended(name: &str) -> Instance {
    Instance { state: InstanceState::Terminated, ..instance(name, 5, None) }
}

#[test]
fn a_member_that_has_ended_and_that_its_group_lists_still_is_in_nobodys_place() {
    let mut told = with_foreign_target_group(GroupRequest::Detach);
    let mut seen = Seen {
        members: vec!["i-other", "i-one", "i-two"],
        desired: 3,
        instances: vec![ended("i-one"), instance("i-two", 6, None)],
    };
    told.seeing(&seen, 40_000, DutyId::MemberState);
    assert!(told.handover.outcome().is_none(), "{:#?}", told.handover.outcome());
    seen.members = vec!["i-other", "i-two", "i-three"];
    seen.instances.push(instance("i-three", 30, None));
    told.seeing(&seen, 110_000, DutyId::MemberState);
    let outcome = told.handover.outcome().expect("the end");
    assert!(outcome.complete && format!("{outcome:?}").contains("i-two, i-three, running"), "{outcome:#?}");
}

#[test]
fn an_instance_that_launched_first_leaves_for_the_successor_that_its_group_puts_into_the_place_of_a_dead_one() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
    let launched = Launched { instances: vec![id("i-first")], ..Launched::default() };
    told.answer(DutyId::Ask, Answer::Launched(launched));
    let old = ["i-other", "i-old"].map(|name| instance(name, -900, None));
    let mut seen = Seen {
        members: vec![US, "i-other", "i-old", "i-first"],
        desired: 4,
        instances: [old.to_vec(), vec![ended("i-first")]].concat(),
    };
    assert!(matches!(told.seeing(&seen, 20_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, current(&seen.members, seen.desired));
    assert_eq!(told.seeing(&seen, 20_000, DutyId::Ask), None, "nobody is there yet");
    seen.members = vec![US, "i-other", "i-old", "i-second"];
    seen.instances.push(instance("i-second", 15, None));
    let next = told.seeing(&seen, 40_000, DutyId::Ask);
    assert!(matches!(next, Some(Call::DetachInstances { decrement: true, .. })), "{next:?}");
}

#[test]
fn a_group_that_lacked_members_before_the_notice_has_replaced_its_victim_with_one() {
    // In the others another member went with this instance: one had come between the look-up and the notice, the one that goes
    // had come so, and somebody has lowered the desired capacity.
    for (old, desired, has_ended) in
        [("i-old", 4, true), ("i-between", 4, false), ("i-old i-going", 4, false), ("", 3, false)]
    {
        let mut group = group(&[]);
        group.members = ["i-other", "i-old", US].map(|name| member(name, "InService")).to_vec();
        group.desired_capacity = 4;
        let mut told = told(plan_of(group), When::AtOnce, |incident| incident.planned_before = true);
        let instances = [("i-new", 5), ("i-between", -60), ("i-going", -60), ("i-other", -900), ("i-old", -900)];
        let tag = |name: &str| (name == "i-going").then_some(LEAVING_TAG);
        let instances = instances.map(|(name, launched)| instance(name, launched, tag(name))).to_vec();
        let members = ["i-other", "i-new"].into_iter().chain(old.split_whitespace()).collect();
        told.seeing(&Seen { members, desired, instances }, 60_000, DutyId::MemberState);
        assert_eq!(told.handover.outcome().is_some_and(|it| it.complete), has_ended, "{old} {desired}");
    }
}

#[test]
fn a_member_whose_launch_time_is_before_the_look_up_that_did_not_list_it_is_the_successor() {
    const YEAR: i64 = 365 * 86_400;
    for launched in [5, -YEAR] {
        let mut group = group(&[]);
        group.members = ["i-other", "i-old", US].map(|name| member(name, "InService")).to_vec();
        let mut told = told(plan_of(group), When::AtOnce, |incident| incident.planned_before = true);
        let instances = [("i-new", launched), ("i-other", -YEAR), ("i-old", -YEAR)];
        let instances = instances.map(|(name, launched)| instance(name, launched, None)).to_vec();
        let seen = Seen { members: vec!["i-other", "i-old", "i-new"], desired: 3, instances };
        told.seeing(&seen, 60_000, DutyId::MemberState);
        let outcome = told.handover.outcome().expect("an end");
        assert!(outcome.complete, "{launched}: {outcome:?}");
    }
}

#[test]
fn a_launch_first_that_was_throttled_within_is_tried_again_in_its_zone() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
    let mut launches = Vec::new();
    for answered in [&[][..], &[], &["i-new"]] {
        match told.until(20_000, DutyId::Ask) {
            Some(Call::LaunchInstances { client_token, availability_zone, .. }) => {
                launches.push((client_token, availability_zone))
            }
            other => panic!("{other:?} after {launches:?}"),
        }
        let errors = if answered.is_empty() { vec!["RequestLimitExceeded: slow down".to_owned()] } else { Vec::new() };
        let instances = answered.iter().copied().map(id).collect();
        told.answer(DutyId::Ask, Answer::Launched(Launched { instances, errors }));
    }
    let tokens: BTreeSet<_> = launches.iter().map(|(token, _)| token).collect();
    let zones: BTreeSet<_> = launches.iter().map(|(_, zone)| zone).collect();
    assert_eq!((tokens.len(), zones.len()), (3, 1), "{launches:?}");
}

#[test]
fn a_launch_first_that_is_throttled_within_for_long_is_given_up() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
    while let Some(Call::LaunchInstances { .. }) = told.until(110_000, DutyId::Ask) {
        let errors = vec!["RequestLimitExceeded: slow down".to_owned()];
        told.answer(DutyId::Ask, Answer::Launched(Launched { instances: Vec::new(), errors }));
    }
    assert!((20_000..30_000).contains(&told.now), "detached from at {}", told.now);
}
