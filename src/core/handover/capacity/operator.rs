//! The signs that a target capacity is none that spot-relay can have written: an operator's, or Application Auto Scaling's.

use std::time::Duration;

use crate::core::model::{BootInstant, ExcessCapacity};
use crate::core::plan::RaisedCapacity;

/// A strange total is read so often in a row, with this pause, before it is believed.
const STRANGE_READS: u32 = 3;
pub(super) const STRANGE_PAUSE: Duration = Duration::from_secs(2);
/// The signs of somebody else's hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operator {
    /// A total that spot-relay may not have written, with the tag beside it, and how often in a row both were read.
    pub(super) seen: Option<(i32, Option<RaisedCapacity>)>,
    pub(super) times: u32,
    /// Since when somebody else changes the fleet.
    pub(super) changing_since: Option<BootInstant>,
    /// The capacity that somebody else set after it had been raised.
    pub(super) left_alone: Option<i32>,
    /// A text for the log.
    pub(super) remark: Option<String>,
    /// The fleet's capacity from before the notice, and its policy.
    pub(super) planned: Option<(i32, ExcessCapacity)>,
}

impl Operator {
    pub(super) fn is_suspected(&self) -> bool {
        self.seen.is_some()
    }

    /// Returns whether this has been read often enough.
    pub(super) fn sees(&mut self, total: i32, tag: Option<RaisedCapacity>) -> bool {
        self.times = if self.seen == Some((total, tag)) { self.times + 1 } else { 1 };
        self.seen = Some((total, tag));
        self.times > STRANGE_READS
    }
}
