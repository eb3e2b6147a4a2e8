//! The last one keeps the light on: a successor that is launched and never healthy, under the default settings.

use super::*;
use crate::core::plan::LEAVING_TAG;

/// Another target at this millisecond: healthy or not, and marked as one that goes or not.
type Other = fn(u64) -> (TargetState, bool);

/// When this instance asks to be deregistered, in milliseconds after the notice, and how often it looked who serves.
fn leaves(others: &[Other], answers: bool) -> (u64, usize) {
    let terms = Terms { clocks: (epoch(), at(0)), ..terms_of("i-victim", Action::Terminate, 120_000) };
    let known = Known {
        registrations: Some(vec![registration(WEB, "i-victim", &[80])]),
        plan: Some(launch_plan()),
        ..Known::default()
    };
    let mut handover = Handover::begin(terms, Settings::default(), known, at(0));
    let mut looks = 0;
    for now in (0..120_000).step_by(100) {
        for due in handover.due(at(now)) {
            let shown = || others.iter().enumerate().map(|(number, other)| (format!("i-{number}"), other(now)));
            let answer = match &due.call {
                Call::DeregisterTargets { .. } => return (now, looks),
                Call::DescribeTargetHealth { .. } | Call::DescribeInstances { .. } if !answers => {
                    looks += 1;
                    Answer::Failed(Failure::unanswered("no answer"))
                }
                Call::DescribeTargetHealth { .. } => {
                    looks += 1;
                    let row = |id: String, state| TargetHealth { target: Target { id, port: 80 }, state, reason: None };
                    let ours = row("i-victim".into(), TargetState::Healthy);
                    Answer::Health(shown().map(|(id, (state, _))| row(id, state)).chain([ours]).collect())
                }
                Call::DescribeInstances { instance_ids } => {
                    let model = Model::new(&VICTIM);
                    let instance = |(name, (_, leaving)): (String, (TargetState, bool))| {
                        let mut instance = model.instance(&id(&name), now).expect("an instance");
                        instance.tags.extend(leaving.then(|| (LEAVING_TAG.to_owned(), "soon".to_owned())));
                        instance
                    };
                    let asked = shown().filter(|(name, _)| instance_ids.contains(&id(name)));
                    Answer::Instances(asked.map(instance).collect())
                }
                Call::CreateFleet { .. } => {
                    Answer::Launched(Launched { instances: Vec::new(), errors: vec!["no capacity".into()] })
                }
                _ => Answer::Accepted,
            };
            handover.answered(at(now), due.duty, answer);
        }
    }
    panic!("it never leaves")
}

const SERVES: Other = |_| (TargetState::Healthy, false);
const GOES: Other = |_| (TargetState::Healthy, true);
const DRAINS: Other = |_| (TargetState::Draining, true);

#[test]
fn one_of_one_serves_on_until_the_reserve() {
    let (when, _) = leaves(&[], true);
    assert_eq!(when, 110_000);
}

#[test]
fn two_of_two_and_three_of_three_that_go_together_serve_on_until_the_reserve() {
    for others in [&[GOES][..], &[GOES, GOES], &[DRAINS, GOES]] {
        assert_eq!(leaves(others, true).0, 110_000);
    }
}

#[test]
fn where_another_one_serves_this_instance_leaves_in_time_to_drain_and_looks_once() {
    for others in [&[SERVES][..], &[GOES, SERVES], &[SERVES; 30]] {
        let (when, looks) = leaves(others, true);
        assert_eq!((when, looks), (80_000, 1));
    }
}

#[test]
fn as_soon_as_another_one_serves_this_instance_leaves() {
    let later: Other = |now| (if now < 90_000 { TargetState::Initial } else { TargetState::Healthy }, false);
    let (when, looks) = leaves(&[later, GOES], true);
    assert!((90_000..96_000).contains(&when) && looks < 8, "{when} {looks}");
}

#[test]
fn what_is_not_known_holds_it_no_longer_than_draining_allows() {
    assert_eq!(leaves(&[], false).0, 80_000);
}
