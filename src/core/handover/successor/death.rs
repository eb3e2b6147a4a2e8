//! Successors that die and owners that are gone: the reason for a person, and who launches next.

use std::collections::BTreeSet;

use super::{Call, Death, DutyId, Situation, SuccessorDuties, Watch, ask_of};
use crate::core::model::{BootInstant, InstanceId};
use crate::core::plan::Plan;
use crate::core::retry::{Failure, FailureKind};

impl SuccessorDuties {
    /// Takes the deaths of successors: others are asked or looked for. Returns the reasons, for a person.
    pub(super) fn successors_died(&mut self, situation: &mut Situation<'_>, deaths: Vec<Death>) -> Option<Failure> {
        let now = situation.now;
        let last = deaths.last().cloned()?;
        let dead: BTreeSet<InstanceId> = deaths.iter().map(|death| death.instance_id.clone()).collect();
        self.registers.iter_mut().for_each(|register| register.lose(&dead));
        if let Some(find) = &mut self.find {
            find.lose(&deaths, now);
        }
        let words: Vec<String> = deaths.iter().map(|death| format!("successor {death}")).collect();
        let mut message = words.join("; ");
        self.deaths.extend(deaths.iter().cloned());
        let others_live = self.watch.as_ref().is_some_and(|watch| watch.len() > 0);
        let launches_for_all = self.ask.as_ref().is_some_and(|ask| ask.launches_for_all());
        if let (true, true, Some(ask)) = (others_live, launches_for_all, &mut self.ask) {
            deaths.iter().for_each(|death| _ = ask.died(now, death));
        }
        if !others_live {
            self.watch = None;
            let launches_again = match last.is_of_another {
                true => self.ask_under_the_next_number(situation),
                false => self.ask.as_mut().is_some_and(|ask| ask.died(now, &last)),
            };
            let given_up = self.ask.as_ref().and_then(|ask| ask.given_up());
            message.extend(given_up.map(|why| format!("; given up: {why}")));
            if !launches_again {
                self.search(now, situation.incident);
            }
        }
        let code = last.reason.map(|reason| reason.code);
        Some(Failure { kind: FailureKind::Rejected, code, message })
    }

    /// The instant at which the successors are looked at again after the end.
    pub(in crate::core::handover) fn looks_after_at(&self) -> Option<BootInstant> {
        self.watch.as_ref().and_then(Watch::looks_after_at)
    }

    /// Begins one look at the successors after the end.
    pub(in crate::core::handover) fn look_after(&mut self, situation: &mut Situation<'_>) -> Option<(DutyId, Call)> {
        self.watch.as_mut()?.look_after(situation)
    }

    /// Counts a successor that leaves as a victim. Once as many others are found as victims, it is no longer followed.
    pub(super) fn leave_out_those_that_go(&mut self, now: BootInstant) {
        let (Some(watch), Some(find)) = (&mut self.watch, &mut self.find) else { return };
        find.hears_of_victims(watch.ids().filter(|id| watch.goes(id)), now);
        let going: BTreeSet<InstanceId> =
            watch.ids().filter(|id| find.is_victim(id) || watch.goes(id)).cloned().collect();
        if find.is_done() && !going.is_empty() && going.len() < watch.len() {
            watch.leave_out(&going);
            self.registers.iter_mut().for_each(|register| register.lose(&going));
        }
    }

    /// Lets the fleet be counted again for victims that have shown since the last count.
    pub(super) fn tell_of_victims(&mut self, situation: &Situation<'_>) {
        let units = self.find.as_ref().and_then(|find| find.unreplaced(situation.now));
        if let (Some(ask), Some(units)) = (&mut self.ask, units) {
            ask.hears_of_victims(situation, units);
        }
    }

    /// Asks under the next incident number: the token was one of an earlier incident, whose record is lost.
    fn ask_under_the_next_number(&mut self, situation: &mut Situation<'_>) -> bool {
        situation.incident.id.number += 1;
        self.ask = ask_of(&self.plan, situation.incident, situation.manner, situation.now);
        true
    }

    /// Tells whether the owner has gone before it was asked for anything.
    pub(in crate::core::handover) fn owner_is_gone(&self) -> bool {
        self.owner_is_gone || self.ask.as_ref().is_some_and(|ask| ask.is_gone_unasked())
    }

    /// Returns the plan if its group no longer holds this instance, perhaps because of a call before a restart.
    pub(in crate::core::handover) fn may_have_another_group(&self) -> Option<Plan> {
        self.ask.as_ref().is_some_and(|ask| ask.is_gone_by_lost_reply()).then(|| self.plan.clone())
    }

    /// Begins a last look at the successors if they were not seen a moment ago. Tells whether it is open, or the search
    /// goes on for a successor that only a victim would register.
    pub(in crate::core::handover) fn is_to_be_seen_again(&mut self, now: BootInstant) -> bool {
        self.find.as_ref().is_some_and(|find| find.looks_on(now))
            || self.watch.as_mut().is_some_and(|watch| watch.is_to_look_again(now))
    }
}
