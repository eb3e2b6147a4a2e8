//! Drills as stories: whatever becomes of one, the instance is where it was, or its real end is handed over.

use super::*;
use crate::core::handover::tests::aws::home;

/// Looked up, and a drill begun after ten seconds.
fn drilled(owner: Owner) -> Story {
    let mut story = Story::of(owner);
    story.run(10).drill(120);
    story
}

fn is_over(story: &Story) -> bool {
    closed(story).is_some() && story.life().arrival().is_none()
}

fn successors_in_a_drill(owner: Owner) -> usize {
    // A group that replaces by itself does so at a real signal.
    usize::from(!matches!(owner, Owner::Nobody | Owner::Rebalance))
}

#[test]
fn hands_over_completely_and_everything_is_as_before_but_for_the_successor() {
    for owner in OWNERS {
        let mut story = drilled(owner);
        story.run_until(is_over);
        assert!(is_complete(&story), "{owner:?} {}", story.tale());
        assert_eq!(story.record().map(|record| record.signal), Some(Signal::Drill));
        assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?}");
        assert!(story.life().is_wholly_back(), "{owner:?}");
        assert_eq!(story.launched(), successors_in_a_drill(owner), "{owner:?} {}", story.tale());
        assert!(story.aws.is_member() || !story.aws.is_group(), "{owner:?} is a member again");
        story.is_as_before();
        let told = story.told();
        assert!(told.starts_with(&["noticed"]) && told.contains(&"deregistered"), "{told:?}");
        assert!(told.contains(&"handed-over") && told.ends_with(&["survived", "reinstated"]), "{told:?}");
    }
}

#[test]
fn never_terminates_the_instance_nor_completes_a_hook() {
    let mut story = Story::with(Owner::Hook, |config| config.survive.then = Then::Terminate);
    story.run(10).drill(120);
    story.run_until(is_over);
    let ends = |call: &Call| {
        matches!(
            call,
            Call::TerminateInstanceInAutoScalingGroup { .. }
                | Call::CompleteLifecycleAction { .. }
                | Call::TerminateInstances
        )
    };
    assert_eq!(story.first(ends), None, "{}", story.tale());
    assert!(story.aws.is_member(), "attached again: {}", story.tale());
    story.is_as_before();
}

#[test]
fn called_off_at_any_moment_puts_everything_back() {
    for owner in OWNERS {
        for milliseconds in [0, 10, 30, 500, 1_500, 4_000, 8_000] {
            let mut story = drilled(owner);
            story.run_to(10_000 + milliseconds);
            story.call_off();
            story.run(400);
            story.is_as_before();
            assert!(!story.life().is_drilling(), "{owner:?} after {milliseconds} ms: {}", story.tale());
        }
    }
}

#[test]
fn a_process_that_is_killed_is_followed_by_one_that_puts_everything_back_at_once() {
    for owner in OWNERS {
        for milliseconds in [30, 1_500, 6_000] {
            let mut story = drilled(owner);
            story.run_to(10_000 + milliseconds);
            story.restart();
            let began = story.now;
            story.run_until(|story| story.saw(MilestoneKind::Survived) > 0);
            assert!(story.now < began + 5_000, "{owner:?} at once and not after two minutes: {}", story.now - began);
            story.run(400);
            story.is_as_before();
            assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?}");
        }
    }
}

#[test]
fn a_real_notice_in_the_middle_takes_over_with_two_minutes_and_one_successor() {
    for owner in OWNERS {
        for milliseconds in [500, 4_000] {
            let mut story = Story::of(owner);
            story.run(10).drill(30);
            story.run_to(10_000 + milliseconds);
            story.notice(Action::Terminate);
            let noticed_at = story.now;
            story.run_until(|story| story.record().is_some_and(|record| record.signal == Signal::Notice));
            if let Some(handover) = story.life().handover().filter(|handover| handover.outcome().is_none()) {
                let left = handover.incident().deadline.as_duration().as_millis() as u64 + story.booted_at();
                assert!(left > noticed_at + 110_000, "{owner:?}: the notice's time counts, not the drill's");
            }
            story.run(100);
            assert_eq!(story.launched(), successors_of(owner), "{owner:?} {}", story.tale());
            assert!(is_complete(&story), "{owner:?} {}", story.tale());
            assert_ne!(story.aws.places(), home(), "{owner:?} stays out");
            assert_eq!(story.saw(MilestoneKind::Reinstated), 0);
        }
    }
}

#[test]
fn a_real_notice_on_the_way_back_is_handed_over_as_any() {
    for owner in OWNERS {
        let mut story = drilled(owner);
        story.run_until(|story| story.saw(MilestoneKind::Survived) > 0);
        story.notice(Action::Terminate);
        story.run(110);
        assert!(story.aws.places().is_empty(), "{owner:?} {}", story.tale());
        // With a hook the end comes as soon as the successor is registered: nobody is there to see it healthy.
        let ended_by_hook = owner == Owner::Hook && story.aws.writes.last().is_some_and(|last| last == "complete");
        assert!(is_complete(&story) || ended_by_hook, "{owner:?} {}", story.tale());
    }
}

#[test]
fn waits_until_a_notice_that_stands_is_gone_for_good() {
    let mut story = Story::of(Owner::Detach);
    story.run(10).notice(Action::Terminate);
    story.run(1).drill(120);
    story.run(60);
    assert_eq!(story.record().map(|record| record.signal), Some(Signal::Notice), "{}", story.tale());
}

#[test]
fn a_recommendation_that_came_before_a_drill_is_still_acted_on_after_it() {
    let mut story = Story::with(Owner::Detach, hands_over_on_recommendation);
    story.run(10).drill(120);
    story.run(3);
    story.recommend();
    story.run_until(is_over);
    story.restart();
    story.run_until(|story| story.record().is_some_and(|record| record.signal == Signal::RebalanceRecommendation));
}

#[test]
fn a_boot_in_the_middle_puts_everything_back_whatever_survive_says() {
    for then in [Then::StayOut, Then::Terminate] {
        let mut story = Story::with(Owner::Detach, |config| config.survive.then = then);
        story.run(10).drill(120);
        story.run_to(11_500);
        story.boot_anew(30);
        story.run(400);
        story.is_as_before();
        assert_eq!(closed(&story), Some(Closed::Reinstated), "{then:?} {}", story.tale());
    }
}
