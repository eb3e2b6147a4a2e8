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

/// The text that is told where AWS takes every call and shows no successor.
fn without_a_successor_in_sight(plan: Plan) -> String {
    let known = LookedUp { registrations: Some(registrations("i-victim")), plan: Some(plan), ..LookedUp::default() };
    let mut handover = Handover::begin(incident_of("i-victim", Action::Terminate, 120_000), at_once(), known, at(0));
    let mut told = Vec::new();
    for now in (0..115_000).step_by(100) {
        for due in handover.due(at(now)) {
            let answer = match due.call {
                Call::CreateFleet { .. } => Answer::Launched(Launched::new([id("i-new0")].into_iter(), [].into_iter())),
                Call::DescribeInstances { .. } => Answer::Instances(Vec::new()),
                Call::DetachInstances { .. } => Answer::Accepted,
                _ => Answer::Failed(aws::denied()),
            };
            handover.answered(at(now), due.duty, answer);
        }
        told.extend(handover.take_remark().filter(|told| told.starts_with("not done yet")));
    }
    told.join("\n")
}

/// This instance is no member any more, so its end moves the group to nothing.
#[test]
fn a_group_that_has_let_this_instance_go_launches_by_its_size() {
    let told = without_a_successor_in_sight(detach());
    assert!(
        told.ends_with("; group shop-asg does not count this instance any more, and launches what it lacks"),
        "{told}"
    );
}

#[test]
fn a_successor_that_aws_does_not_show_is_reported_as_not_seen() {
    let told = without_a_successor_in_sight(launch_plan());
    assert!(told.contains("successor: i-new0 has not been seen running; "), "{told}");
}

#[test]
fn of_what_is_done_in_time_nothing_is_told() {
    for (owner, plan) in [(Owner::Detach, detach()), (Owner::Maintain, raise()), (Owner::Instant, launch_plan())] {
        assert_eq!(unfinished(owner, plan, |_| {}), []);
    }
}
