//! The group terminates this instance by itself, or takes it back into its warm pool.

use super::*;

/// The group terminates this instance by itself: nothing but its hooks ends the handover.
fn scaled_in(hooks: &[&str], earlier: Earlier) -> Told {
    told(plan_of(group(hooks)), When::AtOnce, |incident| {
        incident.signal = Signal::LifecycleState;
        incident.group_takes = Some(Takes::ToItsEnd);
        incident.start.earlier = earlier;
        incident.deadline = at(400_000);
    })
}

#[test]
fn a_termination_by_the_group_has_no_end_but_the_completion_of_every_hook() {
    for earlier in [Earlier::Nothing, Earlier::Perhaps] {
        let mut told = scaled_in(&["drain", "logs"], earlier);
        // Far past any deadline of ours: the deregistration delay may belong to a group that nobody lists.
        let mut looks = 0;
        while told.now < 3_000_000 {
            let call = told.until(told.now + 40_000, DutyId::MemberState);
            assert!(matches!(call, Some(Call::DescribeAutoScalingGroup { .. })), "{call:?}");
            told.answer(DutyId::MemberState, members("Terminating"));
            looks += 1;
            assert_eq!(told.handover.ends_by(), None, "the watchdog is not to end this process meanwhile");
        }
        assert!((190..240).contains(&looks), "a look every quarter of a minute: {looks}");
        assert!(told.handover.outcome().is_none());
        told.until(told.now + 20_000, DutyId::MemberState);
        told.answer(DutyId::MemberState, members("Terminating:Wait"));
        for hook in [0, 1] {
            assert!(told.handover.outcome().is_none());
            let call = told.until(told.now + 1_000, DutyId::Lifecycle(hook));
            let completes = matches!(&call, Some(Call::CompleteLifecycleAction { result: HookResult::Continue, .. }));
            assert!(completes || hook == 1, "{call:?}");
            told.answer(DutyId::Lifecycle(hook), Answer::Accepted);
        }
        told.handover.due(at(told.now));
        let outcome = told.handover.outcome().expect("the end");
        assert!(outcome.complete, "{outcome:#?}");
    }
}

#[test]
fn a_hook_that_the_last_look_up_did_not_know_is_completed_too() {
    let nobody = Plan::nobody_ever("[successor] owner is \"none\"");
    for known in [plan_of(group(&[])), plan_of(group(&["drain"])), nobody] {
        let mut told = told(known.clone(), When::AtOnce, |incident| {
            (incident.signal, incident.group_takes) = (Signal::LifecycleState, Some(Takes::ToItsEnd));
        });
        let mut completed = Vec::new();
        while told.now < 5_000_000 && told.handover.outcome().is_none() {
            // AWS does not tell of the group for an hour.
            let tells = told.now > 3_600_000;
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let answer = match &call {
                    Call::FindGroup if tells => Answer::Plan(Box::new(plan_of(group(&["drain", "late"])))),
                    Call::FindGroup => failed(FailureKind::Fault, "InternalFailure", ""),
                    Call::DescribeAutoScalingGroup { .. } => {
                        members(if tells { "Terminating:Wait" } else { "Terminating" })
                    }
                    other => well(other).expect("an answer"),
                };
                if let Call::CompleteLifecycleAction { group, hook, .. } = call {
                    assert_eq!(group, "shop-asg");
                    completed.push(hook);
                }
                told.answer(duty, answer);
            }
            told.now += 1_000;
        }
        completed.sort();
        assert_eq!(completed, ["drain", "late"], "{known}");
        assert!(told.handover.outcome().is_some_and(|outcome| outcome.complete), "{known}");
    }
}

