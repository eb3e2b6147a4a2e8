//! What is found late: ports, registrations, owners, and target groups that are not there.

use super::*;

#[test]
fn a_port_registered_since_the_look_up_is_deregistered_too() {
    let mut run = Run::new(Owner::Instant, &VICTIM, launch_plan(), Vec::new());
    run.aws.targets.insert((WEB, "i-victim".into(), 9090));
    run.settings = at_once();
    let run = run.run(&[]);
    assert_eq!(run.targets_of("i-victim"), 0);
    let (deregistered, _, _) = run.calls.iter().rev().find(|(_, _, call)| deregisters(call, 9090)).expect("a call");
    // It is drained ...
    let look = run
        .calls
        .iter()
        .find(|(_, _, call)| matches!(call, Call::LookAtConnections { ports, .. } if ports.contains(&9090)));
    assert!(look.is_some(), "{:?}", run.calls);
    let quiet = run.milestones.iter().find(|it| it.milestone == MilestoneKind::Quiet).expect("quiet");
    assert!(quiet.at >= at(*deregistered) + Duration::from_secs(20), "{quiet:?} after {deregistered}");
    // ... and succeeded ...
    let on = |port| run.aws.targets.contains(&(WEB, "i-new0".into(), port));
    assert!(on(80) && on(9090), "{:?}", run.aws.targets);
    assert!(run.outcome(0).complete, "{:?}", run.outcome(0));
    // ... and put back, if this instance lives on.
    let incident = run.handovers[0].as_ref().expect("a handover").incident();
    let known = incident.registrations.all().expect("they are known");
    assert_eq!(known[0].ports(), BTreeSet::from([80, 9090]));
}

fn deregisters(call: &Call, port: u16) -> bool {
    matches!(call, Call::DeregisterTargets { targets, .. } if targets.iter().any(|target| target.port == port))
}

#[test]
fn nothing_is_quiet_while_a_port_that_was_found_late_is_still_to_be_deregistered() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let known = LookedUp { registrations: Some(vec![registration(WEB, "i-victim", &[80])]), ..LookedUp::default() };
    let mut handover = Handover::begin(incident, at_once(), known, at(0));
    handover.due(at(0));
    handover.answered(at(10), DutyId::Leave(0), Answer::Accepted);
    handover.due(at(2_000));
    let row = |port, state| TargetHealth { target: Target { id: "i-victim".into(), port }, state, reason: None };
    let rows = vec![row(80, TargetState::Draining), row(9090, TargetState::Healthy)];
    handover.answered(at(2_010), DutyId::Leave(0), Answer::Health(rows));
    for now in (3_000..60_000).step_by(500) {
        for due in handover.due(at(now)) {
            match due.duty {
                DutyId::Leave(_) => handover.answered(at(now), due.duty, refusal("RequestLimitExceeded")),
                _ => handover.answered(at(now), due.duty, other_calls(&due.call)),
            };
        }
        assert!(!handover.is_quiet(), "quiet at {now} ms with port 9090 registered");
    }
}

#[test]
fn what_is_not_known_at_the_notice_is_looked_up_and_done() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let mut handover = Handover::begin(incident, at_once(), LookedUp::default(), at(0));
    let due = handover.due(at(0));
    let calls: Vec<&Call> = due.iter().map(|due| &due.call).collect();
    assert!(matches!(calls.as_slice(), [Call::FindRegistrations { among: None, .. }, Call::FindPlan]));
    handover.answered(at(100), DutyId::FindPlan, Answer::Plan(Box::new(detach())));
    let due = handover.due(at(100));
    let calls: Vec<&Call> = due.iter().map(|due| &due.call).collect();
    assert!(matches!(calls.as_slice(), [Call::DetachInstances { .. }, Call::FindRegistrations { among: Some(_), .. }]));
    handover.answered(at(200), DutyId::FindRegistrations(1), found(registrations("i-victim")));
    let due = handover.due(at(200));
    assert_eq!(leaves_after_a_look(&mut handover, 200, due), 2);
}

