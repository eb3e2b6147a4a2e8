//! The metadata's signals so far.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::incident::Takes;
use crate::core::model::{BootInstant, ScheduledEvent, Signal};
use crate::core::notice::Notice;

/// A signal is withdrawn after this many looks in a row without it, and this long after the first of them. One 404
/// among answers is a fault of the metadata, and so are ten of them within a second.
const LOOKS_THAT_WITHDRAW: u32 = 3;
const TIME_THAT_WITHDRAWS: Duration = Duration::from_secs(4);

/// A line for the log that is no milestone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    Info(String),
    Warn(String),
}

/// Looks in a row that did not show a signal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Absence {
    looks: u32,
    since: BootInstant,
    pub(super) lasted: Duration,
}

impl Absence {
    pub(super) fn goes_on(&mut self, at: BootInstant) {
        if self.looks == 0 {
            self.since = at;
        }
        self.looks = self.looks.saturating_add(1);
        self.lasted = at.since(self.since);
    }

    pub(super) fn ends(&mut self) {
        *self = Absence::default();
    }

    /// Tells whether the last look did not show the signal.
    pub(super) fn has_begun(&self) -> bool {
        self.looks > 0
    }

    pub(super) fn withdraws(&self) -> bool {
        self.looks >= LOOKS_THAT_WITHDRAW && self.lasted >= TIME_THAT_WITHDRAWS
    }
}

#[derive(Default)]
pub(super) struct Sight {
    /// AWS's time and the boot clock at the last look for the notice.
    pub(super) clocks: Option<(Timestamp, BootInstant)>,
    /// AWS's time was a mere guess by the wall clock: at the last look, and at the last one that showed a notice.
    pub(super) is_in_doubt: bool,
    pub(super) was_in_doubt: bool,
    pub(super) has_looked: bool,
    /// The notice that the last look showed.
    pub(super) notice: Option<Notice>,
    /// A look of this process was answered with 404.
    pub(super) absent_before: bool,
    /// The looks in a row that were answered with 404.
    pub(super) notice_absent: Absence,
    /// The last look of an absence that was too long for a fault of the metadata: no notice stood then.
    pub(super) absent_until: Option<BootInstant>,
    /// AWS's time of the recommendation that stands.
    pub(super) recommended: Option<Timestamp>,
    pub(super) recommendation_absent: Absence,
    /// The recommendation has been acted on, or is not to be.
    pub(super) recommendation_is_done: bool,
    pub(super) lifecycle_state: Option<String>,
    /// The looks in a row that were answered with 404 for the lifecycle state.
    pub(super) state_absent: Absence,
    /// The last lifecycle state that the metadata told; a later absence does not change it.
    pub(super) told_state: Option<String>,
    /// The metadata has told the lifecycle state, or that there is none.
    pub(super) knows_lifecycle: bool,
    /// The instant at which the group put this instance into service while a notice stood.
    pub(super) put_into_service_at: Option<BootInstant>,
    /// This process has seen this instance in service in its group.
    pub(super) was_in_service: bool,
    pub(super) group_takes: Option<Takes>,
    /// The looks in a row at which the group took this instance nowhere.
    pub(super) not_taken: Absence,
    pub(super) events: Vec<ScheduledEvent>,
    /// The metadata has told the events, or that there are none.
    pub(super) knows_events: bool,
    /// The looks in a row that did not show the event of the handover.
    pub(super) event_absent: Absence,
    /// This process wants a drill to go on.
    pub(super) drill_stands: bool,
}

impl Sight {
    /// Tells whether a signal that stood is gone. A group that has begun to terminate an instance never goes back.
    pub(super) fn is_gone(&self, signal: Signal) -> bool {
        match signal {
            _ if self.is_terminating() => false,
            Signal::Notice => self.notice_absent.withdraws(),
            Signal::RebalanceRecommendation => self.recommendation_absent.withdraws(),
            Signal::LifecycleState => self.not_taken.withdraws(),
            Signal::ScheduledEvent => self.event_absent.withdraws(),
            Signal::Drill => !self.drill_stands,
        }
    }

    /// Tells whether the group takes this instance out of service: to its end, or back into its warm pool.
    pub(super) fn is_terminating(&self) -> bool {
        self.group_takes.is_some()
    }

    /// Tells whether the group, if any, wants this instance to serve: not in Standby, and not in the warm pool.
    pub(super) fn may_serve(&self) -> bool {
        let waits = |state: &str| state == "Standby" || state.starts_with("Warmed:");
        self.knows_lifecycle && !self.lifecycle_state.as_deref().is_some_and(waits)
    }
}
