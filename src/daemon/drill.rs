//! A drill as the daemon sees it: when it begins, and what ends it.
//!
//! Otherwise a drill is a daemon like any other: it watches and hands over, also if a real notice comes in the middle.

use tracing::{info, warn};

use super::Daemon;
use crate::host::boot;
use crate::host::signals::StopRequest;

impl Daemon {
    /// Begins the drill, if there is one: the identity is known now.
    pub(super) fn begin_drill(&mut self) {
        if let (Some(life), Some(drill)) = (&mut self.life, &self.options.drill) {
            // The survey has just looked everything up: nothing is asked again before the drill.
            life.learn(drill.known.clone(), true, boot::now());
            life.drill(drill.within);
        }
    }

    /// Tells whether everything is put back, even if the drill has become real meanwhile.
    pub(super) fn drill_is_over(&self) -> bool {
        let record = self.life.as_ref().and_then(|life| life.incident_to_write());
        self.options.drill.is_some() && record.is_some_and(|record| record.is_closed())
    }

    /// Takes a signal in a drill; returns whether to end at once. `None`: the signal is treated as in any daemon.
    pub(super) fn stop_drill(&mut self, asked: StopRequest) -> Option<bool> {
        self.options.drill.as_ref()?;
        let Some(life) = &mut self.life else { return Some(true) };
        if !life.is_drilling() {
            // The drill has not begun, and nothing is to be put back; or it has become real, and is finished first.
            return (!life.has_to_finish()).then_some(true);
        }
        if self.drill_is_called_off && asked == StopRequest::HangUp {
            return Some(false);
        }
        if self.drill_is_called_off {
            warn!(
                "ended by a second signal before everything was put back: this instance may be out of its target groups or its \
                 owner. Start the daemon now, which puts it back: systemctl start spot-relay"
            );
            return Some(true);
        }
        self.drill_is_called_off = true;
        life.call_off_drill();
        info!("the drill is called off: putting back what it has done; a second signal ends at once");
        Some(false)
    }
}
