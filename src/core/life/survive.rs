//! Decides when an instance that was to go is seen to live on, and what it does then.

use crate::core::arrival::{Arrival, Errand};
use crate::core::config::{ScheduledEvents, Then};
use crate::core::handover::Handover;
use crate::core::model::{Action, BootInstant, MilestoneKind, Registration, Signal};
use crate::core::notice::SURVIVED_AFTER;

use super::Life;
use crate::core::incident::{Closed, Incident, Phase};

/// The reason why this instance is known to live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The signal is gone from the metadata.
    Withdrawn,
    /// The deadline is past, and the instance has not ended.
    StillAlive,
    /// Hibernated, and resumed in place.
    Resumed,
    /// Stopped, or rebooted, and started again.
    Booted,
    /// Its group has put it into service again.
    InService,
    /// The handover of a recommendation has ended, and this instance never left.
    Stayed,
    /// A drill has ended, was called off, or lost its process.
    Drilled,
}

impl Life {
    /// Ends what is over, and begins what a survivor does, or an arrival.
    pub(super) fn live_on(&mut self, now: BootInstant) {
        if let Some(handover) = self.held.open_handover()
            && self.sight.is_gone(handover.incident().signal)
        {
            handover.withdraw();
        }
        // A write under way might undo what is put back now.
        let is_writing = self.handover().is_some_and(Handover::is_writing);
        let waits = self.is_handing_over() || is_writing || self.arrival.is_some() || self.dry_run;
        if waits || !self.sight.has_looked || self.may_go_on_by_event() {
            return;
        }
        match self.lives_on(now) {
            Some(why) => self.survived(why, now),
            None => self.arrive_if_due(now),
        }
    }

    /// Tells whether the metadata holds a notice that is to be acted on, by the last look.
    pub(super) fn may_stand(&self) -> bool {
        !self.sight.notice_absent.has_begun() && self.over.is_none() && self.stale.is_none()
    }

    /// Tells whether a reboot came in an event's handover, and it is not known yet whether the event stands.
    fn may_go_on_by_event(&self) -> bool {
        let is_of_event = |it: &Incident| it.id.boot_id != self.boot_id && it.signal == Signal::ScheduledEvent;
        let watches = self.config.watch.scheduled_events == ScheduledEvents::HandOver;
        watches && !self.sight.knows_events && self.open_incident().is_some_and(is_of_event)
    }

    fn lives_on(&self, now: BootInstant) -> Option<Why> {
        let incident = self.open_incident()?;
        if incident.id.boot_id != self.boot_id {
            let no_notice = !self.may_stand();
            if !self.sight.may_serve() {
                return None;
            }
            return (no_notice && !self.sight.is_terminating()).then_some(Why::Booted);
        }
        if incident.signal == Signal::Drill {
            let is_over = incident.outcome.is_some() || self.sight.is_gone(Signal::Drill);
            return (is_over && !self.sight.is_terminating()).then_some(Why::Drilled);
        }
        if self.sight.is_gone(incident.signal) {
            let by_group = incident.signal == Signal::LifecycleState;
            return Some(if by_group { Why::InService } else { Why::Withdrawn });
        }
        let sleeps = matches!(incident.id.action, Some(Action::Hibernate | Action::Stop));
        match incident.signal {
            _ if incident.is_terminating() || self.sight.is_terminating() => None,
            Signal::Notice if self.stood_still && sleeps && now > incident.deadline => Some(Why::Resumed),
            Signal::RebalanceRecommendation if incident.outcome.is_some() && !incident.is_certain() => {
                Some(Why::Stayed)
            }
            Signal::Notice | Signal::RebalanceRecommendation => {
                self.lives_on_at().is_some_and(|at| now >= at).then_some(Why::StillAlive)
            }
            Signal::LifecycleState | Signal::ScheduledEvent | Signal::Drill => None,
        }
    }

    /// The instant from which an instance that is still alive has survived. A recommendation has no deadline: it counts
    /// from the end of its handover.
    pub(super) fn lives_on_at(&self) -> Option<BootInstant> {
        let incident = self.incident_of_this_boot().filter(|it| !it.is_closed() && !it.is_terminating())?;
        let from = match incident.signal {
            Signal::Notice => incident.deadline,
            Signal::RebalanceRecommendation if incident.outcome.is_some() => incident.milestones.last()?.at,
            _ => return None,
        };
        Some(from + SURVIVED_AFTER).filter(|_| self.arrival.is_none())
    }

