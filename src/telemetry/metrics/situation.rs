//! The gauges for alerts: the registrations and the owner that the look-ups found, and the outcomes of handovers.
//!
//! The daemon makes the look-ups; before the first one the number of targets is `NaN`.

use prometheus::{Gauge, GaugeVec, IntCounterVec};

use super::registrar::Registrar;

/// The values of the label `owner`, as the configuration spells them.
const OWNERS: [&str; 5] = ["auto-scaling-group", "ec2-fleet", "spot-fleet", "launch-template", "none"];
const OUTCOMES: [&str; 2] = ["complete", "partial"];

pub(super) struct StandingGauges {
    handovers: IntCounterVec,
    targets: Gauge,
    owner: GaugeVec,
}

impl StandingGauges {
    pub(super) fn new(register: &Registrar) -> prometheus::Result<StandingGauges> {
        let situation = StandingGauges {
            handovers: register.counters(
                "spot_relay_handovers_total",
                "Handovers that ended, by outcome.",
                &["outcome"],
            )?,
            targets: register.gauge(
                "spot_relay_registered_targets",
                "Targets under which this instance is registered, by the last look-up; NaN before the first.",
            )?,
            owner: register.gauges(
                "spot_relay_owner",
                "1 for the owner that will be asked for a successor, by the last look-up; 0 for the others.",
                &["owner"],
            )?,
        };
        situation.targets.set(f64::NAN);
        for outcome in OUTCOMES {
            situation.handovers.with_label_values(&[outcome]);
        }
        for owner in OWNERS {
            situation.owner.with_label_values(&[owner]).set(0.0);
        }
        Ok(situation)
    }

    pub(super) fn handed_over(&self, outcome: &'static str) {
        self.handovers.with_label_values(&[outcome]).inc();
    }

    pub(super) fn registered(&self, targets: Option<usize>) {
        self.targets.set(targets.and_then(|targets| u32::try_from(targets).ok()).map_or(f64::NAN, f64::from));
    }

    /// Marks the owner, one of [`OWNERS`]; `None` before it is known.
    pub(super) fn owned_by(&self, owner: Option<&'static str>) {
        for one in OWNERS {
            self.owner.with_label_values(&[one]).set(if owner == Some(one) { 1.0 } else { 0.0 });
        }
    }
}