#[test]
fn a_hook_that_was_added_since_the_last_look_up_is_completed_at_a_notice_too() {
    for by_itself in [false, true] {
        let mut told = told(plan_of(group(&["drain"])), When::AtOnce, |_| {});
        let mut completed = Vec::new();
        while told.handover.outcome().is_none() {
            if by_itself && told.now == 3_000 {
                told.handover.group_terminates(Takes::ToItsEnd, at(400_000), at(told.now));
            }
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let answer = match &call {
                    Call::FindGroup => Answer::Plan(Box::new(plan_of(group(&["drain", "late"])))),
                    Call::DescribeAutoScalingGroup { .. } => members("Terminating:Wait"),
                    other => well(other).expect("an answer"),
                };
                if let Call::CompleteLifecycleAction { hook, .. } = call {
                    completed.push(hook);
                }
                told.answer(duty, answer);
            }
            told.now += 500;
        }
        completed.sort();
        assert_eq!(completed, ["drain", "late"], "by itself: {by_itself}");
        assert!(told.now <= 122_000, "the notice has an end");
    }
}

#[test]
fn a_member_that_its_group_takes_out_already_has_no_successor_launched_first() {
    for state in ["Terminating", "Terminating:Wait", "Detaching", "EnteringStandby"] {
        let mut told = told(plan_of(group(&[])), When::Auto, |_| {});
        let due = told.handover.due(at(1_000));
        assert!(due.iter().any(|due| matches!(due.call, Call::DescribeGroupSettings { .. })), "{due:?}");
        told.answer(DutyId::Ask, settings(false, Some(state)));
        let next = told.until(2_000, DutyId::Ask);
        assert!(!matches!(next, Some(Call::LaunchInstances { .. })), "{state}: {next:?}");
    }
}

#[test]
fn hundreds_that_are_scaled_in_together_look_no_oftener_than_the_bucket_lets() {
    let mut group = group(&["drain"]);
    group.members = vec![member(US, "Terminating"); 300];
    let mut told = told(plan_of(group), When::AtOnce, |incident| {
        (incident.signal, incident.group_takes) = (Signal::LifecycleState, Some(Takes::ToItsEnd));
        incident.deadline = at(400_000);
    });
    let mut looks = 0;
    while told.until(600_000, DutyId::MemberState).is_some() {
        told.answer(DutyId::MemberState, members("Terminating"));
        looks += 1;
    }
    // Three hundred, ten a second.
    assert!((15..=21).contains(&looks), "{looks} looks in ten minutes");
}

#[test]
fn a_hook_that_is_added_while_the_group_drains_is_completed_too() {
    let mut told = scaled_in(&["drain"], Earlier::Nothing);
    let (mut completed, mut looks) = (Vec::new(), 0);
    while told.now < 400_000 && told.handover.outcome().is_none() {
        let waits = told.now >= 200_000;
        for Due { duty, call, .. } in told.handover.due(at(told.now)) {
            let hooks: &[&str] = if waits { &["drain", "late"] } else { &["drain"] };
            let answer = match &call {
                Call::FindGroup => {
                    looks += 1;
                    Answer::Plan(Box::new(plan_of(group(hooks))))
                }
                Call::DescribeAutoScalingGroup { .. } if waits && completed.len() < 2 => members("Terminating:Wait"),
                Call::DescribeAutoScalingGroup { .. } if waits => members("Terminating:Proceed"),
                Call::DescribeAutoScalingGroup { .. } => members("Terminating"),
                other => well(other).expect("an answer"),
            };
            if let Call::CompleteLifecycleAction { hook, .. } = call {
                completed.push(hook);
            }
            told.answer(duty, answer);
        }
        told.now += 500;
    }
    completed.sort();
    assert_eq!(completed, ["drain", "late"]);
    assert!(looks == 2 && told.now < 215_000, "{looks} looks, {}", told.now);
    assert!(told.handover.outcome().is_some_and(|outcome| outcome.complete), "{:#?}", told.handover.reports());
}

