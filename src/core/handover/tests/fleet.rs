//! One handover of a member of a `maintain` fleet, answer by answer.

mod late;
mod successors;

use super::*;
use crate::core::plan::{BASE_CAPACITY_TAG, LEAVING_TAG};

const US: &str = "i-victim";

/// The fleet as AWS shows it, and the handover of one of its members.
struct Told {
    handover: Handover,
    now: u64,
    shown: Fleet,
    members: Vec<FleetMember>,
    /// Writes to the fleet, in order.
    written: Vec<String>,
    calls: Vec<Call>,
    refuses: Option<i32>,
    /// The first write of this number is not answered, and not done.
    loses: Option<i32>,
    /// Calls that IAM denies.
    denies: fn(&Call) -> bool,
    requests_denied: bool,
    /// What the fleet has launched and lost.
    dead: Vec<Instance>,
    /// The rows that target health shows.
    healthy: Vec<TargetHealth>,
}

/// A member: launched, and noticed, so many seconds after the epoch.
fn member(name: &str, launched: i64, noticed: Option<i64>) -> FleetMember {
    let time = |seconds: i64| epoch() + jiff::SignedDuration::from_secs(seconds);
    let instance = Instance { launch_time: Some(time(launched)), ..running(name) };
    FleetMember {
        instance_id: id(name),
        instance_type: "m5.large".into(),
        memory_mib: None,
        instance: Some(instance),
        taken_since: noticed.map(time),
    }
}

fn healthy(name: &str) -> TargetHealth {
    TargetHealth { target: Target { id: name.into(), port: 80 }, state: TargetState::Healthy, reason: None }
}

/// Ten members, as many as the fleet is to have; this instance is noticed after twenty seconds.
fn told(change: impl FnOnce(&mut Told)) -> Told {
    told_of(None, change)
}

/// The same of a fleet with this replacement strategy.
fn told_of(replacement_strategy: Option<&str>, change: impl FnOnce(&mut Told)) -> Told {
    let mut incident = incident_of(US, Action::Terminate, 141_000);
    incident.time = Some(epoch() + Duration::from_secs(140));
    incident.start.successors_since = Some(epoch() + Duration::from_secs(20));
    let settings = HandoverSettings {
        leave: LeaveSettings { when: When::AtOnce, ..LeaveSettings::default() },
        ..HandoverSettings::default()
    };
    let planned = Fleet { replacement_strategy: replacement_strategy.map(str::to_owned), ..fleet(10) };
    // The signal decides how it is asked.
    let plan = Plan::Fleet { kind: FleetKind::Ec2, fleet: planned, how: FleetRequest::Raise };
    let registrations = vec![registration(WEB, US, &[80])];
    let known = LookedUp { registrations: Some(registrations), plan: Some(plan), ..LookedUp::default() };
    let mut members: Vec<FleetMember> = (1..10).map(|number| member(&format!("i-{number}"), -900, None)).collect();
    members.push(member(US, -900, Some(20)));
    let mut told = Told {
        handover: Handover::begin(incident, settings, known, at(21_000)),
        now: 21_000,
        shown: fleet(10),
        members,
        written: Vec::new(),
        calls: Vec::new(),
        refuses: None,
        loses: None,
        denies: |_| false,
        requests_denied: false,
        dead: Vec::new(),
        healthy: Vec::new(),
    };
    change(&mut told);
    told
}

impl Told {
    /// It runs to its end, writes nothing, and is complete.
    fn needs_nobody(&mut self) {
        self.until(139_000);
        assert_eq!(self.written, Vec::<String>::new());
        assert!(!self.has(MilestoneKind::SuccessorRequested));
        let outcome = self.handover.outcome().expect("the end");
        assert!(outcome.complete && format!("{outcome:?}").contains("it has more than its target"), "{outcome:#?}");
    }

