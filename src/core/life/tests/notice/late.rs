//! A notice that was survived, that comes again, or that a process sees which came late.

use super::*;

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
                let looks = |call: &Call| matches!(call, Call::DescribeAutoScalingGroup { .. });
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

#[test]
fn a_thousand_times_shown_and_withdrawn_is_one_incident_of_a_bounded_size() {
    let mut story = Story::with(Owner::Nobody, |config| config.leave.when = When::AtOnce);
    story.run(10).notice(Action::Terminate);
    story.run_until(|story| story.aws.places().is_empty());
    let first = story.record().expect("a record");
    for round in 1..=1_000 {
        story.withdraw();
        story.run_until(|story| story.life().arrival().is_none() && !story.aws.places().is_empty());
        story.notice(Action::Terminate);
        story.run_until(|story| story.aws.places().is_empty());
        assert_eq!(story.saw(MilestoneKind::Noticed), 1 + round, "each is told once");
    }
    let last = story.record().expect("a record");
    assert_eq!(last.id, first.id, "a time that shifts by seconds is the same interruption");
    assert!(last.milestones.len() < 150, "{}", last.milestones.len());
    assert_eq!(last.milestones.first(), first.milestones.first(), "how it began stays known");
    let newest: Vec<_> = story.milestones.iter().rev().take(20).map(|(_, milestone)| milestone).collect();
    assert_eq!(last.milestones.iter().rev().take(20).collect::<Vec<_>>(), newest, "and how it stands");
    story.withdraw();
    story.run(60).is_as_before();
}

/// The instances that the milestones of the last incident name as successors.
fn successors(story: &Story) -> Vec<String> {
    let record = story.record().expect("a record");
    record.successors().iter().map(ToString::to_string).collect()
}

#[test]
fn again_after_one_whose_record_is_lost_has_a_successor_of_its_own() {
    // Killed so many milliseconds after the second notice, and without a record again.
    for killed in [None, Some(200), Some(600), Some(1_100), Some(1_900), Some(2_600), Some(9_000)] {
        for owner in [Owner::Instant, Owner::Detach] {
            let mut story = noticed(owner, 40);
            story.withdraw();
            story.run(120).is_as_before();
            for lost in 2..4 {
                story.kill();
                story.lose_record();
                story.start();
                story.run(if lost == 2 { 3 } else { 15 }).notice(Action::Terminate);
                story.exchanges(vec![(Fate::Fine, 700); 40]);
                if let Some(killed) = killed {
                    let end = story.now + killed;
                    story.run_to(end);
                    story.kill();
                    story.lose_record();
                    story.start();
                }
                story.run(100);
                let case = format!("{owner:?} {killed:?} {lost}: {}", story.tale());
                assert_eq!(story.launched(), lost, "{case}");
                assert!(is_complete(&story) && story.aws.places().is_empty(), "{case}");
                assert_eq!(successors(&story).last(), Some(&format!("i-new{}", lost - 1)), "{case}");
                story.withdraw();
                story.run(200);
            }
        }
    }
}

#[test]
fn whose_time_shifts_and_whose_record_is_lost_has_one_successor() {
    for shift in [-100_000, -40_000, 0, 40_000, 100_000] {
        for killed in [1, 5, 20, 60] {
            let mut story = noticed(Owner::Instant, killed);
            story.kill();
            story.lose_record();
            story.shift(shift, Action::Terminate);
            story.start();
            story.run(100);
            assert_eq!(story.launched(), 1, "{shift} {killed}: {}", story.tale());
        }
    }
}

#[test]
fn again_within_seconds_has_its_own_successor_though_the_process_is_killed_while_it_is_launched() {
    for owner in [Owner::Instant, Owner::Detach, Owner::Rebalance] {
        for killed in [None, Some(1_100), Some(1_600), Some(2_500), Some(4_000)] {
            let mut story = noticed(owner, 9);
            story.withdraw();
            story.run_until(|story| closed(story) == Some(Closed::Reinstated));
            assert!(story.now < 35_000, "within the time by which clocks may differ: {}", story.tale());
            story.run(2).notice(Action::Terminate);
            story.exchanges(vec![(Fate::Fine, 1_200); 12]);
            if let Some(killed) = killed {
                let end = story.now + killed;
                story.run_to(end);
                story.restart();
            }
            story.run(100);
            let case = format!("{owner:?} {killed:?}: {}", story.tale());
            assert_eq!(story.launched(), 2, "{case}");
            assert!(is_complete(&story), "{case}");
            assert_eq!(successors(&story), ["i-new1"], "{case}");
        }
    }
}

#[test]
fn that_stands_at_the_first_start_has_a_successor_beside_what_its_group_launched_before_it() {
    for before in [2, 25] {
        let mut story = Story::of(Owner::Detach);
        story.run(100).kill();
        story.aws.desired += 1;
        story.run(before).notice(Action::Terminate);
        story.run(3).start();
        story.run(115);
        // One of them is for the group's new size.
        assert!(story.launched() == 2 && story.aws.desired == 4, "{before}: {}", story.tale());
    }
}
