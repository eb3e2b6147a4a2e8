//! Each kind of owner, at once and serving on, from the notice to the outcome.

use super::*;

#[test]
fn a_group_is_left_by_detaching_and_launches_the_successor() {
    let writes = ["detach decrement=false", "deregister web", "deregister api", "register successor in api"];
    check(When::AtOnce, Owner::Detach, detach(), &writes, &EVERYTHING);
}

#[test]
fn a_termination_hook_is_completed_once_quiet() {
    let plan = Plan::Group { group: group(&["drain"]), how: GroupRequest::Terminate };
    let run = Run::new(Owner::Hook, &VICTIM, plan, Vec::new()).run(&[]);
    let completed = run.calls.iter().find(|(_, _, call)| matches!(call, Call::CompleteLifecycleAction { .. }));
    let quiet = run.milestones.iter().find(|milestone| milestone.milestone == MilestoneKind::Quiet).expect("quiet");
    let (completed_at, _, _) = completed.expect("the hook is completed");
    assert!(at(*completed_at) >= quiet.at);
    assert!(run.outcome(0).complete, "{:#?}", run.outcome(0));
}

#[test]
fn a_termination_hook_opens_after_the_drain_and_is_completed_then() {
    let plan = Plan::Group { group: group(&["drain"]), how: GroupRequest::Terminate };
    let mut run = Run::new(Owner::Hook, &VICTIM, plan, Vec::new());
    run.aws.drains_for = 80_000;
    let run = run.run(&[]);
    let completions: Vec<u64> = run
        .calls
        .iter()
        .filter(|(_, _, call)| matches!(call, Call::CompleteLifecycleAction { .. }))
        .map(|(when, _, _)| *when)
        .collect();
    assert!(matches!(completions.as_slice(), [at] if *at >= 81_000), "{completions:?}");
    assert!(!run.calls.iter().any(|(_, _, call)| matches!(call, Call::RecordLifecycleActionHeartbeat { .. })));
    assert!(run.outcome(0).complete, "{:#?}", run.outcome(0));
}

#[test]
fn a_hook_that_opens_after_the_end_is_not_called_completed() {
    let plan = Plan::Group { group: group(&["drain"]), how: GroupRequest::Terminate };
    let mut run = Run::new(Owner::Hook, &VICTIM, plan, Vec::new());
    run.aws.drains_for = 300_000;
    let run = run.run(&[]);
    let outcome = run.outcome(0);
    assert!(!outcome.complete);
    let undone: Vec<&DutyReport> = outcome.duties.iter().filter(|report| !report.done).collect();
    assert!(matches!(undone.as_slice(), [hook] if hook.what.contains("drains first")), "{undone:#?}");
}

#[test]
fn a_maintain_fleet_is_raised_and_put_back() {
    let writes = [
        "deregister web",
        "deregister api",
        "capacity 4",
        "capacity 3",
        "register successor in web",
        "register successor in api",
    ];
    let run = check(When::AtOnce, Owner::Maintain, raise(), &writes, &EVERYTHING);
    assert_eq!(run.aws.total, 3);
}

#[test]
fn by_default_a_fleet_and_a_template_launch_before_this_instance_leaves() {
    let writes = [
        "capacity 4",
        "capacity 3",
        "register successor in web",
        "register successor in api",
        "deregister web",
        "deregister api",
    ];
    check(When::Auto, Owner::Maintain, raise(), &writes, &EVERYTHING);
    let writes =
        ["create fleet", "register successor in web", "register successor in api", "deregister web", "deregister api"];
    check(When::Auto, Owner::Instant, launch_plan(), &writes, &EVERYTHING);
}

#[test]
fn by_default_a_group_that_rebalances_launches_before_this_instance_leaves() {
    let rebalances =
        Plan::Group { group: AutoScalingGroup { capacity_rebalance: true, ..group(&[]) }, how: GroupRequest::Observe };
    for (when, leaves_at_once) in [(When::Auto, false), (When::AtOnce, true)] {
        let mut run = Run::new(Owner::Rebalance, &VICTIM, rebalances.clone(), Vec::new());
        run.settings.leave.when = when;
        // It has not launched anybody yet.
        run.aws.next_launch = 1_000_000;
        let run = run.run(&[]);
        let first = run.calls.iter().find(|(_, _, call)| matches!(call, Call::DeregisterTargets { .. }));
        assert_eq!(first.map(|(when, _, _)| *when), Some(if leaves_at_once { 1_040 } else { 81_000 }), "{when:?}");
    }
}

