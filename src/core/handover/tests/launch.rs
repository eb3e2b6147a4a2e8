//! Launches that AWS answers at a bad moment, late, or with a code that only looks like another.

use super::*;

#[test]
fn a_successor_that_dies_is_followed_by_the_next_attempt() {
    let incident = incident_of("i-victim", Action::Terminate, 121_000);
    let known = LookedUp { registrations: Some(Vec::new()), plan: Some(launch_plan()), ..LookedUp::default() };
    let mut handover = Handover::begin(incident, HandoverSettings::default(), known, at(0));
    let token = |due: &[Due]| {
        due.iter().find_map(|due| match &due.call {
            Call::CreateFleet { client_token, .. } => Some(client_token.clone()),
            _ => None,
        })
    };
    let first = token(&handover.due(at(0))).expect("a first attempt");
    let launched = Launched { instances: vec![id("i-new")], errors: Vec::new() };
    handover.answered(at(10), DutyId::Ask, Answer::Launched(launched));
    assert!(handover.due(at(1_500)).iter().any(|due| due.duty == DutyId::Watch));
    let dead = Instance { state: InstanceState::from_code(0x0120), ..running("i-new") };
    handover.answered(at(1_510), DutyId::Watch, Answer::Instances(vec![dead]));
    assert_eq!(token(&handover.due(at(1_510))), None, "after a pause");
    let second = token(&handover.due(at(7_600))).expect("a second attempt");
    assert_ne!(first, second);
    assert!(second.len() <= 64 && second.is_ascii());
}

/// A handover of [`launch_plan`] alone, in which each call is answered at once.
pub(super) struct Launching {
    pub(super) handover: Handover,
    pub(super) now: u64,
}

impl Launching {
    pub(super) fn new() -> Launching {
        Launching::leaving(Vec::new())
    }

    /// With target groups to leave and connections that never end.
    pub(super) fn leaving(registrations: Vec<Registration>) -> Launching {
        let incident = incident_of("i-victim", Action::Terminate, 121_000);
        let known = LookedUp { registrations: Some(registrations), plan: Some(launch_plan()), ..LookedUp::default() };
        Launching { handover: Handover::begin(incident, HandoverSettings::default(), known, at(0)), now: 0 }
    }

    /// Answers everything until an instant; returns the calls of the duty to ask, with when they were made.
    pub(super) fn until(&mut self, end: u64, answer: &mut dyn FnMut(u64, &Call) -> Answer) -> Vec<(u64, Call)> {
        let mut asked = Vec::new();
        while self.now < end && self.handover.outcome().is_none() {
            for due in self.handover.due(at(self.now)) {
                if due.duty == DutyId::Ask {
                    asked.push((self.now, due.call.clone()));
                }
                let answer = answer(self.now, &due.call);
                self.handover.answered(at(self.now), due.duty, answer);
            }
            self.now += 100;
        }
        asked
    }

    pub(super) fn outcome(&self) -> String {
        self.handover.reports().iter().map(|it| format!("{}: {}", it.duty, it.what)).collect::<Vec<_>>().join("; ")
    }
}

pub(super) fn tokens(asked: &[(u64, Call)]) -> Vec<String> {
    let token = |(_, call): &(u64, Call)| match call {
        Call::CreateFleet { client_token, .. } | Call::RunInstances { client_token, .. } => client_token.clone(),
        other => format!("{other:?}"),
    };
    asked.iter().map(token).collect()
}

pub(super) fn launched_by_aws(ids: &[&str], errors: &[&str]) -> Answer {
    let errors = errors.iter().map(|it| (*it).to_owned()).collect();
    Answer::Launched(Launched { instances: ids.iter().copied().map(id).collect(), errors })
}

pub(super) fn refusal(code: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::Rejected, code: Some(code.into()), message: "no".into() })
}

pub(super) fn seen(name: &str, state: InstanceState, reason: Option<&str>) -> Answer {
    let mut instance = running(name);
    instance.state = state;
    instance.state_reason = reason.map(|code| StateReason { code: code.into(), message: code.into() });
    Answer::Instances(vec![instance])
}

