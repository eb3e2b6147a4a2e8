//! The meaning of what was read of the fleet and its members: whether to raise it, to wait, or to put the base back.

use std::time::Duration;

use super::count::{ABOUT_TO_GO, Others, Units, another_goes_at, is_about_to_go};
use super::operator::STRANGE_PAUSE;
use super::{AskCapacity, SPARE_IS_SURE_AFTER, Stage};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, Fleet, FleetMember, FleetState};
use crate::core::plan::{RaisedCapacity, spot_of_base};
use crate::core::retry::{fraction, growing};

/// The pauses between two reads while the fleet launches.
const PAUSES: [u64; 4] = [2, 3, 4, 5];

/// A fleet's capacity counts a dead member for a while, and its list misses a new one for a while. Which of the two it
/// is shows within this, or up to twice as long. A raise after that launches nobody if the fleet has enough.
const DOUBTED_AT_MOST: Duration = Duration::from_secs(10);

/// Longer than any call takes to arrive.
const SETTLE_AFTER: Duration = Duration::from_secs(4);

/// About this many of the victims count again before they put the base back, and note that it is back.
const CHOSEN: f64 = 10.0;

impl AskCapacity {
    /// Tells whether the count under way is one more, after the fleet has all that it was to have. It tells only of
    /// further victims: what the fleet has replaced by itself may not show in it.
    pub(super) fn counts_again(&self) -> bool {
        self.stage == Stage::Count && self.fulfilled && self.count.wanted.is_some()
    }

    /// Tells whether the last count is to be taken again before the base is put back. Of many victims some do so for
    /// all. The base has to be back before the first victim goes.
    pub(super) fn may_miss_others(&self, incident: &Incident) -> bool {
        let first_goes_at = self.count.another_goes_at.unwrap_or(incident.deadline).min(incident.deadline);
        self.count.at < self.sees_all_from && self.is_chosen() && !is_about_to_go(first_goes_at, self.sees_all_from)
    }

    /// Tells whether this victim is one of the few that do for all what one of them has to do.
    pub(super) fn is_chosen(&self) -> bool {
        fraction(self.attempts.seed) * self.count.victims as f64 <= CHOSEN
    }

    /// The units that the fleet replaces without being asked.
    pub(super) fn replaced_by_itself(&self, fleet: &Fleet, base: i32, units: Units) -> i32 {
        let (capacity, is_begun) = (fleet.capacity, self.raise.is_begun());
        let tag = RaisedCapacity::read(&fleet.tags).filter(|tag| tag.base == base);
        let raised = tag.map_or(0, |tag| tag.raised - base);
        let missing = (capacity.total - capacity.fulfilled).max(0);
        let lacking = (base - units.staying - missing).max(0);
        let has_launched = units.young > 0 || raised > 0 || self.raise.may_have_been_done();
        if capacity.total <= base && lacking == 0 && has_launched {
            // The members that stay fill all places, whoever had them launched and whatever the fleet still counts.
            units.going
        } else if capacity.total <= base && !is_begun {
            let replaced = units.young.saturating_add(missing) - raised;
            // Members that the fleet replaced at an earlier count may not show in a later one.
            let replaced = if self.fulfilled { replaced.max(self.count.by_itself) } else { replaced };
            replaced.min(units.going - lacking).max(0)
        } else {
            // Besides the raise, the fleet replaces the living members that it has dropped since.
            let dropped = (units.old - capacity.fulfilled).max(0);
            self.count.by_itself.max(dropped).min(units.going)
        }
    }