#[test]
fn by_default_nobody_to_launch_means_at_once() {
    let run = Run::new(Owner::Instant, &VICTIM, Plan::nobody_ever("launched by hand"), Vec::new()).run(&[]);
    let first = run.calls.iter().find(|(_, _, call)| matches!(call, Call::DeregisterTargets { .. }));
    // Three exchanges of 20 ms: another target serves, this instance bears its tag, and the other does not.
    assert_eq!(first.map(|(when, _, _)| *when), Some(1_060));
}

#[test]
fn the_defaults_count_thirty_seconds_of_a_long_delay_and_settle_of_a_short_one() {
    let leave = LeaveSettings::default();
    let counted = |delay| time_to_drain(&leave, Duration::from_secs(delay)).as_secs();
    assert_eq!([0, 20, 25, 30, 300].map(counted), [20, 20, 25, 30, 30]);
    let patient = LeaveSettings { settle: Duration::from_secs(60), ..leave };
    assert_eq!(time_to_drain(&patient, Duration::from_secs(300)).as_secs(), 60);
}

#[test]
fn an_instant_fleet_is_launched_and_its_instance_registered() {
    let writes =
        ["create fleet", "deregister web", "deregister api", "register successor in web", "register successor in api"];
    check(When::AtOnce, Owner::Instant, launch_plan(), &writes, &EVERYTHING);
}

#[test]
fn nobody_launches_and_the_instance_drains_all_the_same() {
    let plan = Plan::nobody_ever("launched by hand");
    let run = Run::new(Owner::Instant, &VICTIM, plan, Vec::new()).run(&[]);
    assert!(run.outcome(0).complete);
    assert_eq!(run.targets_of("i-victim"), 0);
    assert_eq!(run.aws.launches.len(), 0);
}

#[test]
fn the_owner_is_asked_in_the_first_instant_and_one_look_later_every_deregistration_is_begun_where_many_serve() {
    let mut run = Run::new(Owner::Detach, &VICTIM, detach(), Vec::new());
    for other in 0..11 {
        run.aws.targets.extend([WEB, API].map(|arn| (arn, format!("i-serving{other}"), 80)));
    }
    run.settings.leave.when = When::AtOnce;
    let run = run.run(&[]);
    let at = |instant| run.calls.iter().filter(move |(when, _, _)| *when == instant).map(|(_, _, call)| call);
    let first: Vec<&Call> = at(1_000).collect();
    assert!(matches!(first.first(), Some(Call::DetachInstances { decrement: false, .. })), "{first:?}");
    assert_eq!(first.iter().filter(|call| matches!(call, Call::DescribeTargetHealth { .. })).count(), 2, "{first:?}");
    assert_eq!(at(1_020).filter(|call| matches!(call, Call::DeregisterTargets { .. })).count(), 2);
}

#[test]
fn a_hibernation_sends_the_deregistrations_alone() {
    let mut run = Run::new(Owner::Detach, &VICTIM, detach(), Vec::new());
    run.action = Action::Hibernate;
    let run = run.run(&[]);
    let first: Vec<&Call> =
        run.calls.iter().take_while(|(when, _, _)| *when == 1_000).map(|(_, _, call)| call).collect();
    assert!(matches!(first.as_slice(), [Call::DeregisterTargets { .. }, Call::DeregisterTargets { .. }]));
    assert!(run.calls.iter().any(|(_, _, call)| matches!(call, Call::DetachInstances { .. })));
    assert_eq!(run.aws.launches.len(), 1);
}

#[test]
fn serving_on_launches_first_and_leaves_when_the_successor_is_healthy() {
    let mut run = Run::new(Owner::Detach, &VICTIM, detach(), Vec::new());
    run.settings.leave.when = When::SuccessorHealthy;
    let run = run.run(&[]);
    let writes = ["launch", "register successor in api", "deregister web", "deregister api", "detach decrement=true"];
    assert_eq!(run.aws.writes, writes);
    let healthy = run.milestones.iter().rfind(|it| it.milestone == MilestoneKind::SuccessorHealthy).expect("healthy");
    let deregistered = run.milestones.iter().find(|it| it.milestone == MilestoneKind::Deregistered).expect("left");
    assert!(deregistered.at >= healthy.at);
    assert_eq!(run.aws.launches.len(), 1);
    assert!(run.outcome(0).complete, "{:#?}", run.outcome(0));
}