pub(super) fn other_calls(call: &Call) -> Answer {
    match call {
        Call::LookAtConnections { .. } => {
            Answer::Connections(Connections { established: 1, busy: 1, ..Connections::default() })
        }
        Call::DescribeSuccessorsByTag(_) => Answer::Instances(Vec::new()),
        Call::DescribeTargetHealth { target_group, .. } => {
            let ours = registrations("i-victim").into_iter().filter(|it| it.target_group == *target_group);
            let ours: Vec<Target> = ours.flat_map(|it| it.targets).collect();
            let row = |target: Target, state: TargetState| TargetHealth { target, state, reason: None };
            let left = ours.iter().cloned().map(|target| row(target, TargetState::Draining));
            let served = ours.iter().map(|target| Target { id: "i-new".into(), ..target.clone() });
            Answer::Health(left.chain(served.map(|target| row(target, TargetState::Healthy))).collect())
        }
        _ => Answer::Accepted,
    }
}

#[test]
fn a_launch_in_doubt_is_asked_for_again_under_its_token_and_never_beside_it() {
    let mut run = Launching::new();
    let asked = run.until(55_000, &mut |now, call| match call {
        // AWS is at work for half a minute, and then tells.
        Call::CreateFleet { .. } if now < 30_000 => launched_by_aws(&[], &[]),
        Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
        other => other_calls(other),
    });
    let tokens = tokens(&asked);
    assert!(tokens.len() > 3 && tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(run.handover.successor_id(), Some(id("i-new")));
}

#[test]
fn a_launch_in_doubt_is_given_a_minute_before_the_next_token_is_used() {
    let mut run = Launching::new();
    let asked = run.until(120_900, &mut |_, call| match call {
        Call::CreateFleet { client_token, .. } if client_token.ends_with("-0") => launched_by_aws(&[], &[]),
        Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
        other => other_calls(other),
    });
    let second = asked.iter().zip(tokens(&asked)).find(|(_, token)| token.ends_with("-1")).expect("a second token").0.0;
    assert!((60_000..68_000).contains(&second), "{second}");
}

#[test]
fn in_the_reserve_no_other_token_is_used_while_a_launch_is_in_doubt() {
    let mut run = Launching::new();
    let mut hangs = true;
    let asked = run.until(120_900, &mut |now, call| match call {
        Call::CreateFleet { .. } if now < 70_000 && std::mem::take(&mut hangs) => {
            refusal("IdempotentParameterMismatch")
        }
        Call::CreateFleet { .. } => launched_by_aws(&[], &[]),
        other => other_calls(other),
    });
    let tokens: BTreeSet<String> = tokens(&asked).into_iter().collect();
    assert!(tokens.len() <= 2, "the second is in doubt when the reserve begins: {tokens:?}");
}

#[test]
fn what_create_fleet_does_not_take_is_launched_by_run_instances() {
    let mut run = Launching::new();
    let asked = run.until(20_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => refusal("InvalidParameterCombination"),
        Call::RunInstances { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
        other => other_calls(other),
    });
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(matches!(&asked[1].1, Call::RunInstances { launch, .. } if launch.market == Market::Spot), "{asked:?}");
    assert_eq!(run.handover.successor_id(), Some(id("i-new")));
}

#[test]
fn without_capacity_run_instances_is_not_tried() {
    let mut run = Launching::new();
    let asked = run.until(60_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => launched_by_aws(&[], &["InsufficientInstanceCapacity: none"]),
        other => other_calls(other),
    });
    assert!(asked.iter().all(|(_, call)| matches!(call, Call::CreateFleet { .. })), "{asked:?}");
}

#[test]
fn without_capacity_the_pools_are_tried_at_once_and_then_some_fifteen_times_in_two_minutes() {
    for error in ["InsufficientInstanceCapacity", "UnfulfillableCapacity"] {
        let mut run = Launching::new();
        let asked = run.until(120_000, &mut |_, call| match call {
            Call::CreateFleet { .. } if error.starts_with('I') => launched_by_aws(&[], &[error]),
            Call::CreateFleet { .. } => refusal(error),
            other => other_calls(other),
        });
        assert!((12..=20).contains(&asked.len()), "{}", asked.len());
        assert!(asked[2].0 < 1_000 && asked[9].0 < 40_000, "{asked:?}");
    }
}

