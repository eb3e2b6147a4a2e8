//! What a look at the metadata leads to: trouble told, time learned, a notice taken for what it is, a handover begun.
//!
//! Invariant: one incident, one handover; a notice seen again only shortens it.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::watch::{Looked, Recommendation, Seen};
use super::{Daemon, SLACK};
use crate::boot;
use crate::handover::{Handover, Known, Terms};
use crate::model::{BootInstant, Identity, Incident};
use crate::notice::{FirstSight, Notice, TWO_MINUTES};
use crate::record::Record;

/// So many looks in a row without it, and a notice that stood is withdrawn.
const LOOKS_THAT_WITHDRAW: u32 = 3;
/// Less than two interruptions can be apart, and more than a notice's time was ever seen to shift.
const SHIFTS_AT_MOST: Duration = Duration::from_secs(120);

impl Daemon {
    pub(super) fn looked(&mut self, looked: Looked) {
        self.publisher.systemd().watchdog();
        let seen = match looked.result {
            Ok(seen) => seen,
            Err(why) => {
                if let Some(line) = self.sight.failed(looked.at, &why) {
                    warn!("{line}");
                }
                return;
            }
        };
        if let Some(line) = self.sight.succeeded(looked.at) {
            info!("{line}");
        }
        if let Some(date) = seen.date {
            self.clock.learn(date);
        }
        self.rebalanced(&seen);
        match seen.notice {
            Some(notice) => {
                self.sight.absent_looks = 0;
                self.publisher.notice_stands();
                self.noticed(notice, seen.date.unwrap_or_else(|| self.clock.now()), looked.at);
            }
            None => self.saw_no_notice(looked.at),
        }
    }

    /// The normal answer. After a notice it has to be given a few times: one 404 among answers is a fault of the metadata.
    fn saw_no_notice(&mut self, at: BootInstant) {
        self.sight.absent_before = true;
        self.sight.absent_looks = self.sight.absent_looks.saturating_add(1);
        if self.sight.absent_looks < LOOKS_THAT_WITHDRAW && self.handover.is_some() {
            return;
        }
        self.survived = None;
        self.waiting_notice = None;
        self.publisher.notice_is_gone();
        // What comes after a finished handover is another incident.
        if self.handover.as_ref().is_some_and(|it| it.outcome().is_some() && at > it.terms().deadline) {
            self.handover = None;
        }
    }

    /// A recommendation is prepared for: everything is looked up anew.
    fn rebalanced(&mut self, seen: &Seen) {
        match seen.rebalance {
            None => {}
            Some(Recommendation::Absent) => self.sight.recommended = None,
            Some(Recommendation::Given(time)) if self.sight.recommended.is_none() => {
                info!("AWS recommends to rebalance: this instance is at a higher risk; looking everything up anew");
                self.preparation.renew_now(boot::now());
                self.sight.recommended = Some(time.unwrap_or_else(|| self.clock.now()));
            }
            Some(Recommendation::Given(_)) => {}
        }
    }

    /// A notice stands. `aws_now` is AWS's time of the look, `at` the boot clock's.
    pub(super) fn noticed(&mut self, notice: Notice, aws_now: Timestamp, at: BootInstant) {
        if let Some(handover) = &mut self.handover {
            if handover.outcome().is_none() {
                handover.shorten(notice.deadline(aws_now, at));
                return;
            }
            if is_same_interruption(handover.terms().time, notice.time) {
                return;
            }
        }
        if self.survived == Some(notice) {
            return;
        }
        let Some(identity) = self.identity.clone() else {
            if self.waiting_notice.is_none() {
                info!("a notice stands ({notice}); finding out first who this instance is");
                self.identify_at = boot::now();
            }
            self.waiting_notice.get_or_insert((notice, aws_now, at));
            return;
        };
        match notice.first_sight(aws_now, at, self.sight.absent_before) {
            FirstSight::Survived { past } => {
                self.survived = Some(notice);
                warn!(
                    "the metadata holds a notice ({notice}) that is {:.0} s in the past: the interruption was withdrawn \
                     and this instance lives on; nothing is done",
                    past.as_secs_f64()
                );
            }
            FirstSight::New { deadline } => self.begin_handover(notice, aws_now, deadline, identity),
        }
    }

