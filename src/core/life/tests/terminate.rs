//! `[survive] then = "terminate"`.

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