#[test]
fn a_quota_is_asked_for_on_demand_and_else_is_waited_for() {
    for (code, fallback) in [("MaxSpotInstanceCountExceeded", true), ("VcpuLimitExceeded", false)] {
        let mut run = Launching::new();
        let Plan::Launch(mut launch) = launch_plan() else { panic!("no launch") };
        let on_demand = InstantFleet { market: Market::OnDemand, ..launch.attempts[2].clone() };
        launch.attempts.extend(fallback.then_some(on_demand));
        let incident = incident_of("i-victim", Action::Terminate, 121_000);
        let known = LookedUp { plan: Some(Plan::Launch(launch)), ..LookedUp::default() };
        run.handover = Handover::begin(incident, HandoverSettings::default(), known, at(0));
        let is_on_demand =
            |call: &Call| matches!(call, Call::CreateFleet { fleet, .. } if fleet.market == Market::OnDemand);
        let asked = run.until(119_000, &mut |_, call| match call {
            call if is_on_demand(call) => launched_by_aws(&["i-new"], &[]),
            Call::CreateFleet { .. } => launched_by_aws(&[], &[&format!("{code}: no")]),
            Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
            other => other_calls(other),
        });
        if fallback {
            assert!(asked.len() == 2 && is_on_demand(&asked[1].1) && asked[1].0 < 1_000, "{asked:?}");
        } else {
            assert!((3..=8).contains(&asked.len()), "{asked:?}");
        }
    }
}

#[test]
fn successors_that_die_at_birth_are_told_of_and_paused_and_after_three_of_one_reason_no_more_are_launched() {
    let mut run = Launching::new();
    let mut number = 0;
    let asked = run.until(120_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => {
            number += 1;
            launched_by_aws(&[&format!("i-new-{number}")], &[])
        }
        Call::DescribeInstances { instance_ids } => {
            seen(instance_ids[0].as_str(), InstanceState::Terminated, Some("Client.InternalError"))
        }
        other => other_calls(other),
    });
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[1].0 - asked[0].0 >= 4_000 && asked[2].0 - asked[1].0 >= 7_000, "{asked:?}");
    let told = run.outcome();
    assert!(told.contains("Client.InternalError") && told.contains("key of an encrypted volume"), "{told}");
}

#[test]
fn a_successor_that_was_leaving_when_it_died_is_followed_by_what_its_own_daemon_has_launched() {
    for has_launched in [true, false] {
        let mut run = Launching::leaving(registrations("i-victim"));
        let instance = |name: &str, state, is_leaving: bool| {
            let tags = is_leaving.then(|| (LEAVING_TAG.to_owned(), "soon".to_owned())).into_iter().collect();
            Answer::Instances(vec![Instance { state, tags, ..running(name) }])
        };
        let asked = run.until(118_000, &mut |now, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&[if now < 1_000 { "i-new" } else { "i-late" }], &[]),
            Call::DescribeInstances { instance_ids } if instance_ids.contains(&id("i-new")) => {
                let state = if now < 60_000 { InstanceState::Running } else { InstanceState::Terminated };
                instance("i-new", state, now > 30_000)
            }
            Call::DescribeInstances { instance_ids } => {
                instance(instance_ids[0].as_str(), InstanceState::Running, false)
            }
            Call::DescribeSuccessorsByTag(predecessor) if *predecessor == id("i-new") && has_launched => {
                instance("i-newer", InstanceState::Running, false)
            }
            // Nobody tells of its health.
            Call::DescribeTargetHealth { .. } => Answer::Health(Vec::new()),
            other => other_calls(other),
        });
        let launches = asked.iter().filter(|(_, call)| matches!(call, Call::CreateFleet { .. })).count();
        assert_eq!(launches, if has_launched { 1 } else { 2 }, "{asked:?}");
        let successor = if has_launched { "i-newer" } else { "i-late" };
        assert_eq!(run.handover.successor_id(), Some(id(successor)));
    }
}

#[test]
fn what_a_person_can_do_about_a_limit_on_volumes_is_told_with_the_reason() {
    let mut run = Launching::new();
    run.until(120_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } => seen("i-new", InstanceState::Terminated, Some("Client.VolumeLimitExceeded")),
        other => other_calls(other),
    });
    let told = run.outcome();
    assert!(told.contains("ask for a higher quota of EBS storage, or delete volumes that nobody needs"), "{told}");
}

