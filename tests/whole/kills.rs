//! Survives itself: killed at each call and at each reply of a handover, and started again, it comes to the same end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use spot_relay::core::retry;
use spot_relay::sim::{FleetType, Owner, RequestMoment, Settings};

use crate::scenario::{SHORT, Scenario, drained_soon, eventually, target_group, world};

/// Worlds at once; they mostly wait.
const AT_ONCE: usize = 6;

fn settings(owner: Owner) -> Settings {
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    // Launched by the group or by a Spot Fleet: those register by themselves.
    drained_soon(Settings { owner, target_groups: vec![group], max_size: Some(9), ..world() })
}

/// How many calls to AWS a handover makes, the notice being the start.
fn calls_of_a_handover(owner: &Owner, config: &str) -> u32 {
    let scenario = Scenario::new(settings(owner.clone())).config(config);
    let daemon = scenario.ready();
    let before = scenario.aws_requests().len();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    u32::try_from(scenario.aws_requests().len() - before).expect("a small number")
}

/// Kills the daemon at the `nth` call after the notice, at its arrival or when it is done; starts it again; and checks.
fn kill_at(owner: &Owner, config: &str, nth: u32, moment: RequestMoment) {
    let scenario = Scenario::new(settings(owner.clone())).config(config);
    let mut daemon = scenario.ready();
    let (pid, count) = (daemon.pid(), Arc::new(AtomicU32::new(0)));
    let counter = count.clone();
    scenario.sim.on_request(move |request, at| {
        if request.service == "metadata" || at != moment {
            return;
        }
        if counter.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    });
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let context = format!("{owner:?} killed at call {nth} ({moment:?})");
    let mut ended = || daemon.has_ended() || daemon.milestone_names().contains(&"handed-over".to_owned());
    eventually(|| ended().then_some(())).expect("it dies or hands over");
    if count.load(Ordering::SeqCst) < nth {
        // This time the handover took fewer looks at the successor's health.
        assert!(!daemon.has_ended(), "{context}: the daemon died of something else");
        return scenario.assert_handed_over(&["web"], &context);
    }
    daemon.wait();
    scenario.sim.on_request(|_, _| {});
    let again = scenario.start();
    again.wait_for("handed-over");
    scenario.assert_handed_over(&["web"], &format!("{context}\n{}", again.lines().join("\n")));
    let targets = scenario.sim.targets("web");
    let successor = scenario.sim.successors().remove(0);
    let registered = targets.iter().any(|(id, _, _)| *id == successor);
    assert!(registered, "{context}: the successor is registered: {targets:?}\n{}", again.lines().join("\n"));
    assert_base(&scenario, &context);
}

/// A fleet's capacity is as it was.
fn assert_base(scenario: &Scenario, context: &str) {
    for fleet in scenario.sim.snapshot()["fleets"].as_array().into_iter().flatten() {
        if fleet["type"] == "maintain" {
            assert_eq!(fleet["target"], 3, "{context}: {fleet}");
        }
    }
}

fn check(owner: Owner, config: &str) {
    let calls = calls_of_a_handover(&owner, config);
    let moments = [RequestMoment::Arrived, RequestMoment::Done];
    let cases: Vec<(u32, RequestMoment)> = (1..=calls).flat_map(|nth| moments.map(|moment| (nth, moment))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((nth, moment)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    kill_at(&owner, config, *nth, *moment);
                }
            });
        }
    });
}

#[test]
fn an_auto_scaling_group_that_is_left_by_detaching() {
    check(Owner::auto_scaling_group(), SHORT);
}

#[test]
fn an_auto_scaling_group_with_a_termination_hook() {
    check(Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false }, SHORT);
}

#[test]
fn an_auto_scaling_group_that_launches_first() {
    check(Owner::auto_scaling_group(), &format!("{SHORT}when = \"successor-healthy\"\n"));
}

#[test]
fn a_maintain_ec2_fleet() {
    check(Owner::ec2_fleet(FleetType::Maintain), SHORT);
}

#[test]
fn a_maintain_spot_fleet() {
    check(Owner::spot_fleet(FleetType::Maintain), SHORT);
}

#[test]
fn an_instant_ec2_fleet() {
    check(Owner::ec2_fleet(FleetType::Instant), SHORT);
}

#[test]
fn a_launch_template() {
    check(Owner::LaunchTemplate, SHORT);
}

/// Kills the daemon one to four times at random instants of one handover, half the times with its state lost, as of a machine that
/// stopped, and starts it again. The number decides everything that is random.
fn kill_at_random(number: usize) {
    let chance = |what: &str| retry::fraction(retry::seed(&format!("random kill {number} {what}")));
    let pick = |what: &str, count: usize| (chance(what) * count as f64) as usize % count;
    let owners = [
        Owner::auto_scaling_group(),
        Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false },
        Owner::ec2_fleet(FleetType::Maintain),
        Owner::spot_fleet(FleetType::Maintain),
        Owner::ec2_fleet(FleetType::Instant),
        Owner::LaunchTemplate,
    ];
    let owner = owners.into_iter().nth(pick("owner", 6)).expect("an owner");
    let when = ["auto", "at-once", "successor-healthy"].into_iter().nth(pick("when", 3)).expect("a word");
    let scenario = Scenario::new(settings(owner.clone())).config(&format!("{SHORT}when = \"{when}\"\n"));
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let mut context = format!("handover {number} of {owner:?}, when = {when:?}");
    for kill in 0..=pick("kills", 4) {
        let pause = Duration::from_secs(4).mul_f64(chance(&format!("pause {kill}")).powi(2));
        std::thread::sleep(pause);
        daemon.kill();
        let is_lost = chance(&format!("lost {kill}")) < 0.5;
        if is_lost {
            let _ = std::fs::remove_dir_all(scenario.directory().join("state"));
        }
        context += &format!(", killed after {pause:?}{}", if is_lost { " with its state lost" } else { "" });
        daemon = scenario.start();
    }
    // The process before the last one may have ended it; then the last one waits for AWS.
    let is_over = || daemon.record_now().is_some_and(|record| !record["outcome"].is_null());
    let ended = eventually(|| is_over().then_some(()));
    context += &format!("\n{}", daemon.lines().join("\n"));
    assert!(ended.is_some(), "{context}: no end");
    scenario.assert_handed_over(&["web"], &context);
    assert_base(&scenario, &context);
}

/// `RANDOM_KILLS=1000` takes an hour.
#[test]
fn a_handover_that_is_killed_at_random_leaves_one_successor_and_nothing_registered_or_raised() {
    let handovers = std::env::var("RANDOM_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(18);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|number| *number < handovers)
                {
                    kill_at_random(number);
                }
            });
        }
    });
}