    pub(super) fn read(&mut self, now: BootInstant, incident: &Incident, fleet: Fleet) {
        if self.is_changed_by_another(now, &fleet) {
            return self.go_on(now + STRANGE_PAUSE, self.stage);
        }
        // While the fleet is modified AWS shows the old number.
        let is_settled = fleet.state == FleetState::Active;
        let has_ended = matches!(fleet.state, FleetState::Ended(_));
        let fulfilled = fleet.capacity.fulfilled - self.count.idle;
        let total = self.writes.accepted.filter(|_| !is_settled).unwrap_or(fleet.capacity.total);
        let reached = self.count.wanted.is_some_and(|wanted| fulfilled >= wanted);
        let stale = self.count.wanted.is_none_or(|wanted| total < wanted);
        let shrunk = fulfilled < self.count.fulfilled;
        self.fleet = Some(fleet);
        self.forgets_suspicion();
        match () {
            () if has_ended => self.go_on(now, Stage::Gone),
            () if self.is_strange() => self.go_on(now, Stage::Count),
            () if self.count.by_marks.is_some() && self.is_unnoted() => self.go_on(now, Stage::Note),
            () if self.back_at.is_some() && is_settled && Some(total) == self.base => {
                if self.is_forgotten() {
                    return self.go_on(now, Stage::Note);
                }
                match self.writes.may_land_until {
                    _ if self.has_lost(now, incident, fulfilled) => self.go_on(now, Stage::Deaths),
                    Some(until) if now < until => self.go_on(until, Stage::Read),
                    _ if self.is_to_note_back(incident) => self.go_on(now, Stage::NoteBack),
                    _ => self.go_on(now, Stage::Done),
                }
            }
            () if self.stage == Stage::Await && !reached && self.looks_for_deaths() => self.go_on(now, Stage::Deaths),
            () if reached && self.count.doubted_since.is_none() => self.reached(now, incident),
            // Counts again at the first read, after another victim wrote a lower number, or after a member has gone.
            () if stale || shrunk || reached || self.count.by_marks.is_some() => self.go_on(now, Stage::Count),
            () if self.is_unnoted() => self.go_on(now, Stage::Note),
            () => self.wait(now),
        }
    }

    /// Notes when the next other victim goes, and whether nothing may be raised until then.
    fn see_who_goes(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) {
        let another_goes_at = members.iter().filter_map(|member| another_goes_at(member, incident, now)).min();
        self.count.at = now;
        self.count.another_goes_at = another_goes_at;
        self.count.others = match another_goes_at {
            Some(goes_at) if is_about_to_go(goes_at, now) => Others::AboutToGo,
            None if self.count.by_marks.is_none() => Others::Stay,
            _ => Others::Go,
        };
    }

    pub(super) fn counted(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) {
        let Some(mut fleet) = self.fleet.clone() else {
            return self.go_on(now, Stage::Read);
        };
        self.see_who_goes(now, incident, members);
        let units = Units::of(&fleet, members, incident, now);
        self.count.idle = units.idle;
        fleet.capacity.fulfilled -= units.idle;
        let (capacity, tag) = (fleet.capacity, RaisedCapacity::read(&fleet.tags));
        if !self.settles_base(now, incident, units) {
            return;
        }
        let Some(base) = self.base else { return };
        if self.base_spot.0 != base {
            self.base_spot = (base, spot_of_base(&fleet, base));
        }
        let hears_of_more = units.going > self.count.heard_of;
        (self.count.on_demand, self.count.heard_of) = (units.on_demand, self.count.heard_of.max(units.going));
        self.count.victims = units.victims;
        if self.counts_again() && !hears_of_more {
            return self.reached(now, incident);
        }
        self.count.by_itself = self.replaced_by_itself(&fleet, base, units);
        let wanted = base.saturating_add((units.going - self.count.by_itself).max(0));
        self.count.wanted = Some(wanted);
        self.count.fulfilled = capacity.fulfilled;
        self.terminates_excess |= self.terminated_excess(&fleet, incident);
        let is_noted = tag.is_some_and(|tag| self.noting(base, tag.raised) == tag && tag.covers(wanted));
        let is_ours_alone = self.writes.accepted == Some(capacity.total) && fleet.state == FleetState::Active;
        let is_too_high = capacity.total > wanted && is_ours_alone;
        // A victim sets the tag before it raises.
        let is_untouched = !incident.start.is_resumed() || tag.is_none();
        let nobody_came = self.count.by_itself == 0 || units.young == 0;
        let nobody_asked = nobody_came && !self.raise.is_begun() && is_untouched;
        // Young members do not count here: others' raises have launched them, and they are still to be registered.
        let is_full = capacity.total == base && units.staying - units.young >= base;
        let is_raised = self.raise.is_begun() || capacity.total >= wanted;
        let reached = capacity.fulfilled >= wanted || (is_raised && units.fill(base));
        let is_doubtful = reached && units.living < wanted && (!is_raised || self.count.doubted_since.is_some());
        self.count.doubted_since = self.count.doubted_since.or(Some(now)).filter(|_| is_doubtful);
        // One of many that are in doubt raises first, and the others see that.
        let doubted_for = DOUBTED_AT_MOST.mul_f64(1.0 + fraction(self.attempts.seed));
        let waits_for_sight = self.count.doubted_since.is_some_and(|since| !is_raised && now < since + doubted_for);
        let seems_spare = is_full && nobody_asked;
        self.count.spare_since = self.count.spare_since.or(Some(now)).filter(|_| seems_spare);
        self.has_spare = self.count.spare_since.is_some_and(|since| now >= since + SPARE_IS_SURE_AFTER);
        if self.has_spare {
            self.go_on(now, Stage::Done);
        } else if seems_spare {
            self.count.wanted = None;
            self.look_again(now);
        } else if waits_for_sight {
            self.look_again(now);
        } else if reached && !is_doubtful {
            self.reached(now, incident);
        } else {
            self.wants_more(now, base, capacity.total, is_too_high, is_noted);
        }
    }