#[test]
fn a_successor_that_dies_after_it_ran_is_told_as_it_is_at_the_end() {
    let mut run = Launching::leaving(registrations("i-victim"));
    run.until(121_000, &mut |now, call| match call {
        Call::CreateFleet { .. } if now > 1_000 => refusal("InvalidParameterCombination"),
        Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } if now < 115_000 => seen("i-new", InstanceState::Running, None),
        Call::DescribeInstances { .. } => {
            seen("i-new", InstanceState::Terminated, Some("Server.SpotInstanceTermination"))
        }
        other => other_calls(other),
    });
    run.handover.due(at(121_000));
    let outcome = run.handover.outcome().expect("an outcome");
    assert!(!outcome.complete, "{outcome:?}");
    let told = run.outcome();
    assert!(told.contains("i-new ran and died: Server.SpotInstanceTermination"), "{told}");
}

#[test]
fn a_fleet_that_was_throttled_within_is_launched_as_a_fleet_again_after_a_pause() {
    for code in ["RequestLimitExceeded", "InternalError", "Unavailable"] {
        let mut run = Launching::new();
        let error = format!("{code}: Request limit exceeded");
        let asked = run.until(30_000, &mut |now, call| match call {
            Call::CreateFleet { .. } if now == 0 => launched_by_aws(&[], &[&error]),
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
            other => other_calls(other),
        });
        assert!(asked.iter().all(|(_, call)| matches!(call, Call::CreateFleet { .. })), "{code}: {asked:?}");
        let tokens = tokens(&asked);
        assert!(tokens.len() == 2 && tokens[0] != tokens[1] && asked[1].0 > 0, "{code}: {asked:?}");
        let fleets: Vec<_> = asked
            .iter()
            .map(|(_, call)| if let Call::CreateFleet { fleet, .. } = call { fleet } else { panic!("{call:?}") })
            .collect();
        let is_throttled = code == "RequestLimitExceeded";
        assert_eq!(fleets[0] == fleets[1], is_throttled, "{code}: a throttle tells nothing about these pools");
    }
}

#[test]
fn a_throttle_does_not_lengthen_the_pauses_between_pools_without_capacity() {
    let mut run = Launching::new();
    let mut throttled = 5;
    let asked = run.until(60_000, &mut |_, call| match call {
        Call::CreateFleet { .. } if throttled > 0 => {
            throttled -= 1;
            launched_by_aws(&[], &["RequestLimitExceeded: slow down"])
        }
        Call::CreateFleet { .. } => launched_by_aws(&[], &["InsufficientInstanceCapacity: none"]),
        other => other_calls(other),
    });
    let [first, second] = [asked[5].0, asked[6].0];
    // The plan has one attempt, so that it comes round each time, which takes a pause after so many failures.
    assert!(second - first <= 4_000, "{first} {second}: {asked:?}");
}

#[test]
fn an_operation_that_is_not_supported_is_no_pool_without_capacity() {
    let ways = |error: &str| {
        let mut run = Launching::new();
        let asked = run.until(1_000, &mut |_, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&[], &[error]),
            other => other_calls(other),
        });
        asked.iter().any(|(_, call)| matches!(call, Call::RunInstances { .. }))
    };
    assert!(ways("UnsupportedOperation: the template"), "RunInstances may take it");
    assert!(!ways("Unsupported: this type in this zone"));
}

#[test]
fn a_repeat_that_is_on_its_way_when_the_minute_is_over_has_the_last_word() {
    let mut run = Launching::new();
    let mut held: Option<Due> = None;
    let mut tokens = BTreeSet::new();
    while run.now < 90_000 {
        for due in run.handover.due(at(run.now)) {
            let answer = match &due.call {
                Call::CreateFleet { client_token, .. } => {
                    tokens.insert(client_token.clone());
                    if run.now > 55_000 && held.is_none() {
                        held = Some(due);
                        continue;
                    }
                    launched_by_aws(&[], &[])
                }
                Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
                other => other_calls(other),
            };
            run.handover.answered(at(run.now), due.duty, answer);
        }
        if let (Some(due), 70_000) = (&held, run.now) {
            run.handover.answered(at(run.now), due.duty, launched_by_aws(&["i-new"], &[]));
        }
        run.now += 100;
    }
    assert!(held.is_some());
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert_eq!(run.handover.successor_id(), Some(id("i-new")));
}

