//! How a handover ended, duty by duty, for the record and for people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::duty::DutyReport;

/// How it ended, duty by duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub complete: bool,
    pub duties: Vec<DutyReport>,
}

impl Outcome {
    /// In one word, as every machine reads it.
    pub fn as_str(&self) -> &'static str {
        if self.complete { "complete" } else { "partial" }
    }
}

/// As in "1.4 s".
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(super) fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
