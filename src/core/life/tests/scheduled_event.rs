//! A scheduled event that is handed over for.

use super::recommendation::is_looked_into_at_a_notice;
use std::time::Duration;

use super::*;
use crate::core::handover::tests::aws::{home, time};
use crate::core::life::Remark;
use crate::core::model::{BootInstant, ScheduledEvent};

fn announced(owner: Owner, in_seconds: u64) -> Story {
    announced_as(owner, "system-reboot", in_seconds)
}

fn announced_as(owner: Owner, code: &str, in_seconds: u64) -> Story {
    let mut story = Story::with(owner, hands_over_for_events);
    story.run(10).event("event-1", code, in_seconds);
    story
}

#[test]
fn is_only_reported_by_default() {
    let mut story = Story::of(Owner::Instant);
    story.run(10).event("event-1", "system-reboot", 300);
    story.run(600).is_as_before();
    assert_eq!(story.writes(), Vec::<&str>::new());
}

#[test]
fn is_handed_over_for_ten_minutes_before_with_the_successor_first() {
    for owner in LIVE_ON.into_iter().filter(|owner| *owner != Owner::Rebalance) {
        let mut story = announced(owner, 3_600);
        story.run(3_590 - 600);
        assert_eq!(story.told(), Vec::<&str>::new(), "{owner:?}");
        story.run(60);
        assert!(story.saw(MilestoneKind::Noticed) == 1, "{owner:?}");
        story.run(545);
        assert!(is_complete(&story), "{owner:?} {}", story.tale());
        assert_eq!(story.launched(), successors_of(owner));
    }
}

#[test]
fn is_handed_over_for_though_an_arrival_never_comes_to_its_end() {
    for owner in [Owner::Detach, Owner::Instant, Owner::Nobody] {
        let mut story = Story::with(owner, |config| {
            arrives(config);
            hands_over_for_events(config);
        });
        // Registered, and never healthy.
        story.aws.ready = false;
        story.run(60).event("event-1", "system-reboot", 900);
        story.run(600);
        assert_eq!(story.saw(MilestoneKind::Arrived), 0);
        assert_eq!(story.saw(MilestoneKind::Noticed), 1, "{owner:?} {}", story.tale());
        assert_eq!(story.launched(), successors_of(owner), "{owner:?}");
    }
}

#[test]
fn cancelled_or_completed_at_any_moment_is_undone() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant, Owner::Nobody] {
        for seconds in [1, 30, 33, 36, 40, 45, 50, 60, 90, 300, 700] {
            let mut story = announced(owner, 400);
            story.run(seconds).event_is_over();
            story.run(400).is_as_before();
            assert!(story.launched() <= successors_of(owner), "{owner:?} {seconds}");
            if story.record().is_some() {
                assert_eq!(closed(&story), Some(Closed::Reinstated));
            }
        }
    }
}

#[test]
fn is_seen_to_its_end_by_the_process_after_a_restart() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant] {
        for moment in [30_500, 32_000, 35_000, 38_000, 41_000, 45_000] {
            let mut story = announced(owner, 400);
            let end = story.now + moment;
            story.run_to(end);
            story.restart();
            story.run(300);
            assert!(is_complete(&story), "{owner:?} {moment} {}", story.tale());
            assert_eq!(story.launched(), 1, "{owner:?} {moment}");
            assert!(story.aws.places().is_empty());
            story.event_is_over();
            story.run(200).is_as_before();
        }
    }
}

#[test]
fn and_a_recommendation_after_a_restart_is_still_the_events_handover() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant] {
        for moment in [34_000, 38_000, 50_000, 90_000] {
            let mut story = announced(owner, 100);
            story.aws.healthy_after = 200_000;
            story.run(15).recommend();
            let end = story.now + moment;
            story.run_to(end);
            story.restart();
            story.run(3).recommend_no_more();
            story.event_is_over();
            story.run(400).is_as_before();
            assert_eq!(story.launched(), 1, "{owner:?} {moment} {}", story.tale());
        }
    }
}

#[test]
fn finds_its_successor_again_when_it_has_to_leave_after_a_restart() {
    for owner in [Owner::Detach, Owner::Hook] {
        let mut story = announced(owner, 60);
        story.aws.healthy_after = 200_000;
        story.run(80).restart();
        story.run(100);
        assert_eq!(story.launched(), 1, "{owner:?} {}", story.tale());
    }
}

#[test]
fn that_reboots_this_instance_brings_it_back_afterwards() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant, Owner::Nobody] {
        let mut story = announced(owner, 400);
        story.run(400).boot_anew(60);
        story.event_is_over();
        story.run(120).is_as_before();
        assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?}");
    }
}

#[test]
fn that_the_metadata_still_shows_after_the_boot_is_not_handed_over_for_again() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant, Owner::Nobody] {
        let mut story = announced(owner, 400);
        story.run(400).boot_anew(60);
        let launched = story.launched();
        story.run(600).is_as_before();
        assert_eq!(story.launched(), launched, "{owner:?} {}", story.tale());
    }
}

