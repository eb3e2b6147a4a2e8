//! Which signal begins a handover, and which belongs to one that is under way or done: one incident, one handover.

use std::time::Duration;

use jiff::Timestamp;

use super::sight::Takes;
use super::{Closed, Life, Record};
use crate::core::arrival::{self, Arrival};
use crate::core::config::ScheduledEvents;
use crate::core::handover::{Handover, Known, Settings};
use crate::core::incident::Incident;
use crate::core::model::{Action, BootInstant, IncidentId, MilestoneKind, ScheduledEvent, Signal};
use crate::core::notice::{self, FirstSight, Notice, TWO_MINUTES};

/// Less than two interruptions can be apart, and more than a notice's time was ever seen to shift.
const SHIFTS_AT_MOST: Duration = Duration::from_secs(120);
/// A notice that was gone for some looks and comes back is the same one if its time has shifted by no more than this.
const FLAPS_WITHIN: Duration = Duration::from_secs(20);
/// A member launched so long before the first signal may be the successor all the same: AWS's clocks and ours.
const SLACK: Duration = Duration::from_secs(30);
/// How long a successor is waited for on a mere recommendation. Until it is healthy this instance serves.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// The handover of a scheduled event begins so long before it.
const LEAD: Duration = Duration::from_secs(10 * 60);
/// A group terminates this instance: draining may take at the most, beside the commands of the user's.
const DRAINS_AT_MOST: Duration = Duration::from_secs(60 * 60);
/// How long after the beginning a call that an arrival made before may still land: AWS answers a registration within seconds,
/// and a group that attaches an instance registers it some seconds later.
const ARRIVAL_LANDS_WITHIN: Duration = Duration::from_secs(20);
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);
/// AWS ends an interrupted instance within seconds of the time announced. One that is alive so long after it was withdrawn.
const OUTLIVES_AFTER: Duration = Duration::from_secs(30);