/// The first attempt was refused as a whole, so that AWS has kept nothing under its token, and would launch under it now.
#[test]
fn the_process_after_a_kill_asks_under_the_token_of_the_attempt_that_was_made() {
    let mut run = Launching::new();
    let asked = run.until(60_000, &mut |_, call| match call {
        Call::CreateFleet { client_token, .. } if client_token.ends_with("-0") => {
            launched_by_aws(&[], &["InsufficientInstanceCapacity: none here"])
        }
        Call::CreateFleet { .. } => Answer::Failed(Failure::unanswered("killed meanwhile")),
        other => other_calls(other),
    });
    let tokens_before = tokens(&asked);
    assert!(tokens_before[1].ends_with("-1") && asked[1].0 >= asked[0].0 + 200, "noted before it is asked: {asked:?}");
    let before = run.handover.incident().clone();
    for (is_found, is_noted) in [(false, true), (true, true), (true, false)] {
        let mut incident = incident_of("i-victim", Action::Terminate, 121_000);
        incident.launch = before.launch.filter(|_| is_noted);
        incident.start.earlier = Earlier::Perhaps;
        let registrations = before.registrations.all().map(<[_]>::to_vec);
        let known = LookedUp { registrations, plan: before.plan.clone(), ..LookedUp::default() };
        let mut next = Launching {
            handover: Handover::begin(incident, HandoverSettings::default(), known, at(61_000)),
            now: 61_000,
        };
        let asked = next.until(70_000, &mut |_, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeSuccessorsByTag(_) if is_found => seen("i-new", InstanceState::Running, None),
            Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
            other => other_calls(other),
        });
        let expected = if is_found { Vec::new() } else { vec![tokens_before[1].clone()] };
        let asked: Vec<_> =
            asked.into_iter().filter(|(_, call)| !matches!(call, Call::DescribeSuccessorsByTag(_))).collect();
        assert_eq!(tokens(&asked), expected, "found {is_found}, noted {is_noted}");
        assert_eq!(next.handover.successor_id(), Some(id("i-new")));
    }
}

#[test]
fn where_a_fleet_may_not_be_created_the_instance_is_run() {
    let mut run = Launching::new();
    let asked = run.until(10_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => {
            let (kind, code) = (FailureKind::Denied, Some("UnauthorizedOperation".to_owned()));
            Answer::Failed(Failure { kind, code, message: "not authorized".into() })
        }
        Call::RunInstances { .. } => launched_by_aws(&["i-new"], &[]),
        Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
        other => other_calls(other),
    });
    assert_eq!(run.handover.successor_id(), Some(id("i-new")), "{asked:?}");
}

#[test]
fn a_successor_of_a_known_id_is_registered_though_nobody_tells_of_it() {
    let (refused, silent) = (Answer::Failed(aws::denied()), Answer::Failed(Failure::unanswered("no answer within 3s")));
    // EC2 may not know a new instance for a minute and a half.
    for blind in [refused, silent, refusal("InvalidInstanceID.NotFound"), refusal("RequestLimitExceeded")] {
        let mut run = Launching::leaving(registrations("i-victim"));
        let (mut registered, mut refused) = (BTreeSet::new(), 0);
        run.until(121_000, &mut |now, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeInstances { .. } => blind.clone(),
            Call::RegisterTargets { .. } if now < 30_000 => {
                refused += 1;
                refusal("InvalidTarget")
            }
            Call::RegisterTargets { target_group, targets, .. } => {
                assert!(targets.iter().all(|target| target.id == "i-new"), "{targets:?}");
                registered.insert(target_group.name().to_owned());
                Answer::Accepted
            }
            other => other_calls(other),
        });
        assert_eq!(registered, BTreeSet::from(["web".to_owned(), "api".to_owned()]), "{blind:?}");
        assert!(refused <= 6, "{refused} in half a minute, of two target groups: {blind:?}");
    }
}

#[test]
fn a_version_that_was_deleted_since_the_look_up_is_named_at_the_launch_with_what_stands_in() {
    let code = "InvalidLaunchTemplateId.VersionNotFound";
    for refused in [refusal(code), launched_by_aws(&[], &[&format!("{code}: no")])] {
        let mut run = Launching::new();
        run.until(2_000, &mut |_, call| match call {
            Call::CreateFleet { fleet, .. } if fleet.launch_configurations[0].template.version == "1" => {
                refused.clone()
            }
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
            other => other_calls(other),
        });
        let remark = run.handover.take_remark().unwrap_or_default();
        assert!(remark.contains("lt-1 has no version 1") && remark.contains("default version"), "{remark:?}");
        assert_eq!(run.handover.take_remark(), None);
    }
}

