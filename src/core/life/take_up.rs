//! Takes an incident up: what goes on of an earlier one, and what this process knows when it begins.

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
/// A call that an arrival made may still take effect for this long after the handover began: AWS answers a registration
/// within seconds, and a group that attaches an instance registers it some seconds later.
const ARRIVAL_LANDS_WITHIN: Duration = Duration::from_secs(20);

impl Life {
    /// Tells whether what begins belongs to this incident of this boot.
    pub(super) fn goes_on_as(&self, incident: &Incident, beginning: &Beginning) -> bool {
        let (signal, time) = (beginning.signal, beginning.time);
        match incident.signal {
            // The successor that a recommendation had launched is no second one.
            Signal::RebalanceRecommendation if incident.closed() == Some(Closed::Stayed) => signal == Signal::Notice,
            // Gone for some looks only, even if this instance is back meanwhile.
            Signal::Notice if signal == Signal::Notice && is_shifted(incident.time, time) => true,
            _ if incident.is_closed() => false,
            // A withdrawn interruption is over: a notice of another time is another one, with its own deadline. Until anything
            // is put back, one is the first one's, however late: its successor stands in.
            Signal::Notice if incident.was_survived() => false,
            Signal::Notice if incident.outcome.is_some() => true,
            Signal::Notice => is_same_interruption(incident.time, time) && self.handover().is_none(),
            _ => true,
        }
    }

    /// The incident of the notice, event or recommendation that begins, where the machine was rebooted in the midst of it.
    pub(super) fn incident_before_reboot(&self, beginning: &Beginning) -> Option<Incident> {
        let &Beginning { signal, action, time, deadline, aws_now, now, .. } = beginning;
        let event = beginning.event.as_ref().map(|event| &event.id);
        let is_same = |it: &&Incident| match signal {
            _ if it.signal != signal || it.was_survived() => false,
            Signal::Notice => it.id.action == action && it.time == time && time > Some(aws_now),
            Signal::ScheduledEvent => it.event.as_ref() == event,
            Signal::RebalanceRecommendation => beginning.first_signal <= it.begun_at,
            Signal::LifecycleState | Signal::Drill => false,
        };
        let incident = self.incident().filter(is_same)?.clone();
        let booted_at = aws_now.saturating_sub(now.as_duration()).unwrap_or(aws_now);
        Some(incident.after_reboot(self.boot_id.clone(), booted_at, deadline))
    }

    /// The incident as it begins: what `earlier` keeps of the same one goes on. `another` is the one before it in this boot.
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
        let has_same_deadline = |it: &&Incident| !is_another_signal && is_same_interruption(it.time, time);
        let same_deadline = earlier.filter(has_same_deadline).map(|incident| incident.deadline);
        let deadline = same_deadline.map_or(deadline, |earlier| shortened(deadline, earlier, now));
        let mut incident = Incident::new(id, signal, deadline, self.start(beginning, earlier));
        incident.group_takes = self.sight.group_takes;
        incident.time = time;
        // What a drill takes the place of is remembered.
        let before = || another.filter(|_| signal == Signal::Drill).and_then(|another| another.event.clone());
        incident.successors_before = match earlier {
            Some(earlier) => earlier.successors_before.clone(),
            None => another.map(Incident::successors).unwrap_or_default(),
        };
        incident.event = beginning.event.as_ref().map(|event| event.id.clone()).or_else(before);
        incident.planned_before = match earlier {
            // A process that came after the notice may have met the successor in its look-up, and noted it.
            Some(earlier) => earlier.plan.is_some() && earlier.planned_before,
            // The look-ups at a recommendation may have met the successor already.
            None => self.looked_up.plan.is_some() && self.sight.absent_before && self.sight.recommended.is_none(),
        };
        incident.begun_by_notice = match earlier {
            // A notice that comes after the end of the first one's handover has a successor already.
            Some(earlier) => earlier.begun_by_notice && earlier.outcome.is_none(),
            None => signal == Signal::Notice && self.sight.recommended.is_none(),
        };
        incident.recommended = signal == Signal::RebalanceRecommendation
            || earlier.or(another).is_some_and(|incident| incident.recommended);
        if let Some(earlier) = earlier {
            (incident.begun_at, incident.begun) = (earlier.begun_at, earlier.begun);
            // An instance on its way back was told to serve again.
            let is_put_into_service = self.sight.put_into_service_at == Some(now);
            let serves_again = earlier.was_survived() || (is_put_into_service && earlier.outcome.is_some());
            incident.hooks_ended = if serves_again { Vec::new() } else { earlier.hooks_ended.clone() };
            incident.launch = earlier.launch;
            incident.first_boot.clone_from(&earlier.first_boot);
            incident.milestones.clone_from(&earlier.milestones);
            // What was quiet then is not now.
            incident.milestones.retain(|it| !is_put_into_service || it.milestone != MilestoneKind::Quiet);
            incident.told = incident.milestones.len();
        }
        incident
    }

    /// The way in which this process takes the incident up.
    fn start(&self, beginning: &Beginning, earlier: Option<&Incident>) -> Start {
        let &Beginning { signal, aws_now, now, .. } = beginning;
        // What the process before this one has launched is a successor too.
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
            has_handed_over: self.handover().is_some()
                && earlier.is_some_and(|earlier| earlier.phase == Phase::Left && earlier.is_complete()),
            serve_on: earlier.is_some_and(|earlier| earlier.may_have_launched_first(is_weaker)),
        }
    }

    /// The bound on this incident's own launches, where no weaker signal can have had one made: since the last look
    /// that did not show the notice, or since AWS may have given it, however far its time has shifted.
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

    /// True if a registration of this instance may be under way: by an arrival of this process, or of the one before, which
    /// ended in the midst of it, or by the group, which has just put it into service.
    fn may_be_registering(&self, now: BootInstant) -> bool {
        let by_group = self.sight.put_into_service_at == Some(now);
        let by_us = self.arrival.as_ref().is_some_and(Arrival::may_be_registering);
        let is_coming_back = self.incident_of_this_boot().is_some_and(|it| it.phase == Phase::ComingBack);
        by_group || by_us || is_coming_back || (self.config.arrive.register && !self.sight.absent_before)
    }

    /// The facts of the process before this one, which were frozen then; else those found since the start. An empty list of
    /// registrations is looked up again: one may have come since.
    pub(super) fn looked_up_for(&self, earlier: Option<&Incident>) -> LookedUp {
        let registrations_of = |it: &Incident| it.registrations.all().map(<[_]>::to_vec);
        // Of another incident that is not put right yet: where this instance belongs is known from there alone.
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

    /// Registrations to be left, whatever else is known: those that an open incident has found so far, and those of the
    /// groups in which an arrival registers this instance.
    pub(super) fn found_for(&self) -> Vec<Registration> {
        let so_far = self.open_incident().filter(|incident| incident.registrations.all().is_none());
        let so_far = so_far.map(|incident| incident.registrations.known()).unwrap_or_default();
        so_far.iter().chain(self.arrival.iter().flat_map(Arrival::registrations)).cloned().collect()
    }
}

/// The earlier process may have seen an earlier time; one that has passed says nothing.
fn shortened(deadline: BootInstant, earlier: BootInstant, now: BootInstant) -> BootInstant {
    if earlier > now { deadline.min(earlier) } else { deadline }
}

/// A notice that was survived for a moment is shown again.
fn is_shifted(known: Option<Timestamp>, seen: Option<Timestamp>) -> bool {
    let (Some(known), Some(seen)) = (known, seen) else { return false };
    seen.duration_since(known).unsigned_abs() <= FLAPS_WITHIN
}
