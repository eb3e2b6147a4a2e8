//! One instance's life as stories: [`story`] plays the daemon, [`aws`] is what it calls. [`chance`] tells what holds
//! whatever happens in whatever order.

mod aws;
mod chance;
mod drill;
mod golden;
mod story;

use crate::core::call::Call;
use crate::core::config::{Then, When};
use crate::core::incident::{Closed, Incident};
use crate::core::model::{Action, MilestoneKind, Readiness, Signal};
use crate::core::notice::Notice;

use aws::{OWNERS, Owner};
use story::{Fate, Story, arrives, hands_over_for_events, hands_over_on_recommendation};

/// Those whose instances can live on after a handover: a group that runs hooks terminates the instance itself.
const LIVE_ON: [Owner; 5] = [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant, Owner::Nobody];

fn closed(story: &Story) -> Option<Closed> {
    story.record().and_then(|record| record.closed())
}

fn is_registration_of_us(call: &Call) -> bool {
    let ours = |targets: &[crate::core::model::Target]| targets.iter().any(|target| target.id == "i-us");
    matches!(call, Call::RegisterTargets { targets, .. } if ours(targets))
}

fn registrations_of_us(story: &Story) -> usize {
    story.calls.iter().filter(|(_, _, call)| is_registration_of_us(call)).count()
}

fn has_handed_over(story: &Story) -> bool {
    story.saw(MilestoneKind::HandedOver) > 0
}

fn is_complete(story: &Story) -> bool {
    story.record().and_then(|record| record.outcome).is_some_and(|outcome| outcome.complete)
}

fn successors_of(owner: Owner) -> usize {
    usize::from(owner != Owner::Nobody)
}

/// A notice that was seen at ten seconds, and what it has led to after so many seconds more.
fn noticed(owner: Owner, seconds: u64) -> Story {
    let mut story = Story::of(owner);
    story.run(10).notice(Action::Terminate);
    story.run(seconds);
    story
}