#[test]
fn a_late_hook_is_found_whoever_sees_that_the_hooks_are_open_and_whatever_look_is_under_way() {
    // The search sees it first; the look at the hooks of before is answered first, or after it.
    for first_look_takes in [0, 30_000] {
        let mut told = told(plan_of(group(&["drain"])), When::AtOnce, |_| {});
        let (mut completed, mut first_look) = (Vec::new(), None);
        while told.now < 125_000 && told.handover.outcome().is_none() {
            let waits = told.now >= 20_000;
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let hooks: &[&str] = if waits { &["drain", "late"] } else { &["drain"] };
                let answer = match &call {
                    Call::FindGroup if first_look.is_none() => {
                        first_look = Some((told.now + first_look_takes, duty));
                        continue;
                    }
                    Call::FindGroup => Answer::Plan(Box::new(plan_of(group(hooks)))),
                    Call::DescribeAutoScalingGroup { .. } if waits && duty == DutyId::Find => {
                        members("Terminating:Wait")
                    }
                    Call::DescribeAutoScalingGroup { .. } => members("Terminating"),
                    other => well(other).expect("an answer"),
                };
                if let Call::CompleteLifecycleAction { hook, .. } = call {
                    completed.push(hook);
                }
                told.answer(duty, answer);
            }
            if let Some((_, duty)) = first_look.filter(|(at, _)| *at == told.now) {
                told.answer(duty, Answer::Plan(Box::new(plan_of(group(&["drain"])))));
            }
            told.now += 500;
        }
        completed.sort();
        assert_eq!(completed, ["drain", "late"], "{first_look_takes}");
    }
}

#[test]
fn the_last_look_at_the_hooks_of_a_large_group_does_not_put_off_the_end() {
    for fails in [false, true] {
        let mut group = group(&["drain"]);
        group.members = vec![member(US, "Terminating"); 300];
        let mut told = told(plan_of(group.clone()), When::AtOnce, |incident| {
            (incident.signal, incident.group_takes) = (Signal::LifecycleState, Some(Takes::ToItsEnd));
            incident.deadline = at(400_000);
        });
        let mut completed_at = None;
        while told.now < 400_000 && told.handover.outcome().is_none() {
            let waits = told.now >= 200_000;
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let answer = match &call {
                    Call::FindGroup if waits && fails => failed(FailureKind::Throttled, "Throttling", "Rate exceeded"),
                    Call::FindGroup => Answer::Plan(Box::new(plan_of(group.clone()))),
                    Call::DescribeAutoScalingGroup { .. } if waits => members("Terminating:Wait"),
                    Call::DescribeAutoScalingGroup { .. } => members("Terminating"),
                    other => well(other).expect("an answer"),
                };
                if matches!(call, Call::CompleteLifecycleAction { .. }) {
                    completed_at = Some(told.now);
                }
                told.answer(duty, answer);
            }
            told.now += 500;
        }
        let outcome = told.handover.outcome().unwrap_or_else(|| panic!("{fails}: {:#?}", told.handover.reports()));
        assert!(outcome.complete, "{fails}: {outcome:#?}");
        let waited = told.now - completed_at.expect("it is completed");
        assert!(waited < 2_000, "{fails}: {waited}");
    }
}

#[test]
fn a_group_that_iam_hides_is_not_waited_for_and_never_complete() {
    let mut told = told(plan_of(group(&[])), When::AtOnce, |incident| {
        (incident.signal, incident.group_takes) = (Signal::LifecycleState, Some(Takes::ToItsEnd));
    });
    assert!(told.until(60_000, DutyId::FindGroup).is_some());
    told.answer(DutyId::FindGroup, failed(FailureKind::Denied, "AccessDenied", ""));
    told.until(100_000, DutyId::FindGroup);
    let outcome = told.handover.outcome().expect("the end");
    assert!(!outcome.complete && told.now < 121_000, "{outcome:#?}");
}

