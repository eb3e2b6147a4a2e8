//! Launches that AWS answers at a bad moment, late, or with a code that only looks like another.

use super::*;

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
    }
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
        incident.start.resumed = true;
        let registrations = before.registrations.all().map(<[_]>::to_vec);
        let known = LookedUp { registrations, plan: before.plan.clone(), ..LookedUp::default() };
        let mut next =
            Launching { handover: Handover::begin(incident, Settings::default(), known, at(61_000)), now: 61_000 };
        let asked = next.until(70_000, &mut |_, call| match call {
            Call::CreateFleet { .. } => launched_by_aws(&["i-new"], &[]),
            Call::DescribeSuccessorsByTag if is_found => seen("i-new", InstanceState::Running, None),
            Call::DescribeInstances { .. } => seen("i-new", InstanceState::Running, None),
            other => other_calls(other),
        });
        let expected = if is_found { Vec::new() } else { vec![tokens_before[1].clone()] };
        let asked: Vec<_> =
            asked.into_iter().filter(|(_, call)| !matches!(call, Call::DescribeSuccessorsByTag)).collect();
        assert_eq!(tokens(&asked), expected, "found {is_found}, noted {is_noted}");
        assert_eq!(next.handover.successor_id(), Some(id("i-new")));
    }
}
