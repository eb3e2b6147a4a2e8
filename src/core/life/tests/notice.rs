//! A Spot interruption notice: handed over once, whatever comes between.

mod late;

use super::*;

#[test]
fn is_handed_over_completely_by_every_owner_with_one_successor() {
    for owner in LIVE_ON {
        let story = noticed(owner, 90);
        assert!(is_complete(&story), "{owner:?} {}", story.tale());
        assert_eq!(story.launched(), successors_of(owner), "{owner:?}");
        assert!(story.aws.places().is_empty());
        assert!(story.life().flags().is_some_and(|flags| flags.notice && flags.drained));
    }
}

#[test]
fn of_a_group_with_a_hook_ends_with_the_hook_once_the_successor_is_registered_where_only_we_can() {
    let story = noticed(Owner::Hook, 110);
    assert!(!story.aws.alive, "the hook is completed");
    assert_eq!(story.launched(), 1);
    let writes = story.writes();
    let place = |what: &str| writes.iter().position(|write| *write == what);
    assert!(place("register successor in api") < place("complete"), "{writes:?}");
    assert!(place("register successor in api").is_some(), "{writes:?}");
    assert!(story.now < 60_000, "it did not wait for the end");
}

#[test]
fn runs_its_hooks_once_whatever_process_sees_it() {
    let hooks = |config: &mut crate::core::config::Config| {
        config.leave.when = When::AtOnce;
        config.hooks.notice = vec!["true".into()];
        config.hooks.drained = vec!["true".into()];
    };
    let mut story = Story::with(Owner::Instant, hooks);
    story.run(10).notice(Action::Terminate);
    for _ in 0..5 {
        story.run(7).restart();
    }
    story.run(60);
    assert_eq!(story.writes().iter().filter(|write| **write == "hook notice").count(), 1);
    assert_eq!(story.writes().iter().filter(|write| **write == "hook drained").count(), 1);
}

#[test]
fn with_hooks_that_hang_is_handed_over_and_undone_all_the_same() {
    for owner in LIVE_ON {
        let mut story = Story::with(owner, |config| {
            config.hooks.notice = vec!["sleep".into()];
            config.hooks.drained = vec!["sleep".into()];
            config.hooks.timeout = std::time::Duration::from_secs(100);
        });
        story.hook_takes = 1_000_000;
        story.run(10).notice(Action::Terminate);
        story.run(30);
        assert!(story.aws.places().is_empty(), "{owner:?}");
        assert_eq!(story.launched(), successors_of(owner), "{owner:?}");
        story.withdraw();
        story.run(20).is_as_before();
    }
}

#[test]
fn with_a_later_or_an_earlier_time_is_the_same() {
    for shift in [-60_000, -20_000, 20_000, 60_000] {
        for owner in LIVE_ON {
            let mut story = noticed(owner, 15);
            story.shift(shift, Action::Stop);
            story.run(30);
            story.shift(-shift, Action::Terminate);
            story.run(15);
            assert_eq!(story.saw(MilestoneKind::Noticed), 1, "{owner:?} {shift}");
            assert_eq!(story.launched(), successors_of(owner));
        }
    }
}

#[test]
fn withdrawn_at_any_moment_leaves_nothing_behind() {
    for owner in OWNERS {
        for moment in (100..40_000).step_by(700) {
            let mut story = Story::of(owner);
            story.run(10).notice(Action::Terminate);
            let end = story.now + moment;
            story.run_to(end);
            story.withdraw();
            story.run(300);
            // The group has begun to terminate it.
            if owner == Owner::Hook && !story.aws.alive {
                continue;
            }
            story.is_as_before();
            assert!(story.launched() <= successors_of(owner), "{owner:?} at {moment}");
            if story.record().is_some() {
                assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?} at {moment}");
                assert_eq!(story.saw(MilestoneKind::Survived), 1);
                assert_eq!(story.saw(MilestoneKind::Reinstated), 1);
            }
        }
    }
}

#[test]
fn withdrawn_in_the_middle_needs_looks_in_a_row() {
    let mut story = noticed(Owner::Instant, 5);
    story.withdraw();
    story.run(2);
    story.notice_in(Action::Terminate, 113);
    story.run(2).withdraw();
    story.run(2);
    assert_eq!(story.saw(MilestoneKind::Survived), 0, "one 404 among answers is a fault of the metadata");
    story.run(60).is_as_before();
}