/// The news in a signal.
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
        if let Some(handover) = self.handover.as_mut().filter(|handover| handover.outcome().is_none()) {
            if corrects {
                handover.correct_time(aws_now, at);
                self.record.iter_mut().for_each(|record| record.correct_time(aws_now, at));
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
            self.note_handover();
            return;
        }
        if self.is_told_of(notice, aws_now, at) {
            return;
        }
        match notice.first_sight(aws_now, at, self.sight.absent_before) {
            FirstSight::Survived { past } => self.notice_is_stale(notice, past, at),
            FirstSight::New { deadline } => {
                self.stale = None;
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
        }
    }

    /// AWS's time by the first sight of this notice, be it of the process before this one. The deadline runs on the boot clock
    /// from there: dates that go wrong later move nothing, and only the notice's own time does. `None` at the first sight, and
    /// where that was by a clock in doubt.
    fn aws_now_by_first_sight(&self, notice: Notice, at: BootInstant) -> Option<Timestamp> {
        let is_open = |record: &&Record| record.outcome.is_none() && record.closed.is_none() && !record.survived;
        let record = self.record_of_this_boot().filter(is_open).filter(|_| !self.sight.was_in_doubt)?;
        let is_same = is_same_interruption(Some(record.time?), Some(notice.time?));
        is_same.then(|| record.aws_time_of(at))
    }

    /// Tells whether the notice was dealt with, by this process or by one before, whatever any clock of AWS's says.
    fn is_over(&self, notice: Notice, at: BootInstant) -> bool {
        // A notice without a time is the record's only if it stood before this process.
        let is_known = |record: &Record| match record.time {
            Some(time) => notice.time == Some(time),
            None => record.signal == Signal::Notice && notice.time.is_none() && !self.sight.absent_before,
        };
        let was_survived = |record: &Record| record.closed.is_some() && is_known(record) && at > record.deadline;
        self.over == Some(notice)
            || self.record_of_this_boot().is_some_and(was_survived)
            || self.over.is_some_and(|over| over.time.is_some() && is_same_interruption(over.time, notice.time))
    }

    /// Tells whether the handover of another signal has done already what this notice asks for, or the notice is the one that
    /// was handed over for.
    fn is_told_of(&mut self, notice: Notice, aws_now: Timestamp, at: BootInstant) -> bool {
        let is_live = self.handover.is_some();
        let Some(record) = self.record_of_this_boot().filter(|it| it.is_over()) else {
            return false;
        };
        if record.signal == Signal::Notice || record.time.is_some() {
            // What a group terminates is not handed over a second time, whoever saw the first.
            let was_seen_through = is_live && record.was_seen_through();
            return (was_seen_through || record.terminating) && is_same_interruption(record.time, notice.time);
        }
        // It left its target groups, and a successor serves or its group decides: nothing is left to do but to know.
        if !record.certain || (record.signal != Signal::LifecycleState && !record.is_complete()) {
            return false;
        }
        let deadline = notice.deadline(aws_now, at);
        self.change_record(|record| {
            record.time = notice.time;
            record.id.action = Some(notice.action);
            record.deadline = deadline;
            if !record.terminating {
                record.signal = Signal::Notice;
            }
        });
        let message = format!("AWS will {} this instance, which has handed over already", notice.action);
        self.reach(MilestoneKind::Noticed, message, at);
        true
    }

    /// The interruption was withdrawn long ago. With a record of it this instance is a survivor; without one nothing is
    /// known but that it may still be marked.
    /// AWS's time may turn out to be another one: a stale notice is judged again at each look, and told of once.
    fn notice_is_stale(&mut self, notice: Notice, past: Duration, at: BootInstant) {
        let is_told = self.stale.is_some_and(|stale| is_same_interruption(stale.time, notice.time));
        self.stale = Some(notice);
        if is_told {
            return;
        }
        // Also one from before a boot: its registrations are put back.
        if self.record.as_ref().is_some_and(|record| record.closed.is_none()) {
            return;
        }
        let closed = self.record_of_this_boot().is_some();
        let then = if closed { "it was dealt with before" } else { "nothing is known of a handover" };
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

    pub(super) fn group_terminates(&mut self, at: BootInstant) {
        let deadline = at + self.drains_within();
        if let Some(handover) = self.handover.as_mut().filter(|handover| handover.outcome().is_none()) {
            handover.group_terminates(self.sight.group_takes == Some(Takes::IntoPool), deadline, at);
            self.note_handover();
            return;
        }
        // Seen to its end by this process or the one before.
        if self.record_of_this_boot().is_some_and(|it| it.terminating && it.outcome.is_some() && it.closed.is_none()) {
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

    /// The notice has ended nothing, and the group terminates this instance all the same: the hooks that it was not seen
    /// through open only after the deregistration delay.
    pub(super) fn go_on_by_group(&mut self, now: BootInstant) {
        if self.outlives_at().is_some_and(|at| now >= at) {
            self.over = self.sight.notice;
            self.begin_by_group(now);
        }
    }

    pub(super) fn outlives_at(&self) -> Option<BootInstant> {
        let was_cut_short = |record: &&Record| {
            record.signal == Signal::Notice && record.terminating && record.is_over() && !record.is_complete()
        };
        let record = self.record_of_this_boot().filter(was_cut_short)?;
        (self.sight.is_terminating() && self.arrival.is_none()).then(|| record.deadline + OUTLIVES_AFTER)
    }

    /// As long as the load balancer lets requests finish, with what hooks and quiet need.
    fn drains_within(&self) -> Duration {
        let delays = self.known.registrations.iter().flatten().map(|registration| registration.deregistration_delay);
        let longest = delays.max().unwrap_or(DEFAULT_DRAIN).min(DRAINS_AT_MOST);
        let leave = &self.config.leave;
        (longest + leave.settle.max(leave.quiet_for) + leave.reserve + self.config.hooks.timeout * 2).max(TWO_MINUTES)
    }

    /// An announcement from before that begins now: a recommendation that waited for an arrival, a scheduled event.
    pub(super) fn begin_what_is_announced(&mut self, now: BootInstant) {
        let arrives = self.arrival.as_ref().is_some_and(|arrival| arrival.holds_up(now));
        let busy = self.handover.is_some() || arrives || !self.sight.absent_before;
        // What is to be put right first: an interruption of this boot, or of the one before. What the process before this
        // one had begun goes on as it was.
        let open = self.record.as_ref().filter(|record| record.closed.is_none());
        let goes_on = |it: &Record| it.id.boot_id == self.boot_id && it.outcome.is_none() && !it.survived;
        let may_begin = |signal| open.is_none_or(|record| goes_on(record) && record.signal == signal);
        let recommendation_may_begin = may_begin(Signal::RebalanceRecommendation);
        let event_may_begin = may_begin(Signal::ScheduledEvent);
        if busy
            || !(recommendation_may_begin || event_may_begin)
            || !self.sight.notice_absent.has_begun()
            || self.sight.is_terminating()
        {
            return;
        }
        let Some(aws_now) = self.aws_now(now) else { return };
        // One that was given before an instance survived was of what it survived.
        // A drill survives nothing.
        let of_aws = self.record_of_this_boot().filter(|record| record.signal != Signal::Drill);
        let is_told = |time: Timestamp| of_aws.is_some_and(|record| time <= record.told_until());
        let is_news = |time: &Timestamp| !self.sight.recommendation_is_done && !is_told(*time);
        let recommended = self.sight.recommended.filter(|time| recommendation_may_begin && is_news(time));
        if let Some(recommended) = recommended {
            self.sight.recommendation_is_done = true;
            self.begin_handover(Beginning {
                signal: Signal::RebalanceRecommendation,
                action: None,
                time: None,
                event: None,
                deadline: now + PATIENCE,
                first_signal: recommended.min(aws_now),
                aws_now,
                now,
            });
            self.change_record(|record| record.recommended = true);
        } else if let Some((event, not_before)) =
            self.next_event().filter(|(_, at)| event_may_begin && aws_now + LEAD >= *at)
        {
            self.events_done.insert(event.id.clone());
            let left = Duration::try_from(not_before.duration_since(aws_now)).unwrap_or_default();
            self.begin_handover(Beginning {
                signal: Signal::ScheduledEvent,
                action: notice::action_of(&event),
                time: None,
                deadline: now + left.max(TWO_MINUTES),
                event: Some(event),
                first_signal: aws_now,
                aws_now,
                now,
            });
        }
    }

    /// The next scheduled event that is to be handed over for.
    fn next_event(&self) -> Option<(ScheduledEvent, Timestamp)> {
        if self.config.watch.scheduled_events != ScheduledEvents::HandOver {
            return None;
        }
        let events = self.sight.events.iter().filter(|event| event.active && !self.events_done.contains(&event.id));
        events.filter_map(|event| Some((event.clone(), event.not_before?))).min_by_key(|(_, not_before)| *not_before)
    }

    pub(super) fn event_begins_at(&self) -> Option<BootInstant> {
        let (aws, boot) = self.sight.clocks?;
        let (_, not_before) = self.next_event()?;
        let left = Duration::try_from(not_before.duration_since(aws)).unwrap_or_default();
        Some(boot + left.saturating_sub(LEAD)).filter(|begins| *begins > boot)
    }

    pub(super) fn begin_handover(&mut self, beginning: Beginning) {
        let Beginning { signal, action, time, event, deadline, first_signal, aws_now, now } = beginning;
        // The record is of this boot and of this incident: the process before this one has begun, or a weaker signal has.
        let of_this_boot = self.record_of_this_boot().cloned();
        let is_same = |record: &Record| match record.signal {
            // What a recommendation had launched is no second successor.
            Signal::RebalanceRecommendation if record.closed == Some(Closed::Stayed) => signal == Signal::Notice,
            // Gone for some looks only, even if this instance is back meanwhile.
            Signal::Notice if signal == Signal::Notice && is_shifted(record.time, time) => true,
            _ if record.closed.is_some() => false,
            // A withdrawn interruption is over: a notice of another time is another one, with its own deadline. Until anything
            // is put back, one is the first one's, however late: its successor stands in.
            Signal::Notice if record.survived => false,
            Signal::Notice if record.outcome.is_some() => true,
            Signal::Notice => is_same_interruption(record.time, time) && self.handover.is_none(),
            _ => true,
        };
        let (earlier, another) = match of_this_boot {
            Some(record) if is_same(&record) => (Some(record), None),
            other => (None, other),
        };
        let number = earlier.as_ref().map(|record| record.id.number);
        let number = number.unwrap_or_else(|| another.as_ref().map_or(0, |record| record.id.number + 1));
        let recommended = earlier.as_ref().or(another.as_ref()).is_some_and(|record| record.recommended);
        // What the process before this one has launched is a successor too.
        let begun_before = earlier.as_ref().map(|record| (record.begun_at, record.begun));
        let first_signal = begun_before.map_or(first_signal, |(begun_at, _)| begun_at.min(first_signal));
        let first_signal = self.sight.recommended.map_or(first_signal, |time| time.min(first_signal));
        let id = IncidentId {
            instance_id: self.identity.instance_id.clone(),
            boot_id: self.boot_id.clone(),
            action,
            number,
        };
        // A handover that a weaker signal began may have launched already; what it launched is found by asking again.
        let is_another_signal = earlier.as_ref().is_some_and(|record| record.signal != signal);
        let is_weaker =
            earlier.as_ref().is_some_and(|record| record.signal != signal && record.signal != Signal::Drill);
        let has_same_deadline = |record: &&Record| !is_another_signal && is_same_interruption(record.time, time);
        let same_deadline = earlier.as_ref().filter(has_same_deadline).map(|record| record.deadline);
        let incident = Incident {
            identity: self.identity.clone(),
            id,
            signal,
            owner_sees: match (signal, self.sight.recommended) {
                (Signal::ScheduledEvent, Some(_)) => Signal::RebalanceRecommendation,
                _ => signal,
            },
            terminating: signal == Signal::LifecycleState || self.sight.is_terminating(),
            into_pool: self.sight.group_takes == Some(Takes::IntoPool),
            arrival_lands_by: self.may_be_registering().then(|| now + ARRIVAL_LANDS_WITHIN),
            time,
            event: event.as_ref().map(|event| event.code.clone()),
            deadline: same_deadline.map_or(deadline, |earlier| shortened(deadline, earlier, now)),
            clocks: (aws_now, now),
            successors_since: Some(first_signal.checked_sub(SLACK).unwrap_or(first_signal)),
            resumed: earlier.is_some() || !self.sight.absent_before,
            after_restart: earlier.is_some() && !self.record_is_ours,
            serve_on: earlier.as_ref().is_some_and(|record| record.may_have_launched_first(is_weaker)),
            begun_by_notice: match &earlier {
                Some(record) => record.begun_by_notice,
                None => signal == Signal::Notice && self.sight.recommended.is_none(),
            },
            planned_before: match &earlier {
                // A process that came after the notice may have met the successor in its look-up, and noted it.
                Some(record) => record.known.plan.is_some() && record.planned_before,
                // The look-ups at a recommendation may have met the successor already.
                None => self.known.plan.is_some() && self.sight.absent_before && self.sight.recommended.is_none(),
            },
        };
        let known = self.known_for(earlier.as_ref());
        let settings = Settings { leave: self.config.leave.clone(), hooks: self.config.hooks.clone() };
        if self.dry_run {
            self.say_what_would_be_done(incident, settings, known, now);
            return;
        }
        // An arrival that gives way takes place once this leads to nothing.
        self.is_to_arrive |= self.arrival.take().is_some_and(|arrival| arrival.errand() == arrival::Errand::Arrive);
        self.epoch += 1;
        self.sight.event_absent.ends();
        self.stood_still = false;
        let handover = Handover::begin(incident, settings, known, now);
        let (begun_at, begun) = begun_before.unwrap_or((aws_now, now));
        let mut record = Record::of(&handover, begun_at, begun);
        // What a drill takes the place of is remembered.
        let before = || another.as_ref().filter(|_| signal == Signal::Drill).and_then(|record| record.event.clone());
        record.event = event.map(|event| event.id).or_else(before);
        record.recommended = recommended;
        if let Some(earlier) = earlier.filter(|earlier| earlier.id == record.id) {
            record.milestones = earlier.milestones;
        }
        self.record = Some(record);
        self.record_is_ours = true;
        self.handover = Some(handover);
        self.note_handover();
    }

    /// True if a registration of this instance may be under way: by an arrival of this process, or of the one before, which
    /// ended in the midst of it.
    fn may_be_registering(&self) -> bool {
        let by_us = self.arrival.as_ref().is_some_and(Arrival::may_be_registering);
        let is_coming_back =
            self.record_of_this_boot().is_some_and(|record| record.survived && record.closed.is_none());
        by_us || is_coming_back || (self.config.arrive.register && !self.sight.absent_before)
    }

    /// The facts of the process before this one, which were frozen then; else those found since the start. An empty list of
    /// registrations is looked up again: one may have come since.
    fn known_for(&self, earlier: Option<&Record>) -> Known {
        let is_anew = earlier.is_some_and(|record| record.survived);
        let earlier = earlier.map(|record| record.known.clone()).unwrap_or_default();
        // Of another incident that is not put right yet: where this instance belongs is known from there alone.
        let unfinished = self.record.as_ref().filter(|record| record.closed.is_none());
        let left = || unfinished.and_then(|record| record.known.registrations.clone());
        let mut found = unfinished.map(|record| record.known.found.clone()).unwrap_or_default();
        // The groups in which an arrival registers this instance are left too, whatever the look-ups know.
        found.extend(self.arrival.iter().flat_map(Arrival::registrations).cloned());
        let registrations = self.all_known_registrations(earlier.registrations.or_else(left));
        let registrations = registrations.filter(|them| !them.is_empty() || self.trusts_empty);
        let plan = earlier.plan.or_else(|| self.known.plan.clone());
        let plan = match &self.sight.lifecycle_state {
            Some(state) => plan.map(|plan| plan.with_member_state(&self.identity.instance_id, state)),
            None => plan,
        };
        Known {
            registrations,
            found,
            plan,
            missing: self.known.missing.clone(),
            unclear: self.known.unclear.clone(),
            // An instance on its way back was told to serve again.
            hooks_ended: if is_anew { Vec::new() } else { earlier.hooks_ended },
            launch: earlier.launch,
        }
    }

    fn say_what_would_be_done(&mut self, incident: Incident, settings: Settings, known: Known, now: BootInstant) {
        let mut handover = Handover::begin(incident, settings, known, now);
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
        let milestone = arrival::milestone(kind, at, message.into(), None);
        self.change_record_of_life(std::slice::from_ref(&milestone));
        self.milestones.push(milestone);
    }
}

/// The earlier process may have seen an earlier time; one that has passed says nothing.
fn shortened(deadline: BootInstant, earlier: BootInstant, now: BootInstant) -> BootInstant {
    if earlier > now { deadline.min(earlier) } else { deadline }
}

/// A notice's time can shift between two looks, and its action change; a time minutes away is another interruption's.
pub(super) fn is_same_interruption(known: Option<Timestamp>, seen: Option<Timestamp>) -> bool {
    match (known, seen) {
        (Some(known), Some(seen)) => seen.duration_since(known).unsigned_abs() <= SHIFTS_AT_MOST,
        _ => true,
    }
}

/// A notice that was survived for a moment is shown again.
fn is_shifted(known: Option<Timestamp>, seen: Option<Timestamp>) -> bool {
    let (Some(known), Some(seen)) = (known, seen) else { return false };
    seen.duration_since(known).unsigned_abs() <= FLAPS_WITHIN
}
