//! What is told of an unfinished handover while its machine still lives.

use super::*;

/// When it is told, in milliseconds, and how.
fn unfinished(owner: Owner, plan: Plan, change: fn(&mut Run)) -> Vec<(u64, String)> {
    let mut run = Run::new(owner, &VICTIM, plan, Vec::new());
    change(&mut run);
    run.run(&[]).remarks.into_iter().filter(|(_, told)| told.starts_with("not done yet")).collect()
}

#[test]
fn a_successor_that_is_not_healthy_is_told_of_once_when_the_reserve_is_reached() {
    let told = unfinished(Owner::Detach, detach(), |run| run.aws.healthy_after = 300_000);
    assert_eq!(
        told,
        [(
            111_000,
            "not done yet: successor in web: registered, not seen healthy yet; successor in api: registered, not seen healthy \
             yet; the load balancer goes on looking at successor i-new0"
                .to_owned()
        )]
    );
}

#[test]
fn whoever_sees_to_a_successor_that_was_not_launched_is_named() {
    for (plan, then) in [
        (detach(), "group shop-asg replaces this instance once it is gone"),
        (raise(), "fleet-1 replaces this instance once it is gone"),
        (launch_plan(), "nobody launches a successor afterwards: launch one by hand"),
    ] {
        let known =
            LookedUp { registrations: Some(registrations("i-victim")), plan: Some(plan), ..LookedUp::default() };
        let mut handover =
            Handover::begin(incident_of("i-victim", Action::Terminate, 120_000), at_once(), known, at(0));
        let mut told = Vec::new();
        for now in (0..115_000).step_by(100) {
            for due in handover.due(at(now)) {
                handover.answered(at(now), due.duty, Answer::Failed(aws::denied()));
            }
            told.extend(handover.take_remark().filter(|told| told.starts_with("not done yet")));
        }
        assert!(told.len() == 1 && told[0].ends_with(then), "{then}: {told:?}");
    }
}

#[test]
fn of_what_is_done_in_time_nothing_is_told() {
    for (owner, plan) in [(Owner::Detach, detach()), (Owner::Maintain, raise()), (Owner::Instant, launch_plan())] {
        assert_eq!(unfinished(owner, plan, |_| {}), []);
    }
}