#[test]
fn withdrawn_for_a_moment_is_not_withdrawn_however_often_that_is_seen() {
    for owner in LIVE_ON {
        let mut story = Story::of(owner);
        story.interval = 100;
        story.run(10).notice(Action::Terminate);
        story.run(10);
        for _ in 0..5 {
            story.flap(3);
            story.run(1);
        }
        assert_eq!(story.saw(MilestoneKind::Survived), 0, "{owner:?}");
        assert!(story.aws.places().is_empty(), "{owner:?}");
    }
}

#[test]
fn judged_stale_by_a_time_that_was_wrong_is_handed_over_once_the_time_is_right() {
    for owner in LIVE_ON {
        for wrong in [300, 600, 86_400] {
            let mut story = Story::of(owner);
            story.kill();
            story.notice(Action::Terminate);
            story.believed_ahead = wrong;
            story.start();
            story.run(3);
            assert_eq!(story.saw(MilestoneKind::Noticed), 0);
            story.believed_ahead = 0;
            // A group that rebalances is looked at for a while, for successors of fellows whose mark comes late.
            story.run(100);
            assert!(is_complete(&story), "{owner:?} {wrong} {}", story.tale());
            assert_eq!(story.launched(), successors_of(owner));
        }
    }
}

#[test]
fn has_its_deadline_from_its_first_sight_wherever_the_dates_go_afterwards() {
    for owner in LIVE_ON {
        for wrong in [-600, -60, 60, 600] {
            let mut story = noticed(owner, 5);
            let deadline = |story: &Story| story.record().map(|record| record.deadline);
            let first = deadline(&story);
            story.believed_ahead = wrong;
            story.run(5);
            assert_eq!(deadline(&story), first, "{owner:?} {wrong}");
            story.restart();
            story.run(5);
            assert_eq!(deadline(&story), first, "{owner:?} {wrong} {}", story.tale());
            story.shift(-40_000, Action::Terminate);
            story.run(2);
            let shortened = first.zip(deadline(&story)).map(|(first, now)| first.since(now).as_secs());
            assert_eq!(shortened, Some(40), "{owner:?} {wrong} {}", story.tale());
        }
    }
}

#[test]
fn seen_by_a_clock_in_doubt_has_its_deadline_right_once_a_date_is_believed() {
    let mut story = Story::of(Owner::Instant);
    story.kill();
    story.notice_in(Action::Terminate, 50);
    let (begun, left) = (story.now, |story: &Story, now: u64| {
        story.record().map(|it| it.deadline.as_duration().as_millis().cast_signed() - i128::from(now))
    });
    (story.believed_ahead, story.in_doubt) = (-40, true);
    story.start();
    story.run(2);
    assert_eq!(left(&story, begun), Some(90_000));
    (story.believed_ahead, story.in_doubt) = (0, false);
    story.run(2);
    assert_eq!(left(&story, begun), Some(50_000));
    story.believed_ahead = 30;
    story.run(3);
    assert_eq!(left(&story, begun), Some(50_000), "{}", story.tale());
}

#[test]
fn dealt_with_is_not_handed_over_again_by_a_time_that_is_wrong() {
    for owner in LIVE_ON {
        let mut story = noticed(owner, 60);
        story.goes_stale();
        story.run(400).is_as_before();
        let launched = story.launched();
        story.believed_ahead = -400;
        story.restart();
        story.run(200).is_as_before();
        assert_eq!(story.launched(), launched, "{owner:?} {}", story.tale());
    }
}

#[test]
fn again_before_this_instance_is_back_has_its_own_deadline() {
    for owner in LIVE_ON {
        for (back, restarted) in [(4, false), (6, false), (8, true), (12, false), (12, true)] {
            let mut story = Story::with(owner, |config| config.arrive.ready = Readiness::Tcp("x:80".into()));
            story.aws.ready = false;
            story.run(10).notice(Action::Terminate);
            story.run(95).withdraw();
            story.run(back);
            if restarted {
                story.restart();
            }
            story.notice(Action::Terminate);
            let noticed = story.now;
            story.run(3);
            let record = story.record().expect("a record");
            let left =
                record.deadline.since(story.life().asked_at) + std::time::Duration::from_millis(story.now - noticed);
            assert!(left.as_secs() >= 115 || back < 5, "{owner:?} {back} {restarted}: {left:?} {}", story.tale());
            story.run(60);
            assert!(story.aws.places().is_empty(), "{owner:?} {back} {restarted}: {}", story.tale());
        }
    }
}

