//! How a handover ended, duty by duty, for the record and for people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::{NOT_ANSWERED, TIME_WAS_UP};

/// How it ended, duty by duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub complete: bool,
    pub duties: Vec<Report>,
}

impl Outcome {
    /// In one word, as every machine reads it.
    pub fn as_str(&self) -> &'static str {
        if self.complete { "complete" } else { "partial" }
    }
}

/// The fate of one duty.
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

    /// As it reads while the handover goes on: no time is up yet.
    pub fn so_far(self) -> Report {
        let cut = |what: &str, end: &str| what.strip_suffix(end).map(|rest| rest.trim_end_matches(": ").to_owned());
        let what = [NOT_ANSWERED, TIME_WAS_UP].iter().find_map(|end| cut(&self.what, end));
        Report { what: what.unwrap_or(self.what), ..self }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_goes_on_no_time_is_up() {
        let so_far = |what: &str| Report::new("leave web", false, what).so_far().what;
        assert_eq!(so_far("not registered: time was up"), "not registered");
        assert_eq!(so_far("its call was not answered in time"), "");
        assert_eq!(so_far("failed 3 times, last with Throttling"), "failed 3 times, last with Throttling");
    }
}