#[test]
fn a_target_group_that_awaits_this_instance_is_looked_at_again_at_the_notice() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let registrations = registrations("i-victim");
    let [first, second] = registrations.as_slice() else { panic!("two of them") };
    let plan = Some(Plan::nobody_ever("no tag"));
    let known = LookedUp { registrations: Some(vec![first.clone()]), plan, more_expected: true, ..LookedUp::default() };
    let mut handover = Handover::begin(incident, at_once(), known, at(0));
    let begun = handover.take_milestones();
    assert!(begun.iter().any(|it| it.message.contains(first.name())), "what is known is said: {begun:?}");
    let due = handover.due(at(0));
    let among = due.iter().find_map(|due| match &due.call {
        Call::FindRegistrations { among, .. } => Some(among.clone()),
        _ => None,
    });
    assert_eq!(among, Some(Some(Vec::new())), "never the whole account: {due:?}");
    assert!(handover.incident().registrations.all().is_none());
    handover.answered(at(100), DutyId::FindRegistrations(0), found(registrations.clone()));
    assert_eq!(handover.incident().registrations.all(), Some([first.clone(), second.clone()].as_slice()));
}

#[test]
fn one_target_group_that_is_not_told_of_holds_up_no_other_and_is_asked_for_again() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let plan = Some(Plan::nobody_ever("no tag"));
    let mut handover = Handover::begin(incident, at_once(), LookedUp { plan, ..LookedUp::default() }, at(0));
    handover.due(at(0));
    let part = Answer::Registrations {
        found: registrations("i-victim").into_iter().take(1).collect(),
        unclear: vec![TargetGroupArn::new(API)],
        missing: vec!["gone".into()],
        untold: Some(Box::new(Failure::unanswered("no answer within 3 s"))),
    };
    handover.answered(at(3_000), DutyId::FindRegistrations(0), part);
    let calls = |handover: &mut Handover, now: u64| handover.due(at(now)).into_iter().map(|due| due.call);
    assert!(matches!(&handover.incident().registrations, Registrations::SoFar(found) if found.len() == 1));
    assert!(calls(&mut handover, 9_000).any(|call| matches!(call, Call::FindRegistrations { .. })), "asked for again");
    handover.answered(at(9_100), DutyId::FindRegistrations(0), found(registrations("i-victim")));
    let all = handover.incident().registrations.all().map(<[_]>::len);
    assert_eq!(all, Some(registrations("i-victim").len()));
}

#[test]
fn a_target_group_that_is_found_missing_in_the_two_minutes_is_never_complete() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let plan = Some(Plan::nobody_ever("no tag"));
    let mut handover = Handover::begin(incident, at_once(), LookedUp { plan, ..LookedUp::default() }, at(0));
    handover.due(at(0));
    let (found, unclear, missing) = (Vec::new(), Vec::new(), vec!["gone".to_owned()]);
    let answer = Answer::Registrations { found, unclear, missing, untold: None };
    handover.answered(at(100), DutyId::FindRegistrations(0), answer);
    let reports = handover.reports();
    assert!(reports.iter().any(|report| report.duty == "leave gone" && !report.done), "{reports:#?}");
    assert_eq!(handover.incident().missing, ["gone"]);
}

#[test]
fn no_failure_of_one_duty_stops_another() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let known =
        LookedUp { registrations: Some(registrations("i-victim")), plan: Some(detach()), ..LookedUp::default() };
    let mut handover = Handover::begin(incident, at_once(), known, at(0));
    let denied = Failure { kind: FailureKind::Denied, code: Some("AccessDenied".into()), message: "no".into() };
    let due = handover.due(at(0));
    assert_eq!(leaves_after_a_look(&mut handover, 0, due), 2);
    handover.answered(at(10), DutyId::Leave(0), Answer::Failed(denied.clone()));
    handover.answered(at(10), DutyId::Ask, Answer::Failed(denied));
    handover.answered(at(10), DutyId::Leave(1), Answer::Accepted);
    let deregistered = handover.take_milestones();
    assert!(deregistered.iter().any(|it| it.milestone == MilestoneKind::Deregistered));
    assert!(handover.due(at(20_000)).iter().any(|due| due.duty == DutyId::Leave(0)), "retried");
}