#[test]
fn gone_for_some_looks_and_back_a_second_later_is_the_same_incident() {
    for owner in LIVE_ON {
        for (shift, gone) in [(-15_000, 6), (0, 6), (1_000, 6), (1_000, 10), (15_000, 6)] {
            let mut story = Story::with(owner, |config| config.leave.when = When::AtOnce);
            story.run(10).notice(Action::Terminate);
            story.run(50);
            assert!(story.life().flags().is_some_and(|flags| flags.drained), "{owner:?} {}", story.tale());
            story.flap(gone);
            assert_eq!(story.saw(MilestoneKind::Survived), 1, "{owner:?}");
            story.shift(shift, Action::Terminate);
            let again = story.now;
            story.run(2);
            let flags = story.life().flags().expect("it has looked");
            assert!(flags.notice && !flags.drained, "it serves again: {owner:?} {}", story.tale());
            story.run(45);
            let record = story.record().expect("a record");
            assert_eq!(record.id.number, 0, "{owner:?} {shift}");
            // A group that has attached this instance again keeps the size that it has with it.
            let twice = if owner == Owner::Detach { 2 } else { 1 };
            let launched = story.launched();
            assert!(launched <= twice * successors_of(owner), "{owner:?} {shift} {launched} {}", story.tale());
            assert!(story.aws.places().is_empty(), "{owner:?} {shift} since {again}: {}", story.tale());
            assert!(story.life().flags().is_some_and(|flags| flags.drained), "{owner:?} {}", story.tale());
        }
    }
}

#[test]
fn long_after_one_that_was_handed_over_and_before_this_instance_is_back_has_no_second_successor() {
    for owner in LIVE_ON {
        let mut story = noticed(owner, 135);
        assert!(is_complete(&story), "{owner:?}");
        story.notice(Action::Terminate);
        story.run(3);
        let left = story.record().expect("a record").deadline.since(story.life().asked_at);
        assert!(left.as_secs() >= 110, "{owner:?} {left:?}");
        story.run(90);
        assert!(is_complete(&story), "{owner:?} {}", story.tale());
        assert_eq!(story.launched(), successors_of(owner), "{owner:?} {}", story.tale());
        story.withdraw();
        story.run(300).is_as_before();
    }
}

#[test]
fn without_a_time_that_was_survived_is_not_handed_over_again_after_a_restart() {
    for owner in LIVE_ON {
        let mut story = Story::of(owner);
        story.run(10).notice(Action::Terminate);
        story.notice = Some(Notice { action: Action::Terminate, time: None });
        story.run(90);
        assert!(is_complete(&story), "{owner:?}");
        story.goes_stale();
        story.run(300).is_as_before();
        let launched = story.launched();
        story.restart();
        story.run(100).is_as_before();
        assert_eq!(story.launched(), launched, "{owner:?} {}", story.tale());
    }
}

#[test]
fn after_a_record_of_the_beginning_of_time_is_handed_over_all_the_same() {
    let mut story = noticed(Owner::Instant, 3);
    story.kill();
    story.disk = story.record().map(|record| Incident { begun_at: jiff::Timestamp::MIN, ..record });
    story.start();
    story.run(60);
    assert!(is_complete(&story), "{}", story.tale());
}

#[test]
fn withdrawn_while_serving_on_was_never_left() {
    for owner in LIVE_ON {
        let mut story = Story::with(owner, |config| config.leave.when = When::SuccessorHealthy);
        story.run(10).notice(Action::Terminate);
        story.run(2).withdraw();
        story.run(200).is_as_before();
        assert!(story.launched() <= successors_of(owner));
    }
}