#[test]
fn a_launch_in_doubt_that_is_found_is_told_as_made_by_this_very_process() {
    let mut run = Launching::new();
    run.until(20_000, &mut |_, call| match call {
        Call::CreateFleet { .. } => launched_by_aws(&[], &[]),
        Call::DescribeSuccessorsByTag(_) | Call::DescribeInstances { .. } => {
            seen("i-new", InstanceState::Running, None)
        }
        other => other_calls(other),
    });
    let told = run.outcome();
    assert!(told.contains("launch from launch template lt-1: after ") && !told.contains("process before"), "{told}");
}

#[test]
fn a_launch_time_before_the_boot_is_no_reason_to_launch_another_one() {
    for (ago, launches) in [(jiff::SignedDuration::from_hours(24), 1), (jiff::SignedDuration::from_mins(30), 2)] {
        let mut incident = incident_of("i-victim", Action::Terminate, 121_000);
        incident.start.launches_since = Some(epoch() - jiff::SignedDuration::from_secs(30));
        let known = LookedUp { registrations: Some(Vec::new()), plan: Some(launch_plan()), ..LookedUp::default() };
        let handover = Handover::begin(incident, HandoverSettings::default(), known, at(0));
        let mut run = Launching { handover, now: 0 };
        let asked = run.until(20_000, &mut |_, call| match call {
            Call::CreateFleet { client_token, .. } => launched_by_aws(&[client_token.as_str()], &[]),
            Call::DescribeInstances { instance_ids } => {
                let first = asked_first(instance_ids);
                let launch_time = if first { epoch() - ago } else { epoch() };
                let one = |id: &InstanceId| Instance { launch_time: Some(launch_time), ..running(id.as_str()) };
                Answer::Instances(instance_ids.iter().map(one).collect())
            }
            other => other_calls(other),
        });
        let tokens: BTreeSet<String> = tokens(&asked).into_iter().collect();
        assert_eq!(tokens.len(), launches, "{ago:?}: {tokens:?}");
    }
}

/// The first incident's token brought it.
fn asked_first(instance_ids: &[InstanceId]) -> bool {
    let first = incident_of("i-victim", Action::Terminate, 121_000);
    let token = crate::core::handover::launch::client_token(&first, 0);
    instance_ids.iter().any(|id| id.as_str() == token)
}

#[test]
fn a_successor_that_serves_runs_though_ec2_does_not_know_it_yet() {
    for unknown in [refusal("InvalidInstanceID.NotFound"), Answer::Instances(Vec::new())] {
        let mut run = Launching::leaving(registrations("i-victim"));
        run.until(60_000, &mut |_, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeInstances { .. } => unknown.clone(),
            other => other_calls(other),
        });
        assert!(run.handover.incident().has_reached(MilestoneKind::SuccessorHealthy), "{}", run.outcome());
        assert!(run.handover.incident().has_reached(MilestoneKind::Deregistered), "{}", run.outcome());
        assert!(run.handover.incident().has_reached(MilestoneKind::SuccessorRunning), "{}", run.outcome());
    }
}

#[test]
fn a_token_that_is_refused_late_leaves_no_trace_for_the_call_after_it() {
    let mut run = Launching::new();
    let (mut held, mut tokens) = (false, Vec::new());
    for now in (0..90_000).step_by(100) {
        for due in run.handover.due(at(now)) {
            let answer = match &due.call {
                // AWS is at work, and its last answer comes after the search has found nothing.
                Call::CreateFleet { .. } if now < 58_000 => launched_by_aws(&[], &[]),
                Call::CreateFleet { .. } if tokens.is_empty() => {
                    held = true;
                    continue;
                }
                Call::CreateFleet { client_token, .. } | Call::RunInstances { client_token, .. } => {
                    tokens.push((now, client_token.clone()));
                    Answer::Failed(Failure::unanswered("no answer"))
                }
                other => other_calls(other),
            };
            run.handover.answered(at(now), due.duty, answer);
        }
        if now == 75_000 {
            assert!(held, "a repeat is on its way");
            run.handover.answered(at(now), DutyId::Ask, refusal("InvalidParameter"));
        }
    }
    let first = &tokens.first().expect("another way to launch").1;
    assert!(first.ends_with("-run") && tokens.iter().all(|(_, token)| token == first), "{tokens:?}");
}