    fn answer(&mut self, call: &Call) -> Option<Answer> {
        Some(match call {
            call if (self.denies)(call) => Answer::Failed(aws::denied()),
            Call::DescribeFleetMembers { .. } if self.requests_denied => {
                let without = |member: &FleetMember| FleetMember { taken_since: None, ..member.clone() };
                let members = self.members.iter().map(without).collect();
                Answer::FleetMembersByMarks { members, failure: aws::denied() }
            }
            Call::DescribeInstances { instance_ids } => {
                let asked = self.members.iter().filter(|member| instance_ids.contains(&member.instance_id));
                Answer::Instances(asked.filter_map(|member| member.instance.clone()).collect())
            }
            Call::DescribeInstancesOfFleet { .. } => Answer::Instances(self.dead.clone()),
            Call::UntagFleet { key, .. } => {
                self.shown.tags.remove(key);
                Answer::Accepted
            }
            Call::DescribeFleet { .. } => Answer::Fleet(Some(Box::new(self.shown.clone()))),
            Call::DescribeFleetMembers { .. } => Answer::FleetMembers(self.members.clone()),
            Call::ModifyFleet { total, .. } if self.loses.take_if(|lost| lost == total).is_some() => {
                Answer::Failed(Failure::unanswered("no answer"))
            }
            Call::ModifyFleet { total, spot, .. } => {
                self.written.push(total.to_string());
                if self.refuses == Some(*total) {
                    self.shown.state = FleetState::Ended("deleted_running".into());
                    let (kind, code) = (FailureKind::Rejected, Some("InvalidFleetState".to_owned()));
                    return Some(Answer::Failed(Failure { kind, code, message: "deleted".into() }));
                }
                (self.shown.capacity.total, self.shown.capacity.spot) = (*total, *spot);
                Answer::Accepted
            }
            Call::TagFleet { value, .. } => {
                self.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), value.clone());
                Answer::Accepted
            }
            // As daemon/fleets.rs, where nobody else goes.
            Call::PutCapacityBack { .. } => {
                self.shown.tags.remove(BASE_CAPACITY_TAG);
                Answer::Capacity { is_back: false }
            }
            Call::DescribeTargetHealth { .. } => Answer::Health(self.healthy.clone()),
            Call::LookAtConnections { .. } => Answer::Connections(Connections::default()),
            call if call.writes() => Answer::Accepted,
            _ => return None,
        })
    }

    fn until(&mut self, end: u64) {
        while self.now < end {
            for Due { duty, call, .. } in self.handover.due(at(self.now)) {
                self.calls.push(call.clone());
                if let Some(answer) = self.answer(&call) {
                    self.handover.answered(at(self.now), duty, answer);
                }
            }
            self.now += 100;
        }
    }

    fn has(&mut self, milestone: MilestoneKind) -> bool {
        self.handover.take_milestones().iter().any(|it| it.milestone == milestone)
    }
}

#[test]
fn what_the_fleet_launched_for_a_victim_that_was_noticed_before_is_not_raised_for() {
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(0));
        told.members.push(member("i-new", 5, None));
        told.shown.capacity.fulfilled = 9;
    });
    told.until(60_000);
    assert_eq!(told.written, Vec::<String>::new());
    assert!(!told.has(MilestoneKind::SuccessorRequested), "nobody was asked");
}

#[test]
fn nobody_says_that_a_fleet_was_asked_which_has_its_successor_already() {
    // It counts this instance as gone since the notice, or was raised for it in an earlier handover.
    for (fulfilled, tag) in [(10, None), (11, Some("10..11 termination back"))] {
        let mut told = told(|told| {
            told.shown.capacity.fulfilled = fulfilled;
            told.shown.tags.extend(tag.map(|tag| (BASE_CAPACITY_TAG.to_owned(), tag.to_owned())));
            told.members.push(member("i-new", 20, None));
        });
        told.until(60_000);
        assert_eq!(told.written, Vec::<String>::new());
        let kinds: Vec<_> = told.handover.take_milestones().iter().map(|it| it.milestone).collect();
        assert!(!kinds.contains(&MilestoneKind::SuccessorRequested), "{tag:?}: {kinds:?}");
        assert!(kinds.contains(&MilestoneKind::SuccessorRunning), "{tag:?}: {kinds:?}");
        let reports = format!("{:?}", told.handover.reports());
        assert!(reports.contains("not raised: without the members that go it has its target of 10"), "{reports}");
    }
}