#[test]
fn heartbeats_are_sent_only_while_the_hook_waits() {
    let mut told = scaled_in(&["drain"], Earlier::Nothing);
    let busy = |told: &mut Told, end: u64| {
        let mut heartbeats = 0;
        while told.now <= end {
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let answer = match call {
                    Call::LookAtConnections { .. } => {
                        Answer::Connections(Connections { established: 1, busy: 1, ..Connections::default() })
                    }
                    Call::DescribeTargetHealth { .. } => Answer::Health(vec![row(TargetState::Draining)]),
                    Call::DescribeAutoScalingGroup { .. } if told.now < 100_000 => members("Terminating"),
                    Call::DescribeAutoScalingGroup { .. } => members("Terminating:Wait"),
                    Call::RecordLifecycleActionHeartbeat { .. } => {
                        heartbeats += 1;
                        Answer::Accepted
                    }
                    call => well(&call).expect("an answer"),
                };
                told.handover.answered(at(told.now), duty, answer);
            }
            told.now += 100;
        }
        heartbeats
    };
    assert_eq!(busy(&mut told, 99_900), 0);
    let heartbeats = busy(&mut told, 220_000);
    assert!(matches!(heartbeats, 3..=4), "{heartbeats}");
}

#[test]
fn a_hook_that_is_over_or_abandoned_ends_the_wait() {
    for (state, is_complete) in [
        (Some("Terminating:Proceed"), true),
        (Some("Terminated"), true),
        (None, true),
        (Some("Terminating:Retained"), false),
    ] {
        let mut told = scaled_in(&["drain"], Earlier::Perhaps);
        told.until(120_000, DutyId::MemberState);
        told.answer(DutyId::MemberState, state.map_or_else(|| Answer::GroupState(None), members));
        assert!(told.until(told.now + 30_000, DutyId::Lifecycle(0)).is_none(), "{state:?}");
        let outcome = told.handover.outcome().unwrap_or_else(|| panic!("{state:?}: the end"));
        assert_eq!(outcome.complete, is_complete, "{state:?}: {outcome:#?}");
    }
}

#[test]
fn the_way_back_into_the_warm_pool_has_its_hook_in_a_state_of_its_own() {
    let mut told = scaled_in(&["drain"], Earlier::Nothing);
    told.handover = {
        let mut incident = incident_of(US, Action::Terminate, 400_000);
        incident.signal = Signal::LifecycleState;
        incident.group_takes = Some(Takes::IntoPool);
        let known =
            LookedUp { registrations: Some(Vec::new()), plan: Some(plan_of(group(&["drain"]))), ..LookedUp::default() };
        Handover::begin(incident, HandoverSettings::default(), known, at(1_000))
    };
    for (state, completes) in [("Warmed:Pending", false), ("Warmed:Pending:Wait", true)] {
        told.until(120_000, DutyId::MemberState);
        told.answer(DutyId::MemberState, members(state));
        let call = told.until(told.now + 1_000, DutyId::Lifecycle(0));
        assert_eq!(call.is_some(), completes, "{state}");
    }
}

#[test]
fn a_hook_is_completed_though_the_groups_members_may_not_be_read() {
    let mut told = scaled_in(&["drain"], Earlier::Nothing);
    let (mut completed_at, mut too_early) = (None, 0);
    while told.now < 400_000 && told.handover.outcome().is_none() {
        for Due { duty, call, .. } in told.handover.due(at(told.now)) {
            let opens = told.now >= 200_000;
            let answer = match &call {
                Call::DescribeAutoScalingGroup { .. } | Call::FindGroup => {
                    failed(FailureKind::Denied, "AccessDenied", "")
                }
                Call::CompleteLifecycleAction { .. } | Call::RecordLifecycleActionHeartbeat { .. } if !opens => {
                    too_early += 1;
                    refused("ValidationError", "No active Lifecycle Action found with instance ID i-victim")
                }
                Call::CompleteLifecycleAction { .. } => {
                    completed_at = Some(told.now);
                    Answer::Accepted
                }
                other => well(other).expect("an answer"),
            };
            told.answer(duty, answer);
        }
        told.now += 500;
    }
    let completed_at = completed_at.expect("it is completed");
    assert!(completed_at < 300_000, "{completed_at}");
    assert!((3..40).contains(&too_early), "{too_early}");
    assert!(told.handover.outcome().is_some(), "its end");
}

