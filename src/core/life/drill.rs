//! A drill is a handover that a person asks for, of an instance that nobody takes. Its signal stands as long as this
//! process wants. When the handover is over, or the drill is called off, this instance is a survivor and goes back.

use std::time::Duration;

use super::Life;
use super::begin::Beginning;
use crate::core::model::{BootInstant, Signal};

impl Life {
    /// Hands over as soon as a look at the metadata has shown that nothing real is announced.
    pub fn drill(&mut self, within: Duration) {
        self.drill_within = Some(within);
        self.sight.drill_stands = true;
    }

    /// Ends the drill where it is: what was done is put back.
    pub fn call_off_drill(&mut self) {
        self.drill_within = None;
        self.sight.drill_stands = false;
    }

    /// Tells whether a drill has begun, is not put back yet, and has not become real.
    pub fn is_drilling(&self) -> bool {
        self.incident_of_this_boot().is_some_and(|incident| incident.signal == Signal::Drill && !incident.is_closed())
    }

    /// Tells whether an instance that went back is wherever it was before.
    pub fn is_wholly_back(&self) -> bool {
        self.is_wholly_back
    }

    pub(super) fn begin_drill(&mut self, now: BootInstant) {
        let busy = self.handover().is_some() || self.arrival.is_some() || self.sight.is_terminating();
        if busy || self.open_incident().is_some() || !self.sight.notice_absent.has_begun() {
            return;
        }
        let Some((within, aws_now)) = self.drill_within.zip(self.aws_now(now)) else { return };
        self.drill_within = None;
        self.begin_handover(Beginning {
            signal: Signal::Drill,
            action: None,
            time: None,
            event: None,
            deadline: now + within,
            first_signal: aws_now,
            aws_now,
            now,
        });
    }
}
