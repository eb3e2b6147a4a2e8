//! The fate of a raise in words: what became of the fleet's capacity, and why, for the end of a handover.

use super::{AskCapacity, Others, Raise, Stage};
#[cfg(test)]
use super::{Count, Writes};
use crate::core::duty::DutyReport;
use crate::core::handover::course::Asked;
use crate::core::handover::words::seconds;
use crate::core::model::{BootInstant, FleetState};

impl AskCapacity {
    /// Reports once that the fleet was asked, and then that it has launched, asked or not.
    pub(super) fn tell(&mut self) -> Asked {
        if self.is_raised && !std::mem::replace(&mut self.told, true) {
            return Asked::Raised;
        }
        let is_waited_for = self.is_raised || self.stage == Stage::Await;
        if self.fulfilled || (is_waited_for && self.has_grown()) { Asked::Launching } else { Asked::Pending }
    }

    /// The fleet has launched for one victim or more.
    fn has_grown(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.capacity.fulfilled - self.count.idle > self.count.fulfilled)
    }

    pub(super) fn in_words(&self, begun_at: BootInstant) -> DutyReport {
        let duty = format!("capacity of {}", self.fleet_id);
        let base = self.base.unwrap_or_default();
        match (self.stage, self.back_at) {
            (stage, _) if self.operator.left_alone.is_some() => {
                let what = format!("left at {base}, which somebody else set after it was raised");
                DutyReport { settled: stage == Stage::Done, ..DutyReport::new(duty, true, what) }
            }
            _ if self.has_spare => DutyReport::new(duty, true, "not needed: it has more than its target"),
            (Stage::Gone, _) => DutyReport::new(duty, false, self.why_gone()).settled(),
            (stage, back_at) if self.deaths.given_up.is_some() => {
                let why = self.deaths.given_up.clone().unwrap_or_default();
                let back = if back_at.is_some() { format!("put back to {base}, and ") } else { String::new() };
                let report = DutyReport::new(duty, false, format!("{back}given up: {why}"));
                if stage == Stage::Done { report.settled() } else { report }
            }
            (stage, None) if self.too_late => {
                let report = DutyReport::new(duty, false, self.why_not_raised());
                // The tag is still to be taken off.
                if self.is_to_be_untagged() && stage != Stage::Done { report } else { report.settled() }
            }
            (stage, Some(_)) if self.fulfilled && !self.is_raised => {
                let what = format!("not raised: without the members that go it has its target of {base}");
                DutyReport { settled: stage == Stage::Done, ..DutyReport::new(duty, true, what) }
            }
            (_, Some(at)) if self.fulfilled => {
                let by_marks = self.count.by_marks.as_ref().map(|failure| {
                    format!(" (the other members that go were counted by their tags alone, because of {failure})")
                });
                let after = seconds(at.since(begun_at));
                let what = format!(
                    "raised until the fleet had launched, and put back to {base} after {after}{}",
                    by_marks.unwrap_or_default()
                );
                // The raise is done, but the end waits for the last read.
                DutyReport { settled: self.stage == Stage::Done, ..DutyReport::new(duty, true, what) }
            }
            (_, Some(_)) => {
                DutyReport::new(duty, false, format!("put back to {base} before the fleet had launched a successor"))
            }
            (_, None) if self.raise == Raise::Stands => {
                DutyReport::new(duty, false, format!("not put back to {base}: {}", self.attempts.trouble()))
            }
            (_, None) => DutyReport::new(duty, false, self.why_not_raised()),
        }
    }

    fn why_gone(&self) -> String {
        match self.fleet.as_ref().map(|fleet| &fleet.state) {
            Some(FleetState::Ended(state)) => format!("it is {state} and launches nothing any more"),
            _ => "AWS knows no such fleet".to_owned(),
        }
    }

    fn why_not_raised(&self) -> String {
        let why = match &self.writes.trouble {
            Some((_, failure)) => format!("failed, last with {failure}"),
            None if self.count.others == Others::AboutToGo => {
                "another member of the fleet ends in these seconds, and the fleet would replace it twice".to_owned()
            }
            None if self.too_late => "too little time is left".to_owned(),
            None => self.attempts.trouble(),
        };
        format!("not raised: {why}; the fleet replaces this instance when it is gone")
    }

    /// Returns everything that decides what comes next, without its time.
    #[cfg(test)]
    pub(in crate::core::handover) fn fingerprint(&self) -> String {
        let stage = (self.stage, self.base, self.attempts.failures);
        let read = self.fleet.as_ref().map(|fleet| (fleet.capacity, &fleet.tags, fleet.excess));
        let told = (self.is_raised, self.raise, self.fulfilled, self.back_at.is_some(), self.deaths.dead.len());
        let Count { others, by_marks, wanted, by_itself, fulfilled, .. } = &self.count;
        let count = (others, by_marks.is_some(), wanted, by_itself, fulfilled);
        let Writes { accepted, tagged, noted, may_land_until, .. } = &self.writes;
        let writes = (accepted, tagged, noted, may_land_until.is_some());
        format!("{stage:?} {read:?} {told:?} {count:?} {writes:?} {:?}", self.operator)
    }

    /// The last read may be the reason for a write, or for one under way.
    #[cfg(test)]
    pub(in crate::core::handover) fn is_about_to_write(&self) -> bool {
        let looks = matches!(self.stage, Stage::Read | Stage::Refused | Stage::Await | Stage::Deaths | Stage::Tidy);
        !looks && !matches!(self.stage, Stage::NoteBack | Stage::Done | Stage::Gone)
    }
}