#[test]
fn after_another_one_is_handed_over_for_again() {
    let mut story = announced(Owner::Instant, 400);
    story.run(300).event_is_over();
    story.run(200).is_as_before();
    story.event("event-2", "instance-stop", 400);
    story.run(300);
    assert_eq!(story.launched(), 2);
    assert!(story.aws.places().is_empty(), "{}", story.tale());
}

#[test]
fn and_notice_are_one_handover() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant] {
        for seconds in [31, 33, 36, 40, 60, 200] {
            let mut story = announced(owner, 400);
            story.run(seconds).notice(Action::Terminate);
            story.run(100);
            assert_eq!(story.launched(), 1, "{owner:?} {seconds} {}", story.tale());
            assert!(story.aws.places().is_empty(), "{owner:?} {seconds}");
        }
    }
}

#[test]
fn keeps_this_instance_in_its_group_until_it_has_to_leave_where_no_successor_can_be_launched_first() {
    for room_after in [None, Some(100)] {
        let mut story = Story::with(Owner::Detach, hands_over_for_events);
        story.aws.max = 3;
        story.run(10).event("event-1", "system-reboot", 400);
        story.run(room_after.unwrap_or(330));
        assert_eq!(story.saw(MilestoneKind::Noticed), 1, "{}", story.tale());
        assert!(story.aws.is_member() && story.launched() == 0, "{}", story.tale());
        assert_eq!(story.aws.places(), home(), "{}", story.tale());
        if room_after.is_some() {
            // With room again it goes as always: the successor first.
            story.aws.max = 20;
            story.run(230);
            assert_eq!(story.writes().first(), Some(&"launch"), "{}", story.tale());
        }
        story.run(75);
        assert!(is_complete(&story), "{}", story.tale());
        assert_eq!((story.launched(), story.aws.places().len()), (1, 0), "{}", story.tale());
    }
}

#[test]
fn that_no_successor_can_be_launched_for_first_and_a_notice_detach_at_once() {
    let mut story = Story::with(Owner::Detach, hands_over_for_events);
    story.aws.max = 3;
    story.run(10).event("event-1", "system-reboot", 400);
    story.run(60).notice(Action::Terminate);
    // It looks after three seconds whether others go too.
    story.run(4);
    assert_eq!(story.launched(), 1, "{}", story.tale());
    story.run(60);
    assert!(is_complete(&story) && story.aws.places().is_empty(), "{}", story.tale());
}

#[test]
fn without_a_successor_is_no_reason_to_leave_before_it_has_to() {
    let mut story = announced(Owner::Nobody, 400);
    story.run(330);
    assert_eq!(story.saw(MilestoneKind::Noticed), 1);
    assert_eq!(story.aws.places(), home(), "{}", story.tale());
    story.run(60);
    assert!(story.aws.places().is_empty(), "{}", story.tale());
}

#[test]
fn that_is_handed_over_for_is_looked_into_once_more_at_a_notice() {
    is_looked_into_at_a_notice(|owner| announced(owner, 400));
}

#[test]
fn is_handed_over_for_though_a_notice_came_within_and_was_withdrawn() {
    for (owner, restarts) in [(Owner::Detach, false), (Owner::Instant, false), (Owner::Instant, true)] {
        let mut story = announced(owner, 900);
        story.run(310).notice(Action::Terminate);
        story.run(40).withdraw();
        story.run(120);
        assert_eq!(story.saw(MilestoneKind::Reinstated), 1, "{owner:?} {}", story.tale());
        if restarts {
            story.restart();
        }
        story.run(410);
        assert!(story.aws.places().is_empty(), "{owner:?} {restarts}: {}", story.tale());
    }
}

#[test]
fn that_moves_nearer_within_its_handover_is_left_for_in_time() {
    let mut story = Story::with(Owner::Nobody, hands_over_for_events);
    story.run(10).event("event-1", "system-reboot", 400);
    story.run(150).event("event-1", "system-reboot", 60);
    story.run(60);
    assert!(story.aws.places().is_empty(), "{}", story.tale());
}

/// An instance that stays out after a notice that came, and was withdrawn, before its event began.
fn stays_out_of_a_notice_within() -> Story {
    let mut story = Story::with(Owner::Instant, |config| {
        hands_over_for_events(config);
        config.survive.then = Then::StayOut;
    });
    story.run(10).event("event-1", "system-reboot", 900);
    story.run(310).notice(Action::Terminate);
    story.run(40).withdraw();
    story
}

#[test]
fn has_no_second_successor_for_an_instance_that_stays_out_after_a_notice_within() {
    let mut story = stays_out_of_a_notice_within();
    story.run(300);
    assert_eq!(story.launched(), 1, "{}", story.tale());
}

