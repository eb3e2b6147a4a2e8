//! Decides which signal begins a handover, and which belongs to one under way or done: one incident, one handover.

use std::time::Duration;

use jiff::Timestamp;

use super::Life;
use super::held::Held;
use crate::core::arrival::{self, Arrival};
use crate::core::config::{ScheduledEvents, TargetGroups};
use crate::core::handover::{Handover, HandoverSettings, LookedUp};
use crate::core::incident::{Incident, Phase, Registrations, Takes};
use crate::core::model::{Action, BootInstant, MilestoneKind, ScheduledEvent, Signal};
use crate::core::notice::{self, FirstSight, Notice, TWO_MINUTES};

/// The most that a notice's time can shift: no two interruptions are as close, and no shift ever seen was as large.
pub(super) const SHIFTS_AT_MOST: Duration = Duration::from_secs(120);
/// A successor is waited for this long on a mere recommendation. Until it is healthy this instance serves.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// The handover of a scheduled event begins this long before the event.
const LEAD: Duration = Duration::from_secs(10 * 60);
/// The longest drain when a group terminates this instance, not counting the user's commands.
const DRAINS_AT_MOST: Duration = Duration::from_secs(60 * 60);
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);
/// An instance that is alive this long after its deadline was not ended by it: AWS takes seconds at most.
const OUTLIVES_AFTER: Duration = Duration::from_secs(30);

/// A signal with which a handover begins.
pub(super) struct Beginning {
    pub(super) signal: Signal,
    pub(super) action: Option<Action>,
    pub(super) time: Option<Timestamp>,
    pub(super) event: Option<ScheduledEvent>,
    pub(super) deadline: BootInstant,
    /// AWS's time at the signal's first sight, or before.
    pub(super) first_signal: Timestamp,
    pub(super) aws_now: Timestamp,
    pub(super) now: BootInstant,
}

impl Life {
    pub(super) fn notice_stands(&mut self, notice: Notice, aws_now: Timestamp, at: BootInstant) {
        if self.is_over(notice, at) {
            return;
        }
        let by_first_sight = self.aws_now_by_first_sight(notice, at);
        let corrects = by_first_sight.is_none();
        let aws_now = by_first_sight.unwrap_or(aws_now);
        if let Some(handover) = self.held.open_handover() {
            if corrects {
                handover.incident_mut().correct_time(aws_now, at);
            }
            let before = (handover.incident().deadline, handover.incident().id.action, handover.incident().signal);
            handover.noticed(notice.action, notice.time, notice.deadline(aws_now, at), at);
            let incident = handover.incident();
            let nearer = before.0.since(incident.deadline) > Duration::from_secs(2);
            let other_action = before.1.is_some_and(|action| action != notice.action);
            if before.2 == Signal::Notice && (nearer || other_action) && self.told_change != Some(notice) {
                self.told_change = Some(notice);
                let left = incident.deadline.since(at).as_secs_f64();
                let text = format!("the notice has changed ({notice}): the same interruption; {left:.0} s left");
                self.remark(text);
            }
            return;
        }
        if self.is_told_of(notice, aws_now, at) {
            return;
        }
        match notice.first_sight(aws_now, at, self.sight.absent_before) {
            FirstSight::Survived { past } => self.notice_is_stale(notice, past, at),
            FirstSight::New { deadline } => {
                self.stale = None;
                self.begin_by_notice(notice, deadline, aws_now, at);
            }
        }
    }

    /// Hands over again, because the group has put this instance into service while a notice stands, out of Standby or
    /// from outside. Nothing that was done before still holds.
    pub(super) fn serves_under_a_notice(&mut self, at: BootInstant) {
        let stands = |it: &&Incident| it.signal == Signal::Notice && !it.was_survived() && !it.is_terminating();
        let deadline = self.incident_of_this_boot().filter(stands).map(|it| it.deadline).filter(|it| at < *it);
        let notice = self.sight.notice.filter(|_| self.may_stand());
        if let (Some(notice), Some(deadline), Some(aws_now)) = (notice, deadline, self.aws_now(at)) {
            self.sight.put_into_service_at = Some(at);
            self.begin_by_notice(notice, deadline, aws_now, at);
        }
    }

    fn begin_by_notice(&mut self, notice: Notice, deadline: BootInstant, aws_now: Timestamp, at: BootInstant) {
        let first_signal = notice.time.map_or(aws_now, |time| time.min(aws_now + TWO_MINUTES)) - TWO_MINUTES;
        self.begin_handover(Beginning {
            signal: Signal::Notice,
            action: Some(notice.action),
            time: notice.time,
            event: None,
            deadline,
            first_signal,
            aws_now,
            now: at,
        });
        if self.dry_run {
            self.over = Some(notice);
        }
    }

