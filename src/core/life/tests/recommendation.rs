//! A rebalance recommendation, prepared for or handed over for.

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
fn that_gave_up_is_followed_by_the_notice_and_nobody_elses_launch_is_taken_for_ours() {
    let mut story = Story::with(Owner::Detach, hands_over_on_recommendation);
    story.aws.max = 3;
    story.run(10).recommend();
    story.run(100);
    // An operator scales out by one, or a fellow has launched its own.
    (story.aws.max, story.aws.desired) = (4, 4);
    story.run(20).notice(Action::Terminate);
    story.run(100);
    assert_eq!((story.launched(), story.aws.desired), (2, 4), "{}", story.tale());
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

/// Somebody has registered this instance again after its handover, or its successor has died: AWS is asked, not believed.
pub(super) fn is_looked_into_at_a_notice(announced: impl Fn(Owner) -> Story) {
    for owner in [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant] {
        for again in [false, true] {
            let mut story = announced(owner);
            story.run_until(is_complete);
            story.run(5);
            if again {
                story.aws.is_put_back();
            }
            story.notice(Action::Terminate);
            story.run(100);
            assert!(story.aws.places().is_empty(), "{owner:?} {}", story.tale());
            assert!(is_complete(&story), "{owner:?} {}", story.tale());
            assert_eq!(story.launched(), 1, "{owner:?} {}", story.tale());
            is_told_once(&story);
        }
    }
    let mut story = announced(Owner::Instant);
    story.run_until(is_complete);
    story.aws.loses_its_successor();
    story.run(5).notice(Action::Terminate);
    story.run(100);
    assert!(is_complete(&story), "{}", story.tale());
    assert_eq!(story.launched(), 2, "{}", story.tale());
    is_told_once(&story);
    assert!(story.record().is_some_and(|record| record.successors().len() == 2), "{}", story.tale());
}

#[test]
fn that_is_handed_over_for_stays_as_it_was_told_when_the_notice_finds_nothing_changed() {
    for owner in [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant] {
        let mut story = recommended(owner);
        story.run_until(is_complete);
        let before = story.record().and_then(|record| record.outcome);
        story.run(5).notice(Action::Terminate);
        story.run(100);
        assert!(is_complete(&story) && story.saw(MilestoneKind::Noticed) == 1, "{owner:?} {}", story.tale());
        assert_eq!(story.record().and_then(|record| record.outcome), before, "{owner:?} {}", story.tale());
    }
}

/// One handover, though two signals tell of it: what is still so at the second one is told no more.
fn is_told_once(story: &Story) {
    let told = story.milestones.iter().map(|(_, told)| told).filter(|told| told.milestone != MilestoneKind::Noticed);
    let told: Vec<_> = told.map(|told| (told.milestone, &told.target_group, &told.successor_id)).collect();
    let once: std::collections::BTreeSet<_> = told.iter().map(|told| format!("{told:?}")).collect();
    assert_eq!(told.len(), once.len(), "{}", story.tale());
    assert_eq!(story.saw(MilestoneKind::HandedOver), 1, "{}", story.tale());
    let noticed = story.milestones.iter().rev().find(|(_, told)| told.milestone == MilestoneKind::Noticed);
    let words = noticed.map(|(_, told)| told.message.as_str()).unwrap_or_default();
    assert!(words.contains("which has handed over already"), "{words}");
}

#[test]
fn that_is_handed_over_for_is_looked_into_once_more_at_the_notice() {
    is_looked_into_at_a_notice(recommended);
}

#[test]
fn a_reboot_in_the_midst_of_it_is_no_other_recommendation() {
    for owner in LIVE_ON {
        for after in [6, 8, 12, 30, 100] {
            let mut story = recommended(owner);
            story.run(after).boot_anew(10);
            story.run(100);
            assert_eq!(story.launched(), successors_of(owner), "{owner:?} {after} s: {}", story.tale());
            story.recommend_no_more();
            story.run(400).is_as_before();
            assert_eq!(story.launched(), successors_of(owner), "{owner:?} {after} s: {}", story.tale());
        }
    }
}