#[test]
fn only_the_part_that_a_member_counts_in_is_raised_and_put_back() {
    for (life_cycle, spot_goes_too, raised) in [
        (LifeCycle::OnDemand, false, (11, Some(4))),
        (LifeCycle::OnDemand, true, (12, Some(5))),
        (LifeCycle::Spot, false, (11, Some(5))),
    ] {
        let is_on_demand = life_cycle == LifeCycle::OnDemand;
        let bought = |name: &str, is_on_demand| {
            let mut member = member(name, 29, None);
            member.instance.iter_mut().for_each(|instance| instance.is_on_demand = is_on_demand);
            member
        };
        let mut told = told(|told| {
            told.shown.capacity.spot = Some(4);
            let (us, others) = told.members.split_last_mut().expect("it");
            let on_demand = others.iter_mut().skip(if is_on_demand { 4 } else { 3 });
            on_demand.filter_map(|it| it.instance.as_mut()).for_each(|instance| instance.is_on_demand = true);
            us.instance.iter_mut().for_each(|instance| instance.is_on_demand = is_on_demand);
            told.members[0].taken_since = spot_goes_too.then(|| epoch() + Duration::from_secs(19));
            let mut incident = told.handover.incident().clone();
            incident.start.identity.life_cycle = life_cycle;
            let known = LookedUp { plan: incident.plan.clone(), ..LookedUp::default() };
            told.handover = Handover::begin(incident, told.handover.facts.settings.clone(), known, at(21_000));
        });
        told.until(30_000);
        told.shown.capacity.fulfilled = raised.0;
        told.members.push(bought("i-new-1", is_on_demand));
        told.members.extend(spot_goes_too.then(|| bought("i-new-2", false)));
        told.until(100_000);
        let parts = |call: &Call| match call {
            Call::ModifyFleet { total, spot, .. } => Some((*total, *spot)),
            _ => None,
        };
        let written: Vec<_> = told.calls.iter().filter_map(parts).collect();
        assert_eq!(written, [raised, (10, Some(4))], "{life_cycle:?}");
    }
}

#[test]
fn what_exceeds_one_part_of_the_target_fills_no_place_in_the_other() {
    let mut told = told(|told| {
        told.shown.capacity.spot = Some(8);
        let on_demand = told.members.iter_mut().take(3).filter_map(|member| member.instance.as_mut());
        on_demand.for_each(|instance| instance.is_on_demand = true);
        told.members.push(member("i-10", -900, None));
        told.shown.capacity.fulfilled = 11;
    });
    told.until(33_000);
    assert_eq!((told.written.clone(), told.shown.capacity.spot), (vec!["11".to_owned()], Some(9)));
    told.members.push(member("i-new", 31, None));
    told.shown.capacity.fulfilled = 12;
    told.until(60_000);
    assert_eq!((told.written.clone(), told.shown.capacity.spot), (vec!["11".to_owned(), "10".to_owned()], Some(8)));
    assert!(told.has(MilestoneKind::SuccessorRunning));
}

#[test]
fn a_member_from_just_before_a_short_notice_is_no_successor() {
    // AWS gives the notice with 45 s left; a fellow had started 2 s before.
    let mut told = told(|told| told.members[0] = member("i-1", 18, None));
    let mut incident = incident_of(US, Action::Terminate, 66_000);
    incident.time = Some(epoch() + Duration::from_secs(65));
    incident.start.successors_since = Some(epoch() - Duration::from_secs(85));
    let plan = Plan::Fleet { kind: FleetKind::Ec2, fleet: fleet(10), how: FleetRequest::Raise };
    let registrations = vec![registration(WEB, US, &[80])];
    let known = LookedUp { registrations: Some(registrations), plan: Some(plan), ..LookedUp::default() };
    told.handover = Handover::begin(incident, HandoverSettings::default(), known, at(21_000));
    told.until(24_000);
    assert_eq!(told.written, ["11"]);
    told.shown.capacity.fulfilled = 11;
    told.until(45_000);
    assert!(!told.has(MilestoneKind::SuccessorRunning), "the fellow is no successor");
    told.members.push(member("i-new", 24, None));
    told.until(60_000);
    assert!(told.has(MilestoneKind::SuccessorRunning));
}

