//! The daemon's word to systemd's watchdog, and when the process is given up.

use tracing::warn;

use super::Daemon;
use super::events::Purpose;
use crate::core::life::Life;
use crate::core::notice::TWO_MINUTES;
use crate::core::watchdog::{Deadlines, Sign};
use crate::host::boot;

impl Daemon {
    /// Tells systemd at every pass of the loop that the daemon is alive; a loop that stands still says nothing by
    /// itself.
    pub(super) fn feed_the_watchdog(&mut self) {
        let deadlines = self.deadlines();
        let Some(watchdog) = &mut self.watchdog else { return };
        match watchdog.sign(boot::now(), deadlines) {
            Sign::Alive => self.publisher.systemd().watchdog(),
            Sign::Silence => {}
            Sign::GivenUp(why) => {
                warn!("{why}: spot-relay stops answering systemd's watchdog, which will restart it");
            }
        }
    }

    fn deadlines(&self) -> Deadlines {
        let call_until = self.purposes.values().filter_map(|purpose| match purpose {
            Purpose::Call { until, .. } => Some(*until),
            _ => None,
        });
        // A notice that waits for the identity counts as a handover that has begun.
        let waiting = self.early_signals.notice.filter(|(notice, _, _)| notice.is_some());
        let handover = self.life.as_ref().filter(|life| life.has_to_finish()).and_then(Life::handover);
        let handover_until = match handover {
            Some(handover) => handover.ends_by(),
            None => waiting.map(|(_, _, at)| at + TWO_MINUTES),
        };
        Deadlines { handover_until, call_until: call_until.min() }
    }
}