    /// Raises the fleet, waits for it, or puts the raise off until another victim has gone.
    fn wants_more(&mut self, now: BootInstant, base: i32, total: i32, is_too_high: bool, is_noted: bool) {
        if self.count.others == Others::AboutToGo {
            let stands = self.raise.is_begun() && total > base;
            self.count.wanted = None;
            if stands { self.go_on(now, Stage::StandBack) } else { self.look_again(now) }
        } else if self.count.wanted.is_some_and(|wanted| total >= wanted) && !is_too_high {
            // Another victim has written the same count for both, or the fleet is at it by itself.
            self.is_raised |= self.needs_raise();
            self.wait(now);
        } else {
            self.go_on(now, if is_too_high || is_noted { Stage::Raise } else { Stage::Tag });
        }
    }

    pub(super) fn reached(&mut self, now: BootInstant, incident: &Incident) {
        self.fulfilled = true;
        if self.may_miss_others(incident) {
            return self.go_on(now.max(self.sees_all_from), Stage::Count);
        }
        self.deaths.expected = self.count.wanted;
        self.count.another_goes_at = None;
        self.is_raised |= self.needs_raise();
        if self.is_back(incident) { self.back(now) } else { self.go_on(now, Stage::PutBack) }
    }

    /// Tells whether the fleet has to be raised for what was counted. It is not for what it replaces by itself.
    fn needs_raise(&self) -> bool {
        self.raise.may_have_been_done() || self.count.wanted > self.base
    }

    /// Tells whether nothing is to be put back. The last write of this process counts, whatever AWS still shows. Nobody
    /// knows the last write of the previous process.
    fn is_back(&self, incident: &Incident) -> bool {
        let Some(fleet) = &self.fleet else { return false };
        let shows_base = fleet.state == FleetState::Active && Some(fleet.capacity.total) == self.base;
        let noted = RaisedCapacity::read(&fleet.tags).is_some_and(|tag| tag.highest() > tag.base);
        match self.writes.accepted {
            Some(written) => shows_base && Some(written) == self.base,
            None => shows_base && !(incident.start.is_resumed() && noted),
        }
    }

    /// Tells whether the tag is to say that the base is back. Of many victims some do so for all. A resumed process
    /// does not, because a write of the previous one may be under way.
    fn is_to_note_back(&self, incident: &Incident) -> bool {
        let says_raised = |tag: RaisedCapacity| tag.highest() > tag.base && tag.raised <= self.writes.noted;
        let has_written = self.raise.may_have_been_done() && self.writes.accepted == self.base;
        has_written && self.is_chosen() && !incident.start.is_resumed() && self.tag().is_some_and(says_raised)
    }

    /// Reads the base again, because a raise of a dead process, or one given up, may still land on it.
    pub(super) fn back(&mut self, now: BootInstant) {
        let may_land = self.writes.may_land_until.is_some_and(|until| now < until);
        if self.back_at.replace(now).is_some() && !may_land {
            return self.go_on(now, Stage::Done);
        }
        self.count.wanted = None;
        self.go_on(now + SETTLE_AFTER, Stage::Read);
    }

    pub(super) fn wait(&mut self, now: BootInstant) {
        let pause = growing(&PAUSES, self.reads);
        self.reads += 1;
        self.go_on(now + pause, Stage::Await);
    }

    /// Reads and counts again after a moment.
    pub(super) fn look_again(&mut self, now: BootInstant) {
        self.count.another_goes_at = None;
        self.go_on(now + ABOUT_TO_GO / 5, Stage::Read);
    }
}