#[test]
fn a_successor_that_the_list_shows_is_taken_though_the_fleets_own_number_does_not_move() {
    let mut told = told(|_| {});
    told.until(30_000);
    assert_eq!(told.written, ["11"]);
    let new = member("i-new", 29, None);
    told.dead.extend(new.instance.clone());
    told.members.push(new);
    told.healthy = vec![healthy("i-new")];
    told.until(80_000);
    assert_eq!(told.written, ["11", "10"]);
    assert!(told.has(MilestoneKind::SuccessorHealthy));
    told.until(141_000);
    let outcome = outcome_of(&mut told);
    assert!(told.handover.outcome().is_some_and(|outcome| outcome.complete), "{outcome}");
}

#[test]
fn a_victim_that_the_fleet_drops_after_the_raise_lowers_the_raise_at_once() {
    let mut told = told(|_| {});
    told.until(23_000);
    assert_eq!(told.written, ["11"]);
    told.shown.capacity.fulfilled = 9;
    told.until(32_000);
    assert_eq!(told.written, ["11", "10"]);
    told.members.push(member("i-new", 33, None));
    told.shown.capacity.fulfilled = 10;
    told.until(60_000);
    assert_eq!(told.written, ["11", "10"], "the base stands");
}

#[test]
fn a_put_back_that_is_refused_reads_why_and_asks_a_deleted_fleet_no_more() {
    let mut told = told(|told| told.refuses = Some(10));
    told.until(23_000);
    told.shown.capacity.fulfilled = 11;
    told.members.push(member("i-new", 23, None));
    told.until(60_000);
    assert_eq!(told.written.iter().filter(|total| *total == "10").count(), 1, "{:?}", told.written);
}

#[test]
fn a_total_that_shows_before_the_tag_of_the_victim_that_raised_it_is_no_base() {
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(15));
        told.shown.capacity.total = 11;
    });
    told.until(23_500);
    assert_eq!(told.written, Vec::<String>::new());
    told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11".to_owned());
    told.until(40_000);
    assert_eq!(told.written, ["12"]);
    assert!(told.shown.tags[BASE_CAPACITY_TAG].starts_with("10..12"), "{:?}", told.shown.tags);
}

#[test]
fn a_fleet_that_has_more_than_its_target_launches_nobody_and_none_is_told_of() {
    let mut told = told(|told| {
        told.members.push(member("i-more", -900, None));
        told.shown.capacity.fulfilled = 11;
    });
    told.needs_nobody();
}

#[test]
fn for_a_fleet_that_turns_out_to_be_deleted_something_else_is_looked_for_once() {
    let mut told = told(|told| told.shown.state = FleetState::Ended("deleted_running".into()));
    told.until(23_000);
    let looks = |told: &Told| told.calls.iter().filter(|call| matches!(call, Call::FindPlan)).count();
    assert_eq!(looks(&told), 1);
    told.handover.answered(at(told.now), DutyId::FindPlan, Answer::Plan(Box::new(launch_plan())));
    told.until(25_000);
    assert!(told.calls.iter().any(|call| matches!(call, Call::CreateFleet { .. })), "{:?}", told.calls);
    assert_eq!(looks(&told), 1);
}

#[test]
fn a_fleet_that_replaces_by_itself_and_is_deleted_since_the_look_up_is_followed_by_something_else() {
    let mut told = told_of(Some("launch"), |told| told.shown.state = FleetState::Ended("deleted_running".into()));
    told.until(30_000);
    let looks = |told: &Told| told.calls.iter().filter(|call| matches!(call, Call::FindPlan)).count();
    assert_eq!(looks(&told), 1, "{:?}", told.calls);
    told.handover.answered(at(told.now), DutyId::FindPlan, Answer::Plan(Box::new(launch_plan())));
    told.until(35_000);
    assert!(told.calls.iter().any(|call| matches!(call, Call::CreateFleet { .. })), "{:?}", told.calls);
    assert_eq!(looks(&told), 1);
}