    fn survived(&mut self, why: Why, now: BootInstant) {
        self.held.end_handover();
        let Some(incident) = self.incident().cloned() else { return };
        self.stood_still = false;
        self.over = self.sight.notice;
        self.epoch += 1;
        let registrations = incident.registrations.known().iter();
        let is_wanted = |it: &&Registration| !incident.swapped_out.contains(&it.target_group);
        let registrations: Vec<Registration> = registrations.filter(is_wanted).cloned().collect();
        let errand = self.errand_after(&incident, why);
        if let Some(event) = &incident.event {
            match errand {
                // The scheduled event may still come, or be announced again.
                Errand::Reinstate => _ = self.events_done.remove(event),
                _ => _ = self.events_done.insert(event.clone()),
            }
        }
        let what = match why {
            Why::Withdrawn => "AWS has withdrawn what it had announced: this instance lives on",
            Why::InService => "the Auto Scaling group has put this instance into service again",
            Why::StillAlive if incident.signal == Signal::RebalanceRecommendation => {
                "no interruption has followed the recommendation for two minutes: this instance lives on"
            }
            Why::StillAlive => "this instance lives on, two minutes after its end was due",
            Why::Resumed => "this instance was hibernated and has resumed",
            Why::Booted => "this instance has booted again after a handover",
            Why::Stayed => "the recommendation to rebalance has ended without a handover",
            Why::Drilled if incident.was_seen_through() => "the drill's handover is over",
            Why::Drilled => "the drill has ended before its handover was over",
        };
        let then = self.then_does(errand, &incident, &registrations, why);
        // Otherwise the process before this one has said so.
        if !incident.was_survived() {
            let fate = incident.fate_of_successor().map(|fate| format!("; {fate}")).unwrap_or_default();
            self.reach(MilestoneKind::Survived, format!("{what}; {then}{fate}"), now);
        }
        let (identity, readiness) = (self.identity.clone(), self.config.arrive.ready.clone());
        let plan = incident.plan.as_ref();
        self.arrival = Some(Arrival::after_handover(errand, identity, readiness, registrations, plan, now));
        self.change_incident(|incident| incident.phase = Phase::ComingBack);
    }

    /// Tells, as a part of a sentence, what an instance that lives on does.
    fn then_does(&self, errand: Errand, incident: &Incident, registrations: &[Registration], why: Why) -> String {
        let names: Vec<&str> = registrations.iter().map(|registration| registration.name()).collect();
        let names = if names.is_empty() { "what it left".to_owned() } else { names.join(", ") };
        match errand {
            Errand::StayOut if why == Why::Booted && self.is_to_arrive => {
                "it registers itself as at every boot, because [arrive] register is set".to_owned()
            }
            Errand::StayOut if !incident.is_certain() => "this instance never left".to_owned(),
            Errand::StayOut if !incident.has_reached(MilestoneKind::Deregistered) => {
                format!("[survive] then = \"stay-out\": it had not left {names} yet, and serves on there")
            }
            Errand::StayOut => {
                format!("[survive] then = \"stay-out\": it stays out of {names}, runs on, and is paid for")
            }
            Errand::Terminate => "[survive] then = \"terminate\": it has handed over, and terminates itself".to_owned(),
            Errand::Arrive | Errand::Reinstate if is_wanted_again(why) => {
                format!("it goes back to {names}, because somebody started it")
            }
            Errand::Arrive | Errand::Reinstate if self.then() == Then::Terminate && why != Why::Drilled => {
                format!("it has not handed over completely, so it does not terminate itself but goes back to {names}")
            }
            Errand::Arrive | Errand::Reinstate => format!("it goes back to {names}"),
        }
    }

    fn errand_after(&self, incident: &Incident, why: Why) -> Errand {
        match self.then() {
            // Nobody takes this instance in a drill, whatever the configuration says of survivors.
            _ if why == Why::Drilled || incident.signal == Signal::Drill => Errand::Reinstate,
            _ if why == Why::InService => Errand::Reinstate,
            // The instance never left.
            _ if !incident.is_certain() => Errand::StayOut,
            Then::StayOut => Errand::StayOut,
            // Somebody who starts an instance again wants it again.
            Then::Terminate if is_wanted_again(why) => Errand::Reinstate,
            Then::Terminate if incident.is_complete() => Errand::Terminate,
            Then::Reinstate | Then::Terminate => Errand::Reinstate,
        }
    }

    /// Begins the arrival of this boot once the group wants this instance to serve and no signal stands against it.
    fn arrive_if_due(&mut self, now: BootInstant) {
        let leaves = self.handover().is_some() || self.sight.is_terminating() || self.may_stand();
        if !self.is_to_arrive || leaves {
            return;
        }
        if !self.sight.may_serve() {
            return self.waits_for_its_group();
        }
        // An earlier incident of this boot may forbid the arrival.
        let stays_out = |it: &Incident| !matches!(it.closed(), Some(Closed::Reinstated | Closed::Stayed));
        self.is_to_arrive = false;
        if self.incident_of_this_boot().is_some_and(stays_out) {
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

    /// Ends an arrival.
    pub(super) fn arrived(&mut self) {
        let Some(arrival) = self.arrival.take() else { return };
        self.told_waiting = None;
        self.epoch += 1;
        // The look-up before the signal may have shown otherwise.
        self.looked_up.is_in_some = false;
        self.wants_look_up = true;
        self.is_wholly_back = arrival.is_wholly_back();
        let closed = match arrival.errand() {
            Errand::Arrive => return,
            Errand::Reinstate => Closed::Reinstated,
            Errand::StayOut if self.incident().is_some_and(|incident| !incident.is_certain()) => Closed::Stayed,
            Errand::StayOut => Closed::StayedOut,
            Errand::Terminate => Closed::Terminated,
        };
        self.change_incident(|incident| incident.phase = Phase::Closed(closed));
    }
}

/// Tells whether somebody started this instance or put it into service again: it is to serve, whatever `then` says.
fn is_wanted_again(why: Why) -> bool {
    matches!(why, Why::Booted | Why::Resumed | Why::InService)
}