    /// AWS's time, counted from the first sight of this notice in this process or the one before. The deadline runs on
    /// the boot clock from there: wrong dates do not move it, only the notice's own time does. `None` at the first
    /// sight, and if the clock was in doubt then.
    fn aws_now_by_first_sight(&self, notice: Notice, at: BootInstant) -> Option<Timestamp> {
        let incident = self.incident_of_this_boot().filter(|it| it.goes_on() && !self.sight.was_in_doubt)?;
        let is_same = is_same_interruption(Some(incident.time?), Some(notice.time?));
        is_same.then(|| incident.aws_time_of(at))
    }

    /// Tells whether the notice was dealt with, by this process or by one before, whatever any clock of AWS's says.
    fn is_over(&self, notice: Notice, at: BootInstant) -> bool {
        // A notice without a time is the incident's only if it stood before this process began.
        let is_known = |incident: &Incident| match incident.time {
            Some(time) => notice.time == Some(time),
            None => incident.signal == Signal::Notice && notice.time.is_none() && !self.sight.absent_before,
        };
        let was_survived = |it: &Incident| it.is_closed() && is_known(it) && at > it.deadline;
        self.over == Some(notice)
            || self.incident_of_this_boot().is_some_and(was_survived)
            || self.over.is_some_and(|over| over.time.is_some() && is_same_interruption(over.time, notice.time))
    }

    /// Tells whether nothing is left to do for this notice: the group's termination, or the same notice, was handed
    /// over for. After a recommendation or a scheduled event, everything is gone through again, because minutes or
    /// hours have passed. As after a restart, what is still done needs no call.
    fn is_told_of(&mut self, notice: Notice, aws_now: Timestamp, at: BootInstant) -> bool {
        let is_live = self.handover().is_some();
        let Some(incident) = self.incident_of_this_boot().filter(|it| it.phase == Phase::Left) else {
            return false;
        };
        if incident.signal == Signal::Notice || incident.time.is_some() {
            // An instance that its group terminates is not handed over twice, whichever process did it first.
            let was_seen_through = is_live && incident.was_seen_through();
            return (was_seen_through || incident.is_terminating()) && is_same_interruption(incident.time, notice.time);
        }
        // The instance has left its target groups, and its group decides: the notice is only noted.
        if incident.signal != Signal::LifecycleState {
            return false;
        }
        let deadline = notice.deadline(aws_now, at);
        self.change_incident(|incident| {
            incident.time = notice.time;
            incident.id.action = Some(notice.action);
            incident.deadline = deadline;
        });
        let message = format!("AWS will {} this instance, which has handed over already", notice.action);
        self.reach(MilestoneKind::Noticed, message, at);
        true
    }

    /// Deals with a notice whose interruption was withdrawn long ago. With an incident this instance is a survivor;
    /// without one it may still have the leaving tag. AWS's time may prove wrong: a stale notice is judged again at
    /// each look, and told once.
    fn notice_is_stale(&mut self, notice: Notice, past: Duration, at: BootInstant) {
        let is_told = self.stale.is_some_and(|stale| is_same_interruption(stale.time, notice.time));
        self.stale = Some(notice);
        if is_told {
            return;
        }
        // An open incident, also from before a boot, is put right anyway.
        if self.open_incident().is_some() {
            return;
        }
        let closed = self.incident_of_this_boot().is_some();
        let then = if closed { "it was dealt with before" } else { "spot-relay has no record of a handover for it" };
        self.warn(format!(
            "the metadata holds a notice ({notice}) that is {:.0} s in the past: the interruption was withdrawn \
             and this instance lives on; {then}",
            past.as_secs_f64()
        ));
        if !closed && !self.dry_run && self.arrival.is_none() {
            let readiness = self.config.arrive.ready.clone();
            let identity = self.identity.clone();
            let errand = arrival::Errand::StayOut;
            self.arrival = Some(Arrival::after_handover(errand, identity, readiness, Vec::new(), None, at));
            self.epoch += 1;
        }
    }

    pub(super) fn group_terminates(&mut self, takes: Takes, at: BootInstant) {
        let deadline = at + self.drains_within();
        if let Some(handover) = self.held.open_handover() {
            handover.group_terminates(takes, deadline, at);
            return;
        }
        // The handover is over, in this process or the one before.
        let was_seen = |it: &Incident| it.is_terminating() && it.outcome.is_some() && !it.is_closed();
        if self.incident_of_this_boot().is_some_and(was_seen) {
            return;
        }
        self.begin_by_group(at);
    }