#[test]
fn a_fleet_that_replaces_by_itself_is_looked_at_once_and_its_members_then() {
    let mut told = told_of(Some("launch"), |_| {});
    told.members.push(member("i-new", 23, None));
    told.until(60_000);
    let fleets = told.calls.iter().filter(|call| matches!(call, Call::DescribeFleet { .. })).count();
    assert_eq!(fleets, 1, "{:?}", told.calls);
    assert!(!told.calls.iter().any(|call| matches!(call, Call::FindPlan)), "{:?}", told.calls);
    assert_eq!(told.handover.successor_id(), Some(id("i-new")));
}

fn outcome_of(told: &mut Told) -> String {
    told.until(145_000);
    format!("{:?}", told.handover.outcome().expect("the end"))
}

#[test]
fn without_the_spot_requests_the_marks_of_the_members_tell_who_goes() {
    let mut told = told(|told| told.requests_denied = true);
    told.until(23_000);
    assert_eq!(told.written, ["11"]);
    // Another one is noticed a second later, and marks itself.
    let mark = (epoch() + Duration::from_secs(141)).to_string();
    told.members[0].instance.as_mut().expect("it").tags.insert("spot-relay:leaving".to_owned(), mark);
    told.until(30_000);
    assert_eq!(told.written, ["11", "12"]);
    for number in [1, 2] {
        told.members.push(member(&format!("i-new{number}"), 31, None));
    }
    told.shown.capacity.fulfilled = 12;
    told.until(60_000);
    assert_eq!(told.written, ["11", "12", "10"]);
    let outcome = outcome_of(&mut told);
    assert!(outcome.contains("by their tags alone, because of UnauthorizedOperation"), "{outcome}");
}

#[test]
fn a_read_that_is_denied_is_the_reason_why_nothing_was_raised() {
    let mut told = told(|told| told.denies = |call| matches!(call, Call::DescribeFleetMembers { .. }));
    let outcome = outcome_of(&mut told);
    assert_eq!(told.written, Vec::<String>::new());
    assert!(outcome.contains("not raised: failed, last with UnauthorizedOperation"), "{outcome}");
    assert!(!outcome.contains("too little time"), "{outcome}");
}

#[test]
fn a_tag_that_is_denied_is_the_reason_why_nothing_was_raised() {
    let mut told = told(|told| told.denies = |call| matches!(call, Call::TagFleet { .. }));
    let outcome = outcome_of(&mut told);
    assert_eq!(told.written, Vec::<String>::new());
    assert!(outcome.contains("not raised: failed, last with UnauthorizedOperation"), "{outcome}");
}

#[test]
fn a_raise_that_is_denied_is_tried_ever_more_seldom_and_its_tag_is_taken_off() {
    let mut told = told(|told| told.denies = |call| matches!(call, Call::ModifyFleet { .. }));
    told.until(60_000);
    assert_eq!(told.shown.tags.get(BASE_CAPACITY_TAG).map(String::as_str), Some("10..11 termination"));
    let tries = |told: &Told| told.calls.iter().filter(|call| matches!(call, Call::ModifyFleet { .. })).count();
    assert!((4..=12).contains(&tries(&told)), "{} in 40 s", tries(&told));
    let outcome = outcome_of(&mut told);
    assert!(outcome.contains("not raised: failed, last with UnauthorizedOperation"), "{outcome}");
    assert!(!outcome.contains("not put back to"), "{outcome}");
    assert!(told.shown.tags.is_empty(), "{:?}", told.shown.tags);
}

#[test]
fn a_fleet_that_has_no_room_for_the_tag_is_asked_once_and_not_raised() {
    let mut told = told(|_| {});
    let mut tries = 0;
    while told.now < 60_000 {
        for Due { duty, call, .. } in told.handover.due(at(told.now)) {
            let answer = match &call {
                Call::TagFleet { .. } => {
                    tries += 1;
                    Some(refusal("TagLimitExceeded"))
                }
                call => told.answer(call),
            };
            if let Some(answer) = answer {
                told.handover.answered(at(told.now), duty, answer);
            }
        }
        told.now += 100;
    }
    assert_eq!((tries, told.written.len()), (1, 0));
    let outcome = format!("{:?}", told.handover.outcome().expect("nothing is to come"));
    assert!(outcome.contains("given up: fleet-1 bears 50 tags"), "{outcome}");
}

