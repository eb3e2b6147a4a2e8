//! Takes an incident up: what goes on from an earlier one, and what this process knows when it begins.

use std::time::Duration;

use jiff::Timestamp;

use super::Life;
use super::begin::{Beginning, SHIFTS_AT_MOST, is_same_interruption};
use crate::core::arrival::Arrival;
use crate::core::config::{Rebalance, ScheduledEvents};
use crate::core::handover::LookedUp;
use crate::core::incident::{Closed, Earlier, Incident, Phase, Start};
use crate::core::model::{BootInstant, IncidentId, MilestoneKind, Registration, Signal};

/// A notice that was gone for some looks and comes back is the same one if its time has shifted by no more than this.
const FLAPS_WITHIN: Duration = Duration::from_secs(20);
/// A member launched this long before the first signal may still be the successor: AWS's clocks and ours differ.
const SLACK: Duration = Duration::from_secs(30);
/// A call that an arrival made may still take effect for this long after the handover began. AWS answers a registration
/// within seconds, and a group registers an instance that it attaches some seconds later.
const ARRIVAL_LANDS_WITHIN: Duration = Duration::from_secs(20);

impl Life {
    /// Tells whether the handover that begins belongs to this incident of this boot.
    pub(super) fn goes_on_as(&self, incident: &Incident, beginning: &Beginning) -> bool {
        let (signal, time) = (beginning.signal, beginning.time);
        match incident.signal {
            // A notice is the same incident: no second successor is launched.
            Signal::RebalanceRecommendation if incident.closed() == Some(Closed::Stayed) => signal == Signal::Notice,
            // The notice was gone for some looks only, even if this instance is back meanwhile.
            Signal::Notice if signal == Signal::Notice && is_shifted(incident.time, time) => true,
            // This instance stays out: its place is filled, until somebody puts it back.
            _ if incident.closed() == Some(Closed::StayedOut) => {
                !self.looked_up.is_in_some && !matches!(signal, Signal::LifecycleState | Signal::Drill)
            }
            _ if incident.is_closed() => false,
            // A withdrawn interruption is over, and a notice with another time is another one. Until anything is put
            // back, a notice belongs to the first incident, however late: its successor stands in.
            Signal::Notice if incident.was_survived() => false,
            Signal::Notice if incident.outcome.is_some() => true,
            Signal::Notice => is_same_interruption(incident.time, time) && self.handover().is_none(),
            _ => true,
        }
    }

    /// The incident of the signal that begins, if the machine was rebooted in the midst of its handover.
    pub(super) fn incident_before_reboot(&self, beginning: &Beginning) -> Option<Incident> {
        let &Beginning { signal, action, time, deadline, aws_now, now, .. } = beginning;
        let event = beginning.event.as_ref().map(|event| &event.id);
        let is_same = |it: &&Incident| match signal {
            _ if it.signal != signal || it.was_survived() => false,
            Signal::Notice => it.id.action == action && is_same_interruption(it.time, time) && time > Some(aws_now),
            Signal::ScheduledEvent => it.event.as_ref() == event,
            Signal::RebalanceRecommendation => beginning.first_signal <= it.begun_at,
            Signal::LifecycleState | Signal::Drill => false,
        };
        let incident = self.incident().filter(is_same)?.clone();
        Some(incident.after_reboot(self.boot_id.clone(), now.booted_at(aws_now), deadline))
    }