#[test]
fn an_owner_that_shows_only_after_the_notice_is_asked_all_the_same() {
    let doubted = || Plan::nobody("the instance has no tag");
    let known =
        || LookedUp { registrations: Some(registrations("i-victim")), plan: Some(doubted()), ..LookedUp::default() };
    let asks = |handover: &mut Handover, from: u64, answer: &dyn Fn(u64) -> Answer| {
        for now in (from..40_000).step_by(100) {
            for due in handover.due(at(now)) {
                match due.call {
                    Call::FindPlan => drop(handover.answered(at(now), due.duty, answer(now))),
                    Call::DetachInstances { .. } => return Some(now),
                    call => drop(handover.answered(at(now), due.duty, other_calls(&call))),
                }
            }
        }
        None
    };
    // The tags show six seconds after the notice.
    let late = |now: u64| Answer::Plan(Box::new(if now < 6_000 { doubted() } else { detach() }));
    let mut handover = Handover::begin(incident_of("i-victim", Action::Terminate, 121_000), at_once(), known(), at(0));
    assert!(asks(&mut handover, 0, &late).is_some_and(|at| (6_000..20_000).contains(&at)));
    // A handover that would end sooner waits for it.
    let soon =
        HandoverSettings { leave: LeaveSettings { settle: Duration::from_secs(1), ..at_once().leave }, ..at_once() };
    let nowhere = || LookedUp { registrations: Some(Vec::new()), plan: Some(doubted()), ..LookedUp::default() };
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let mut handover = Handover::begin(incident.clone(), soon.clone(), nowhere(), at(0));
    assert!(asks(&mut handover, 0, &late).is_some(), "{:?}", handover.outcome());
    // And not for ever, where nobody ever shows, or nobody answers.
    let nobody: fn(u64) -> Answer = |_| Answer::Plan(Box::new(Plan::nobody("the instance has no tag")));
    let denied: fn(u64) -> Answer = |_| {
        Answer::Failed(Failure { kind: FailureKind::Denied, code: Some("AccessDenied".into()), message: "no".into() })
    };
    for (answer, by) in [(nobody, 30_000), (denied, 20_000)] {
        let mut handover = Handover::begin(incident.clone(), soon.clone(), nowhere(), at(0));
        assert_eq!(asks(&mut handover, 0, &answer), None);
        assert!(handover.outcome().is_some_and(|outcome| outcome.complete), "{:#?}", handover.reports());
        let end = handover.incident().milestones.last().expect("an end").at;
        assert!(end < at(by), "{end:?}");
    }
    // Nobody answers: what was known before stands, and does not keep this instance from leaving.
    let silent = |_| Answer::Failed(Failure::unanswered("no answer within 3 s"));
    let mut handover = Handover::begin(incident_of("i-victim", Action::Terminate, 121_000), at_once(), known(), at(0));
    assert_eq!(asks(&mut handover, 0, &silent), None);
    let of_quiet = |report: &&DutyReport| report.duty == "quiet";
    let reports = handover.reports();
    assert!(reports.iter().filter(|it| !of_quiet(it)).all(|report| report.done), "{reports:#?}");
}

fn no_such_group() -> Answer {
    let (kind, code) = (FailureKind::Rejected, Some("TargetGroupNotFound".to_owned()));
    Answer::Failed(Failure { kind, code, message: "One or more target groups not found".into() })
}

