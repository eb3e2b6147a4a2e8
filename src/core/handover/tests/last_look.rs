//! Before the end everything that was seen is looked at once more: what is not so any more is done again, or named.

use super::*;

/// A launch template's victim that leaves at once and is quiet 20 s later; others do this meanwhile.
fn meanwhile(others: &[(u64, Act)]) -> Run {
    let mut run = Run::new(Owner::Instant, &VICTIM, launch_plan(), Vec::new());
    run.settings = at_once();
    run.others = others.to_vec();
    run.run(&[])
}

fn put_back(aws: &mut Aws) {
    aws.targets.insert((WEB, "i-victim".into(), 80));
}

fn fall_ill(aws: &mut Aws) {
    aws.sick.insert("i-new0".into());
}

fn take_successor_out(aws: &mut Aws) {
    aws.targets.retain(|(_, target, _)| target != "i-new0");
}

fn undone(run: &Run) -> Vec<String> {
    let undone = run.outcome(0).duties.iter().filter(|duty| !duty.done);
    undone.map(|duty| format!("{}: {}", duty.duty, duty.what)).collect()
}

/// The looks at health after this instant, by target group and how many targets they name.
fn looks_since(run: &Run, since: u64) -> Vec<(String, usize)> {
    let look = |(at, _, call): &(u64, usize, Call)| match call {
        Call::DescribeTargetHealth { target_group, targets, .. } if *at > since => {
            Some((target_group.name().to_owned(), targets.len()))
        }
        _ => None,
    };
    run.calls.iter().filter_map(look).collect()
}

#[test]
fn one_call_a_target_group_names_our_targets_and_the_successors() {
    let run = meanwhile(&[]);
    assert!(run.outcome(0).complete);
    assert_eq!(looks_since(&run, 15_000), [("web".to_owned(), 2), ("api".to_owned(), 4)]);
    let left: Vec<&DutyReport> = run.outcome(0).duties.iter().filter(|duty| duty.duty.starts_with("leave")).collect();
    let is_early =
        |duty: &&DutyReport| duty.what.starts_with("left after 0.") || duty.what.starts_with("left after 1.");
    assert!(left.len() == 2 && left.iter().all(is_early), "when it left is told, not when it was seen again: {left:?}");
}

#[test]
fn a_proof_of_a_moment_ago_is_not_read_again() {
    let mut run = Run::new(Owner::Instant, &VICTIM, launch_plan(), Vec::new());
    run.settings = at_once();
    run.settings.leave.settle = Duration::from_secs(5);
    let run = run.run(&[]);
    let healthy = run.milestones.iter().rev().find(|it| it.milestone == MilestoneKind::SuccessorHealthy);
    let healthy = healthy.expect("it is healthy").at.since(at(0)).as_millis() as u64;
    assert!(run.outcome(0).complete);
    assert!(looks_since(&run, healthy).len() <= 2, "{:?}", looks_since(&run, healthy));
}

#[test]
fn an_instance_that_somebody_registers_again_is_deregistered_again() {
    let run = meanwhile(&[(12_000, put_back)]);
    assert_eq!(run.targets_of("i-victim"), 0);
    assert_eq!(run.aws.writes.iter().filter(|write| *write == "deregister web").count(), 2);
    assert_eq!(run.aws.writes.iter().filter(|write| *write == "deregister api").count(), 1);
    assert!(run.outcome(0).complete, "{:?}", undone(&run));
    let quiet = run.milestones.iter().rev().find(|it| it.milestone == MilestoneKind::Quiet).expect("it is quiet");
    assert!(quiet.at > at(40_000), "requests came again: they are waited for again, not as at {:?}", quiet.at);
}

#[test]
fn one_that_is_registered_again_and_again_is_told_as_it_is() {
    let others: Vec<(u64, Act)> = (12..121).map(|second| (second * 1_000, put_back as Act)).collect();
    let run = meanwhile(&others);
    assert!(!run.outcome(0).complete);
    assert!(undone(&run).iter().any(|it| it.starts_with("leave web")), "{:?}", undone(&run));
    assert!(run.aws.writes.iter().filter(|write| *write == "deregister web").count() < 15, "less and less often");
}

#[test]
fn a_successor_that_fell_ill_is_named() {
    let run = meanwhile(&[(12_000, fall_ill)]);
    assert!(!run.outcome(0).complete);
    let expected = "successor in web: i-new0 was healthy, and is not any more";
    assert!(undone(&run).iter().any(|it| it == expected), "{:?}", undone(&run));
}

#[test]
fn a_successor_that_recovers_is_followed_until_then() {
    let run = meanwhile(&[(12_000, fall_ill), (60_000, |aws| aws.sick.clear())]);
    assert!(run.outcome(0).complete, "{:?}", undone(&run));
    let end = run.milestones.last().expect("an end");
    assert!(end.at > at(60_000) && end.at < at(70_000), "{end:?}");
    let healthy = run.saw().iter().filter(|it| *it == "successor-healthy web").count();
    assert_eq!(healthy, 2, "{:?}", run.saw());
}

#[test]
fn a_successor_that_somebody_took_out_is_registered_again() {
    let run = meanwhile(&[(12_000, take_successor_out)]);
    assert!(run.outcome(0).complete, "{:?}", undone(&run));
    assert_eq!(run.targets_of("i-new0"), 3);
}

#[test]
fn a_successor_that_goes_itself_is_left_out_and_named() {
    let run = meanwhile(&[(12_000, |aws| {
        take_successor_out(aws);
        aws.goes("i-new0");
    })]);
    assert_eq!(run.targets_of("i-new0"), 0, "its own daemon has taken it out");
    assert!(!run.outcome(0).complete);
    assert!(undone(&run).iter().any(|it| it.contains("i-new0") && it.contains(LEAVING_TAG)), "{:?}", undone(&run));
}

#[test]
fn a_look_that_fails_holds_nothing_up_and_says_so() {
    let fails: [(Act, usize); 2] = [
        (|aws| aws.health_fails = Some(FailureKind::Throttled), 2),
        (|aws| aws.health_fails = Some(FailureKind::Fault), 6),
    ];
    for (fail, most) in fails {
        let run = meanwhile(&[(12_000, fail)]);
        assert!(run.outcome(0).complete, "{:?}", undone(&run));
        let end = run.milestones.last().expect("an end").at;
        assert!(end < at(40_000), "{end:?}");
        assert!(undone(&run).iter().all(|it| it.starts_with("last look at ") && it.contains("Rate exceeded")));
        assert!(!undone(&run).is_empty(), "what was not read is told");
        let looks = looks_since(&run, 12_000).len();
        assert!(looks <= most, "{looks} looks");
    }
}

fn dies_soon_after_the_end(aws: &mut Aws) {
    aws.loses_its_successor();
}

#[test]
fn a_successor_that_dies_after_the_end_is_replaced_while_there_is_time() {
    for (at, launches) in [(40_000, 2), (100_000, 1)] {
        let run = meanwhile(&[(at, dies_soon_after_the_end)]);
        assert_eq!(run.aws.launches.len(), launches, "dead at {at}");
        assert!(run.outcome(0).complete, "{:?}", undone(&run));
        let looks = |(made, _, call): &&(u64, usize, Call)| {
            *made > 30_000 && *made < 120_000 && matches!(call, Call::DescribeInstances { .. })
        };
        let looks = run.calls.iter().filter(looks).count();
        assert!((1..=8).contains(&looks), "{looks} looks after the end");
        assert_eq!(run.milestones.iter().filter(|it| it.milestone == MilestoneKind::HandedOver).count(), launches);
    }
}
