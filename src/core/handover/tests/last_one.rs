//! The last one goes on serving, whatever `[leave] when` says and whoever owns it: handovers of this instance against a
//! model of target health and tags, under the default settings but for `when`.

use super::*;

/// Another target at this millisecond: healthy or not, and marked as one that goes or not.
type Other = fn(u64) -> (TargetState, bool);

const SERVES: Other = |_| (TargetState::Healthy, false);
const GOES: Other = |_| (TargetState::Healthy, true);
const DRAINS: Other = |_| (TargetState::Draining, true);
const FAILS: Other = |_| (TargetState::Unhealthy, true);

/// One handover from a notice at 0 to its deadline two minutes later.
struct Night<'a> {
    when: When,
    plan: Plan,
    others: &'a [Other],
    /// Looks at health and tags are answered, and by what they are not.
    refused: Option<FailureKind>,
    /// How long each exchange takes.
    takes: u64,
    action: Action,
    target_type: TargetType,
    /// In a group of IPv6 addresses the target health spells them otherwise than everybody else.
    ipv6: bool,
    /// Addresses of others that no instance of this VPC holds.
    strangers: usize,
    /// The name of the last of the others, where it comes after this instance's.
    last: Option<&'a str>,
    /// This instance does not pass its health checks.
    fails: bool,
    /// The override of the others that AWS shows.
    shift: Option<&'static str>,
}

/// The instants that were seen, in milliseconds.
#[derive(Debug, Default)]
struct Seen {
    left: Option<u64>,
    asked: Option<u64>,
    /// Looks at the health of all.
    looks: usize,
    /// Registered itself again.
    returned: Vec<u64>,
    exits: usize,
    launches: usize,
    /// The milliseconds until the reserve in which no target was healthy, after the first second.
    dark: u64,
}