#[test]
fn a_target_group_that_is_gone_makes_no_crowd_look_at_once_and_what_is_left_stays_left_meanwhile() {
    let names: Vec<String> = (0..150).map(|number| format!("i-{number}")).collect();
    let members = names.iter().map(|name| member(name, "InService")).collect();
    let group = AutoScalingGroup { members, ..group(&[]) };
    let plan = Plan::Group { group, how: GroupRequest::Observe };
    let mut looks = Vec::new();
    for name in &names {
        let registrations = Some(vec![registration(WEB, name, &[80]), registration(API, name, &[80])]);
        let known = LookedUp { registrations, plan: Some(plan.clone()), ..LookedUp::default() };
        let mut handover = Handover::begin(incident_of(name, Action::Terminate, 121_000), at_once(), known, at(0));
        let target = Target { id: name.clone(), port: 80 };
        for now in (0..60_000).step_by(100) {
            for Due { duty, call, .. } in handover.due(at(now)) {
                let answer = match &call {
                    Call::DeregisterTargets { target_group, .. } if target_group.as_str() == WEB => no_such_group(),
                    Call::DescribeTargetHealth { .. } => {
                        let row = |target, state| TargetHealth { target, state, reason: None };
                        let other = |number: i32| Target { id: format!("i-other{number}"), port: 80 };
                        let others = (0..20).map(|number| row(other(number), TargetState::Healthy));
                        Answer::Health(others.chain([row(target.clone(), TargetState::Draining)]).collect())
                    }
                    Call::LookAtConnections { ports, .. } => {
                        let (listening, reached) = (ports.clone(), ports.clone());
                        Answer::Connections(Connections { listening, reached, ..Connections::default() })
                    }
                    // Nobody answers.
                    Call::FindRegistrations { .. } => {
                        looks.push(now);
                        continue;
                    }
                    other => other_calls(other),
                };
                handover.answered(at(now), duty, answer);
            }
        }
        assert!(handover.is_quiet(), "{name}: {:#?}", handover.reports());
        assert!(handover.outcome().is_none(), "the end waits for the look");
    }
    let soon = looks.iter().filter(|at| **at < 5_000).count();
    assert!(looks.len() == names.len() && soon <= 40, "{soon} of {} within five seconds", looks.len());
}

#[test]
fn a_target_group_that_stands_again_under_its_name_is_left_too() {
    let again = registration("arn:aws:elasticloadbalancing:r:1:targetgroup/web/again", "i-victim", &[80]);
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let (registrations, plan) = (vec![registration(WEB, "i-victim", &[80])], Some(Plan::nobody_ever("no tag")));
    let known = LookedUp { registrations: Some(registrations), plan, ..LookedUp::default() };
    let mut handover = Handover::begin(incident, at_once(), known, at(0));
    let (mut looks, mut left) = (0, false);
    for now in (0..60_000).step_by(100) {
        for Due { duty, call, .. } in handover.due(at(now)) {
            let is_first = |target_group: &TargetGroupArn| target_group.as_str() == WEB;
            let answer = match &call {
                Call::DeregisterTargets { target_group, .. } | Call::DescribeTargetHealth { target_group, .. }
                    if is_first(target_group) =>
                {
                    no_such_group()
                }
                Call::FindRegistrations { among, .. } => {
                    assert_eq!(*among, Some(Vec::new()), "never the whole account");
                    looks += 1;
                    found(vec![again.clone()])
                }
                Call::DeregisterTargets { .. } => {
                    left = true;
                    Answer::Accepted
                }
                other => other_calls(other),
            };
            handover.answered(at(now), duty, answer);
        }
    }
    assert!(left && looks == 1, "left: {left}, {looks} looks");
}

