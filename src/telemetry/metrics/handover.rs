//! The gauges of the last handover: the seconds to each milestone, and the seconds left at its end.
//!
//! They are `NaN` for milestones that the last handover has not reached.

use std::sync::{Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec};

use super::registrar::Registrar;
use crate::core::model::{BootInstant, Milestone, MilestoneKind};

pub(super) struct HandoverGauges {
    milestone: GaugeVec,
    left: Gauge,
    /// The time at which the last handover began.
    begun: Mutex<Option<BootInstant>>,
}

impl HandoverGauges {
    pub(super) fn new(register: &Registrar) -> prometheus::Result<HandoverGauges> {
        let gauges = HandoverGauges {
            milestone: register.gauges(
                "spot_relay_handover_milestone_seconds",
                "Seconds from the signal to each milestone of the last handover, to the last one where it has several; NaN \
                 if not reached.",
                &["milestone"],
            )?,
            left: register.gauge(
                "spot_relay_handover_left_seconds",
                "Seconds that were left to the deadline when the last handover ended; NaN before.",
            )?,
            begun: Mutex::default(),
        };
        gauges.forget();
        Ok(gauges)
    }

    /// Records a milestone of the handover that began at `begun`, if it belongs to one.
    pub(super) fn reached(&self, milestone: &Milestone, begun: Option<BootInstant>) {
        let kind = milestone.milestone;
        let Some(begun) = begun.filter(|_| is_of_a_handover(kind)) else { return };
        let last = self.begun.lock().unwrap_or_else(PoisonError::into_inner).replace(begun);
        if last != Some(begun) {
            self.forget();
        }
        let after = milestone.at.since(begun).as_secs_f64();
        self.milestone.with_label_values(&[kind.as_str()]).set(after);
        if let (MilestoneKind::HandedOver, Some(left)) = (kind, milestone.left) {
            self.left.set(left.as_secs_f64());
        }
    }

    fn forget(&self) {
        for milestone in MilestoneKind::ALL.into_iter().filter(|milestone| is_of_a_handover(*milestone)) {
            self.milestone.with_label_values(&[milestone.as_str()]).set(f64::NAN);
        }
        self.left.set(f64::NAN);
    }
}

/// A recommendation may lead to no handover, and an arrival is not part of one.
fn is_of_a_handover(milestone: MilestoneKind) -> bool {
    !matches!(milestone, MilestoneKind::Recommended | MilestoneKind::Arrived)
}
