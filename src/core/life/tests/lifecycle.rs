//! The Auto Scaling group takes the instance out of service.

use super::*;
use crate::core::handover::tests::at;

#[test]
fn termination_by_the_group_is_drained_and_its_hook_completed_with_no_successor() {
    let mut story = Story::of(Owner::Hook);
    let now = story.run(10).now;
    story.aws.group_terminates(now);
    story.run(300);
    assert!(!story.aws.alive);
    assert_eq!(story.launched(), 0);
    assert!(story.writes().contains(&"complete"), "{}", story.tale());
    assert!(story.aws.places().is_empty());
    assert!(story.now < 40_000, "well before the hook times out");
}

#[test]
fn termination_without_a_hook_is_drained_all_the_same() {
    for owner in [Owner::Detach, Owner::Rebalance] {
        let mut story = Story::of(owner);
        let now = story.run(10).now;
        story.aws.group_terminates(now);
        story.run(30);
        assert!(story.aws.places().is_empty());
        assert!(is_complete(&story), "{}", story.tale());
        assert_eq!(story.launched(), 0);
    }
}

#[test]
fn and_notice_in_either_order_are_one_handover() {
    for owner in [Owner::Detach, Owner::Hook, Owner::Rebalance] {
        for (first, second) in [(0, 3), (0, 8), (3, 0), (8, 0), (0, 0)] {
            let mut story = Story::of(owner);
            let begin = story.run(10).now;
            let mut events = [(begin + first * 1_000, "notice"), (begin + second * 1_000, "lifecycle")];
            events.sort_unstable();
            for (at, what) in events {
                story.run_to(at);
                match what {
                    "notice" => story.notice(Action::Terminate),
                    _ => story.aws.group_terminates(at),
                }
            }
            story.run(100);
            assert!(story.launched() <= 1, "{owner:?} {}", story.tale());
            assert!(story.aws.places().is_empty());
            assert_eq!(story.record().map(|record| record.id.number), Some(0));
            // Its group's own end may come before ours.
            let ended = usize::from(story.aws.alive || has_handed_over(&story));
            assert_eq!(story.saw(MilestoneKind::HandedOver), ended, "{owner:?} {first} {second} {}", story.tale());
        }
    }
}

#[test]
fn termination_of_an_instance_that_is_coming_back_turns_it_round() {
    let mut story = noticed(Owner::Detach, 40);
    story.withdraw();
    story.run_until(|story| story.writes().contains(&"attach"));
    let now = story.now;
    story.aws.group_terminates(now);
    story.run(30);
    assert!(story.aws.places().is_empty(), "{}", story.tale());
}

/// A group whose hook opens only after the deregistration delay.
fn draining(change: impl FnOnce(&mut crate::core::config::Config)) -> Story {
    let mut story = Story::with(Owner::Hook, change);
    story.aws.drains_for = 300_000;
    story.run(10);
    story
}

fn completes(story: &Story) -> bool {
    story.writes().contains(&"complete") && !story.aws.alive
}

#[test]
fn termination_at_a_notice_that_ends_nothing_goes_on_until_the_hook_opens() {
    for is_gone in [true, false] {
        for restarts in [false, true] {
            let mut story = draining(|_| {});
            story.notice(Action::Terminate);
            story.run_until(|story| story.writes().iter().any(|write| write.starts_with("terminate in group")));
            if is_gone {
                story.withdraw();
            }
            story.run(140);
            if restarts {
                story.restart();
            }
            story.run(400);
            assert!(completes(&story), "{is_gone} {restarts} {}", story.tale());
            assert!(is_complete(&story), "{is_gone} {restarts} {}", story.tale());
            assert_eq!(story.launched(), 1, "{is_gone} {restarts}");
        }
    }
}

#[test]
fn termination_within_which_a_notice_ends_nothing_goes_on_until_the_hook_opens() {
    for is_gone in [true, false] {
        for restarts in [false, true] {
            let mut story = draining(|_| {});
            let now = story.now;
            story.aws.group_terminates(now);
            story.run(30).notice(Action::Terminate);
            story.run(100);
            if is_gone {
                story.withdraw();
            }
            story.run(40);
            if restarts {
                story.restart();
            }
            story.run(300);
            let context = format!("{is_gone} {restarts} {}", story.tale());
            assert!(completes(&story) && is_complete(&story), "{context}");
            assert_eq!(story.launched(), 0, "{context}");
        }
    }
}

#[test]
fn termination_for_a_scheduled_event_has_no_end_but_the_completion() {
    let mut story = draining(hands_over_for_events);
    story.event("instance-event-1", "instance-stop", 130);
    story.run(500);
    assert!(completes(&story) && is_complete(&story), "{}", story.tale());
}

#[test]
fn termination_while_no_look_up_is_answered_has_no_end_but_the_completion() {
    let mut story = Story::of(Owner::Hook);
    story.aws.drains_for = 300_000;
    story.exchanges(vec![(Fate::Throttled, 20); 150]);
    let now = story.now;
    story.aws.group_terminates(now);
    story.run(500);
    assert!(completes(&story) && is_complete(&story), "{}", story.tale());
}

#[test]
fn termination_seen_by_many_processes_ends_once() {
    for owner in [Owner::Hook, Owner::Detach] {
        let mut story = Story::of(owner);
        let now = story.run(10).now;
        story.aws.group_terminates(now);
        for _ in 0..8 {
            let next = story.now + 2_700;
            story.run_to(next);
            story.restart();
        }
        story.run(60);
        assert_eq!(story.launched(), 0);
        assert_eq!(
            story.writes().iter().filter(|write| **write == "complete").count(),
            usize::from(owner == Owner::Hook)
        );
        assert_eq!(registrations_of_us(&story), 0);
    }
}

#[test]
fn in_another_state_has_an_idle_instance_look_everything_up() {
    let mut life = Life::new(identity_of("i-us"), "boot".into(), Config::default(), false, None);
    let states = [
        (Some("InService"), false),
        (None, false),
        (Some("InService"), false),
        (Some("Detached"), true),
        (Some("Detached"), false),
        (Some("InService"), true),
        // Its group ends it: where it belongs does not matter any more.
        (Some("Terminated"), false),
    ];
    for (second, (state, looks_up)) in (10..).zip(states) {
        life.saw_lifecycle_state(state, at(second * 1_000));
        assert_eq!(life.take_wants_look_up(), looks_up, "{second} {state:?}");
    }
    let mut outside = Life::new(identity_of("i-us"), "boot".into(), Config::default(), false, None);
    outside.saw_lifecycle_state(None, at(1_000));
    outside.saw_lifecycle_state(Some("InService"), at(6_000));
    assert!(outside.take_wants_look_up(), "somebody attached it to a group");
}

#[test]
fn that_serves_again_while_the_notice_stands_is_taken_out_again() {
    let mut story = noticed(Owner::Detach, 80);
    assert!(is_complete(&story) && story.aws.places().is_empty(), "{}", story.tale());
    let attach = Call::AttachInstances { group: "shop-asg".into() };
    story.aws.arrives(story.now, &identity_of("i-us").instance_id, &attach, Fate::Fine);
    assert!(!story.aws.places().is_empty(), "somebody has attached it");
    story.run(20);
    assert!(story.aws.places().is_empty(), "{}", story.tale());
    assert_eq!(story.launched(), 1, "{}", story.tale());
}
