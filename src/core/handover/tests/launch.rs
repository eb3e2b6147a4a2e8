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