#[test]
fn a_reboot_of_another_cause_in_the_midst_of_it_is_no_other_event() {
    for owner in [Owner::Detach, Owner::Maintain, Owner::Instant, Owner::Nobody] {
        for code in ["instance-stop", "system-reboot"] {
            for (after, is_silent) in [(31, false), (33, false), (33, true), (40, false), (100, true), (250, false)] {
                let mut story = announced_as(owner, code, 500);
                story.run(after);
                story.fails_first_events = is_silent;
                story.boot_anew(10);
                story.run(200);
                let context = format!("{owner:?} {code} {after} s: {}", story.tale());
                assert_eq!(story.launched(), successors_of(owner), "{context}");
                story.run(250);
                let context = format!("{owner:?} {code} {after} s: {}", story.tale());
                assert!(is_complete(&story) && story.aws.places().is_empty(), "{context}");
                assert_eq!(story.launched(), successors_of(owner), "{context}");
                story.event_is_over();
                story.run(200).is_as_before();
            }
        }
    }
}

#[test]
fn and_its_groups_termination_and_then_a_notice_is_told_as_the_notice() {
    for owner in [Owner::Detach, Owner::Hook] {
        let mut story = announced(owner, 400);
        story.aws.healthy_after = 200_000;
        let now = story.run(60).now;
        story.aws.group_terminates(now);
        story.run(6).notice_in(Action::Terminate, 75);
        story.run(3);
        let last = story.milestones.iter().rfind(|(_, it)| it.milestone == MilestoneKind::Noticed);
        assert!(last.is_some_and(|(_, it)| it.message.contains("AWS will terminate")), "{owner:?} {}", story.tale());
        assert_eq!(story.record().map(|record| record.signal), Some(Signal::Notice), "{owner:?}");
        story.run(70);
        assert!(story.aws.places().is_empty() && story.launched() == 1, "{owner:?} {}", story.tale());
    }
}

#[test]
fn that_is_announced_again_after_it_was_cancelled_is_handed_over_for_again() {
    for restarts in [false, true] {
        let mut story = announced(Owner::Instant, 400);
        story.run(100).event_is_over();
        story.run(200).is_as_before();
        if restarts {
            story.restart();
        }
        story.event("event-1", "system-reboot", 400);
        story.run(380);
        assert!(story.aws.places().is_empty(), "{restarts}: {}", story.tale());
    }
}

#[test]
fn has_no_second_handover_of_an_instance_that_stays_out_after_a_notice_within_and_a_restart() {
    let mut story = stays_out_of_a_notice_within();
    story.run(120).restart();
    story.run(300);
    assert_eq!((story.launched(), closed(&story)), (1, Some(Closed::StayedOut)), "{}", story.tale());
}

#[test]
fn whose_time_is_past_or_near_leaves_two_minutes_for_the_successor_first() {
    for in_seconds in [0, 20, 60] {
        let mut story = announced(Owner::Instant, in_seconds);
        story.aws.healthy_after = 60_000;
        story.run_until(|story| story.record().is_some());
        let deadline = story.record().map(|record| record.deadline);
        let noticed = story.record().into_iter().flat_map(|it| it.milestones).next().map(|it| it.message);
        assert!(noticed.as_ref().is_some_and(|it| it.starts_with("event-1: handing over within 120")), "{noticed:?}");
        story.run(105);
        let left = story.first(|call| matches!(call, Call::DeregisterTargets { .. }));
        let healthy = story.milestones.iter().find(|(_, it)| it.milestone == MilestoneKind::SuccessorHealthy);
        assert_eq!(story.record().map(|record| record.deadline), deadline, "{in_seconds} {}", story.tale());
        assert!(healthy.is_some_and(|(at, _)| left >= Some(*at)), "{in_seconds} {}", story.tale());
    }
}

#[test]
fn is_announced_with_what_is_still_done_about_it() {
    let mut story = announced(Owner::Instant, 400);
    story.run(300);
    assert!(is_complete(&story), "{}", story.tale());
    let hands_over = |not_before: u64, record: Option<Incident>| {
        let mut config = Config::default();
        hands_over_for_events(&mut config);
        let mut life = Life::new(identity_of("i-us"), "boot-0".into(), config, false, record);
        let now = BootInstant::since_boot(Duration::from_secs(20));
        life.saw_notice(None, time(320_000), now);
        let (id, code, not_before) = ("event-1".into(), "system-reboot".into(), Some(time(not_before)));
        life.saw_scheduled_events(vec![ScheduledEvent { id, code, active: true, not_before }], now);
        let remarks = life.take_remarks();
        remarks.iter().any(|it| matches!(it, Remark::Warn(text) if text.contains("this instance hands over")))
    };
    assert!(hands_over(410_000, None));
    assert!(!hands_over(410_000, story.record()), "it has handed over");
    assert!(!hands_over(290_000, None), "this boot, which began at 300 s, is that reboot");
}
