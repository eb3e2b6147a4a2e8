//! The lines that the look-ups have said to a person: nothing is said twice in a row.

use std::collections::BTreeSet;

use super::log_line::LogLine;
use super::outlook;
use crate::cloud::elb::FoundRegistrations;

/// The last lines said.
#[derive(Default)]
pub(super) struct SaidBefore {
    pub(super) owner: Option<String>,
    pub(super) remarks: Vec<String>,
    pub(super) registered: Option<String>,
    pub(super) ready: Option<String>,
    doubts: BTreeSet<String>,
    fleet: Option<LogLine>,
}

impl SaidBefore {
    /// The doubts that were not said before.
    pub(super) fn doubts_of(&mut self, found: &FoundRegistrations) -> Vec<LogLine> {
        let doubts = outlook::doubts(found).into_iter();
        doubts.filter(|doubt| self.doubts.insert(doubt.clone())).map(LogLine::Warn).collect()
    }

    /// The line that a round tells of the fleet, unless the round before told the same.
    pub(super) fn news_of_fleet(&mut self, line: Option<LogLine>) -> Option<LogLine> {
        let before = std::mem::replace(&mut self.fleet, line);
        self.fleet.clone().filter(|_| self.fleet != before)
    }
}

/// The text, unless it was `said` last.
pub(super) fn news(said: &mut Option<String>, text: String) -> Option<String> {
    let before = said.replace(text.clone());
    (before.as_ref() != Some(&text)).then_some(text)
}