mod notice {
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
                    record.deadline.since(story.life().seen) + std::time::Duration::from_millis(story.now - noticed);
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
            let left = story.record().expect("a record").deadline.since(story.life().seen);
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
    fn survived_is_undone_two_minutes_after_the_deadline() {
        for owner in LIVE_ON {
            let mut story = noticed(owner, 120);
            story.goes_stale();
            story.run(118);
            assert_eq!(story.saw(MilestoneKind::Survived), 0, "{owner:?}");
            assert!(story.aws.places().is_empty());
            story.run(100).is_as_before();
            assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?}");
            assert_eq!(story.aws.desired, if owner == Owner::Detach { 4 } else { 3 });
            // And once: the notice that stands in the metadata for ever is no new one.
            let told = story.milestones.len();
            story.run(3_600).is_as_before();
            story.restart();
            story.run(600).is_as_before();
            assert_eq!(story.milestones.len(), told, "{owner:?}");
            assert_eq!(story.launched(), successors_of(owner));
        }
    }

    #[test]
    fn survived_in_a_full_group_serves_outside_of_it() {
        let mut story = Story::of(Owner::Detach);
        story.aws.max = 3;
        story.run(10).notice(Action::Terminate);
        story.run(60).withdraw();
        story.run(60).is_as_before();
        assert!(!story.aws.is_member());
        assert_eq!(story.aws.desired, 3);
    }

    #[test]
    fn survived_waits_until_the_application_is_ready() {
        let mut story = Story::with(Owner::Instant, |config| config.arrive.ready = Readiness::Tcp("x:80".into()));
        story.run(10).notice(Action::Terminate);
        story.run(60).withdraw();
        story.aws.ready = false;
        story.run(120);
        assert_eq!(registrations_of_us(&story), 0);
        story.aws.ready = true;
        story.run(30).is_as_before();
    }

    #[test]
    fn again_after_a_survived_one_is_another_incident_with_its_own_successor() {
        for owner in LIVE_ON {
            let mut story = noticed(owner, 40);
            story.withdraw();
            story.run(120).is_as_before();
            let first = story.record().expect("a record").id.number;
            story.notice(Action::Terminate);
            story.run(100);
            let second = story.record().expect("a record").id.number;
            assert_eq!(second, first + 1, "{owner:?}");
            // A fleet counts: the first successor is a member more than its base, and stands in for the second time.
            let twice = if owner == Owner::Maintain { 1 } else { 2 };
            assert_eq!(story.launched(), twice * successors_of(owner), "{owner:?} {}", story.tale());
            assert!(story.aws.places().is_empty());
            story.withdraw();
            story.run(200).is_as_before();
        }
    }

    #[test]
    fn again_while_the_group_still_takes_this_instance_back_has_one_successor_and_no_member_that_dies() {
        for owner in [Owner::Detach, Owner::Hook] {
            for when in [When::AtOnce, When::Auto] {
                for took in [100, 4_000, 12_000, 24_000] {
                    let mut story = Story::with(owner, |config| config.leave.when = when);
                    let attaches = |call: &Call| matches!(call, Call::AttachInstances { .. });
                    let looks = |call: &Call| matches!(call, Call::DescribeGroupRoom { .. });
                    story.run(10).notice(Action::Terminate);
                    story.run(40).withdraw();
                    let begun = story.now;
                    let since = |story: &Story, is: &dyn Fn(&Call) -> bool| {
                        story.calls.iter().any(|(at, _, call)| *at > begun && is(call))
                    };
                    if !story.aws.alive {
                        continue;
                    }
                    story.exchanges(vec![(Fate::Fine, 1_000); 4]);
                    story.run_until(|story| since(story, &looks));
                    story.exchanges(vec![(Fate::Fine, took); 3]);
                    story.run_until(|story| since(story, &attaches));
                    story.notice(Action::Terminate);
                    story.run(110);
                    let case = format!("{owner:?} {when:?} {took}: {}", story.tale());
                    assert_eq!(story.launched(), 2, "{case}");
                    assert!(!story.aws.alive || !story.aws.is_member(), "{case}");
                    assert!(story.aws.places().is_empty(), "{case}");
                    story.aws.dies();
                    story.run(60);
                    assert_eq!(story.launched(), 2, "{case}");
                }
            }
        }
    }

    #[test]
    fn again_while_the_first_is_being_undone_loses_nothing_of_what_was_known() {
        for owner in LIVE_ON {
            for restarted in [false, true] {
                for wait in [0, 3, 5, 8, 12] {
                    let mut story = Story::with(owner, |config| {
                        config.leave.when = When::AtOnce;
                        config.arrive.ready = Readiness::Tcp("x:80".into());
                    });
                    story.run(10).notice(Action::Terminate);
                    story.run(40).withdraw();
                    story.aws.ready = wait > 6;
                    story.run(10 + wait).notice(Action::Terminate);
                    story.run(20);
                    assert!(story.aws.places().is_empty(), "{owner:?}");
                    if restarted {
                        story.restart();
                        story.run(5);
                    }
                    story.withdraw();
                    story.aws.ready = true;
                    story.run(300).is_as_before();
                }
            }
        }
    }

    #[test]
    fn that_stands_stale_at_the_start_is_a_survivors() {
        for owner in OWNERS {
            let mut story = Story::of(owner);
            story.kill();
            story.notice(Action::Terminate);
            story.goes_stale();
            story.run(500).start();
            story.run(600).is_as_before();
            assert_eq!(story.saw(MilestoneKind::Noticed), 0);
            assert_eq!(story.launched(), usize::from(owner == Owner::Rebalance));
        }
    }

    #[test]
    fn that_stands_stale_at_the_start_with_a_record_is_undone() {
        for owner in LIVE_ON {
            for moment in [1, 5, 20, 60, 115] {
                let mut story = noticed(owner, moment);
                story.kill();
                story.run(400).goes_stale();
                story.start();
                story.run(300).is_as_before();
                assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?} killed after {moment} s");
                assert!(story.launched() <= successors_of(owner));
            }
        }
    }

    #[test]
    fn withdrawn_while_no_daemon_ran_is_undone_by_the_next_one() {
        for owner in LIVE_ON {
            for moment in [1, 2, 5, 20, 60] {
                let mut story = noticed(owner, moment);
                story.kill();
                story.run(20).withdraw();
                story.start();
                story.run(300).is_as_before();
                assert_eq!(closed(&story), Some(Closed::Reinstated), "{owner:?} killed after {moment} s");
            }
        }
    }

    #[test]
    fn seen_by_many_processes_has_one_successor_and_is_undone_once() {
        for owner in LIVE_ON {
            for every in [900, 2_300, 4_100, 9_700, 31_000] {
                let mut story = Story::of(owner);
                story.run(10).notice(Action::Terminate);
                let end = story.now + 100_000;
                while story.now < end {
                    let next = story.now + every;
                    story.run_to(next);
                    story.restart();
                }
                assert_eq!(story.launched(), successors_of(owner), "{owner:?} restarted every {every} ms");
                story.withdraw();
                for _ in 0..10 {
                    let next = story.now + every;
                    story.run_to(next);
                    story.restart();
                }
                story.run(300).is_as_before();
                assert!(story.launched() <= successors_of(owner), "{owner:?} restarted every {every} ms");
            }
        }
    }

    #[test]
    fn a_successor_met_by_the_look_up_of_a_process_that_came_late_is_found_by_the_next_one() {
        for owner in [Owner::Detach, Owner::Hook, Owner::Rebalance] {
            let mut story = Story::of(owner);
            story.run(10).notice(Action::Terminate);
            story.run_until(|story| story.launched() == 1);
            story.kill();
            story.lose_record();
            story.start();
            story.run_until(|story| story.record().is_some_and(|record| record.plan.is_some()));
            story.run(1).restart();
            story.run(100);
            assert_eq!(story.launched(), 1, "{owner:?}");
            assert!(story.saw(MilestoneKind::SuccessorRunning) > 0, "{owner:?}: {}", story.tale());
        }
    }

    #[test]
    fn a_successor_met_by_the_first_look_up_of_a_process_that_saw_the_notice_come_is_found() {
        let mut story = Story::of(Owner::Rebalance);
        story.run(1).exchanges(vec![(Fate::LostCall, 20); 6]);
        story.notice(Action::Terminate);
        story.run_until(|story| story.launched() == 1);
        assert!(story.record().is_some_and(|record| record.plan.is_none()), "{}", story.tale());
        story.run(100);
        assert!(story.saw(MilestoneKind::SuccessorRunning) > 0, "{}", story.tale());
    }
}