    fn begin_handover(&mut self, notice: Notice, aws_now: Timestamp, deadline: BootInstant, identity: Identity) {
        // The record is of this boot and of this interruption: the process before this one has begun.
        let of_this_boot = self.publisher.record().filter(|record| record.incident.boot_id == self.boot_id).cloned();
        let is_same = |record: &Record| is_same_interruption(record.time, notice.time) && self.handover.is_none();
        let (earlier, another) = match of_this_boot {
            Some(record) if is_same(&record) => (Some(record), None),
            other => (None, other),
        };
        let number = earlier.as_ref().map(|record| record.incident.number);
        let incident = Incident {
            instance_id: identity.instance_id.clone(),
            boot_id: self.boot_id.clone(),
            action: notice.action,
            number: number.unwrap_or_else(|| another.map_or(0, |record| record.incident.number + 1)),
        };
        let first_signal = notice.time.map_or(aws_now, |time| time.min(aws_now + TWO_MINUTES)) - TWO_MINUTES;
        let first_signal = self.sight.recommended.map_or(first_signal, |time| time.min(first_signal));
        let now = boot::now();
        let terms = Terms {
            identity,
            incident,
            time: notice.time,
            deadline: earlier.as_ref().map_or(deadline, |record| shortened(deadline, record.deadline, now)),
            successors_since: Some(first_signal - SLACK),
            resumed: earlier.is_some() || !self.sight.absent_before,
            planned_before: match &earlier {
                Some(record) => record.known.plan.is_some(),
                // The look-ups at a recommendation may have met the successor already.
                None => self.sight.absent_before && self.sight.recommended.is_none(),
            },
        };
        let known = self.known(earlier.as_ref());
        if self.options.dry_run {
            self.say_what_would_be_done(terms, known);
            return;
        }
        let handover = Handover::begin(terms, self.options.config.leave.clone(), known, now);
        self.publisher.begin(&handover, aws_now, now);
        self.handover = Some(handover);
        self.advance_handover(now);
    }

    /// What the process before this one knew at the notice was frozen then; else what was found since the start. An
    /// empty list of registrations is looked up again: one may have come since.
    fn known(&self, earlier: Option<&Record>) -> Known {
        let earlier = earlier.map(|record| record.known.clone()).unwrap_or_default();
        let found = self.preparation.known();
        let registrations = earlier.registrations.or(found.registrations);
        let registrations = registrations.filter(|them| !them.is_empty() || self.preparation.trusts_empty());
        Known { registrations, plan: earlier.plan.or(found.plan), missing: found.missing }
    }

    fn say_what_would_be_done(&mut self, terms: Terms, known: Known) {
        let now = boot::now();
        let mut handover = Handover::begin(terms, self.options.config.leave.clone(), known, now);
        let due = handover.due(now);
        for milestone in handover.take_milestones() {
            info!("dry run: {}", milestone.message);
        }
        for due in due {
            info!("dry run: would begin with {}", due.call);
        }
        info!("dry run: nothing was written to AWS, and nothing more is said of this notice");
        self.survived = Some(Notice { action: handover.terms().incident.action, time: handover.terms().time });
    }
}

/// The earlier process may have seen an earlier time; one that has passed says nothing.
fn shortened(deadline: BootInstant, earlier: BootInstant, now: BootInstant) -> BootInstant {
    if earlier > now { deadline.min(earlier) } else { deadline }
}

/// A notice's time can shift between two looks, and its action change; a time minutes away is another interruption's.
fn is_same_interruption(known: Option<Timestamp>, seen: Option<Timestamp>) -> bool {
    match (known, seen) {
        (Some(known), Some(seen)) => seen.duration_since(known).unsigned_abs() <= SHIFTS_AT_MOST,
        _ => true,
    }
}
