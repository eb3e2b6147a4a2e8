//! When an instance that was to go is seen to live on, and what it does then.

use crate::core::arrival::{Arrival, Errand};
use crate::core::config::Then;
use crate::core::handover::Handover;
use crate::core::model::{Action, BootInstant, MilestoneKind, Signal};
use crate::core::notice::SURVIVED_AFTER;

use super::{Closed, Life, Record};

/// By what an instance is known to live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The signal is gone from the metadata.
    Withdrawn,
    /// The deadline is past, and no end came.
    StillAlive,
    /// Hibernated, and resumed in place.
    Resumed,
    /// Stopped, or rebooted, and started again.
    Booted,
    /// Its group has put it into service again.
    InService,
    /// A recommendation, and no successor for it.
    Stayed,
    /// A drill has ended, was called off, or lost its process.
    Drilled,
}

impl Life {
    /// Ends what is over, and begins what a survivor does, or an arrival.
    pub(super) fn live_on(&mut self, now: BootInstant) {
        let signal = self.handover.as_ref().filter(|it| it.outcome().is_none()).map(|it| it.incident().signal);
        if let (Some(handover), Some(signal)) = (&mut self.handover, signal)
            && self.sight.is_gone(signal)
        {
            handover.withdraw();
            self.note_handover();
        }
        // A write under way would land on what is put back now.
        let is_writing = self.handover.as_ref().is_some_and(Handover::is_writing);
        let waits = self.is_handing_over() || is_writing || self.arrival.is_some() || self.dry_run;
        if waits || !self.sight.has_looked {
            return;
        }
        match self.lives_on(now) {
            Some(why) => self.survived(why, now),
            None => self.arrive_if_due(now),
        }
    }

    /// Tells whether the metadata holds a notice that is to be acted on, by the last look.
    fn may_stand(&self) -> bool {
        !self.sight.notice_absent.has_begun() && self.over.is_none() && self.stale.is_none()
    }

    fn lives_on(&self, now: BootInstant) -> Option<Why> {
        let record = self.record.as_ref().filter(|record| record.closed.is_none())?;
        if record.id.boot_id != self.boot_id {
            let no_notice = !self.may_stand();
            if !self.sight.may_serve() {
                return None;
            }
            return (no_notice && !self.sight.is_terminating()).then_some(Why::Booted);
        }
        if record.signal == Signal::Drill {
            let is_over = record.outcome.is_some() || self.sight.is_gone(Signal::Drill);
            return (is_over && !self.sight.is_terminating()).then_some(Why::Drilled);
        }
        if self.sight.is_gone(record.signal) {
            let by_group = record.signal == Signal::LifecycleState;
            return Some(if by_group { Why::InService } else { Why::Withdrawn });
        }
        let sleeps = matches!(record.id.action, Some(Action::Hibernate | Action::Stop));
        match record.signal {
            _ if record.terminating || self.sight.is_terminating() => None,
            Signal::Notice if self.stood_still && sleeps && now > record.deadline => Some(Why::Resumed),
            Signal::RebalanceRecommendation if record.outcome.is_some() && !record.certain => Some(Why::Stayed),
            Signal::Notice | Signal::RebalanceRecommendation => {
                self.lives_on_at().is_some_and(|at| now >= at).then_some(Why::StillAlive)
            }
            Signal::LifecycleState | Signal::ScheduledEvent | Signal::Drill => None,
        }
    }

    /// When an instance that is still alive then has survived. A recommendation has no deadline: it counts from the end of
    /// its handover.
    pub(super) fn lives_on_at(&self) -> Option<BootInstant> {
        let record = self.record_of_this_boot().filter(|it| it.closed.is_none() && !it.terminating)?;
        let from = match record.signal {
            Signal::Notice => record.deadline,
            Signal::RebalanceRecommendation if record.outcome.is_some() => record.milestones.last()?.at,
            _ => return None,
        };
        Some(from + SURVIVED_AFTER).filter(|_| self.arrival.is_none())
    }

