//! What the metadata has shown so far, look by look, and what a person is told of it.

use jiff::Timestamp;

use super::{Life, Remark};
use crate::core::config::{Rebalance, ScheduledEvents};
use crate::core::model::{BootInstant, MilestoneKind, ScheduledEvent, Signal};
use crate::core::notice::Notice;

/// So many looks in a row without it, and a signal that stood is withdrawn: one 404 among answers is a fault of the
/// metadata.
pub(super) const LOOKS_THAT_WITHDRAW: u32 = 3;

#[derive(Default)]
pub(super) struct Sight {
    /// AWS's time and the boot clock at the last look that told.
    pub(super) clocks: Option<(Timestamp, BootInstant)>,
    pub(super) has_looked: bool,
    /// The notice that stands.
    pub(super) notice: Option<Notice>,
    /// A look of this process was answered with 404.
    pub(super) absent_before: bool,
    /// Looks in a row that were answered so.
    pub(super) absent_looks: u32,
    /// The recommendation that stands: AWS's time of it.
    pub(super) recommended: Option<Timestamp>,
    pub(super) recommendation_absent: u32,
    /// It has been acted on, or it is not to be.
    pub(super) recommendation_is_done: bool,
    pub(super) lifecycle_state: Option<String>,
    /// Looks in a row at another state than `Terminated`.
    pub(super) not_terminated: u32,
    pub(super) events: Vec<ScheduledEvent>,
    /// Of the event that a handover is about.
    pub(super) event_absent: u32,
    /// This process wants a drill to go on.
    pub(super) drill_stands: bool,
}

/// What the metadata says of rebalancing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recommendation {
    Absent,
    /// With its time, where it could be read.
    Given(Option<Timestamp>),
}

impl Sight {
    pub(super) fn notice_is_withdrawn(&self) -> bool {
        self.absent_looks >= LOOKS_THAT_WITHDRAW
    }

    /// Whether a signal that stood is gone. A group that has begun to terminate an instance never goes back.
    pub(super) fn is_gone(&self, signal: Signal) -> bool {
        match signal {
            _ if self.is_terminating() => false,
            Signal::Notice => self.notice_is_withdrawn(),
            Signal::RebalanceRecommendation => self.recommendation_absent >= LOOKS_THAT_WITHDRAW,
            Signal::LifecycleState => self.not_terminated >= LOOKS_THAT_WITHDRAW,
            Signal::ScheduledEvent => self.event_absent >= LOOKS_THAT_WITHDRAW,
            Signal::Drill => !self.drill_stands,
        }
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.lifecycle_state.as_deref() == Some("Terminated")
    }
}

impl Life {
    /// A look at `spot/instance-action`. `aws_now` is AWS's time of it, `at` the boot clock's.
    pub fn saw_notice(&mut self, notice: Option<Notice>, aws_now: Timestamp, at: BootInstant) {
        self.sight.clocks = Some((aws_now, at));
        self.sight.notice = notice;
        match notice {
            Some(notice) => {
                self.sight.absent_looks = 0;
                self.notice_stands(notice, aws_now, at);
            }
            None => {
                self.sight.absent_before = true;
                self.sight.absent_looks = self.sight.absent_looks.saturating_add(1);
                if self.sight.notice_is_withdrawn() {
                    self.over = None;
                }
            }
        }
        self.sight.has_looked = true;
    }

    /// A look at `events/recommendations/rebalance`.
    pub fn saw_recommendation(&mut self, recommendation: Recommendation, at: BootInstant) {
        let Recommendation::Given(time) = recommendation else {
            self.sight.recommendation_absent = self.sight.recommendation_absent.saturating_add(1);
            if self.sight.recommendation_absent >= LOOKS_THAT_WITHDRAW {
                self.sight.recommended = None;
                self.sight.recommendation_is_done = false;
            }
            return;
        };
        self.sight.recommendation_absent = 0;
        if self.sight.recommended.is_some() || self.config.watch.rebalance == Rebalance::Ignore {
            return;
        }
        self.sight.recommended = time.or_else(|| self.aws_now(at)).or(Some(Timestamp::UNIX_EPOCH));
        self.wants_look_up = true;
        let once = self.record_of_this_boot().is_some_and(|record| record.recommended && !record.is_open_ended());
        let hands_over = self.config.watch.rebalance == Rebalance::HandOver && !once;
        self.sight.recommendation_is_done = !hands_over;
        if !hands_over {
            let again = if once { "; a handover by recommendation takes place once a boot" } else { "" };
            let message = format!(
                "AWS recommends to rebalance: this instance is at a higher risk; looking everything up anew{again}"
            );
            self.reach(MilestoneKind::Recommended, message, at);
        }
    }

    /// A look at `autoscaling/target-lifecycle-state`; `None` is a 404.
    pub fn saw_lifecycle_state(&mut self, state: Option<&str>, at: BootInstant) {
        let state = state.map(str::trim).filter(|state| !state.is_empty());
        let was_terminating = self.sight.is_terminating();
        if state != Some("Terminated") {
            self.sight.not_terminated = self.sight.not_terminated.saturating_add(1);
            // An absent state says nothing of one that was there.
            if !was_terminating || self.sight.not_terminated >= LOOKS_THAT_WITHDRAW {
                self.sight.lifecycle_state = state.map(str::to_owned);
            }
            return;
        }
        self.sight.not_terminated = 0;
        self.sight.lifecycle_state = state.map(str::to_owned);
        if !was_terminating && self.config.watch.lifecycle {
            self.group_terminates(at);
        }
    }

    /// A look at `events/maintenance/scheduled`.
    pub fn saw_scheduled_events(&mut self, events: Vec<ScheduledEvent>, _at: BootInstant) {
        if self.config.watch.scheduled_events == ScheduledEvents::Ignore {
            return;
        }
        let is_news = |event: &&ScheduledEvent| !self.sight.events.iter().any(|known| known == *event);
        let remarks: Vec<Remark> = events.iter().filter(is_news).filter_map(|event| self.words_of(event)).collect();
        self.remarks.extend(remarks);
        let ours = self.record_of_this_boot().and_then(|record| record.event.clone());
        let active = |id: &String| events.iter().any(|event| event.active && event.id == *id);
        match ours {
            Some(id) if !active(&id) => self.sight.event_absent = self.sight.event_absent.saturating_add(1),
            _ => self.sight.event_absent = 0,
        }
        self.sight.events = events;
    }

    fn words_of(&self, event: &ScheduledEvent) -> Option<Remark> {
        let ScheduledEvent { code, id, .. } = event;
        let known = self.sight.events.iter().any(|known| known.id == *id);
        if !event.active {
            return known.then(|| Remark::Info(format!("the scheduled event {code} ({id}) is over, or off")));
        }
        let when = event
            .not_before
            .map_or_else(|| "at a time that could not be read".to_owned(), |it| format!("not before {it}"));
        let then = match self.config.watch.scheduled_events {
            ScheduledEvents::HandOver if event.not_before.is_some() => {
                "this instance hands over shortly before".to_owned()
            }
            _ => "nothing is done about it ([watch] scheduled-events)".to_owned(),
        };
        Some(Remark::Warn(format!("AWS has scheduled {code} for this instance, {when} ({id}); {then}")))
    }
}
