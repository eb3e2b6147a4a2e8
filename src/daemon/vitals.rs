//! The daemon's word to systemd's watchdog, and when the process is given up.

use tracing::warn;

use super::{Daemon, Purpose};
use crate::core::handover::Handover;
use crate::core::life::Life;
use crate::core::notice::TWO_MINUTES;
use crate::core::watchdog::{Sign, Vitals};
use crate::host::boot;

impl Daemon {
    /// At every pass of the loop; one that stands still says nothing by itself.
    pub(super) fn feed_the_watchdog(&mut self) {
        let vitals = self.vitals();
        let Some(watchdog) = &mut self.watchdog else { return };
        match watchdog.sign(boot::now(), vitals) {
            Sign::Alive => self.publisher.systemd().watchdog(),
            Sign::Silence => {}
            Sign::GivenUp(why) => {
                warn!("{why}: systemd's watchdog is no longer told that all is well, and will restart this program");
            }
        }
    }

    fn vitals(&self) -> Vitals {
        let call_until = self.purposes.values().filter_map(|purpose| match purpose {
            Purpose::Call { until, .. } => Some(*until),
            _ => None,
        });
        // One that only waits to know whose it is has begun too.
        let waiting = self.waiting.notice.filter(|(notice, _, _)| notice.is_some());
        let handover = self.life.as_ref().filter(|life| life.has_to_finish()).and_then(Life::handover);
        let handover_until = match handover.map(Handover::terms) {
            Some(terms) => Some(terms.deadline),
            None => waiting.map(|(_, _, at)| at + TWO_MINUTES),
        };
        Vitals { handover_until, call_until: call_until.min() }
    }
}
