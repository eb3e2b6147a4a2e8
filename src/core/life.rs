//! One instance's life, from its boot to its end: which signal begins a handover, when a signal is withdrawn, what a
//! survivor does, and how the instance comes into service.
//!
//! Looks at the metadata come in ([`Life::saw_notice`] and others), calls go out ([`Life::due`]), answers come back
//! ([`Life::answered`]). Invariants: no clock, no network, no log, no randomness. There is one incident and one
//! handover for an interruption, however many signals announce it. A handover and an arrival never run at once. If a
//! signal leads to no end, what it left behind is put right.

mod begin;
mod drill;
mod held;
mod look;
mod sight;
mod survive;
mod take_up;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::arrival::{Arrival, Errand};
use crate::core::call::Answer;
use crate::core::config::{Config, Then};
use crate::core::duty::{Due, DutyId};
use crate::core::handover::{Handover, LookedUp};
use crate::core::incident::{Closed, Incident, Phase};
use crate::core::model::{BootInstant, Identity, Milestone, Registration, Signal};
use crate::core::notice::Notice;
pub use crate::core::notice::Recommendation;
use crate::core::retry::Failure;

use held::Held;
pub use sight::Remark;
use sight::Sight;

/// The owner of a call. The handover or the arrival that gave it out may be over when the answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub duty: DutyId,
    /// The number of the handover or arrival within this process.
    pub epoch: u32,
}

/// The state of an instance, as the status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// In service, if it is in any target group.
    Watching,
    HandingOver,
    /// The handover is over: the instance waits for its end, or to be seen alive after it.
    HandedOver,
    /// Coming into service, or back.
    Arriving,
    /// This instance lives on, and stays out of its target groups.
    StaysOut,
    /// It has asked AWS to terminate it, or asks until AWS accepts that.
    Terminating,
}

impl Standing {
    /// The state in one word, as machines read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Watching => "watching",
            Standing::HandingOver => "handing-over",
            Standing::HandedOver => "handed-over",
            Standing::Arriving => "arriving",
            Standing::StaysOut => "stays-out",
            Standing::Terminating => "terminating",
        }
    }
}

/// The flags that exist while this instance is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    pub notice: bool,
    pub drained: bool,
}

pub struct Life {
    identity: Identity,
    boot_id: String,
    config: Config,
    dry_run: bool,
    looked_up: LookedUp,
    /// Tells whether "in no target group" is to be believed without asking again.
    trusts_empty: bool,
    sight: Sight,
    held: Held,
    /// This process has made the incident, or changed it.
    incident_is_ours: bool,
    arrival: Option<Arrival>,
    /// The arrival of this boot is still to come.
    is_to_arrive: bool,
    epoch: u32,
    /// The notice that stands in the metadata and was dealt with.
    over: Option<Notice>,
    /// A notice that stands in the metadata with a time long past, by what is believed of AWS's time.
    stale: Option<Notice>,
    /// The reason why the arrival waits, as it was told last.
    told_waiting: Option<String>,
    /// The change of a notice that was told last.
    told_change: Option<Notice>,
    /// The machine stood still, and was probably hibernated.
    stood_still: bool,
    events_done: BTreeSet<String>,
    /// A drill that is to begin.
    drill_within: Option<std::time::Duration>,
    /// The last arrival brought this instance back to everywhere it was.
    is_wholly_back: bool,
    /// Milestones to be told.
    milestones: Vec<Milestone>,
    remarks: Vec<Remark>,
    wants_look_up: bool,
    /// The last instant at which due calls were asked for.
    asked_at: BootInstant,
}