impl<'a> Night<'a> {
    fn of(when: When, plan: Plan, others: &'a [Other]) -> Night<'a> {
        Night {
            when,
            plan,
            others,
            refused: None,
            takes: 20,
            action: Action::Terminate,
            target_type: TargetType::Instance,
            ipv6: false,
            strangers: 0,
            last: None,
            fails: false,
            shift: None,
        }
    }

    /// The names of the others, with how they are at this millisecond.
    fn shown(&self, now: u64) -> impl Iterator<Item = (String, (TargetState, bool))> {
        self.others.iter().enumerate().map(move |(number, other)| {
            let last = self.last.filter(|_| number + 1 == self.others.len());
            (last.map_or_else(|| format!("i-{number}"), str::to_owned), other(now))
        })
    }

    fn pass(self) -> Seen {
        let incident = incident_of("i-victim", self.action, 120_000);
        let ours = registration(WEB, &self.target_id("i-victim"), &[80]);
        let known = LookedUp {
            registrations: Some(vec![Registration { target_type: self.target_type, ..ours }]),
            plan: Some(self.plan.clone()),
            ..LookedUp::default()
        };
        let leave = LeaveSettings { when: self.when, ..LeaveSettings::default() };
        let mut handover =
            Handover::begin(incident, HandoverSettings { leave, ..HandoverSettings::default() }, known, at(0));
        let mut seen = Seen::default();
        let (mut replies, mut serving_since) = (Vec::new(), Some(0));
        for now in (0..121_000).step_by(20) {
            for (_, duty, answer) in replies.extract_if(.., |(when, _, _)| *when <= now) {
                handover.answered(at(now), duty, answer);
            }
            for Due { duty, call, .. } in handover.due(at(now)) {
                assert!(now < 120_000, "{call:?} is begun after the deadline");
                let answer = self.perform(now, duty, &call, &mut seen, &mut serving_since);
                replies.push((now + self.takes, duty, answer));
            }
            let serves = serving_since.is_some_and(|since| now >= since);
            let another = self.others.iter().any(|other| other(now).0 == TargetState::Healthy);
            seen.dark += u64::from(!serves && !another && (1_000..110_000).contains(&now)) * 20;
        }
        assert!(handover.outcome().is_some(), "it ends");
        assert!(serving_since.is_none(), "out before the end");
        seen
    }

    /// The name under which a target group knows this instance.
    fn target_id(&self, name: &str) -> String {
        match (self.target_type, name.trim_start_matches("i-")) {
            (TargetType::Ip, "victim") if self.ipv6 => "2001:db8::7".to_owned(),
            (TargetType::Ip, number) if self.ipv6 => format!("2001:db8:1::{number}"),
            (TargetType::Instance, _) => name.to_owned(),
            (TargetType::Ip, "victim") => "10.0.1.7".to_owned(),
            (TargetType::Ip, number) => format!("10.0.2.{number}"),
        }
    }

    /// The same name as target health shows it.
    fn shown_id(&self, name: &str) -> String {
        let id = self.target_id(name);
        if self.ipv6 { id.replace("::", ":0:0::") } else { id }
    }

    /// The first of the others are strangers, if there are any.
    fn is_stranger(&self, name: &str) -> bool {
        name.trim_start_matches("i-").parse().is_ok_and(|number: usize| number < self.strangers)
    }

    /// Registered again this instance is healthy after 5 s.
    fn perform(&self, now: u64, duty: DutyId, call: &Call, seen: &mut Seen, serving_since: &mut Option<u64>) -> Answer {
        let is_of_other_targets = matches!(duty, DutyId::OtherTargets(_));
        if let (true, Some(kind)) = (is_of_other_targets && !call.writes(), self.refused) {
            seen.looks += 1;
            return Answer::Failed(Failure { kind, code: Some("Refused".into()), message: String::new() });
        }
        let shown = || self.shown(now);
        match call {
            Call::DeregisterTargets { .. } => {
                seen.left.get_or_insert(now);
                *serving_since = None;
                Answer::Accepted
            }
            Call::RegisterTargets { targets, .. } => {
                assert!(is_of_other_targets && targets.iter().all(|target| target.id == "i-victim"), "{targets:?}");
                seen.returned.push(now);
                *serving_since = Some(now + 5_000);
                Answer::Accepted
            }
            Call::DetachInstances { .. } | Call::TerminateInstanceInAutoScalingGroup { .. } => {
                seen.asked.get_or_insert(now);
                seen.exits += 1;
                // The group deregisters its member a moment later.
                *serving_since = None;
                Answer::Accepted
            }
            Call::LaunchInstances { .. } => {
                let code = Some("AccessDenied".to_owned());
                Answer::Failed(Failure { kind: FailureKind::Denied, code, message: String::new() })
            }
            Call::CreateFleet { .. } => {
                seen.asked.get_or_insert(now);
                seen.launches += 1;
                Answer::Launched(Launched { instances: Vec::new(), errors: vec!["no capacity".into()] })
            }
            Call::DescribeTargetHealth { targets, .. } => {
                seen.looks += usize::from(is_of_other_targets);
                let shown_id = |name: &str| if targets.is_empty() { self.shown_id(name) } else { self.target_id(name) };
                let row = |name: String, state| TargetHealth {
                    reason: self.shift.filter(|_| name != "i-victim").map(str::to_owned),
                    target: Target { id: shown_id(&name), port: 80 },
                    state,
                };
                let ours = match *serving_since {
                    None => TargetState::Draining,
                    Some(since) if now < since => TargetState::Initial,
                    Some(_) if self.fails => TargetState::Unhealthy,
                    Some(_) => TargetState::Healthy,
                };
                let rows = shown().map(|(id, (state, _))| row(id, state)).chain([row("i-victim".into(), ours)]);
                Answer::Health(as_asked(rows.collect(), targets))
            }
            Call::DescribeInstances { .. } | Call::DescribeInstancesByAddress { .. } => {
                let instance = |(name, (_, leaving)): (String, (TargetState, bool))| {
                    let mut instance = running(&name);
                    // A second address of its second interface is the one that is registered.
                    instance.addresses = vec!["10.0.9.9".to_owned(), self.target_id(&name)];
                    instance.tags.extend(leaving.then(|| (LEAVING_TAG.to_owned(), "soon".to_owned())));
                    instance
                };
                let is_asked_for = |name: &str| match call {
                    Call::DescribeInstances { instance_ids } => instance_ids.contains(&id(name)),
                    Call::DescribeInstancesByAddress { addresses } => addresses.contains(&self.shown_id(name)),
                    _ => false,
                };
                let asked = shown().filter(|(name, _)| is_asked_for(name) && !self.is_stranger(name));
                Answer::Instances(asked.map(instance).collect())
            }
            Call::DescribeAutoScalingGroup { .. } => Answer::GroupState(Some(GroupState {
                members: Vec::new(),
                desired_capacity: 3,
                max_size: 3,
                ..empty_group()
            })),
            Call::LookAtConnections { ports, .. } => Answer::Connections(Connections {
                listening: ports.clone(),
                reached: ports.clone(),
                ..Connections::default()
            }),
            _ => Answer::Accepted,
        }
    }
}

fn nobody() -> Plan {
    Plan::nobody_ever("launched by hand")
}

fn hooked() -> Plan {
    Plan::Group { group: group(&["drain"]), how: GroupRequest::Terminate }
}

/// One of one, two of two, three of three.
const ALONE: [&[Other]; 4] = [&[], &[GOES], &[GOES, GOES], &[DRAINS, GOES]];

#[test]
fn the_last_one_serves_on_until_the_reserve_whoever_owns_it_and_whatever_when_says() {
    for others in ALONE {
        for (when, plan) in [
            (When::Auto, launch_plan()),
            (When::AtOnce, launch_plan()),
            (When::Auto, nobody()),
            (When::AtOnce, nobody()),
            (When::SuccessorHealthy, nobody()),
        ] {
            let seen = Night::of(when, plan, others).pass();
            assert_eq!((seen.left, seen.dark), (Some(110_000), 0), "{when:?}, {} others", others.len());
        }
    }
}

#[test]
fn a_last_one_that_its_group_takes_out_asks_for_its_successor_at_once_and_comes_back() {
    for others in ALONE {
        for (when, plan) in
            [(When::AtOnce, detach()), (When::Auto, detach()), (When::AtOnce, hooked()), (When::Auto, hooked())]
        {
            let seen = Night::of(when, plan, others).pass();
            assert!(seen.asked.is_some_and(|asked| asked <= 100) && seen.exits == 1, "{when:?} {seen:?}");
            assert_eq!(seen.left, Some(110_000), "{when:?} {seen:?}");
            assert!(matches!(seen.returned.as_slice(), [at] if *at <= 4_500), "{when:?} {seen:?}");
            let is_dark_at_most = if others.contains(&GOES) { 0 } else { 9_000 };
            assert!(seen.dark <= is_dark_at_most, "{when:?} {seen:?}");
        }
    }
}

/// Taken out in the first second, and healthy again after nine.
const COMES_BACK: Other = |now| match now {
    0..1_000 | 9_000.. => (TargetState::Healthy, true),
    1_000..5_000 => (TargetState::Draining, true),
    5_000..9_000 => (TargetState::Initial, true),
};

/// It sees its notice later than this instance.
const NOTICED_LATER: Other = |now| match now {
    0..800 => (TargetState::Healthy, false),
    now => COMES_BACK(now),
};
const STAYS_NEW: Other = |_| (TargetState::Initial, true);

/// The member of a group of these others, which it leaves by detaching.
fn fellow_of<'a>(when: When, others: &'a [Other], last: Option<&'a str>) -> Night<'a> {
    let mut night = Night::of(when, nobody(), others);
    night.last = last;
    let names = night.shown(0).map(|(name, _)| name).chain(["i-victim".to_owned()]);
    let members = names.map(|name| member(&name, "InService")).collect();
    let group = AutoScalingGroup { members, ..group(&[]) };
    Night { plan: Plan::Group { group, how: GroupRequest::Detach }, ..night }
}

#[test]
fn of_several_that_their_group_takes_out_the_last_healthy_one_by_name_waits_for_another_to_come_back() {
    let late = Some("i-z");
    for (others, last, asked, dark) in [
        (&[COMES_BACK][..], None, 9_000..11_000, 0),
        (&[NOTICED_LATER], None, 9_000..11_000, 0),
        (&[STAYS_NEW], None, 15_000..15_100, 9_000),
        (&[SERVES], None, 3_000..3_200, 0),
        (&[NOTICED_LATER, NOTICED_LATER], None, 9_000..11_000, 0),
        (&[SERVES, SERVES], None, 3_000..3_200, 0),
        // Another one is the last, or the last one is not healthy.
        (&[COMES_BACK, GOES], late, 0..200, 0),
        (&[COMES_BACK, FAILS], late, 9_000..11_000, 0),
        // Nobody comes back.
        (&[DRAINS], None, 7_000..8_500, 9_000),
        (&[FAILS], late, 0..200, 9_000),
        (&[FAILS], None, 0..200, 9_000),
        (&[], None, 0..100, 9_000),
    ] {
        for when in [When::AtOnce, When::Auto] {
            let seen = fellow_of(when, others, last).pass();
            let context = format!("{when:?} {} others, {last:?} {seen:?}", others.len());
            assert!(seen.asked.is_some_and(|at| asked.contains(&at)), "{context}");
            assert!(seen.exits == 1 && seen.dark <= dark, "{context}");
        }
    }
}

#[test]
fn one_that_was_taken_out_before_the_last_one_saw_its_notice_comes_back() {
    let last: Other = |now| (TargetState::Healthy, now >= 800);
    for when in [When::AtOnce, When::Auto] {
        for others in [&[last][..], &[last, last]] {
            let seen = fellow_of(when, others, Some("i-z")).pass();
            let context = format!("{when:?} {} others {seen:?}", others.len());
            assert!(seen.asked.is_some_and(|at| at <= 200) && seen.left == Some(110_000), "{context}");
            assert!(matches!(seen.returned.as_slice(), [at] if *at <= 3_500), "{context}");
        }
    }
}

#[test]
fn a_member_that_is_not_healthy_or_has_many_fellows_or_is_not_answered_asks_its_group_at_once() {
    for when in [When::AtOnce, When::Auto] {
        let fellow = || fellow_of(when, &[COMES_BACK], None);
        let unanswered = Some(FailureKind::Unanswered);
        for (night, asked) in [
            (Night { fails: true, ..fellow() }, 0..200),
            (fellow_of(when, &[COMES_BACK; 11], None), 0..100),
            (Night { refused: Some(FailureKind::Denied), ..fellow() }, 0..200),
            (Night { refused: unanswered, ..fellow() }, 2_500..2_700),
        ] {
            let seen = night.pass();
            assert!(seen.asked.is_some_and(|at| asked.contains(&at)), "{when:?} {seen:?}");
        }
    }
}

#[test]
fn where_another_one_serves_an_instance_that_leaves_at_once_is_out_after_three_exchanges() {
    // A group with a hook is looked at first.
    for (plan, asks_at) in [(launch_plan(), 0), (nobody(), 0), (detach(), 0), (hooked(), 100)] {
        for others in [&[SERVES][..], &[GOES, SERVES], &[SERVES; 30]] {
            let seen = Night { takes: 100, ..Night::of(When::AtOnce, plan.clone(), others) }.pass();
            // The group takes it out by itself, and the others may be noticed a moment later.
            let looks_again = matches!(plan, Plan::Group { .. }) && others.len() < 30;
            let (left, looks) = if looks_again { (3_300, 2) } else { (300, 1) };
            assert!(seen.left.is_some_and(|at| at <= left), "{seen:?}");
            assert!(seen.asked.is_none_or(|asked| asked == asks_at), "the successor is asked for first: {seen:?}");
            assert!(seen.looks == looks && seen.returned.is_empty(), "{seen:?}");
        }
    }
}

#[test]
fn the_others_of_a_group_of_addresses_are_told_by_the_instances_that_hold_them() {
    let by_address = |when, others, strangers, ipv6| {
        let night = Night::of(when, launch_plan(), others);
        Night { target_type: TargetType::Ip, ipv6, takes: 100, strangers, ..night }.pass()
    };
    for others in ALONE {
        for (when, ipv6) in [(When::Auto, false), (When::AtOnce, false), (When::Auto, true), (When::AtOnce, true)] {
            let seen = by_address(when, others, 0, ipv6);
            assert_eq!((seen.left, seen.dark), (Some(110_000), 0), "{when:?}, {} others, {ipv6}", others.len());
        }
    }
    for (others, strangers) in [(&[SERVES][..], 0), (&[GOES, SERVES], 0), (&[GOES], 1), (&[GOES, GOES], 1)] {
        let seen = by_address(When::AtOnce, others, strangers, false);
        assert!(seen.left.is_some_and(|left| left <= 300) && seen.looks == 1, "{strangers} strangers: {seen:?}");
        let seen = by_address(When::Auto, others, strangers, false);
        assert_eq!((seen.left, seen.looks), (Some(80_000), 1), "{strangers} strangers");
    }
}

#[test]
fn where_many_serve_one_exchange_is_enough() {
    let seen = Night { takes: 100, ..Night::of(When::AtOnce, launch_plan(), &[SERVES; 30]) }.pass();
    assert_eq!((seen.left, seen.looks), (Some(100), 1));
}

#[test]
fn where_another_one_serves_this_instance_leaves_in_time_to_drain_and_looks_once() {
    for others in [&[SERVES][..], &[GOES, SERVES], &[SERVES; 30]] {
        let seen = Night::of(When::Auto, launch_plan(), others).pass();
        assert_eq!((seen.left, seen.looks), (Some(80_000), 1));
    }
}

#[test]
fn as_soon_as_another_one_serves_this_instance_leaves() {
    let later: Other = |now| (if now < 90_000 { TargetState::Initial } else { TargetState::Healthy }, false);
    for when in [When::Auto, When::AtOnce] {
        let seen = Night::of(when, launch_plan(), &[later, GOES]).pass();
        assert!(seen.left.is_some_and(|left| (90_000..96_000).contains(&left)), "{when:?} {seen:?}");
    }
}

#[test]
fn what_is_not_known_holds_it_for_a_moment_and_no_longer_than_draining_allows() {
    for kind in [FailureKind::Unanswered, FailureKind::Fault] {
        for (when, plan, left) in [(When::Auto, launch_plan(), 80_000), (When::AtOnce, launch_plan(), 2_500)] {
            let seen = Night { refused: Some(kind), ..Night::of(when, plan, &[]) }.pass();
            assert!(seen.left.is_some_and(|at| (left..left + 100).contains(&at)), "{when:?} {seen:?}");
        }
    }
}

#[test]
fn a_throttled_or_denied_look_holds_nobody_up_who_leaves_at_once_among_many() {
    for kind in [FailureKind::Throttled, FailureKind::Denied] {
        let seen = Night { refused: Some(kind), ..Night::of(When::AtOnce, launch_plan(), &[SERVES; 30]) }.pass();
        assert!(seen.left.is_some_and(|left| left <= 100), "{kind:?} {seen:?}");
    }
}

#[test]
fn a_hibernation_and_a_group_that_terminates_this_instance_leave_whoever_serves() {
    let seen = Night { action: Action::Hibernate, ..Night::of(When::Auto, launch_plan(), &[]) }.pass();
    assert_eq!((seen.left, seen.looks), (Some(0), 0));
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let incident = Incident { signal: Signal::LifecycleState, group_takes: Some(Takes::ToItsEnd), ..incident };
    let known = LookedUp {
        registrations: Some(vec![registration(WEB, "i-victim", &[80])]),
        plan: Some(hooked()),
        ..LookedUp::default()
    };
    let mut handover = Handover::begin(incident, HandoverSettings::default(), known, at(1_000));
    assert!(handover.due(at(1_000)).iter().any(|due| matches!(due.call, Call::DeregisterTargets { .. })));
}

#[test]
fn of_several_noticed_at_once_somebody_serves_until_the_reserve_and_each_has_one_successor() {
    let names = [("i-victim", 1_000, 121_000), ("i-second", 1_300, 121_300), ("i-third", 1_010, 121_010)];
    for count in 1..=3 {
        for latency in [20, 180, 450] {
            for kills in [vec![], vec![(1_100, 0)], vec![(1_700, 0), (1_900, count - 1)], vec![(100_000, 0)]] {
                for (when, owner, plan, launches) in [
                    (When::AtOnce, Owner::Nobody, nobody(), 0),
                    (When::AtOnce, Owner::Maintain, raise(), count),
                    (When::Auto, Owner::Maintain, raise(), count),
                ] {
                    let mut run = Run::new(owner, &names[..count], plan, vec![(Fate::Fine, latency); 100_000]);
                    run.aws.targets.retain(|(_, target, _)| target != "i-other1");
                    run.settings.leave.when = when;
                    let run = run.run(&kills);
                    let context = format!("{count} {latency} {when:?} {kills:?} {launches}");
                    assert_eq!(run.dark, 0, "{context}: {:?}", run.calls);
                    assert_eq!(run.aws.launches.len(), launches, "{context}");
                    assert!(names[..count].iter().all(|(name, _, _)| run.targets_of(name) == 0), "{context}");
                }
            }
        }
    }
}

#[test]
fn a_drill_does_not_take_the_last_healthy_target_out_in_the_reserve() {
    for (when, plan) in [(When::AtOnce, nobody()), (When::Auto, nobody()), (When::Auto, launch_plan())] {
        let incident = Incident { signal: Signal::Drill, ..incident_of("i-victim", Action::Terminate, 60_000) };
        let registrations = Some(vec![registration(WEB, "i-victim", &[80])]);
        let known = LookedUp { registrations, plan: Some(plan.clone()), ..LookedUp::default() };
        let leave = LeaveSettings { when, ..LeaveSettings::default() };
        let settings = HandoverSettings { leave, ..HandoverSettings::default() };
        let mut run = Launching { handover: Handover::begin(incident, settings, known, at(0)), now: 0 };
        run.until(61_000, &mut |_, call| match call {
            Call::DescribeTargetHealth { .. } => {
                let target = Target { id: "i-victim".into(), port: 80 };
                Answer::Health(vec![TargetHealth { target, state: TargetState::Healthy, reason: None }])
            }
            Call::CreateFleet { .. } => launched_by_aws(&[], &["InsufficientInstanceCapacity: none"]),
            Call::DeregisterTargets { .. } => panic!("it leaves nobody behind: {when:?}, {plan}"),
            other => other_calls(other),
        });
        let outcome = run.handover.outcome().expect("the end");
        assert!(!outcome.complete && run.outcome().contains("no other target serves"), "{outcome:#?}");
    }
}

#[test]
fn others_whose_zone_is_shifted_away_do_not_serve() {
    for (shift, serves) in
        [("zonal_shift_active", false), ("zonal_shift_delegated_to_dns", false), ("no_override", true)]
    {
        for when in [When::Auto, When::AtOnce] {
            let seen = Night { shift: Some(shift), ..Night::of(when, nobody(), &[SERVES, SERVES]) }.pass();
            assert_eq!(seen.left == Some(110_000), !serves, "{shift} {when:?}: {seen:?}");
        }
    }
}
