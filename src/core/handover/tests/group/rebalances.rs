//! A group whose Capacity Rebalancing was switched on, or off, since it was looked up.

use super::*;

#[test]
fn a_group_that_rebalances_by_now_is_not_asked_and_one_that_does_not_answer_is_not_waited_for() {
    let settings_of = |when, answer: Answer| {
        let mut told = told(plan_of(group(&[])), when, |_| {});
        let due = told.handover.due(at(1_000));
        let asked = due.iter().find(|due| due.duty == DutyId::Ask).expect("a call");
        assert!(matches!(asked.call, Call::DescribeGroupSettings { .. }), "{asked:?}");
        assert_eq!(asked.limit, Duration::from_secs(2));
        told.answer(DutyId::Ask, answer);
        told
    };
    for when in [When::Auto, When::SuccessorHealthy] {
        let mut observing = settings_of(when, settings(true, Some("InService")));
        assert_eq!(observing.until(119_000, DutyId::Ask), None, "two would come");
        assert!(
            observing.handover.incident().milestones.iter().all(|it| it.milestone != MilestoneKind::SuccessorRequested)
        );
        let reports = format!("{:?}", observing.handover.reports());
        assert!(reports.contains("whose Capacity Rebalancing launches it"), "{reports}");
        for answer in [
            settings(false, Some("InService")),
            Answer::Failed(Failure::unanswered("no answer within 2.0 s")),
            failed(FailureKind::Denied, "AccessDenied", "no"),
        ] {
            let mut launching = settings_of(when, answer);
            assert!(matches!(launching.until(1_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        }
    }
    // What leaves at once waits for nothing.
    let mut at_once = told(plan_of(group(&[])), When::AtOnce, |_| {});
    assert!(at_once.handover.due(at(1_000)).iter().any(|due| matches!(due.call, Call::DetachInstances { .. })));
}

#[test]
fn a_group_that_rebalances_by_now_is_not_asked_after_a_restart_or_once_this_instance_is_in_service() {
    for (earlier, state) in [(Earlier::Restart, None), (Earlier::Perhaps, None), (Earlier::Nothing, Some("Pending"))] {
        for rebalances in [true, false] {
            let mut group = group(&[]);
            group.members.extend(state.map(|state| member(US, state)));
            let mut told = told(plan_of(group), When::Auto, |incident| incident.start.earlier = earlier);
            told.rebalances = rebalances;
            assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
            told.answer(DutyId::Ask, members("InService"));
            let next = told.until(119_000, DutyId::Ask);
            assert_eq!(next.is_none(), rebalances, "{earlier:?} {state:?}: {next:?}");
        }
    }
}

#[test]
fn the_process_after_this_one_knows_that_the_group_rebalances() {
    for hooks in [&[][..], &["drain"]] {
        let mut told = told(plan_of(group(hooks)), When::Auto, |_| {});
        told.rebalances = true;
        assert_eq!(told.until(5_000, DutyId::Ask), None);
        told.restart();
        assert_eq!(told.until(119_000, DutyId::Ask), None, "two would come");
    }
}

#[test]
fn a_group_that_terminates_this_instance_while_its_settings_are_asked_for_has_its_hook_completed() {
    let mut told = told(plan_of(group(&["drain"])), When::Auto, |_| {});
    let due = told.handover.due(at(1_000));
    assert!(due.iter().any(|due| matches!(due.call, Call::DescribeGroupSettings { .. })), "{due:?}");
    told.handover.group_terminates(Takes::ToItsEnd, at(121_000), at(1_100));
    told.now = 1_200;
    told.answer(DutyId::Ask, settings(true, Some("InService")));
    assert!(matches!(told.until(119_000, DutyId::MemberState), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::MemberState, members("Terminating:Wait"));
    let next = told.until(119_000, DutyId::Lifecycle(0));
    assert!(matches!(next, Some(Call::CompleteLifecycleAction { .. } | Call::RecordLifecycleActionHeartbeat { .. })));
}

/// A group that rebalanced when it was looked up.
fn rebalancing(hooks: &[&str]) -> Plan {
    let members = [US, "i-a", "i-b", "i-c"].map(|name| member(name, "InService")).to_vec();
    let group = AutoScalingGroup { capacity_rebalance: true, members, ..group(hooks) };
    Plan::Group { group, how: GroupRequest::Observe }
}

fn room_of(names: &[&str], capacity_rebalance: bool) -> Answer {
    let members = names.iter().map(|name| member(name, "InService")).collect();
    Answer::GroupState(Some(GroupState {
        members,
        desired_capacity: 3,
        max_size: 9,
        capacity_rebalance,
        ..empty_group()
    }))
}

#[test]
fn a_group_that_rebalances_no_more_is_asked_as_any_other_is() {
    for (hooks, when, launches_first) in [
        (&[][..], When::Auto, true),
        (&["drain"], When::Auto, true),
        (&[], When::AtOnce, false),
        (&["drain"], When::AtOnce, false),
    ] {
        let mut told = told(rebalancing(hooks), when, |_| {});
        assert!(matches!(told.until(20_000, DutyId::Find), Some(Call::DescribeAutoScalingGroup { .. })));
        told.answer(DutyId::Find, room_of(&[US, "i-a", "i-b"], false));
        if launches_first {
            let next = told.until(told.now + 5_000, DutyId::Ask);
            assert!(matches!(next, Some(Call::LaunchInstances { .. })), "{hooks:?}: {next:?}");
            told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
        }
        let next = told.until(told.now + 20_000, DutyId::Ask);
        let is_right = match &next {
            Some(Call::DetachInstances { decrement: false, .. }) => hooks.is_empty(),
            Some(Call::TerminateInstanceInAutoScalingGroup { decrement: false }) => !hooks.is_empty(),
            _ => false,
        };
        assert!(is_right, "{hooks:?} {when:?}: {next:?}");
        told.answer(DutyId::Ask, Answer::Accepted);
        assert!(matches!(told.until(60_000, DutyId::Find), Some(Call::DescribeAutoScalingGroup { .. })));
        told.answer(DutyId::Find, room_of(&["i-a", "i-b", "i-new"], false));
        assert!(matches!(told.until(60_000, DutyId::Find), Some(Call::DescribeInstances { .. })));
        told.answer(DutyId::Find, Answer::Instances(vec![running("i-new")]));
        assert_eq!(told.handover.successor_id(), Some(id("i-new")));
    }
}

#[test]
fn a_group_that_launches_or_has_a_member_too_many_or_holds_this_instance_no_more_is_not_asked() {
    for (names, rebalances) in
        [(&[US, "i-a", "i-b"][..], true), (&[US, "i-a", "i-b", "i-c"], false), (&["i-a", "i-b"], false)]
    {
        let mut told = told(rebalancing(&[]), When::Auto, |_| {});
        while told.until(100_000, DutyId::Find).is_some() {
            told.answer(DutyId::Find, room_of(names, rebalances));
            assert!(told.handover.due(at(told.now)).iter().all(|due| due.duty != DutyId::Ask), "{names:?}");
        }
    }
    // What it launched before it was switched off is the successor.
    let mut told = told(rebalancing(&[]), When::Auto, |_| {});
    told.until(20_000, DutyId::Find);
    told.answer(DutyId::Find, room_of(&[US, "i-a", "i-b", "i-new"], false));
    assert!(matches!(told.until(20_000, DutyId::Find), Some(Call::DescribeInstances { .. })));
    told.answer(DutyId::Find, Answer::Instances(vec![running("i-new")]));
    assert_eq!(told.handover.successor_id(), Some(id("i-new")));
}

#[test]
fn a_group_that_rebalances_and_does_not_hold_this_instance_is_no_owner_of_it() {
    let mut told = told(rebalancing(&[]), When::AtOnce, |_| {});
    told.until(20_000, DutyId::Find);
    told.answer(DutyId::Find, room_of(&["i-a", "i-b"], true));
    assert!(matches!(told.until(20_000, DutyId::FindPlan), Some(Call::FindPlan)));
}