    fn begin_by_group(&mut self, at: BootInstant) {
        let aws_now = self.aws_now(at).unwrap_or(Timestamp::UNIX_EPOCH);
        self.begin_handover(Beginning {
            signal: Signal::LifecycleState,
            action: Some(Action::Terminate),
            time: None,
            event: None,
            deadline: at + self.drains_within(),
            first_signal: aws_now,
            aws_now,
            now: at,
        });
    }

    /// Begins the handover of the group's termination, if the notice has ended nothing. The termination hooks that its
    /// handover could not complete open only after the deregistration delay.
    pub(super) fn go_on_by_group(&mut self, now: BootInstant) {
        if self.outlives_at().is_some_and(|at| now >= at) {
            self.over = self.sight.notice;
            self.begin_by_group(now);
        }
    }

    pub(super) fn outlives_at(&self) -> Option<BootInstant> {
        let was_cut_short = |it: &&Incident| {
            let is_timed = it.signal == Signal::Notice || it.time.is_some();
            is_timed && it.is_terminating() && it.phase == Phase::Left && !it.is_complete()
        };
        let incident = self.incident_of_this_boot().filter(was_cut_short)?;
        (self.sight.is_terminating() && self.arrival.is_none()).then(|| incident.deadline + OUTLIVES_AFTER)
    }

    /// The time that the load balancer lets requests finish, plus what the hooks and the quiet time need.
    fn drains_within(&self) -> Duration {
        let delays =
            self.looked_up.registrations.iter().flatten().map(|registration| registration.deregistration_delay);
        let longest = delays.max().unwrap_or(DEFAULT_DRAIN).min(DRAINS_AT_MOST);
        let leave = &self.config.leave;
        (longest + leave.settle.max(leave.quiet_for) + leave.reserve + self.config.hooks.timeout * 2).max(TWO_MINUTES)
    }

    /// Begins what was announced before: a recommendation that waited for an arrival, or a scheduled event.
    pub(super) fn begin_what_is_announced(&mut self, now: BootInstant) {
        let arrives = self.arrival.as_ref().is_some_and(|arrival| arrival.holds_up(now));
        let busy = self.handover().is_some() || arrives || !self.sight.absent_before;
        if busy || !self.sight.notice_absent.has_begun() || self.sight.is_terminating() {
            return;
        }
        let Some(aws_now) = self.aws_now(now) else { return };
        let announced = [self.recommendation_that_begins(aws_now, now), self.event_that_begins(aws_now, now)];
        let Some(beginning) = announced.into_iter().flatten().find(|beginning| self.may_begin(beginning)) else {
            return;
        };
        match &beginning.event {
            Some(event) => _ = self.events_done.insert(event.id.clone()),
            None => self.sight.recommendation_is_done = true,
        }
        self.begin_handover(beginning);
    }

    /// Tells whether nothing comes first. An open incident of this boot, or of the one before, is put right first. A
    /// handover that the process before this one began goes on, also across a reboot.
    fn may_begin(&self, beginning: &Beginning) -> bool {
        let goes_on = |it: &Incident| it.goes_on() && it.signal == beginning.signal;
        self.open_incident().is_none_or(|open| match open.id.boot_id == self.boot_id {
            true => goes_on(open),
            false => self.incident_before_reboot(beginning).is_some(),
        })
    }

    fn recommendation_that_begins(&self, aws_now: Timestamp, now: BootInstant) -> Option<Beginning> {
        // A recommendation older than the last survived interruption belongs to that interruption. A drill is none.
        let of_aws = self.incident_of_this_boot().filter(|incident| incident.signal != Signal::Drill);
        let is_told = |time: Timestamp| of_aws.is_some_and(|incident| time <= incident.told_until());
        let is_news = |time: &Timestamp| !self.sight.recommendation_is_done && !is_told(*time);
        let recommended = self.sight.recommended.filter(is_news)?;
        Some(Beginning {
            signal: Signal::RebalanceRecommendation,
            action: None,
            time: None,
            event: None,
            deadline: now + PATIENCE,
            first_signal: recommended.min(aws_now),
            aws_now,
            now,
        })
    }

    fn event_that_begins(&self, aws_now: Timestamp, now: BootInstant) -> Option<Beginning> {
        let (event, not_before) = self.next_event().filter(|(_, at)| aws_now + LEAD >= *at)?;
        let left = Duration::try_from(not_before.duration_since(aws_now)).unwrap_or_default();
        // A reboot since then changes nothing: the successor may be from before it.
        let before = self.incident().filter(|it| it.event.as_ref() == Some(&event.id)).map(|it| it.begun_at);
        Some(Beginning {
            signal: Signal::ScheduledEvent,
            action: notice::action_of(&event),
            time: None,
            deadline: event_deadline(now + left, now),
            event: Some(event),
            first_signal: before.map_or(aws_now, |before| before.min(aws_now)),
            aws_now,
            now,
        })
    }

