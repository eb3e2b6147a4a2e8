//! The looks at the metadata, and the remarks about them: what each look adds to the signals so far.

use std::time::Duration;

use jiff::Timestamp;

use super::Life;
use super::begin::event_deadline;
use super::sight::Remark;
use crate::core::config::{Rebalance, ScheduledEvents};
use crate::core::incident::{Incident, Takes};
use crate::core::model::{BootInstant, MilestoneKind, ScheduledEvent, Signal};
use crate::core::notice::{Notice, Recommendation};

/// The least time for the rest of a handover whose event has moved to now.
const EVENT_LEAVES_AT_LEAST: Duration = Duration::from_secs(30);
/// An absence of the notice that is longer than this is no fault of the metadata.
const TIME_THAT_IS_NO_FAULT: Duration = Duration::from_secs(1);

impl Life {
    /// Sets whether AWS's time at the next looks is only the wall clock's, because no date of AWS is believed yet.
    pub fn time_is_in_doubt(&mut self, is_in_doubt: bool) {
        self.sight.is_in_doubt = is_in_doubt;
    }

    /// Takes a look at `spot/instance-action`. `aws_now` is AWS's time of the look, `at` the boot clock's.
    pub fn saw_notice(&mut self, notice: Option<Notice>, aws_now: Timestamp, at: BootInstant) {
        self.sight.clocks = Some((aws_now, at));
        self.sight.notice = notice;
        match notice {
            Some(notice) => {
                self.sight.notice_absent.ends();
                self.notice_stands(notice, aws_now, at);
                self.sight.was_in_doubt = self.sight.is_in_doubt;
            }
            None => {
                self.sight.absent_before = true;
                self.sight.notice_absent.goes_on(at);
                if self.sight.notice_absent.lasted >= TIME_THAT_IS_NO_FAULT {
                    self.sight.absent_until = Some(at);
                }
                if self.sight.notice_absent.withdraws() {
                    (self.over, self.stale) = (None, None);
                }
            }
        }
        self.sight.has_looked = true;
    }

    /// Takes a look at `events/recommendations/rebalance`.
    pub fn saw_recommendation(&mut self, recommendation: Recommendation, at: BootInstant) {
        let Recommendation::Given(time) = recommendation else {
            self.sight.recommendation_absent.goes_on(at);
            if self.sight.recommendation_absent.withdraws() {
                self.sight.recommended = None;
                self.sight.recommendation_is_done = false;
            }
            return;
        };
        self.sight.recommendation_absent.ends();
        if self.sight.recommended.is_some() || self.config.watch.rebalance == Rebalance::Ignore {
            return;
        }
        self.sight.recommended = time.or_else(|| self.aws_now(at)).or(Some(Timestamp::UNIX_EPOCH));
        self.wants_look_up = true;
        let once =
            self.incident_of_this_boot().is_some_and(|incident| incident.recommended && !incident.is_open_ended());
        let hands_over = self.config.watch.rebalance == Rebalance::HandOver && !once;
        self.sight.recommendation_is_done = !hands_over;
        if !hands_over {
            let again = if once {
                "; spot-relay hands over for a recommendation only once a boot, and has done so"
            } else {
                ""
            };
            let message = format!(
                "AWS recommends to rebalance: this instance is at a higher risk; everything is looked up again{again}"
            );
            self.reach(MilestoneKind::Recommended, message, at);
        }
    }

    /// Takes a look at `autoscaling/target-lifecycle-state`; `None` is a 404.
    pub fn saw_lifecycle_state(&mut self, state: Option<&str>, at: BootInstant) {
        let state = state.map(str::trim).filter(|state| !state.is_empty());
        match state {
            Some(_) => self.sight.state_absent.ends(),
            None => self.sight.state_absent.goes_on(at),
        }
        let was_terminating = self.sight.is_terminating();
        let takes = self.takes(state).filter(|_| self.config.watch.lifecycle);
        let is_another = state.is_some() && state != self.sight.told_state.as_deref();
        // Somebody has moved this instance into a group, out of one, or within it. A handover of ours does that too.
        self.wants_look_up |=
            is_another && takes.is_none() && self.sight.knows_lifecycle && self.open_incident().is_none();
        if is_another {
            self.sight.told_state = state.map(str::to_owned);
        }
        let enters_service = is_another && self.sight.knows_lifecycle && state == Some("InService");
        self.sight.knows_lifecycle = true;
        self.sight.was_in_service |= state == Some("InService");
        if takes.is_none() {
            self.sight.not_taken.goes_on(at);
            // One look without the state ends neither a termination nor a wait in Standby or in the warm pool.
            let is_told = state.is_some() || self.sight.state_absent.withdraws();
            if is_told && (!was_terminating || self.sight.not_taken.withdraws()) {
                self.sight.lifecycle_state = state.map(str::to_owned);
                self.sight.group_takes = None;
            }
            if enters_service {
                self.serves_under_a_notice(at);
            }
            return;
        }
        self.sight.not_taken.ends();
        self.sight.lifecycle_state = state.map(str::to_owned);
        self.sight.group_takes = takes;
        if let (false, Some(takes)) = (was_terminating, takes) {
            self.group_terminates(takes, at);
        }
    }

