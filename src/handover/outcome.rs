//! How a handover ended, duty by duty, for the record and for people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How it ended, duty by duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub complete: bool,
    pub duties: Vec<Report>,
}

/// What became of one duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `leave web`, `quiet`, `successor`, ...
    pub duty: String,
    pub done: bool,
    /// A sentence without its full stop.
    pub what: String,
    /// Done or not, nothing more is tried: the end does not wait for it.
    #[serde(skip)]
    pub(super) settled: bool,
    /// Nothing of the handover itself depends on it: an outcome is complete without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
}

impl Report {
    pub(super) fn new(duty: impl Into<String>, done: bool, what: impl Into<String>) -> Report {
        Report { duty: duty.into(), done, what: what.into(), settled: done, aside: false }
    }

    pub(super) fn settled(self) -> Report {
        Report { settled: true, ..self }
    }

    /// Neither waited for nor counted.
    pub(super) fn aside(self) -> Report {
        Report { settled: true, aside: true, ..self }
    }
}

/// As in "1.4 s".
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(super) fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