    /// The next scheduled event that is to be handed over for.
    fn next_event(&self) -> Option<(ScheduledEvent, Timestamp)> {
        if self.config.watch.scheduled_events != ScheduledEvents::HandOver {
            return None;
        }
        let events = self.sight.events.iter().filter(|event| self.is_to_come(event));
        events.filter_map(|event| Some((event.clone(), event.not_before?))).min_by_key(|(_, not_before)| *not_before)
    }

    /// Tells whether an event stands, and nothing is done for it yet.
    pub(super) fn is_to_come(&self, event: &ScheduledEvent) -> bool {
        event.active && !self.events_done.contains(&event.id) && !self.has_come_to_pass(event)
    }

    /// Tells whether a reboot was due before this boot: it is over, though the metadata may show it for an hour more.
    fn has_come_to_pass(&self, event: &ScheduledEvent) -> bool {
        let Some((aws, boot)) = self.sight.clocks else { return false };
        let is_before = |not_before: Timestamp| not_before < boot.booted_at(aws);
        notice::action_of(event) == Some(Action::Reboot) && event.not_before.is_some_and(is_before)
    }

    pub(super) fn event_begins_at(&self) -> Option<BootInstant> {
        let (aws, boot) = self.sight.clocks?;
        let (_, not_before) = self.next_event()?;
        let left = Duration::try_from(not_before.duration_since(aws)).unwrap_or_default();
        Some(boot + left.saturating_sub(LEAD)).filter(|begins| *begins > boot)
    }

    pub(super) fn begin_handover(&mut self, beginning: Beginning) {
        // An incident of this boot goes on, if the process before this one or a weaker signal has begun the same.
        let before = self.incident_of_this_boot().cloned().or_else(|| self.incident_before_reboot(&beginning));
        let (earlier, another) = match before {
            Some(incident) if self.goes_on_as(&incident, &beginning) => (Some(incident), None),
            other => (None, other),
        };
        let now = beginning.now;
        let mut incident = self.incident_that_begins(&beginning, earlier.as_ref(), another.as_ref());
        let looked_up = self.looked_up_for(earlier.as_ref());
        incident.registrations = Registrations::SoFar(self.found_for());
        let settings = HandoverSettings {
            leave: self.config.leave.clone(),
            hooks: self.config.hooks.clone(),
            lists_target_groups: matches!(self.config.target_groups, TargetGroups::Listed(_)),
        };
        if self.dry_run {
            self.say_what_would_be_done(incident, settings, looked_up, now);
            return;
        }
        // An arrival that gives way here takes place once this signal has led to nothing.
        self.is_to_arrive |= self.arrival.take().is_some_and(|arrival| arrival.errand() == arrival::Errand::Arrive);
        self.epoch += 1;
        self.sight.event_absent.ends();
        self.stood_still = false;
        self.take_untold();
        self.held = Held::Handover(Box::new(Handover::begin(incident, settings, looked_up, now)));
        self.incident_is_ours = true;
    }

    fn say_what_would_be_done(
        &mut self,
        incident: Incident,
        settings: HandoverSettings,
        looked_up: LookedUp,
        now: BootInstant,
    ) {
        let mut handover = Handover::begin(incident, settings, looked_up, now);
        let due = handover.due(now);
        for milestone in handover.take_milestones() {
            self.remark(format!("dry run: {}", milestone.message));
        }
        for due in due {
            self.remark(format!("dry run: would begin with {}", due.call));
        }
        self.remark("dry run: nothing was written to AWS, and nothing more is said of this signal");
    }

    pub(super) fn reach(&mut self, kind: MilestoneKind, message: impl Into<String>, at: BootInstant) {
        self.tell(arrival::milestone(kind, at, message.into(), None));
    }
}

/// The deadline of an event's handover that is taken up now. AWS may begin hours after the event's time, so one that is
/// near or past leaves two minutes for the successor.
pub(super) fn event_deadline(not_before: BootInstant, taken_up: BootInstant) -> BootInstant {
    not_before.max(taken_up + TWO_MINUTES)
}

/// Tells whether two times are of one interruption: a notice's time can shift and its action change between two looks.
pub(super) fn is_same_interruption(known: Option<Timestamp>, shown: Option<Timestamp>) -> bool {
    match (known, shown) {
        (Some(known), Some(shown)) => shown.duration_since(known).unsigned_abs() <= SHIFTS_AT_MOST,
        _ => true,
    }
}
