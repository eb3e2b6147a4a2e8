//! Puts back the capacity of a `maintain` fleet that a handover raised, and looks at it until it is back.

use std::time::Duration;

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::plan::{FleetKind, FleetRequest, Plan};
use crate::core::retry::growing;

/// The time between the two looks that must both show the base: a raise under way may still take effect.
const SEEN_TWICE_AFTER: Duration = Duration::from_secs(4);
/// The pauses while another member is under notice, or AWS still shows this one as under notice.
const PAUSES: [u64; 5] = [2, 5, 10, 30, 60];

pub(super) struct PutCapacityBack {
    kind: FleetKind,
    fleet_id: String,
    was_seen_back: bool,
    looks: usize,
    attempts: Attempts,
}

impl PutCapacityBack {
    pub(super) fn of(plan: &Plan, attempts: Attempts) -> Option<PutCapacityBack> {
        match plan {
            Plan::Fleet { kind, fleet, how: FleetRequest::Raise } => Some(PutCapacityBack {
                kind: *kind,
                fleet_id: fleet.id.clone(),
                was_seen_back: false,
                looks: 0,
                attempts,
            }),
            _ => None,
        }
    }
}

impl Duty<ComingBack> for PutCapacityBack {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        Some(Call::PutCapacityBack { kind: self.kind, fleet_id: self.fleet_id.clone() })
    }

    fn take(&mut self, situation: &mut Situation, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        match answer {
            Answer::Capacity { is_back: true } if self.was_seen_back => self.attempts.end(),
            Answer::Capacity { is_back: true } => {
                self.was_seen_back = true;
                self.attempts.succeeded(now + SEEN_TWICE_AFTER);
            }
            Answer::Capacity { is_back: false } => {
                self.was_seen_back = false;
                let pause = growing(&PAUSES, self.looks);
                self.looks += 1;
                self.attempts.succeeded(now + pause);
            }
            other => return Err(other),
        }
        Ok(News::default())
    }
}