    /// The incident as it begins. It goes on from `earlier`, if that is the same; `another` is the last of this boot.
    pub(super) fn incident_that_begins(
        &self,
        beginning: &Beginning,
        earlier: Option<&Incident>,
        another: Option<&Incident>,
    ) -> Incident {
        let &Beginning { signal, action, time, deadline, now, .. } = beginning;
        let number = earlier.map(|incident| incident.id.number);
        let number = number.unwrap_or_else(|| another.map_or(0, |incident| incident.id.number + 1));
        let (instance_id, boot_id) = (self.identity.instance_id.clone(), self.boot_id.clone());
        let id = IncidentId { instance_id, boot_id, action, number };
        let is_another_signal = earlier.is_some_and(|incident| incident.signal != signal);
        // A notice after a withdrawn one has a time of its own.
        let has_same_deadline =
            |it: &&Incident| !is_another_signal && !it.was_survived() && is_same_interruption(it.time, time);
        let same_deadline = earlier.filter(has_same_deadline).map(|incident| incident.deadline);
        let deadline = same_deadline.map_or(deadline, |earlier| shortened(deadline, earlier, now));
        let mut incident = Incident::new(id, signal, deadline, self.start(beginning, earlier));
        incident.group_takes = self.sight.group_takes;
        incident.time = time;
        incident.successors_before = match earlier {
            Some(earlier) => earlier.successors_before.clone(),
            None => another.map(Incident::successors).unwrap_or_default(),
        };
        // A notice that came within an event's handover leaves the event to come.
        let event = beginning.event.as_ref().map(|event| event.id.clone());
        incident.event = event.or_else(|| earlier.and_then(|earlier| earlier.event.clone()));
        incident.planned_before = match earlier {
            // A process that came after the notice may have found the successor in its look-up.
            Some(earlier) => earlier.plan.is_some() && earlier.planned_before,
            // The look-ups at a recommendation may have found the successor already.
            None => self.looked_up.plan.is_some() && self.sight.absent_before && self.sight.recommended.is_none(),
        };
        incident.begun_by_notice = match earlier {
            // A notice that comes after the end of the first handover has a successor already.
            Some(earlier) => earlier.begun_by_notice && earlier.outcome.is_none(),
            None => signal == Signal::Notice && self.sight.recommended.is_none(),
        };
        incident.recommended = signal == Signal::RebalanceRecommendation
            || earlier.or(another).is_some_and(|incident| incident.recommended);
        if let Some(earlier) = earlier {
            (incident.begun_at, incident.begun) = (earlier.begun_at, earlier.begun);
            // The hooks run again for an instance that was told to serve again.
            let is_put_into_service = self.sight.put_into_service_at == Some(now);
            let serves_again = earlier.was_survived() || (is_put_into_service && earlier.outcome.is_some());
            incident.hooks_ended = if serves_again { Vec::new() } else { earlier.hooks_ended.clone() };
            incident.launch = earlier.launch;
            incident.first_boot.clone_from(&earlier.first_boot);
            incident.milestones.clone_from(&earlier.milestones);
            // An instance that was put into service is not quiet any more.
            incident.milestones.retain(|it| !is_put_into_service || it.milestone != MilestoneKind::Quiet);
            incident.told = incident.milestones.len();
        }
        incident
    }

    /// The way in which this process takes the incident up.
    fn start(&self, beginning: &Beginning, earlier: Option<&Incident>) -> Start {
        let &Beginning { signal, aws_now, now, .. } = beginning;
        // An instance that the process before this one has launched is a successor too.
        let first_signal =
            earlier.map_or(beginning.first_signal, |earlier| earlier.begun_at.min(beginning.first_signal));
        let first_signal = self.sight.recommended.map_or(first_signal, |time| time.min(first_signal));
        // A handover that a weaker signal began may have launched already; what it launched is found by asking again.
        let is_weaker = earlier.is_some_and(|earlier| earlier.signal != signal && earlier.signal != Signal::Drill);
        Start {
            identity: self.identity.clone(),
            owner_sees: match (signal, self.sight.recommended) {
                (Signal::ScheduledEvent, Some(_)) => Signal::RebalanceRecommendation,
                _ => signal,
            },
            event_code: beginning.event.as_ref().map(|event| event.code.clone()),
            clocks: (aws_now, now),
            successors_since: Some(first_signal.checked_sub(SLACK).unwrap_or(first_signal)),
            launches_since: self.launches_since(beginning).filter(|_| earlier.is_none()),
            earlier: match earlier {
                Some(_) if !self.incident_is_ours => Earlier::Restart,
                Some(it) if it.led_to_nothing() => Earlier::Nothing,
                None if self.sight.absent_before => Earlier::Nothing,
                Some(_) | None => Earlier::Perhaps,
            },
            arrival_lands_by: self.may_be_registering(now).then(|| now + ARRIVAL_LANDS_WITHIN),
            handed_over: earlier
                .filter(|earlier| self.handover().is_some() && earlier.phase == Phase::Left && earlier.is_complete())
                .and_then(|earlier| earlier.outcome.clone()),
            serve_on: earlier.is_some_and(|earlier| earlier.may_have_launched_first(is_weaker)),
        }
    }

