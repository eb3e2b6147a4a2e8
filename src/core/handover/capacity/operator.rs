//! The signs that somebody else has set a target capacity: an operator, or Application Auto Scaling.

use std::time::Duration;

use crate::core::model::{BootInstant, ExcessCapacity};
use crate::core::plan::RaisedCapacity;

/// A strange total is read this often in a row, with this pause, before the next read of it is believed.
const STRANGE_READS: u32 = 3;
pub(super) const STRANGE_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operator {
    /// A total that spot-relay may not have written, with the tag beside it, and how often in a row both were read.
    pub(super) suspect: Option<(i32, Option<RaisedCapacity>)>,
    pub(super) times: u32,
    /// The instant since which somebody else is changing the fleet.
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
        self.suspect.is_some()
    }

    /// Takes a strange read. Returns whether it was read often enough in a row.
    pub(super) fn confirms(&mut self, total: i32, tag: Option<RaisedCapacity>) -> bool {
        self.times = if self.suspect == Some((total, tag)) { self.times + 1 } else { 1 };
        self.suspect = Some((total, tag));
        self.times > STRANGE_READS
    }
}