#[test]
fn a_target_group_that_the_owner_lists_by_now_is_left_too() {
    for plan in [
        Plan::Group { group: group(&[]), how: GroupRequest::Observe },
        Plan::Group { group: group(&[]), how: GroupRequest::Detach },
    ] {
        let incident = incident_of("i-victim", Action::Terminate, 121_000);
        let registrations = Some(vec![registration(WEB, "i-victim", &[80])]);
        let known = LookedUp { registrations, plan: Some(plan.clone()), ..LookedUp::default() };
        let mut handover = Handover::begin(incident, at_once(), known, at(0));
        let (mut deregistered, mut registered) = (BTreeSet::new(), BTreeSet::new());
        let mut looks = 0;
        for now in (0..90_000).step_by(100) {
            for Due { duty, call, .. } in handover.due(at(now)) {
                let answer = match &call {
                    Call::DescribeAutoScalingGroup { .. } => Answer::GroupState(Some(GroupState {
                        target_groups: vec![TargetGroupArn::new(WEB), TargetGroupArn::new(API)],
                        members: vec![member("i-victim", "InService"), member("i-new", "InService")],
                        capacity_rebalance: true,
                        ..empty_group()
                    })),
                    Call::FindRegistrations { among, .. } => {
                        assert_eq!(*among, Some(vec![TargetGroupArn::new(API)]));
                        looks += 1;
                        found(super::registrations("i-victim").split_off(1))
                    }
                    Call::DeregisterTargets { target_group, .. } => {
                        deregistered.insert(target_group.as_str().to_owned());
                        Answer::Accepted
                    }
                    Call::RegisterTargets { target_group, .. } => {
                        registered.insert(target_group.as_str().to_owned());
                        Answer::Accepted
                    }
                    Call::DescribeInstances { .. } => Answer::Instances(vec![running("i-new")]),
                    other => other_calls(other),
                };
                handover.answered(at(now), duty, answer);
            }
        }
        assert_eq!(handover.successor_id(), Some(id("i-new")), "{plan}");
        assert!(registered.is_empty(), "the owner registers there, {plan}: {registered:?}");
        assert!(deregistered.contains(API) && looks == 1, "{plan}: {deregistered:?}, {looks} looks");
    }
}

#[test]
fn a_target_group_that_is_found_once_it_is_quiet_makes_it_wait_to_be_quiet_again() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let (registrations, plan) = (vec![registration(WEB, "i-victim", &[80])], Some(Plan::nobody_ever("no tag")));
    let known = LookedUp { registrations: Some(registrations), plan, ..LookedUp::default() };
    let mut run = Launching { handover: Handover::begin(incident, at_once(), known, at(0)), now: 0 };
    let mut calm = |_: u64, call: &Call| match call {
        Call::LookAtConnections { ports, .. } => {
            let (listening, reached) = (ports.clone(), ports.clone());
            Answer::Connections(Connections { listening, reached, ..Connections::default() })
        }
        // The end is not told yet.
        Call::DescribeTargetHealth { .. } => Answer::Failed(Failure::unanswered("no answer")),
        other => other_calls(other),
    };
    run.until(40_000, &mut calm);
    assert!(run.handover.is_quiet() && run.handover.outcome().is_none(), "{}", run.outcome());
    run.handover.learn_registrations(vec![registration(API, "i-victim", &[8080])], at(run.now));
    run.until(50_000, &mut calm);
    assert!(!run.handover.is_quiet(), "{}", run.outcome());
    run.until(80_000, &mut calm);
    assert!(run.handover.is_quiet(), "{}", run.outcome());
}

#[test]
fn a_late_look_among_many_is_begun_before_the_deadline() {
    let members = (0..300).map(|number| member(&format!("i-{number}"), "InService")).collect();
    let group = AutoScalingGroup { members, ..group(&[]) };
    let plan = Plan::Group { group, how: GroupRequest::Observe };
    for number in 0..20 {
        let name = format!("i-{number}");
        let known = LookedUp {
            registrations: Some(vec![registration(WEB, &name, &[80])]),
            plan: Some(plan.clone()),
            ..LookedUp::default()
        };
        let incident = incident_of(&name, Action::Terminate, 15_000);
        let mut run = Launching { handover: Handover::begin(incident, at_once(), known, at(0)), now: 0 };
        let mut looked_at = None;
        run.until(15_000, &mut |now, call| match call {
            Call::DeregisterTargets { .. } => no_such_group(),
            Call::FindRegistrations { .. } => {
                looked_at.get_or_insert(now);
                found(Vec::new())
            }
            other => other_calls(other),
        });
        assert!(looked_at.is_some_and(|at| at <= 11_100), "{name}: {looked_at:?}");
    }
}