#[test]
fn a_throttled_read_backs_off_as_reads_do() {
    let mut told = told(|_| {});
    let mut reads = 0;
    while told.now < 141_000 {
        for Due { duty, call, .. } in told.handover.due(at(told.now)) {
            let counts = duty == DutyId::Ask && matches!(call, Call::DescribeFleetMembers { .. });
            reads += usize::from(counts);
            let throttled =
                Failure { code: Some("RequestLimitExceeded".into()), ..Failure::of(FailureKind::Throttled, "") };
            let answer = if counts { Some(Answer::Failed(throttled)) } else { told.answer(&call) };
            if let Some(answer) = answer {
                told.handover.answered(at(told.now), duty, answer);
            }
        }
        told.now += 100;
    }
    assert!((8..=30).contains(&reads), "{reads} in two minutes");
}

/// The fleet launches one at each raise, which is dead some seconds later.
fn each_dies(told: &mut Told, until: u64) {
    while told.now < until {
        let next = told.now + 500;
        told.until(next);
        let is_raised = told.shown.capacity.total > 10;
        let launched = told.dead.len() + usize::from(told.shown.capacity.fulfilled > 10);
        let raises = told.written.iter().filter(|total| *total == "11").count();
        if is_raised && launched < raises {
            told.shown.capacity.fulfilled = 11;
        } else if !is_raised && told.shown.capacity.fulfilled > 10 {
            told.shown.capacity.fulfilled = 10;
            let reason = StateReason { code: "Client.InternalError".into(), message: "Client error on launch".into() };
            let launch_time = Some(epoch() + Duration::from_millis(told.now - 2_000));
            let state = InstanceState::Terminated;
            let name = format!("i-dead{}", told.dead.len());
            told.dead.push(Instance { state, launch_time, state_reason: Some(reason), ..running(&name) });
        }
    }
}

#[test]
fn a_successor_of_a_fleet_that_dies_at_birth_is_told_and_the_fleet_raised_again_until_three_died_of_the_same() {
    let mut told = told(|_| {});
    each_dies(&mut told, 46_000);
    assert_eq!(told.dead.len(), 2, "{:?}", told.written);
    assert_eq!(told.written, ["11", "10", "11", "10"], "raised again");
    each_dies(&mut told, 100_000);
    assert_eq!(told.dead.len(), 3, "{:?}", told.written);
    assert_eq!(told.shown.capacity.total, 10);
    let outcome = outcome_of(&mut told);
    assert!(outcome.contains("given up: 3 that it launched died of Client.InternalError"), "{outcome}");
    assert!(outcome.contains("i-dead2 died at birth: Client.InternalError"), "{outcome}");
}

/// An operator, or Application Auto Scaling, writes a target capacity, and the fleet launches up to it.
fn set_by_somebody_else(told: &mut Told, total: i32, at: i64) {
    told.shown.capacity.total = total;
    while (told.members.len() as i32) < total {
        let name = format!("i-new{}", told.members.len());
        told.members.push(member(&name, at, None));
    }
    told.shown.capacity.fulfilled = total;
}

#[test]
fn a_target_that_somebody_else_sets_after_the_raise_is_left_alone_and_said() {
    for total in [13, 6, 0] {
        let mut told = told(|_| {});
        told.until(23_000);
        assert_eq!(told.written, ["11"]);
        assert!(told.shown.tags.contains_key(BASE_CAPACITY_TAG));
        set_by_somebody_else(&mut told, total, 23);
        told.until(60_000);
        assert_eq!(told.written, ["11"], "{total} is left alone");
        assert!(told.shown.tags.is_empty(), "{:?}", told.shown.tags);
        let remark = told.handover.take_remark().unwrap_or_default();
        assert!(remark.contains(&format!("somebody else has set its target capacity to {total}")), "{remark:?}");
        told.until(145_000);
        assert_eq!(told.written, ["11"]);
        let outcome = format!("{:?}", told.handover.outcome().expect("the end"));
        assert!(outcome.contains(&format!("left at {total}")), "{outcome}");
        assert_eq!(told.has(MilestoneKind::SuccessorRunning), total == 13, "{outcome}");
    }
}