    /// The earliest time of a launch for this incident, if no weaker signal can have caused one. It is the last look
    /// without the notice, or the earliest time at which AWS may have given the notice.
    fn launches_since(&self, beginning: &Beginning) -> Option<Timestamp> {
        let (watch, sight) = (&self.config.watch, &self.sight);
        let by_recommendation = watch.rebalance == Rebalance::HandOver && sight.recommended.is_some();
        let by_event = watch.scheduled_events == ScheduledEvents::HandOver && !sight.events.is_empty();
        if !beginning.signal.is_notice() || by_recommendation || by_event || sight.is_in_doubt {
            return None;
        }
        let came_after = |at| beginning.aws_now.checked_sub(beginning.now.since(at) + SLACK);
        let may_be_given = || beginning.first_signal.checked_sub(SHIFTS_AT_MOST);
        sight.absent_until.map_or_else(may_be_given, came_after).ok()
    }

    /// Tells whether a registration of this instance may be under way. This process or the one before has begun an
    /// arrival, or the group has just put the instance into service.
    fn may_be_registering(&self, now: BootInstant) -> bool {
        let by_group = self.sight.put_into_service_at == Some(now);
        let by_us = self.arrival.as_ref().is_some_and(Arrival::may_be_registering);
        let is_coming_back = self.incident_of_this_boot().is_some_and(|it| it.phase == Phase::ComingBack);
        by_group || by_us || is_coming_back || (self.config.arrive.register && !self.sight.absent_before)
    }

    /// The facts that the process before this one has frozen; else those found since the start. An empty list of
    /// registrations is looked up again unless it is trusted: one may have come since.
    pub(super) fn looked_up_for(&self, earlier: Option<&Incident>) -> LookedUp {
        let registrations_of = |it: &Incident| it.registrations.all().map(<[_]>::to_vec);
        // Only the other incident, which is not put right yet, knows where this instance belongs.
        let left = || self.open_incident().and_then(registrations_of);
        let registrations = self.all_known_registrations(earlier.and_then(registrations_of).or_else(left));
        let registrations = registrations.filter(|them| !them.is_empty() || self.trusts_empty);
        let plan = earlier.and_then(|earlier| earlier.plan.clone()).or_else(|| self.looked_up.plan.clone());
        let plan = match &self.sight.lifecycle_state {
            Some(state) => plan.map(|plan| plan.with_member_state(&self.identity.instance_id, state)),
            None => plan,
        };
        LookedUp { registrations, plan, ..self.looked_up.clone() }
    }

    /// The registrations to leave, whatever else is known: those that an open incident has found so far, and those of
    /// an arrival.
    pub(super) fn found_for(&self) -> Vec<Registration> {
        let so_far = self.open_incident().filter(|incident| incident.registrations.all().is_none());
        let so_far = so_far.map(|incident| incident.registrations.known()).unwrap_or_default();
        so_far.iter().chain(self.arrival.iter().flat_map(Arrival::registrations)).cloned().collect()
    }
}

/// The deadline, or an earlier one that the process before this one saw, unless that has passed.
fn shortened(deadline: BootInstant, earlier: BootInstant, now: BootInstant) -> BootInstant {
    if earlier > now { deadline.min(earlier) } else { deadline }
}

/// Tells whether a notice that was gone for a moment is shown again.
fn is_shifted(known: Option<Timestamp>, shown: Option<Timestamp>) -> bool {
    let (Some(known), Some(shown)) = (known, shown) else { return false };
    shown.duration_since(known).unsigned_abs() <= FLAPS_WITHIN
}