    fn survived(&mut self, why: Why, now: BootInstant) {
        let Some(record) = self.record.clone() else { return };
        self.handover = None;
        self.stood_still = false;
        self.over = self.sight.notice;
        self.epoch += 1;
        let registrations = record.known.registrations.clone().unwrap_or_else(|| record.known.found.clone());
        let errand = self.errand_after(&record, why);
        let what = match why {
            Why::Withdrawn => "AWS has withdrawn what it had announced: this instance lives on",
            Why::InService => "the Auto Scaling group has put this instance into service again",
            Why::StillAlive if record.signal == Signal::RebalanceRecommendation => {
                "no interruption has followed the recommendation for two minutes: this instance lives on"
            }
            Why::StillAlive => "this instance lives on, two minutes after its end was due",
            Why::Resumed => "this instance was hibernated and has resumed",
            Why::Booted => "this instance has booted again after a handover",
            Why::Stayed => "the recommendation to rebalance leads to nothing",
            Why::Drilled if record.was_seen_through() => "the drill's handover is over",
            Why::Drilled => "the drill has ended before its handover was over",
        };
        let names: Vec<&str> = registrations.iter().map(|registration| registration.name()).collect();
        let names = if names.is_empty() { "what it left".to_owned() } else { names.join(", ") };
        let then = match errand {
            Errand::StayOut if !record.certain => "this instance never left".to_owned(),
            Errand::StayOut => {
                format!("[survive] then = \"stay-out\": it stays out of {names}, runs on, and is paid for")
            }
            Errand::Terminate => "[survive] then = \"terminate\": it has handed over, and terminates itself".to_owned(),
            Errand::Arrive | Errand::Reinstate if is_wanted_again(why) => {
                format!("started again, it is wanted again: it goes back to {names}")
            }
            Errand::Arrive | Errand::Reinstate if self.then() == Then::Terminate && why != Why::Drilled => {
                format!("it has not handed over completely, so it does not terminate itself but goes back to {names}")
            }
            Errand::Arrive | Errand::Reinstate => format!("it goes back to {names}"),
        };
        // Else the process before this one has said so.
        if !record.survived {
            self.reach(MilestoneKind::Survived, format!("{what}; {then}"), now);
        }
        let (identity, readiness) = (self.identity.clone(), self.config.arrive.ready.clone());
        let plan = record.known.plan.as_ref();
        self.arrival = Some(Arrival::after_handover(errand, identity, readiness, registrations, plan, now));
        self.change_record(|record| record.survived = true);
    }

    fn errand_after(&self, record: &Record, why: Why) -> Errand {
        match self.then() {
            // Nobody takes it, whatever becomes of instances that live on.
            _ if why == Why::Drilled || record.signal == Signal::Drill => Errand::Reinstate,
            _ if why == Why::InService => Errand::Reinstate,
            // It never left.
            _ if !record.certain => Errand::StayOut,
            Then::StayOut => Errand::StayOut,
            // Started again, it is wanted again.
            Then::Terminate if is_wanted_again(why) => Errand::Reinstate,
            Then::Terminate if record.is_complete() => Errand::Terminate,
            Then::Reinstate | Then::Terminate => Errand::Reinstate,
        }
    }

    /// At every boot, and once the group wants this instance to serve, when it is known that nothing stands against it.
    fn arrive_if_due(&mut self, now: BootInstant) {
        let leaves = self.handover.is_some() || self.sight.is_terminating() || self.may_stand();
        if !self.is_to_arrive || leaves {
            return;
        }
        if !self.sight.may_serve() {
            return self.waits_for_its_group();
        }
        // A process of this boot has said why not.
        let stays_out = |record: &Record| !matches!(record.closed, Some(Closed::Reinstated | Closed::Stayed));
        self.is_to_arrive = false;
        if self.record_of_this_boot().is_some_and(stays_out) {
            return;
        }
        self.epoch += 1;
        self.arrival = Some(Arrival::arrive(self.identity.clone(), self.config.arrive.ready.clone(), now));
    }

    /// Says once that nothing is registered before the group puts this instance into service.
    fn waits_for_its_group(&mut self) {
        let Some(state) = &self.sight.lifecycle_state else { return };
        let text = format!("not registered yet: the Auto Scaling group holds this instance in {state}");
        if self.told_waiting.as_ref() != Some(&text) {
            self.told_waiting = Some(text.clone());
            self.remark(text);
        }
    }

    /// An arrival has come to its end.
    pub(super) fn arrived(&mut self, _now: BootInstant) {
        let Some(arrival) = self.arrival.take() else { return };
        self.told_waiting = None;
        self.epoch += 1;
        self.wants_look_up = true;
        self.is_wholly_back = arrival.is_wholly_back();
        let closed = match arrival.errand() {
            Errand::Arrive => return,
            Errand::Reinstate => Closed::Reinstated,
            Errand::StayOut if self.record.as_ref().is_some_and(|record| !record.certain) => Closed::Stayed,
            Errand::StayOut => Closed::StayedOut,
            Errand::Terminate => Closed::Terminated,
        };
        self.change_record(|record| record.closed = Some(closed));
    }
}

/// Started again, or put into service again: it is to serve, whatever becomes of survivors.
fn is_wanted_again(why: Why) -> bool {
    matches!(why, Why::Booted | Why::Resumed | Why::InService)
}
