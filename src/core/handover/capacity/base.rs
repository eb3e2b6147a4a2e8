//! The base of a fleet: whether spot-relay has written a total, or somebody else, whose total is left alone.
//!
//! Victims note in the tag how far they raise before they do. But AWS may show total and tag late and in any order. If
//! two write the tag in one moment, the lower number may stay. So a strange total is believed only if it stays.

use std::time::Duration;

use super::count::{Others, Units};
use super::operator::STRANGE_PAUSE;
use super::{AskCapacity, Stage};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, ExcessCapacity, Fleet, FleetState, MilestoneKind};
use crate::core::plan::RaisedCapacity;

/// The pause if other victims may have raised it so far: one of them may have yet to see that its note is gone.
const DOUBTFUL_PAUSE: Duration = Duration::from_secs(5);

/// Somebody else's change is waited for this long: until it is done AWS shows the old total.
const CHANGE_SHOWS_WITHIN: Duration = Duration::from_secs(5);

impl AskCapacity {
    pub(super) fn tag(&self) -> Option<RaisedCapacity> {
        self.fleet.as_ref().and_then(|fleet| RaisedCapacity::read(&fleet.tags))
    }

    /// Returns the value that is to stand in the tag.
    pub(super) fn noting(&self, base: i32, raised: i32) -> RaisedCapacity {
        let is_noted = self.count.on_demand > 0 || self.tag().is_some_and(|tag| tag.spot.is_some());
        let spot = self.base_spot.1.filter(|_| is_noted);
        let is_back = self.stage == Stage::NoteBack;
        RaisedCapacity { base, raised, terminates_excess: self.terminates_excess, spot, is_back }
    }

    /// The tag's number for this base, or this victim's if it is higher. `of` chooses the tag's number.
    pub(super) fn noted(&self, base: i32, of: fn(RaisedCapacity) -> i32) -> i32 {
        self.tag().filter(|tag| tag.base == base).map_or(base, of).max(self.writes.noted)
    }

    /// Tells whether somebody else has set the last total: no victim has written or noted it, or another victim has
    /// noted another base, because it saw the change first.
    pub(super) fn is_strange(&self) -> bool {
        let Some((base, fleet)) = self.base.zip(self.fleet.as_ref()) else { return false };
        let total = fleet.capacity.total;
        let has_another_base = self.tag().is_some_and(|tag| tag.base != base && tag.covers(total));
        has_another_base || !(base..=self.noted(base, RaisedCapacity::highest)).contains(&total)
    }

    /// Tells whether somebody else is changing the fleet before the first count: its total is no base then. A raise
    /// that is noted and does not show yet is a fellow's.
    pub(super) fn is_changed_by_another(&mut self, now: BootInstant, fleet: &Fleet) -> bool {
        let is_noted = || RaisedCapacity::read(&fleet.tags).is_some_and(|tag| fleet.capacity.total < tag.highest());
        self.base.is_none()
            && fleet.state == FleetState::Modifying
            && !is_noted()
            && now < *self.operator.changing_since.get_or_insert(now) + CHANGE_SHOWS_WITHIN
    }

    /// Ends a suspicion at the first total that is not somebody else's.
    pub(super) fn forgets_suspicion(&mut self) {
        if self.base.is_some() && !self.is_strange() {
            self.operator.suspect = None;
        }
    }

    /// Tells whether a raise of ours stands and the tag says less: another victim wrote it in the same moment.
    pub(super) fn is_unnoted(&self) -> bool {
        let total = self.fleet.as_ref().map_or(0, |fleet| fleet.capacity.total);
        let covers = || self.tag().is_some_and(|tag| tag.covers(total));
        self.writes.accepted == Some(total) && self.base.is_some_and(|base| total > base) && !covers()
    }

    /// Tells whether the fleet terminated what exceeded its target before anybody raised it, by its tag. Without a tag
    /// the look-up before the notice tells, if others or the previous process may have changed the policy.
    pub(super) fn terminated_excess(&self, fleet: &Fleet, incident: &Incident) -> bool {
        let may_be_changed = self.count.others != Others::Stay || incident.start.is_resumed();
        let was_planned = self.operator.planned.is_some_and(|(_, excess)| excess == ExcessCapacity::Terminates);
        fleet.excess == ExcessCapacity::Terminates
            || self.tag().map_or(may_be_changed && was_planned, |tag| tag.terminates_excess)
    }

