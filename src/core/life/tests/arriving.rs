//! An instance that comes into service at its boot.

use super::*;
use crate::core::handover::tests::at;
use crate::core::handover::tests::aws::time;

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

#[test]
fn does_not_begin_because_the_metadata_once_does_not_tell_the_state_in_which_the_group_holds_it() {
    for state in ["Warmed:Running", "Standby"] {
        let mut config = Config::default();
        arrives(&mut config);
        let mut life = Life::new(identity_of("i-us"), "boot".into(), config, false, None);
        let looks = [(1, Some(state), false), (6, None, false), (11, Some(state), false), (16, None, false)];
        for (second, shown, is_to_arrive) in looks.into_iter().chain([(21, None, false), (26, None, true)]) {
            let now = at(second * 1_000);
            life.saw_notice(None, time(second * 1_000), now);
            life.saw_lifecycle_state(shown, now);
            life.due(now);
            assert_eq!(life.arrival().is_some(), is_to_arrive, "{state} at {second} s");
        }
    }
}