mod stay_out {
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
        }
    }
}

mod terminate {
    use super::*;

    fn terminates(owner: Owner) -> Story {
        Story::with(owner, |config| config.survive.then = Then::Terminate)
    }

    #[test]
    fn ends_an_instance_that_has_handed_over_and_lives_on() {
        for owner in LIVE_ON {
            let mut story = terminates(owner);
            story.run(10).notice(Action::Terminate);
            story.run(120).goes_stale();
            story.run(300);
            assert!(!story.aws.alive, "{owner:?} {}", story.tale());
            assert_eq!(story.writes().last(), Some(&"terminate ourselves"));
        }
    }

    #[test]
    fn never_ends_one_that_has_handed_over_in_part() {
        for owner in LIVE_ON.into_iter().filter(|owner| *owner != Owner::Nobody) {
            let mut story = terminates(owner);
            story.run(10).notice(Action::Terminate);
            story.run(2).withdraw();
            story.run(300).is_as_before();
            assert_eq!(closed(&story), Some(Closed::Reinstated));
        }
    }

    #[test]
    fn does_not_end_one_that_was_started_again() {
        for owner in [Owner::Instant, Owner::Maintain, Owner::Nobody] {
            let mut story = terminates(owner);
            story.run(10).notice(Action::Stop);
            story.run(120).withdraw();
            story.boot_anew(600);
            story.run(120).is_as_before();
        }
    }
}

mod recommendation {
    use super::*;

    fn recommended(owner: Owner) -> Story {
        let mut story = Story::with(owner, hands_over_on_recommendation);
        story.run(10).recommend();
        story
    }

    #[test]
    fn only_prepares_by_default() {
        for owner in OWNERS {
            let mut story = Story::of(owner);
            story.run(10).recommend();
            story.run(600);
            assert_eq!(story.writes(), Vec::<&str>::new());
            assert_eq!(story.told(), ["recommended"]);
            story.is_as_before();
            assert_eq!(story.record(), None);
        }
    }

    #[test]
    fn brings_the_successor_first_and_takes_this_instance_out_when_it_is_healthy() {
        for owner in [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant] {
            let mut story = recommended(owner);
            story.run_until(has_handed_over);
            let healthy = story.milestones.iter().rfind(|(_, it)| it.milestone == MilestoneKind::SuccessorHealthy);
            let deregistered = story.first(|call| matches!(call, Call::DeregisterTargets { .. }));
            assert!(deregistered >= healthy.map(|(at, _)| *at), "{owner:?}");
            assert!(is_complete(&story), "{owner:?} {}", story.tale());
            assert_eq!(story.launched(), 1, "{owner:?}");
            assert!(story.aws.places().is_empty());
        }
    }