    /// Tells whether a raise has changed the policy, and the tag that says so is gone.
    pub(super) fn is_forgotten(&self) -> bool {
        self.terminates_excess && self.is_raised && self.tag().is_none()
    }

    /// Fixes the base at the first count, and moves it to what somebody else set. Returns whether the count goes on.
    pub(super) fn settles_base(&mut self, now: BootInstant, incident: &Incident, units: Units) -> bool {
        let Some(total) = self.fleet.as_ref().map(|fleet| fleet.capacity.total) else { return false };
        let tag = self.tag();
        let Some(base) = self.base else { return self.fixes_base(now, incident, total, units.going) };
        let noted_base = tag.filter(|tag| tag.covers(total)).map(|tag| tag.base);
        let has_another_base = noted_base.is_some_and(|noted| noted != base);
        let is_by_fellows = self.count.others != Others::Stay
            && !has_another_base
            && (base..=base.saturating_add(units.going)).contains(&total);
        if !self.is_strange() || is_by_fellows {
            self.operator.suspect = None;
            return true;
        }
        if !self.operator.confirms(total, tag) {
            self.go_on(now + STRANGE_PAUSE, Stage::Read);
            return false;
        }
        self.operator.suspect = None;
        let total = noted_base.unwrap_or(total);
        self.base = Some(total);
        if !self.raise.may_have_been_done() && !self.is_raised {
            self.says_new_base(total);
            return true;
        }
        self.leaves_alone(now, units, total);
        false
    }

    fn fixes_base(&mut self, now: BootInstant, incident: &Incident, total: i32, units: i32) -> bool {
        let (tag, planned) = (self.tag(), self.operator.planned.map(|(planned, _)| planned));
        // The previous process has raised it, and somebody has taken the tag off.
        let has_raised =
            tag.is_none() && incident.start.is_resumed() && incident.has_reached(MilestoneKind::SuccessorRequested);
        let raised_from = |planned: &i32| has_raised && (*planned..=planned.saturating_add(units)).contains(&total);
        if let Some(planned) = planned.filter(raised_from) {
            (self.base, self.writes.noted) = (Some(planned), total);
            return true;
        }
        let may_be_raised = tag.is_some_and(|tag| (tag.base..=tag.base.saturating_add(units)).contains(&total));
        // Another victim has noted that the base is back, and did not know of the previous process.
        let is_by_a_process_before = incident.start.is_resumed() && may_be_raised && tag.is_some_and(|tag| tag.is_back);
        // AWS may show the total that another victim wrote before it shows the victim's tag.
        let is_strange = match tag {
            Some(tag) => !tag.covers(total) && !is_by_a_process_before,
            None => planned.is_some_and(|planned| total > planned),
        };
        if is_strange && self.count.others != Others::Stay && !self.operator.confirms(total, tag) {
            self.go_on(now + if may_be_raised { DOUBTFUL_PAUSE } else { STRANGE_PAUSE }, Stage::Read);
            return false;
        }
        self.operator.suspect = None;
        self.base = Some(tag.filter(|_| !is_strange).map_or(total, |tag| tag.base));
        if is_strange && tag.is_some() {
            self.says_new_base(total);
        }
        true
    }

    /// Leaves the target capacity as somebody else has set it: the fleet launches up to it, and nothing is put back.
    fn leaves_alone(&mut self, now: BootInstant, units: Units, total: i32) {
        self.operator.left_alone = Some(total);
        self.operator.remark = Some(format!(
            "{}: somebody else has set its target capacity to {total} while it was raised for this handover: it stays at \
             {total} and is raised no more; the fleet launches up to it, and replaces members that go, by itself",
            self.fleet_id
        ));
        self.has_spare = units.staying - units.young >= total;
        self.fulfilled = true;
        self.count.another_goes_at = None;
        self.go_on(now, Stage::Tidy);
    }

    fn says_new_base(&mut self, total: i32) {
        self.operator.remark = Some(format!(
            "{}: its target capacity of {total} is none that spot-relay has noted on it, so somebody else has set it: it is \
             {total} again after this handover",
            self.fleet_id
        ));
    }
}