impl Life {
    /// `incident` is this instance's last one, of this boot or an earlier one.
    pub fn new(identity: Identity, boot_id: String, config: Config, dry_run: bool, incident: Option<Incident>) -> Life {
        let of_this_boot = incident.as_ref().filter(|incident| incident.id.boot_id == boot_id);
        // An instance that is back is handed over once more for an event that stands then. If a notice came during the
        // event's handover, the event still stands once the notice is withdrawn.
        let is_done = |incident: &&&Incident| match incident.closed() {
            Some(closed) => closed != Closed::Reinstated,
            None => incident.signal != Signal::Notice && incident.outcome.is_some(),
        };
        let events_done = of_this_boot.iter().filter(is_done).filter_map(|incident| incident.event.clone()).collect();
        Life {
            is_to_arrive: config.arrive.register,
            identity,
            boot_id,
            config,
            dry_run,
            looked_up: LookedUp::default(),
            trusts_empty: false,
            sight: Sight::default(),
            held: incident.map_or(Held::Nothing, |incident| Held::Incident(Box::new(incident))),
            incident_is_ours: false,
            arrival: None,
            epoch: 0,
            over: None,
            stale: None,
            stood_still: false,
            told_waiting: None,
            told_change: None,
            events_done,
            drill_within: None,
            is_wholly_back: false,
            milestones: Vec::new(),
            remarks: Vec::new(),
            wants_look_up: false,
            asked_at: BootInstant::default(),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes the identity, which was read again. What the metadata did not tell this time stays as before.
    pub fn identify(&mut self, identity: Identity) {
        self.identity = identity.completed_by(&self.identity);
    }

    /// Takes the facts that the look-ups know by now.
    pub fn learn(&mut self, looked_up: LookedUp, trusts_empty: bool, now: BootInstant) {
        if let (Some(handover), Some(registrations)) = (self.held.handover_mut(), &looked_up.registrations) {
            handover.learn_registrations(registrations.clone(), now);
        }
        self.looked_up = looked_up;
        self.trusts_empty = trusts_empty;
    }

    /// Takes the registrations that a scan of all target groups found.
    pub fn learn_all_registrations(&mut self, registrations: &[Registration], now: BootInstant) {
        if let Some(handover) = self.held.handover_mut() {
            handover.learn_all_registrations(registrations.to_vec(), now);
        }
    }

    /// The machine stood still for a while: it may have been hibernated.
    pub fn stood_still(&mut self) {
        self.stood_still = true;
        // An absent notice may have come and gone meanwhile.
        (self.sight.absent_before, self.sight.absent_until) = (false, None);
    }

    pub fn handover(&self) -> Option<&Handover> {
        self.held.handover()
    }

    pub fn is_handing_over(&self) -> bool {
        self.handover().is_some_and(|handover| handover.outcome().is_none())
    }

    /// Tells whether a handover of an announced interruption goes on: stopping the daemon waits for its end.
    pub fn has_to_finish(&self) -> bool {
        self.is_handing_over() && self.incident().is_some_and(Incident::is_certain)
    }

    pub fn arrival(&self) -> Option<&Arrival> {
        self.arrival.as_ref()
    }

    /// It has handed over, and AWS has not accepted its own end yet.
    pub fn terminates_itself(&self) -> bool {
        self.arrival.as_ref().is_some_and(|arrival| arrival.errand() == Errand::Terminate)
    }

    pub fn standing(&self) -> Standing {
        let phase = self.incident_of_this_boot().map(|incident| incident.phase);
        match phase {
            _ if self.is_handing_over() => Standing::HandingOver,
            _ if self.terminates_itself() => Standing::Terminating,
            _ if self.arrival.is_some() => Standing::Arriving,
            Some(Phase::Left) => Standing::HandedOver,
            Some(Phase::Closed(Closed::StayedOut)) => Standing::StaysOut,
            Some(Phase::Closed(Closed::Terminated)) => Standing::Terminating,
            _ => Standing::Watching,
        }
    }

    /// The last incident of this instance, by this process or one before.
    pub fn incident(&self) -> Option<&Incident> {
        self.held.incident()
    }

    /// The incident to be written: one that this process has made or changed.
    pub fn incident_to_write(&self) -> Option<&Incident> {
        self.incident().filter(|_| self.incident_is_ours)
    }

    /// `None` before the first good look: then the flags stay as they are.
    pub fn flags(&self) -> Option<Flags> {
        if !self.sight.has_looked {
            return None;
        }
        let stands = self.incident_of_this_boot().filter(|incident| incident.is_certain() && !incident.was_survived());
        let drained = stands.is_some_and(Incident::was_quiet);
        Some(Flags { notice: stands.is_some(), drained })
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        self.take_untold();
        std::mem::take(&mut self.milestones)
    }

    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// Tells whether everything is to be looked up again: after a recommendation, or a change in the group.
    pub fn take_wants_look_up(&mut self) -> bool {
        std::mem::take(&mut self.wants_look_up)
    }

    /// The calls to begin now, each to be answered with its ticket.
    pub fn due(&mut self, now: BootInstant) -> Vec<(Ticket, Due)> {
        self.asked_at = now;
        self.begin_what_is_announced(now);
        self.go_on_by_group(now);
        self.begin_drill(now);
        let ticketed = |epoch: u32| move |due: Due| (Ticket { duty: due.duty, epoch }, due);
        let leaving = self.held.handover_mut().map(|handover| handover.due(now)).unwrap_or_default();
        self.take_words();
        let mut calls: Vec<(Ticket, Due)> = leaving.into_iter().map(ticketed(self.epoch)).collect();
        self.live_on(now);
        let coming_back = self.arrival.as_mut().map(|arrival| arrival.due(now)).unwrap_or_default();
        calls.extend(coming_back.into_iter().map(ticketed(self.epoch)));
        self.note_arrival();
        calls
    }

    /// Takes the answer to a call that [`Life::due`] gave out. Returns the failure if a person should know of it.
    pub fn answered(&mut self, now: BootInstant, ticket: Ticket, answer: Answer) -> Option<Failure> {
        if ticket.epoch != self.epoch {
            return None;
        }
        if let Some(arrival) = &mut self.arrival {
            return arrival.answered(now, ticket.duty, answer);
        }
        let handover = self.held.handover_mut()?;
        let failure = handover.answered(now, ticket.duty, answer);
        self.take_words();
        failure
    }

    fn take_words(&mut self) {
        if let Some(handover) = self.held.handover_mut() {
            self.remarks.extend(handover.take_remark().map(Remark::Warn));
            self.remarks.extend(handover.take_news().map(Remark::Info));
        }
    }

    /// The instant at which [`Life::due`] has to be asked again at the latest, if nothing is answered or seen before.
    pub fn wake(&self) -> Option<BootInstant> {
        let handover = self.handover().and_then(Handover::wake);
        let arrival = self.arrival.as_ref().and_then(Arrival::wake);
        let later = self.lives_on_at().into_iter().chain(self.outlives_at()).chain(self.event_begins_at());
        let later = later.filter(|at| *at > self.asked_at);
        handover.into_iter().chain(arrival).chain(later).min()
    }

    /// The registrations that exist or may exist: the earlier or looked-up ones, and those of an arrival.
    fn all_known_registrations(&self, earlier: Option<Vec<Registration>>) -> Option<Vec<Registration>> {
        let mut registrations = earlier.or_else(|| self.looked_up.registrations.clone())?;
        let more = self.looked_up.registrations.iter().flatten();
        let more = more.chain(self.arrival.iter().flat_map(Arrival::registrations));
        for registration in more {
            if !registrations.iter().any(|known| known.target_group == registration.target_group) {
                registrations.push(registration.clone());
            }
        }
        Some(registrations)
    }

    fn incident_of_this_boot(&self) -> Option<&Incident> {
        self.incident().filter(|incident| incident.id.boot_id == self.boot_id)
    }

    /// The incident that is not closed: something is left to be done or to be put right.
    fn open_incident(&self) -> Option<&Incident> {
        self.incident().filter(|incident| !incident.is_closed())
    }

    fn change_incident(&mut self, change: impl FnOnce(&mut Incident)) {
        if let Some(incident) = self.held.incident_mut() {
            change(incident);
            self.incident_is_ours = true;
        }
    }

    fn note_arrival(&mut self) {
        let Some(arrival) = &mut self.arrival else { return };
        self.remarks.extend(arrival.take_remarks().into_iter().map(Remark::Warn));
        let waits_for = arrival.waits_for();
        if let Some(waits_for) = waits_for.filter(|it| self.told_waiting.as_ref() != Some(it)) {
            self.remarks.push(Remark::Info(waits_for.clone()));
            self.told_waiting = Some(waits_for);
        }
        arrival.take_milestones().into_iter().for_each(|milestone| self.tell(milestone));
        if self.arrival.as_ref().is_some_and(Arrival::is_finished) {
            self.arrived();
        }
    }

    /// Tells a milestone, and keeps it in the open incident, if there is one.
    fn tell(&mut self, milestone: Milestone) {
        if self.open_incident().is_some() {
            self.change_incident(|incident| incident.keep(milestone));
        } else {
            self.take_untold();
            self.milestones.push(milestone);
        }
    }

    /// Takes over the milestones of the incident that are to be told.
    fn take_untold(&mut self) {
        let untold = self.held.incident_mut().map(Incident::take_untold);
        self.milestones.extend(untold.unwrap_or_default());
    }

    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(Remark::Info(text.into()));
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.remarks.push(Remark::Warn(text.into()));
    }

    fn then(&self) -> Then {
        self.config.survive.then
    }

    fn aws_now(&self, now: BootInstant) -> Option<Timestamp> {
        let (aws, boot) = self.sight.clocks?;
        aws.checked_add(now.since(boot)).ok()
    }
}

#[cfg(test)]
mod tests;