#[test]
fn that_becomes_a_hibernation_while_serving_on_has_one_successor_after_a_restart() {
    for owner in [Owner::Detach, Owner::Hook, Owner::Instant, Owner::Maintain] {
        let mut story = Story::with(owner, |config| config.leave.when = When::SuccessorHealthy);
        story.aws.healthy_after = 30_000;
        story.run(10).notice(Action::Terminate);
        story.run(2).shift(0, Action::Hibernate);
        story.restart();
        story.run(60);
        assert_eq!(story.launched(), 1, "{owner:?} {}", story.tale());
    }
}

#[test]
fn withdrawn_before_every_look_up_was_answered_is_undone_where_it_had_left() {
    for owner in LIVE_ON {
        for took in [100, 1_000, 2_500, 19_000] {
            let mut story = Story::of(owner);
            story.kill();
            story.start();
            story.exchanges(vec![(Fate::Fine, took), (Fate::Fine, 20), (Fate::Fine, 20)]);
            story.notice(Action::Terminate);
            story.run(3).withdraw();
            story.run(120).is_as_before();
        }
    }
}

#[test]
fn of_a_group_that_rebalances_is_complete_after_a_restart_only_once_the_successor_serves() {
    let mut story = Story::of(Owner::Rebalance);
    story.aws.healthy_after = 40_000;
    story.run(10).notice(Action::Terminate);
    story.run_until(|story| story.saw(MilestoneKind::SuccessorRunning) > 0);
    let now = story.now;
    story.aws.group_terminates(now);
    story.restart();
    story.run_until(|story| has_handed_over(story) || !story.aws.alive);
    assert!(!has_handed_over(&story) || story.saw(MilestoneKind::SuccessorHealthy) > 0, "{}", story.tale());
    assert_eq!(story.launched(), 1, "{}", story.tale());
}

#[test]
fn gone_until_this_instance_is_back_and_shown_again_has_no_second_successor() {
    for when in [When::Auto, When::AtOnce] {
        for full in [false, true] {
            let mut story = Story::with(Owner::Detach, |config| config.leave.when = when);
            if full {
                // No room to launch one more first.
                story.aws.max = 3;
            }
            story.run(10).notice(Action::Terminate);
            story.run_until(has_handed_over);
            story.aws.max = 20;
            let notice = story.notice.take();
            story.run_until(|story| story.saw(MilestoneKind::Reinstated) > 0);
            let desired = story.aws.desired;
            story.notice = notice;
            story.run(60);
            assert_eq!((story.launched(), story.aws.desired), (1, desired - 1), "{when:?} {}", story.tale());
            assert!(is_complete(&story), "{when:?} {}", story.tale());
        }
    }
}

#[test]
fn a_reboot_in_the_midst_of_it_is_no_other_interruption() {
    for owner in OWNERS {
        for when in [When::Auto, When::AtOnce] {
            for after in [1, 2, 5, 20] {
                let mut story = Story::with(owner, |config| config.leave.when = when);
                story.run(10).notice(Action::Terminate);
                story.run(after);
                story.boot_anew(10);
                story.run(200);
                let context = format!("{owner:?} {when:?} {after} s: {}", story.tale());
                assert_eq!(story.launched(), successors_of(owner), "{context}");
                let seen = owner == Owner::Nobody || story.saw(MilestoneKind::SuccessorHealthy) > 0;
                assert!(is_complete(&story) && seen, "{context}");
            }
        }
    }
}

#[test]
fn whose_time_shifts_in_a_reboot_is_no_other_interruption() {
    for owner in OWNERS {
        for shift in [-3_000, 3_000] {
            let mut story = Story::with(owner, |_| {});
            story.run(10).notice(Action::Terminate);
            story.run(3).kill();
            story.shift(shift, Action::Terminate);
            story.boot_anew(10);
            story.run(200);
            let context = format!("{owner:?} {shift} ms: {}", story.tale());
            assert_eq!(story.launched(), successors_of(owner), "{context}");
        }
    }
}

#[test]
fn after_a_reboot_a_notice_of_another_time_is_another_interruption() {
    let mut story = Story::with(Owner::Detach, |_| {});
    story.run(10).notice(Action::Terminate);
    story.run(60).withdraw();
    story.boot_anew(600);
    story.run(60).notice(Action::Terminate);
    story.run(200);
    assert_eq!(story.launched(), 2, "{}", story.tale());
}
