//! A life in compressed time: interruptions that come and are withdrawn, recommendations, a metadata service in trouble. The
//! daemon does not grow. `SOAK_SECONDS` sets how long it goes on; `SOAK_SECONDS=1800` is the half hour that is taken by hand.

use std::time::{Duration, Instant};

use spot_relay::sim::{Fault, FaultKind, Nth, Owner, Settings};

use crate::scenario::{Daemon, SHORT, Scenario, eventually, target_group, world};

/// What the daemon holds, from `/proc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    resident_kib: u64,
    descriptors: usize,
    pub(crate) threads: u64,
}

pub(crate) fn held(daemon: &Daemon) -> Held {
    let folder = format!("/proc/{}", daemon.pid());
    let status = std::fs::read_to_string(format!("{folder}/status")).expect("the daemon lives");
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };
    let descriptors = std::fs::read_dir(format!("{folder}/fd")).expect("its descriptors").count();
    Held { resident_kib: number("VmRSS:"), descriptors, threads: number("Threads:") }
}

/// One interruption that is withdrawn, a recommendation, and a metadata service that fails in between.
fn round(scenario: &Scenario, number: usize) {
    scenario.sim.notice("terminate", Duration::from_secs(120));
    eventually(|| (!scenario.serves("web")).then_some(())).expect("it leaves");
    scenario.sim.remove_notice();
    let kind = if number.is_multiple_of(2) { FaultKind::Hang } else { FaultKind::Drop };
    scenario.sim.fault(Fault { service: None, action: "spot/instance-action".to_owned(), nth: Nth::First(2), kind });
    eventually(|| scenario.serves("web").then_some(())).expect("it comes back");
    scenario.sim.clear_faults();
    scenario.sim.expire_tokens();
    scenario.sim.rebalance();
    std::thread::sleep(Duration::from_millis(500));
    scenario.sim.end_rebalance();
}

#[test]
fn a_life_of_interruptions_that_come_to_nothing_does_not_grow() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let settings = Settings { owner: Owner::Nobody, target_groups: vec![target_group("web", &[61_080])], ..world() };
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings }).config(SHORT);
    let daemon = scenario.ready();
    round(&scenario, 0);
    let (began, first) = (Instant::now(), held(&daemon));
    let mut rounds = 1;
    while began.elapsed() < Duration::from_secs(seconds) {
        round(&scenario, rounds);
        rounds += 1;
    }
    let last = held(&daemon);
    eprintln!("{rounds} rounds in {:?}: {first:?} became {last:?}", began.elapsed());
    assert!(rounds > 2, "it went on");
    // Allocators keep what was freed, once; a leak grows with the rounds.
    assert!(last.resident_kib < first.resident_kib + 4096, "{first:?} became {last:?} after {rounds} rounds");
    assert!(last.descriptors <= first.descriptors + 4, "{first:?} became {last:?} after {rounds} rounds");
    assert!(last.threads <= first.threads + 3, "{first:?} became {last:?} after {rounds} rounds");
}
