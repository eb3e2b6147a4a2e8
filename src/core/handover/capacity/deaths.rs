//! The instances that a fleet has launched and lost again: reported, and asked for again, but not for ever.

use std::time::Duration;

use super::count::ABOUT_TO_GO;
use super::{AskCapacity, Stage};
use crate::core::handover::ask::Ask;
use crate::core::handover::course::Situation;
use crate::core::handover::deaths::{Death, MOST_DEATHS, advice, pause_after_deaths};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, Instance, StateReason};

/// A fleet that does not get what it was raised for is asked for its dead after this many reads.
const READS_WITHOUT_A_DEATH: usize = 5;

/// A successor that has not shown this long after the last count is missed.
const MISSED_AFTER: Duration = Duration::from_secs(20);

impl AskCapacity {
    /// Tells whether the fleet has less than it had for us, with time to launch another: a launched instance is gone.
    pub(super) fn has_lost(&self, now: BootInstant, incident: &Incident, fulfilled: i32) -> bool {
        let is_short = self.deaths.expected.is_some_and(|expected| fulfilled < expected);
        is_short && self.deaths.given_up.is_none() && incident.deadline.since(now) > ABOUT_TO_GO
    }

    /// Tells whether it is time to look for dead instances while the fleet is waited for.
    pub(super) fn looks_for_deaths(&self) -> bool {
        self.reads > 0 && self.reads.is_multiple_of(READS_WITHOUT_A_DEATH) && self.deaths.given_up.is_none()
    }

    /// The dead instances that the fleet has launched since our notice, without those that were reported; and whether
    /// one that it has launched since lives.
    pub(super) fn newly_dead(&mut self, incident: &Incident, instances: Vec<Instance>) -> (Vec<Death>, bool) {
        let since = incident.start.successors_since;
        let is_young = |it: &Instance| it.launch_time.zip(since).is_some_and(|(launched, since)| launched >= since);
        let (living, dead): (Vec<_>, Vec<_>) =
            instances.into_iter().filter(is_young).partition(|it| it.state.is_alive());
        let death = |it: Instance| Death {
            instance_id: it.instance_id,
            reason: it.state_reason,
            has_run: false,
            is_of_another: false,
            was_leaving: false,
        };
        let deaths: Vec<Death> =
            dead.into_iter().map(death).filter(|death| !self.deaths.dead.contains_key(&death.instance_id)).collect();
        deaths.iter().for_each(|death| self.note_death(death));
        (deaths, !living.is_empty())
    }

    /// Goes on: a victim has gone, the number read counted a dead member, or the fleet has yet to launch. If it has
    /// launched somebody, its number may lag behind, and its members are counted.
    pub(super) fn finds_nobody_dead(&mut self, now: BootInstant, has_launched: bool) {
        match self.back_at {
            None if !has_launched => return self.wait(now),
            None => return self.go_on(now, Stage::Count),
            Some(_) => {}
        }
        (self.count.wanted, self.deaths.expected) = (None, None);
        self.go_on(now, Stage::Count);
    }

    fn note_death(&mut self, death: &Death) {
        self.deaths.dead.entry(death.instance_id.clone()).or_insert_with(|| death.reason.clone());
    }

    /// Counts the fleet again after a pause, or puts it back for good if the next would die for the same reason.
    pub(super) fn after_deaths(&mut self, now: BootInstant) {
        let code = |reason: &Option<StateReason>| {
            reason.as_ref().map_or_else(|| "an unknown reason".to_owned(), |reason| reason.code.clone())
        };
        let alike = |last: &str| self.deaths.dead.values().filter(|reason| code(reason) == last).count();
        let most = self.deaths.dead.values().map(code).max_by_key(|last| alike(last));
        let given_up = most
            .filter(|most| alike(most) >= MOST_DEATHS)
            .map(|most| format!("{} that it launched died of {most}; {}", alike(&most), advice(&most)));
        (self.fulfilled, self.count.wanted, self.back_at) = (false, None, None);
        self.stage = if given_up.is_some() && !self.operator.is_suspected() { Stage::PutBack } else { Stage::Read };
        self.deaths.given_up = given_up;
        self.attempts.begins_again(now + pause_after_deaths(self.deaths.dead.len(), self.attempts.seed));
    }
}

impl Ask for AskCapacity {
    fn owner(&self) -> Option<String> {
        Some(self.fleet_id.clone())
    }

    fn serves_on(&self) -> bool {
        !self.has_spare && self.deaths.given_up.is_none()
    }

    fn in_vain(&self) -> Option<String> {
        self.deaths.given_up.clone()
    }

    fn given_up(&self) -> Option<&str> {
        self.deaths.given_up.as_deref()
    }

    fn launches_for_all(&self) -> bool {
        true
    }

    /// Counts the fleet again after a death, and raises it again while there is time.
    fn died(&mut self, now: BootInstant, death: &Death) -> bool {
        self.note_death(death);
        let is_ours_to_raise = self.operator.left_alone.is_none();
        if is_ours_to_raise {
            self.after_deaths(now);
        }
        is_ours_to_raise
    }

    /// Counts the fleet again if victims were noticed after the last count and their own daemons have not raised it, or
    /// if no successor has shown for them for long.
    fn hears_of_victims(&mut self, situation: &Situation<'_>, units: i32) {
        // If this process has written nothing, not even the base after a fellow's raise, the fleet replaces by itself.
        let was_raised = self.raise.is_begun() || self.writes.accepted.is_some();
        let may_raise = was_raised && self.operator.left_alone.is_none() && self.deaths.given_up.is_none();
        let is_late = situation.incident.deadline.since(situation.now) < ABOUT_TO_GO;
        // A successor of the others may have died before any look showed it.
        let is_overdue = situation.now >= self.count.at + MISSED_AFTER && !situation.crowd.is_throttled();
        let is_news = (units > self.count.heard_of && self.raise.is_begun()) || is_overdue;
        if self.stage != Stage::Done || !is_news || !may_raise || is_late {
            return;
        }
        (self.count.heard_of, self.count.at) = (self.count.heard_of.max(units), situation.now);
        (self.fulfilled, self.count.wanted, self.back_at) = (false, None, None);
        self.stage = Stage::Read;
        self.attempts.begins_again(situation.now);
    }

    fn has_spare(&self) -> bool {
        self.has_spare
    }

    fn size(&self) -> Option<i32> {
        self.base
    }

    fn take_remark(&mut self) -> Option<String> {
        self.operator.remark.take()
    }

    fn is_gone_unasked(&self) -> bool {
        self.stage == Stage::Gone && !self.raise.is_begun() && !self.told
    }

    fn counts_at(&self) -> Option<BootInstant> {
        self.counts_again().then_some(self.attempts.next)
    }

    /// Tells whether the owner has yet to launch what was asked of it.
    fn owner_launches(&self) -> bool {
        !self.fulfilled && !matches!(self.stage, Stage::Done | Stage::Gone)
    }
}
