//! The capacity of a `maintain` fleet that a handover raised and may not have put back: looked at until it is back.

use std::time::Duration;

use super::first_failure;
use crate::core::handover::{Answer, Call, Pace};
use crate::core::model::BootInstant;
use crate::core::plan::{FleetKind, FleetRequest, Plan};
use crate::core::retry::Failure;

/// A raise that was under way may land on what was put back: it has to be seen twice, so far apart.
const SEEN_TWICE_AFTER: Duration = Duration::from_secs(4);
/// The pauses while another member is under notice, or AWS still shows this one so.
const PAUSES: [u64; 5] = [2, 5, 10, 30, 60];

pub(super) struct Capacity {
    kind: FleetKind,
    fleet_id: String,
    seen_back: u8,
    looks: usize,
    pace: Pace,
}

impl Capacity {
    pub(super) fn of(plan: &Plan, pace: Pace) -> Option<Capacity> {
        match plan {
            Plan::Fleet { kind, fleet, how: FleetRequest::Raise } => {
                Some(Capacity { kind: *kind, fleet_id: fleet.id.clone(), seen_back: 0, looks: 0, pace })
            }
            _ => None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.seen_back >= 2
    }

    pub(super) fn first_failure(&self) -> Option<Failure> {
        first_failure(&self.pace)
    }

    pub(super) fn due(&mut self, now: BootInstant) -> Option<Call> {
        let begin = !self.is_done() && self.pace.begin(now);
        begin.then(|| Call::PutCapacityBack { kind: self.kind, fleet_id: self.fleet_id.clone() })
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        match answer {
            Answer::Capacity { is_back: true } => {
                self.seen_back += 1;
                self.pace.succeeded(now + SEEN_TWICE_AFTER);
            }
            Answer::Capacity { is_back: false } => {
                self.seen_back = 0;
                let pause = PAUSES.get(self.looks).or(PAUSES.last()).copied().unwrap_or_default();
                self.looks += 1;
                self.pace.succeeded(now + Duration::from_secs(pause));
            }
            other => self.pace.failed_at_leisure(now, other),
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.is_done() { None } else { self.pace.wake() }
    }
}
