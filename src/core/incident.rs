//! One incident: what the signals of one interruption have in common, and what is known of it. Data, and conclusions from it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::model::{BootInstant, Identity, IncidentId, Signal};

/// The incident that a handover is about. It is fixed at first sight, but for what a later signal of the same incident adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub identity: Identity,
    pub id: IncidentId,
    pub signal: Signal,
    /// The signal that the owner goes by: also a recommendation that stands beside a scheduled event.
    #[serde(default)]
    pub owner_sees: Signal,
    /// The Auto Scaling group is terminating this instance, whatever signal came first: nobody asks for a successor, and
    /// nothing brings the instance back.
    pub terminating: bool,
    /// It takes this instance back into its warm pool: `terminating` too, but not the end.
    #[serde(default)]
    pub into_pool: bool,
    /// The notice's time, or a scheduled event's, where it had one.
    pub time: Option<Timestamp>,
    /// The code of a scheduled event.
    pub event: Option<String>,
    /// The deadline. For a recommendation a successor is waited for until then.
    pub deadline: BootInstant,
    /// Both clocks at one moment: AWS's and the boot's.
    pub clocks: (Timestamp, BootInstant),
    /// A member launched before this is no successor: AWS's time at the first signal of this incident, less some slack.
    pub successors_since: Option<Timestamp>,
    /// An earlier process of this boot may have begun this handover already.
    pub resumed: bool,
    /// It has: only for the words.
    #[serde(default)]
    pub after_restart: bool,
    /// An arrival gave way to this handover: until then what it asked for may land, be it a registration or a place in the
    /// group.
    #[serde(default)]
    pub arrival_lands_by: Option<BootInstant>,
    /// A weaker signal may have had a successor launched, under the same incident: ask for it again before leaving.
    #[serde(default)]
    pub serve_on: bool,
    /// The plan was made before the notice: what it names as members is no successor.
    pub planned_before: bool,
    /// No weaker signal came before the notice, which could have had a successor launched.
    #[serde(default)]
    pub begun_by_notice: bool,
}

impl Incident {
    pub(crate) fn is_open(&self) -> bool {
        self.signal == Signal::RebalanceRecommendation && !self.terminating
    }

    /// The group terminates this instance, and nothing that AWS has announced ends it at a known time.
    pub(crate) fn ends_by_group(&self) -> bool {
        self.terminating && self.signal != Signal::Notice
    }

    /// A deadline that is one: none while no interruption is announced.
    pub(crate) fn announced_deadline(&self) -> Option<BootInstant> {
        (!self.is_open()).then_some(self.deadline)
    }

    /// When that is by AWS's clock.
    pub fn deadline_by_aws(&self) -> Option<Timestamp> {
        let (aws, boot) = self.clocks;
        let deadline = self.announced_deadline()?;
        self.time.or_else(|| aws.checked_add(deadline.since(boot)).ok())
    }

    /// The time of an instant by AWS's clock.
    pub(crate) fn time_of(&self, instant: BootInstant) -> Timestamp {
        let (aws, boot) = self.clocks;
        aws.checked_add(instant.since(boot)).unwrap_or(aws)
    }

    /// The instant of a time by AWS's clock.
    pub(crate) fn instant_of(&self, time: Timestamp) -> BootInstant {
        let (aws, boot) = self.clocks;
        match Duration::try_from(time.duration_since(aws)) {
            Ok(after) => boot + after,
            Err(_) => boot - Duration::try_from(aws.duration_since(time)).unwrap_or_default(),
        }
    }
}