#[test]
fn a_target_that_somebody_else_sets_while_the_tag_stands_is_the_base() {
    // As much as two victims may have raised it to, and the tag says that one has.
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(8));
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
        told.members.extend([member("i-new", 9, None), member("i-more", 17, None)]);
        (told.shown.capacity.total, told.shown.capacity.fulfilled) = (12, 12);
    });
    told.until(40_000);
    assert_eq!(told.written, ["14"]);
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "12..14 termination");
    let remark = told.handover.take_remark().unwrap_or_default();
    assert!(remark.contains("target capacity of 12"), "{remark:?}");
    told.members.extend([member("i-new1", 41, None), member("i-new2", 41, None)]);
    told.shown.capacity.fulfilled = 14;
    told.until(60_000);
    assert_eq!(told.written, ["14", "12"]);
}

#[test]
fn a_target_that_somebody_else_sets_once_the_base_is_back_is_the_base_of_the_next_victim() {
    let mut first = told(|_| {});
    first.until(23_000);
    first.members.push(member("i-new", 24, None));
    first.shown.capacity.fulfilled = 11;
    first.until(60_000);
    assert_eq!(
        (first.written.clone(), &*first.shown.tags[BASE_CAPACITY_TAG]),
        (vec!["11".to_owned(), "10".into()], "10..11 termination back")
    );
    let (mut shown, mut members) = (first.shown, first.members);
    // As much as the raise was.
    (shown.capacity.total, members[0]) = (11, member("i-1", -900, Some(60)));
    let mut told = told(|told| (told.shown, told.members) = (shown, members));
    told.until(60_000);
    assert_eq!(told.written.first().map(String::as_str), Some("13"));
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "11..13 termination");
}

#[test]
fn a_raise_that_lands_long_after_it_was_given_up_is_put_back_and_until_then_nobody_says_that_the_base_is_back() {
    let mut told = told(|told| told.loses = Some(11));
    told.until(24_000);
    assert_eq!(told.written, ["11"]);
    told.members.push(member("i-new", 24, None));
    told.shown.capacity.fulfilled = 11;
    told.healthy = vec![healthy("i-new")];
    told.until(50_000);
    assert_eq!(told.written, ["11", "10"]);
    told.shown.capacity.total = 11;
    told.until(70_000);
    assert!(told.handover.outcome().is_none(), "{:#?}", told.handover.outcome());
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "10..11 termination");
    told.until(100_000);
    assert_eq!(told.written, ["11", "10", "10"]);
    assert!(told.handover.outcome().is_some_and(|outcome| outcome.complete), "{:#?}", told.handover.reports());
}

#[test]
fn a_raise_that_shows_before_what_its_victim_has_noted_is_nobody_elses() {
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(15));
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
        told.shown.capacity.total = 12;
    });
    told.until(25_000);
    assert_eq!(told.written, Vec::<String>::new());
    told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..12 termination".to_owned());
    told.shown.capacity.fulfilled = 12;
    told.until(60_000);
    assert_eq!(told.written, ["10"]);
    assert_eq!(told.handover.take_remark(), None);
}

#[test]
fn a_raise_of_ours_that_a_lower_note_has_overwritten_is_noted_again() {
    let mut told = told(|told| told.members[0] = member("i-1", -900, Some(20)));
    told.until(23_000);
    assert_eq!(told.written, ["12"]);
    told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
    told.until(30_000);
    assert_eq!(told.written, ["12"]);
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "10..12 termination");
}

#[test]
fn a_fleet_with_a_survivor_beside_its_successor_has_more_than_its_target_though_its_tag_stands() {
    let mut told = told(|told| {
        told.members.push(member("i-successor-of-before", -300, None));
        told.shown.capacity.fulfilled = 11;
        told.shown.excess = ExcessCapacity::Stays;
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
    });
    told.needs_nobody();
}