#[test]
fn a_group_that_aws_launches_none_first_for_is_left_at_once() {
    for (mixes_spot_and_on_demand, has_launch_configuration) in [(true, false), (false, true)] {
        let Plan::Group { group, how } = detach() else { panic!("a group") };
        let group = AutoScalingGroup { mixes_spot_and_on_demand, has_launch_configuration, ..group };
        let mut run = Run::new(Owner::Detach, &VICTIM, Plan::Group { group, how }, Vec::new());
        run.settings.leave.when = When::SuccessorHealthy;
        let run = run.run(&[]);
        assert!(!run.calls.iter().any(|(_, _, call)| matches!(call, Call::LaunchInstances { .. })), "{:?}", run.calls);
        assert!(run.aws.writes.contains(&"detach decrement=false".to_owned()), "{:?}", run.aws.writes);
        assert!(run.outcome(0).complete, "{:#?}", run.outcome(0));
    }
}

#[test]
fn serving_on_ends_when_draining_would_come_too_late() {
    let plan = launch_plan();
    let never = std::iter::repeat_n((Fate::NoCapacity, 20), 400).collect();
    let mut run = Run::new(Owner::Instant, &VICTIM, plan, never);
    run.settings.leave.when = When::SuccessorHealthy;
    let run = run.run(&[]);
    let first = run.calls.iter().find(|(_, _, call)| matches!(call, Call::DeregisterTargets { .. }));
    // 121 s less 10 s of reserve and 30 s of draining.
    assert_eq!(first.map(|(when, _, _)| *when), Some(81_000));
    assert_eq!(run.targets_of("i-victim"), 0);
    assert!(!run.outcome(0).complete);
}

#[test]
fn a_notice_that_comes_too_late_to_serve_on_says_so() {
    for (plan, deadline, says) in [
        (launch_plan(), 121_000, "serving on; first launch"),
        (launch_plan(), 31_000, "now: leave web, api; launch the successor"),
        (detach(), 31_000, "now: leave web, api; have group shop-asg launch one more"),
    ] {
        let incident = incident_of("i-victim", Action::Terminate, deadline);
        let known =
            LookedUp { registrations: Some(registrations("i-victim")), plan: Some(plan), ..LookedUp::default() };
        let handover = Handover::begin(incident, HandoverSettings::default(), known, at(1_000));
        let told = handover.incident().milestones.iter().map(|milestone| milestone.message.clone());
        assert!(told.clone().any(|message| message.contains(says)), "{:?}", told.collect::<Vec<_>>());
    }
}

#[test]
fn a_refused_launch_falls_back_to_leaving_at_once() {
    falls_back(When::SuccessorHealthy, FailureKind::Rejected, "InvalidAction");
}

#[test]
fn by_default_a_denied_launch_costs_its_own_refusal_alone() {
    falls_back(When::Auto, FailureKind::Denied, "AccessDenied");
}

fn falls_back(when: When, kind: FailureKind, code: &str) {
    let refused = Answer::Failed(Failure { kind, code: Some(code.into()), message: String::new() });
    let mut handover = {
        let incident = incident_of("i-victim", Action::Terminate, 121_000);
        let leave = LeaveSettings { when, ..LeaveSettings::default() };
        let settings = HandoverSettings { leave, ..HandoverSettings::default() };
        Handover::begin(
            incident,
            settings,
            LookedUp { registrations: Some(registrations("i-victim")), plan: Some(detach()), ..LookedUp::default() },
            at(1_000),
        )
    };
    assert!(matches!(handover.due(at(1_000)).as_slice(), [Due { call: Call::DescribeGroupSettings { .. }, .. }, ..]));
    let members = vec![member("i-victim", "InService")];
    let current =
        Some(GroupState { members, target_groups: detach().owners_target_groups().to_vec(), ..empty_group() });
    let settings = Answer::GroupSettings { current, termination_hooks: None };
    handover.answered(at(1_000), DutyId::Ask, settings);
    assert!(matches!(handover.due(at(1_000)).as_slice(), [Due { call: Call::LaunchInstances { .. }, .. }, ..]));
    handover.answered(at(1_050), DutyId::Ask, refused);
    let due = handover.due(at(1_050));
    assert!(due.iter().any(|due| matches!(due.call, Call::DetachInstances { decrement: false, .. })), "{due:?}");
    assert_eq!(leaves_after_a_look(&mut handover, 1_050, due), 2);
}

#[test]
fn a_shifted_time_only_shortens_the_deadline() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let mut handover = Handover::begin(incident, HandoverSettings::default(), LookedUp::default(), at(1_000));
    handover.noticed(Action::Terminate, None, at(130_000), at(1_000));
    assert_eq!(handover.incident().deadline, at(121_000));
    handover.noticed(Action::Terminate, None, at(60_000), at(1_000));
    assert_eq!(handover.incident().deadline, at(60_000));
    assert!(handover.due(at(60_000)).is_empty());
    assert!(handover.outcome().is_some());
}
