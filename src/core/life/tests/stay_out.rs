//! `[survive] then = "stay-out"`.

use super::*;

fn stays_out(owner: Owner) -> Story {
    Story::with(owner, |config| {
        arrives(config);
        config.survive.then = Then::StayOut;
    })
}

#[test]
fn is_registered_nowhere_and_otherwise_as_before_for_ever() {
    for owner in LIVE_ON {
        let mut story = stays_out(owner);
        story.run(60).notice(Action::Terminate);
        story.run(300).goes_stale();
        story.run(300).is_tidy();
        assert!(story.aws.places().is_empty(), "{owner:?}");
        assert_eq!(closed(&story), Some(Closed::StayedOut));
        story.restart();
        story.run(300).is_tidy();
        story.withdraw();
        story.run(300).is_tidy();
        story.restart();
        story.run(300);
        assert!(story.aws.places().is_empty(), "the next process does not arrive either, {owner:?}");
    }
}

#[test]
fn ends_with_the_next_boot() {
    let mut story = stays_out(Owner::Instant);
    story.run(60).notice(Action::Terminate);
    story.run(60).withdraw();
    story.run(60).boot_anew(60);
    story.run(60).is_as_before();
    assert_eq!(story.saw(MilestoneKind::Arrived), 2);
}

#[test]
fn is_not_promised_by_an_instance_that_registers_itself_because_it_has_booted_again() {
    let mut story = stays_out(Owner::Instant);
    story.run(60).notice(Action::Stop);
    story.run(110).boot_anew(60);
    story.withdraw();
    story.run(60).is_as_before();
    let survived = message_of(&story, MilestoneKind::Survived);
    assert!(survived.contains("has booted again") && survived.contains("it registers itself"), "{survived}");
}

#[test]
fn of_a_notice_that_was_never_acted_on_changes_nothing() {
    for owner in LIVE_ON {
        let mut story = Story::with(owner, |config| {
            config.survive.then = Then::StayOut;
            config.leave.when = When::SuccessorHealthy;
        });
        story.run(10).notice(Action::Terminate);
        story.run(1).withdraw();
        story.run(120).is_tidy();
        assert_eq!(registrations_of_us(&story), 0);
        let survived = message_of(&story, MilestoneKind::Survived);
        assert_eq!(survived.contains("had not left"), story.saw(MilestoneKind::Deregistered) == 0, "{survived}");
        let is_told = survived.contains("its successor i-") || survived.contains("a successor was asked for");
        assert_eq!(is_told, story.saw(MilestoneKind::SuccessorRequested) > 0, "{owner:?}: {survived}");
    }
}

fn message_of(story: &Story, kind: MilestoneKind) -> String {
    let record = story.record();
    let milestones = record.iter().flat_map(|record| record.milestones.iter());
    milestones.filter(|it| it.milestone == kind).map(|it| it.message.clone()).next().unwrap_or_default()
}

#[test]
fn has_all_the_time_of_its_next_notice() {
    for restarts in [false, true] {
        let mut story = stays_out(Owner::Instant);
        story.run(60).notice_in(Action::Terminate, 60);
        story.run(15).withdraw();
        story.run(15);
        assert_eq!(closed(&story), Some(Closed::StayedOut), "{}", story.tale());
        if restarts {
            story.restart();
            story.run(3);
        }
        story.notice_in(Action::Terminate, 90);
        story.run(3);
        let left = story.record().expect("a record").deadline.since(story.life().asked_at);
        assert!(left.as_secs() > 80, "{restarts} {left:?} {}", story.tale());
    }
}

#[test]
fn has_no_second_successor_at_its_next_notice() {
    for owner in [Owner::Instant, Owner::Detach, Owner::Maintain] {
        for restarts in [false, true] {
            let mut story = stays_out(owner);
            story.run(60).notice(Action::Terminate);
            story.run(60).withdraw();
            story.run(120);
            if restarts {
                story.restart();
                story.run(30);
            }
            story.notice(Action::Terminate);
            story.run(200);
            assert_eq!(story.launched(), 1, "{owner:?} {restarts}: {}", story.tale());
        }
    }
}

#[test]
fn has_no_second_successor_at_a_next_signal_of_another_kind() {
    type Happens = fn(&mut Story);
    let recommended: Happens = |story| {
        story.recommend();
        story.run(400).recommend_no_more();
    };
    let announced: Happens = |story| {
        story.event("event-1", "system-reboot", 400);
        story.run(200).event_is_over();
    };
    let noticed: Happens = |story| {
        story.notice(Action::Terminate);
        story.run(60).withdraw();
    };
    for owner in [Owner::Instant, Owner::Detach, Owner::Maintain] {
        for (first, next) in [
            (recommended, noticed),
            (recommended, announced),
            (announced, noticed),
            (noticed, announced),
            (noticed, recommended),
        ] {
            for restarts in [false, true] {
                let mut story = Story::with(owner, |config| {
                    hands_over_on_recommendation(config);
                    hands_over_for_events(config);
                    config.survive.then = Then::StayOut;
                });
                first(story.run(10));
                story.run(200);
                assert_eq!(closed(&story), Some(Closed::StayedOut), "{owner:?} {}", story.tale());
                if restarts {
                    story.restart();
                    story.run(30);
                }
                next(&mut story);
                story.run(200).is_tidy();
                assert_eq!(story.launched(), 1, "{owner:?} {restarts}: {}", story.tale());
                assert!(story.aws.places().is_empty(), "{owner:?} {restarts}: {}", story.tale());
            }
        }
    }
}

#[test]
fn has_no_second_successor_for_an_event_though_the_process_is_restarted_within_the_notice_within() {
    let mut story = Story::with(Owner::Instant, |config| {
        hands_over_for_events(config);
        config.survive.then = Then::StayOut;
    });
    story.run(10).event("event-1", "system-reboot", 900);
    story.run(310).notice(Action::Terminate);
    story.run(20).restart();
    story.run(20).withdraw();
    story.run(300);
    assert_eq!((story.launched(), closed(&story)), (1, Some(Closed::StayedOut)), "{}", story.tale());
}

#[test]
fn that_somebody_puts_back_is_replaced_at_its_next_notice() {
    let mut story = stays_out(Owner::Instant);
    story.run(60).notice(Action::Terminate);
    story.run(60).withdraw();
    story.run(120);
    assert_eq!(closed(&story), Some(Closed::StayedOut), "{}", story.tale());
    story.aws.is_put_back();
    // The next look-up sees it.
    story.restart();
    story.run(30).notice(Action::Terminate);
    story.run(115);
    assert!(is_complete(&story) && story.aws.places().is_empty(), "{}", story.tale());
    assert_eq!(story.launched(), 2, "{}", story.tale());
}