#[test]
fn a_victim_that_was_replaced_before_needs_nobody_more_though_its_successor_goes_now() {
    // i-1 was noticed 15 s before, and this instance is its successor.
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(5));
        told.members.pop();
        told.members.extend([member("i-10", -900, None), member(US, 8, Some(20))]);
        told.shown.capacity.fulfilled = 11;
        told.shown.excess = ExcessCapacity::Stays;
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
    });
    told.until(23_000);
    assert_eq!(told.written, ["12"]);
    told.members.push(member("i-new", 24, None));
    told.shown.capacity.fulfilled = 12;
    told.until(60_000);
    assert!(told.has(MilestoneKind::SuccessorRunning));
    let reports = format!("{:?}", told.handover.reports());
    assert!(!reports.contains("fewer than the members that leave"), "{reports}");
}

#[test]
fn a_fleet_that_keeps_what_exceeds_its_target_already_is_asked_for_no_policy_and_its_tag_has_no_word() {
    let mut told = told(|told| told.shown.excess = ExcessCapacity::Stays);
    told.until(23_000);
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "10..11");
    told.members.push(member("i-new", 24, None));
    told.shown.capacity.fulfilled = 11;
    told.until(60_000);
    assert_eq!(told.written, ["11", "10"]);
    let asks = |call: &Call| matches!(call, Call::ModifyFleet { excess: Some(_), .. });
    assert!(!told.calls.iter().any(asks), "{:?}", told.calls);
}

#[test]
fn where_a_target_is_registered_with_a_server_id_the_successor_is_left_to_others_with_a_word() {
    // Nobody registers it, somebody on another port, or on ours: then it is healthy a minute later.
    for (port, complete) in [(None, false), (Some(443), false), (Some(80), true)] {
        let mut told = told(|_| {});
        let mut incident = incident_of(US, Action::Terminate, 141_000);
        incident.time = Some(epoch() + Duration::from_secs(140));
        incident.start.successors_since = Some(epoch() + Duration::from_secs(20));
        let quic = Registration { needs_server_id: true, ..registration(WEB, US, &[80]) };
        let plan = Some(Plan::Fleet { kind: FleetKind::Ec2, fleet: fleet(10), how: FleetRequest::Raise });
        let known = LookedUp { registrations: Some(vec![quic]), plan, ..LookedUp::default() };
        let leave = LeaveSettings { when: When::AtOnce, ..LeaveSettings::default() };
        let settings = HandoverSettings { leave, ..HandoverSettings::default() };
        told.handover = Handover::begin(incident, settings, known, at(21_000));
        told.until(23_000);
        told.members.push(member("i-new", 24, None));
        told.shown.capacity.fulfilled = 11;
        let shown = |port, state| {
            let target = Target { id: "i-new".into(), port };
            vec![TargetHealth { target, state, reason: None }]
        };
        told.healthy = port.map(|port| shown(port, TargetState::Initial)).unwrap_or_default();
        told.until(90_000);
        let is_early = told.handover.outcome().is_some();
        assert!(!(complete && is_early), "it ends before the successor is healthy: {:#?}", told.handover.outcome());
        told.healthy = port.map(|port| shown(port, TargetState::Healthy)).unwrap_or_default();
        told.until(139_000);
        assert!(!told.calls.iter().any(|call| matches!(call, Call::RegisterTargets { .. })), "{:?}", told.calls);
        let reports = told.handover.reports();
        let outcome = told.handover.outcome().unwrap_or_else(|| panic!("it waits for its deadline: {reports:#?}"));
        assert_eq!(outcome.complete, complete, "{outcome:#?}");
        assert_eq!(format!("{outcome:?}").contains("QuicServerId"), !complete, "{outcome:#?}");
    }
}

#[test]
fn a_fleet_that_an_operator_lowers_to_what_it_has_lacks_nobody() {
    for (lowered_at, total) in [(24_000, 9), (40_000, 9), (40_000, 8), (100_000, 9)] {
        let mut told = told(|told| told.members[0] = member("i-1", -900, Some(20)));
        told.until(23_500);
        assert_eq!(told.written, ["12"]);
        told.members.push(member("i-new", 24, None));
        told.shown.capacity.fulfilled = 11;
        told.until(lowered_at);
        told.shown.capacity.total = total;
        told.until(139_000);
        let reports = format!("{:?}", told.handover.reports());
        assert!(!reports.contains("more members went"), "{lowered_at} {total}: {reports}");
        assert_eq!(told.written, ["12"], "the operator's number stands");
    }
}