#[test]
fn a_hook_that_is_never_seen_open_is_completed_at_the_reserve_once() {
    // The last state opens only after the try.
    for (takes, state_later) in [(true, "Terminating"), (false, "Terminating"), (false, "Terminating:Wait")] {
        let mut told = told(plan_of(group(&["drain"])), When::AtOnce, |_| {});
        let (mut tries, mut took) = (Vec::new(), false);
        while told.now <= 122_000 && told.handover.outcome().is_none() {
            for Due { duty, call, .. } in told.handover.due(at(told.now)) {
                let answer = match &call {
                    Call::FindGroup => Answer::Plan(Box::new(plan_of(group(&["drain"])))),
                    Call::DescribeAutoScalingGroup { .. } => {
                        members(if tries.is_empty() { "Terminating" } else { state_later })
                    }
                    Call::RecordLifecycleActionHeartbeat { .. } => panic!("it is not open"),
                    Call::CompleteLifecycleAction { .. } => {
                        tries.push(told.now);
                        took = takes || tries.len() > 1;
                        let refused = || refused("ValidationError", "No active Lifecycle Action found");
                        if took { Answer::Accepted } else { refused() }
                    }
                    other => well(other).expect("an answer"),
                };
                told.answer(duty, answer);
            }
            told.now += 500;
        }
        let opens = state_later == "Terminating:Wait";
        assert!(tries.first().is_some_and(|first| *first >= 111_000), "{tries:?}");
        assert_eq!(tries.len(), if opens { 2 } else { 1 }, "{tries:?}");
        let duties = &told.handover.outcome().expect("the end").duties;
        let hook = duties.iter().find(|it| it.duty.starts_with("termination hook")).expect("the hook");
        assert_eq!(hook.done, took, "{hook:?}");
        assert!(took || hook.what.starts_with("not open yet"), "{hook:?}");
    }
}

#[test]
fn the_successor_that_the_process_before_has_asked_for_is_followed() {
    let mut told = told(plan_of(group(&["drain"])), When::AtOnce, |incident| {
        incident.group_takes = Some(Takes::ToItsEnd);
        incident.start.earlier = Earlier::Restart;
        incident.reach(at(500), MilestoneKind::SuccessorRequested, "asked for", About::default());
    });
    assert!(told.until(60_000, DutyId::Find).is_some());
    told.until(130_000, DutyId::Register(9));
    let outcome = told.handover.outcome().expect("the end");
    assert!(!outcome.complete, "{outcome:#?}");
}

#[test]
fn a_notice_while_the_group_terminates_is_told_once_and_ends_the_handover() {
    let mut incident = incident_of(US, Action::Terminate, 3_600_000);
    (incident.signal, incident.group_takes) = (Signal::LifecycleState, Some(Takes::ToItsEnd));
    let mut handover = Handover::begin(incident, HandoverSettings::default(), LookedUp::default(), at(0));
    let told = |handover: &Handover| {
        let milestones = handover.incident().milestones.iter();
        milestones.filter(|it| it.milestone == MilestoneKind::Noticed).count()
    };
    let before = told(&handover);
    for shift in 0..5 {
        let time = epoch() + Duration::from_secs(121 + shift);
        handover.noticed(Action::Terminate, Some(time), at(121_000), at(1_000 + shift));
    }
    assert!(told(&handover) <= before + 1, "{:#?}", handover.incident().milestones);
    assert_eq!(handover.ends_by(), Some(at(121_000)));
}