    #[test]
    fn that_leads_to_nothing_leaves_nothing_behind() {
        for owner in LIVE_ON {
            for seconds in [1, 4, 6, 8, 10, 12, 15, 20, 30, 60, 200] {
                let mut story = recommended(owner);
                story.run(seconds).recommend_no_more();
                story.run(400).is_as_before();
                assert!(story.launched() <= successors_of(owner), "{owner:?} {seconds}");
                // Once a boot.
                let (launched, writes) = (story.launched(), story.aws.writes.len());
                if has_handed_over(&story) {
                    story.recommend();
                    story.run(400);
                    story.restart();
                    story.run(400).is_as_before();
                    assert_eq!(story.launched(), launched, "{owner:?} {seconds}");
                    assert_eq!(story.aws.writes.len(), writes, "{owner:?} {}", story.tale());
                }
            }
        }
    }

    #[test]
    fn without_a_successor_is_no_reason_to_leave() {
        let mut story = recommended(Owner::Nobody);
        story.run(300).is_as_before();
        assert_eq!(closed(&story), Some(Closed::Stayed));
        let mut story = Story::with(Owner::Detach, hands_over_on_recommendation);
        story.aws.max = 3;
        story.run(10).recommend();
        story.run(300).is_as_before();
        assert_eq!(closed(&story), Some(Closed::Stayed));
        assert_eq!(story.launched(), 0);
    }

    #[test]
    fn followed_by_the_notice_is_one_handover_with_the_notices_deadline() {
        for owner in [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant, Owner::Nobody] {
            for seconds in [1, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 60, 100] {
                let mut story = recommended(owner);
                story.run(seconds).notice(Action::Terminate);
                story.run(100);
                let context = format!("{owner:?} {seconds} s before the notice: {}", story.tale());
                assert_eq!(story.launched(), successors_of(owner), "{context}");
                assert!(story.aws.places().is_empty(), "{context}");
                assert!(is_complete(&story), "{context} {}", story.tale());
                let record = story.record().expect("a record");
                assert_eq!((record.signal, record.id.number), (Signal::Notice, 0), "{context}");
                story.withdraw();
                story.recommend_no_more();
                story.run(300).is_as_before();
                assert_eq!(story.launched(), successors_of(owner), "{context}");
            }
        }
    }

    #[test]
    fn that_gave_up_is_followed_by_the_notice_as_if_it_had_not_been() {
        let mut story = Story::with(Owner::Detach, hands_over_on_recommendation);
        story.aws.max = 3;
        story.run(10).recommend();
        story.run(100);
        assert_eq!(closed(&story), Some(Closed::Stayed));
        story.notice(Action::Terminate);
        story.run(100);
        assert!(is_complete(&story), "{}", story.tale());
        assert_eq!(story.launched(), 1);
    }

    #[test]
    fn that_was_taken_back_is_followed_by_the_notice_with_no_second_successor() {
        for owner in LIVE_ON {
            let mut story = recommended(owner);
            story.aws.healthy_after = 40_000;
            story.run(7).recommend_no_more();
            story.run(60).is_as_before();
            assert_eq!(registrations_of_us(&story), 0, "it never left");
            story.notice(Action::Terminate);
            story.run(100);
            assert!(story.launched() <= successors_of(owner), "{owner:?} {}", story.tale());
            assert!(story.aws.places().is_empty());
        }
    }

    #[test]
    fn survives_restarts() {
        for owner in LIVE_ON {
            for every in [1_100, 3_700, 9_100] {
                let mut story = recommended(owner);
                for _ in 0..12 {
                    let next = story.now + every;
                    story.run_to(next);
                    story.restart();
                }
                story.run(120);
                assert_eq!(story.launched(), successors_of(owner), "{owner:?} {every}");
                story.recommend_no_more();
                story.run(300).is_as_before();
            }
        }
    }

    #[test]
    fn followed_by_the_notice_and_a_restart_has_one_successor_however_slow_aws_is() {
        for owner in [Owner::Detach, Owner::Hook] {
            for seconds in [5, 6, 8, 9] {
                for restarted_after in (100..3_000).step_by(300) {
                    let mut story = recommended(owner);
                    story.exchanges(vec![(Fate::Fine, 900); 200]);
                    story.run(seconds).notice(Action::Terminate);
                    let end = story.now + restarted_after;
                    story.run_to(end);
                    story.restart();
                    story.run(60);
                    let context = format!("{owner:?} {seconds} s, {restarted_after} ms: {}", story.tale());
                    assert_eq!(story.launched(), 1, "{context}");
                }
            }
        }
    }

    #[test]
    fn right_after_a_boot_waits_until_this_instance_is_back() {
        for owner in LIVE_ON {
            let mut story = Story::with(owner, hands_over_on_recommendation);
            story.run(10).notice(Action::Stop);
            story.run(100).withdraw();
            story.kill();
            story.recommend();
            story.boot_anew(300);
            story.run(7).recommend_no_more();
            story.run(300).is_as_before();
        }
    }

