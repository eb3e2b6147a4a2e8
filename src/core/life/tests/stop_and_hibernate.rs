//! An instance that is stopped or hibernated, and comes back.

use super::*;

#[test]
fn resumed_in_place_it_is_back_in_its_target_groups() {
    for owner in LIVE_ON {
        for after in [500, 1_500, 3_000, 10_000, 60_000] {
            for withdrawn in [false, true] {
                let mut story = Story::with(owner, |config| config.arrive.ready = Readiness::Tcp("x:80".into()));
                story.run(10).notice(Action::Hibernate);
                let end = story.now + after;
                story.run_to(end);
                story.stand_still(7_200);
                if withdrawn {
                    story.withdraw()
                } else {
                    story.goes_stale()
                }
                story.aws.ready = false;
                story.run(30);
                story.aws.ready = true;
                story.run(90).is_as_before();
                let context = format!("{owner:?} {after} {withdrawn} {}", story.tale());
                assert!(story.launched() <= successors_of(owner), "{context}");
            }
        }
    }
}

#[test]
fn hibernated_before_the_notice_was_seen_it_is_no_victim_after_it_resumed() {
    for owner in LIVE_ON {
        let mut story = Story::of(owner);
        story.run(10).notice(Action::Hibernate);
        story.stand_still(7_200);
        story.goes_stale();
        story.run(300).is_as_before();
        assert_eq!(story.saw(MilestoneKind::Noticed), 0, "{owner:?} {}", story.tale());
    }
}

#[test]
fn started_again_it_is_back_where_its_record_says() {
    for owner in LIVE_ON {
        for stale in [false, true] {
            for after in [2, 20, 120] {
                let mut story = Story::of(owner);
                story.run(10).notice(Action::Stop);
                story.run(after);
                if stale {
                    story.goes_stale()
                } else {
                    story.withdraw()
                }
                story.boot_anew(3_600);
                story.run(120).is_as_before();
                let context = format!("{owner:?} stale {stale} {after} s");
                assert_eq!(closed(&story), Some(Closed::Reinstated), "{context}");
                assert_eq!(story.saw(MilestoneKind::Reinstated), 1, "{context}");
                assert_eq!(story.launched(), successors_of(owner), "{context}");
            }
        }
    }
}

#[test]
fn a_standstill_of_long_ago_is_no_resume_of_today() {
    let mut story = Story::of(Owner::Instant);
    story.run(10).stand_still(60);
    story.run(600).notice(Action::Stop);
    // AWS is late by a moment.
    story.run(150);
    assert_eq!(registrations_of_us(&story), 0, "{}", story.tale());
}

#[test]
fn started_again_after_it_had_been_noticed_anew_it_is_back_all_the_same() {
    let mut story = Story::with(Owner::Instant, |config| config.arrive.ready = Readiness::Tcp("x:80".into()));
    story.run(10).notice(Action::Stop);
    story.run(120).withdraw();
    story.aws.ready = false;
    story.boot_anew(600);
    story.run(10).notice(Action::Stop);
    story.run(120).withdraw();
    story.boot_anew(600);
    story.aws.ready = true;
    story.run(60).is_as_before();
}