    /// The place to which the group takes this instance. New instances wait in the warm pool; others go back there.
    fn takes(&self, state: Option<&str>) -> Option<Takes> {
        let leaving = |it: &Incident| it.signal == Signal::LifecycleState && !it.is_closed();
        let served = self.sight.was_in_service || self.incident_of_this_boot().is_some_and(leaving);
        match state? {
            "Terminated" | "Warmed:Terminated" => Some(Takes::ToItsEnd),
            state if state.starts_with("Warmed:") && served => Some(Takes::IntoPool),
            _ => None,
        }
    }

    /// Takes a look at `events/maintenance/scheduled`.
    pub fn saw_scheduled_events(&mut self, events: Vec<ScheduledEvent>, at: BootInstant) {
        if self.config.watch.scheduled_events == ScheduledEvents::Ignore {
            return;
        }
        let is_news = |event: &&ScheduledEvent| !self.sight.events.iter().any(|known| known == *event);
        let remarks: Vec<Remark> = events.iter().filter(is_news).filter_map(|event| self.words_of(event)).collect();
        self.remarks.extend(remarks);
        let ours = self.incident_of_this_boot().and_then(|incident| incident.event.clone());
        let active = |id: &String| events.iter().any(|event| event.active && event.id == *id);
        match ours {
            Some(id) if !active(&id) => self.sight.event_absent.goes_on(at),
            _ => self.sight.event_absent.ends(),
        }
        (self.sight.events, self.sight.knows_events) = (events, true);
        self.follow_the_event(at);
    }

    /// Shortens the deadline if the event of the handover has moved nearer.
    fn follow_the_event(&mut self, at: BootInstant) {
        let incident = self.incident_of_this_boot().filter(|it| it.signal == Signal::ScheduledEvent);
        let ours = incident.and_then(|incident| incident.event.as_ref());
        let event = self.sight.events.iter().find(|event| event.active && Some(&event.id) == ours);
        let not_before = event.and_then(|event| event.not_before);
        if let (Some(not_before), Some(aws_now)) = (not_before, self.aws_now(at)) {
            let left = Duration::try_from(not_before.duration_since(aws_now)).unwrap_or_default();
            if let Some(handover) = self.held.open_handover() {
                let (_, taken_up) = handover.incident().start.clocks;
                let deadline = event_deadline(at + left, taken_up);
                handover.has_to_end_by(deadline.max(at + EVENT_LEAVES_AT_LEAST));
            }
        }
    }

    fn words_of(&self, event: &ScheduledEvent) -> Option<Remark> {
        let ScheduledEvent { code, id, .. } = event;
        let known = self.sight.events.iter().any(|known| known.id == *id);
        if !event.active {
            return known
                .then(|| Remark::Info(format!("the scheduled event {code} ({id}) has ended or was cancelled")));
        }
        let when = event
            .not_before
            .map_or_else(|| "at a time that could not be read".to_owned(), |it| format!("not before {it}"));
        let then = match self.config.watch.scheduled_events {
            ScheduledEvents::HandOver if !self.is_to_come(event) => "nothing more is done about it",
            ScheduledEvents::HandOver if event.not_before.is_some() => "this instance hands over shortly before",
            _ => "nothing is done about it ([watch] scheduled-events)",
        };
        Some(Remark::Warn(format!("AWS has scheduled {code} for this instance, {when} ({id}); {then}")))
    }
}