    #[test]
    fn and_notice_at_the_same_time_are_one() {
        for owner in LIVE_ON {
            let mut story = Story::with(owner, hands_over_on_recommendation);
            story.run(10).recommend();
            story.notice(Action::Terminate);
            story.run(100);
            assert_eq!(story.launched(), successors_of(owner), "{owner:?}");
            assert!(story.aws.places().is_empty());
        }
    }
}

mod lifecycle {
    use super::*;

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
}

mod scheduled_event {
    use super::*;

    fn announced(owner: Owner, in_seconds: u64) -> Story {
        let mut story = Story::with(owner, hands_over_for_events);
        story.run(10).event("event-1", "system-reboot", in_seconds);
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
            story.run(480);
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
}

mod stop_and_hibernate {
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
}

mod arriving {
    use super::*;

    fn arriving(owner: Owner) -> Story {
        let mut story = Story::with(owner, |config| {
            arrives(config);
            config.arrive.ready = Readiness::Tcp("x:80".into());
        });
        story.aws.leave_everywhere();
        story.aws.ready = false;
        story
    }

    #[test]
    fn waits_until_the_application_is_ready_and_comes_in() {
        let mut story = arriving(Owner::Instant);
        story.run(60);
        assert_eq!(registrations_of_us(&story), 0);
        assert!(story.life().arrival().is_some());
        story.aws.ready = true;
        story.run(30).is_as_before();
        assert_eq!(story.told(), ["arrived"]);
        // At every start of the daemon, and it changes nothing.
        story.restart();
        story.run(60).is_as_before();
    }

    #[test]
    fn leaves_what_it_registers_though_the_look_ups_do_not_know_of_it_yet() {
        for took in [100, 1_000, 5_000] {
            let mut story = Story::with(Owner::Nobody, arrives);
            story.aws.leave_everywhere();
            story.exchanges(vec![(Fate::Fine, 20), (Fate::Fine, took), (Fate::Fine, took)]);
            story.run_until(|story| story.calls.iter().any(|(_, _, call)| is_registration_of_us(call)));
            assert!(story.now < 2_500, "before the first look-up");
            story.notice(Action::Terminate);
            story.run(100);
            assert!(story.aws.places().is_empty(), "{took}: {}", story.tale());
        }
    }

    #[test]
    fn does_not_begin_while_a_notice_stands() {
        let mut story = arriving(Owner::Instant);
        story.kill();
        story.notice(Action::Terminate);
        story.aws.ready = true;
        story.start();
        story.run(100);
        assert_eq!(registrations_of_us(&story), 0);
        assert_eq!(story.saw(MilestoneKind::Arrived), 0);
    }

    #[test]
    fn gives_way_to_a_notice_at_any_moment_and_takes_place_once_that_is_withdrawn() {
        for owner in LIVE_ON {
            for moment in (0..12_000).step_by(500) {
                let mut story = arriving(owner);
                story.run(5);
                story.aws.ready = true;
                let end = story.now + moment;
                story.run_to(end);
                story.notice(Action::Terminate);
                story.run(30);
                assert!(story.aws.places().is_empty(), "{owner:?} at {moment} {}", story.tale());
                story.withdraw();
                story.run(60).is_as_before();
            }
        }
    }

    #[test]
    fn takes_place_though_the_notice_came_before_the_application_was_ready() {
        let mut story = arriving(Owner::Instant);
        story.run(10).notice(Action::Terminate);
        story.run(30).withdraw();
        story.run(30);
        story.aws.ready = true;
        story.run(60).is_as_before();
    }

    #[test]
    fn takes_place_beside_a_recommendation_that_leads_to_nothing() {
        let mut story = Story::with(Owner::Nobody, |config| {
            arrives(config);
            hands_over_on_recommendation(config);
        });
        story.aws.leave_everywhere();
        story.recommend();
        story.run(120).is_as_before();
        story.restart();
        story.aws.leave_everywhere();
        story.run(120).is_as_before();
    }

    #[test]
    fn is_no_way_back_for_what_its_group_terminates() {
        for owner in [Owner::Detach, Owner::Hook] {
            let mut story = Story::with(owner, arrives);
            story.run(30);
            let registrations = registrations_of_us(&story);
            let now = story.now;
            story.aws.group_terminates(now);
            for _ in 0..5 {
                story.run(5).restart();
            }
            assert_eq!(registrations_of_us(&story), registrations, "{owner:?}");
        }
    }
}
