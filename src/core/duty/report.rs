//! The fate of one duty, for the record and for people.

use serde::{Deserialize, Serialize};

use super::attempts::{NOT_ANSWERED, TIME_WAS_UP};

/// The fate of one duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyReport {
    /// `leave web`, `quiet`, `successor`, ...
    pub duty: String,
    pub done: bool,
    /// A sentence without its full stop.
    pub what: String,
    /// Nothing more is tried, done or not: the end does not wait for this duty.
    #[serde(skip)]
    pub(crate) settled: bool,
    /// The handover itself does not depend on this duty: an outcome is complete without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aside: bool,
    /// The duty is due only at the end of a handover.
    #[serde(skip)]
    pub(crate) comes_last: bool,
}

impl DutyReport {
    pub(crate) fn new(duty: impl Into<String>, done: bool, what: impl Into<String>) -> DutyReport {
        DutyReport { duty: duty.into(), done, what: what.into(), settled: done, aside: false, comes_last: false }
    }

    /// A text such as "leave web: left after 1.2 s".
    pub(crate) fn in_words(&self) -> String {
        if self.what.is_empty() { self.duty.clone() } else { format!("{}: {}", self.duty, self.what) }
    }

    /// Tells whether the duty should have been done before the reserve, and is not.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.done && !self.aside && !self.comes_last
    }

    /// Cuts the words that are true only after the end: while the handover goes on, no time is up.
    pub fn so_far(self) -> DutyReport {
        let cut = |what: &str, end: &str| what.strip_suffix(end).map(|rest| rest.trim_end_matches(": ").to_owned());
        let what = [NOT_ANSWERED, TIME_WAS_UP].iter().find_map(|end| cut(&self.what, end));
        DutyReport { what: what.unwrap_or(self.what), ..self }
    }

    /// Makes the end wait for this duty.
    pub(crate) fn open(self) -> DutyReport {
        DutyReport { settled: false, ..self }
    }

    pub(crate) fn settled(self) -> DutyReport {
        DutyReport { settled: true, ..self }
    }

    /// Marks the duty as due only at the end.
    pub(crate) fn last(self) -> DutyReport {
        DutyReport { comes_last: true, ..self }
    }

    /// Makes the outcome neither wait for this duty nor count it.
    pub(crate) fn aside(self) -> DutyReport {
        DutyReport { settled: true, aside: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_goes_on_no_time_is_up() {
        let so_far = |what: &str| DutyReport::new("leave web", false, what).so_far().what;
        assert_eq!(so_far("not registered: time was up"), "not registered");
        assert_eq!(so_far("its call was not answered in time"), "");
        assert_eq!(so_far("failed 3 times, last with Throttling"), "failed 3 times, last with Throttling");
    }
}
