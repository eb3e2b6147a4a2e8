//! What a look at the metadata leads to: trouble told, time learned, a notice taken for what it is, a handover begun.
//!
//! Invariant: one incident, one handover; a notice seen again only shortens it.

use jiff::Timestamp;
use tracing::{info, warn};

use super::watch::{Looked, Seen};
use super::{Daemon, SLACK};
use crate::boot;
use crate::handover::{Handover, Known, Terms};
use crate::model::{BootInstant, Identity, Incident};
use crate::notice::{FirstSight, Notice, TWO_MINUTES};
use crate::record::Record;

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
            Some(notice) => self.noticed(notice, seen.date.unwrap_or_else(|| self.clock.now()), looked.at),
            None => {
                self.sight.absent_before = true;
                self.survived = None;
                self.waiting_notice = None;
                self.publisher.notice_is_gone();
            }
        }
    }

    /// A recommendation is prepared for: everything is looked up anew.
    fn rebalanced(&mut self, seen: &Seen) {
        let recommended = seen.rebalance.unwrap_or(self.sight.recommended);
        if recommended && !self.sight.recommended {
            info!("AWS recommends to rebalance: this instance is at a higher risk; looking everything up anew");
            self.preparation.renew_now(boot::now());
        }
        self.sight.recommended = recommended;
    }

    /// A notice stands. `aws_now` is AWS's time of the look, `at` the boot clock's.
    pub(super) fn noticed(&mut self, notice: Notice, aws_now: Timestamp, at: BootInstant) {
        if let Some(handover) = &mut self.handover {
            if handover.outcome().is_none() {
                handover.shorten(notice.deadline(aws_now, at));
                return;
            }
            if handover.terms().incident.action == notice.action {
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
        let incident = Incident {
            instance_id: identity.instance_id.clone(),
            boot_id: self.boot_id.clone(),
            action: notice.action,
        };
        let earlier = self.publisher.record().filter(|record| record.incident == incident).cloned();
        let since = notice.time.map_or(aws_now, |time| time.min(aws_now + TWO_MINUTES)) - TWO_MINUTES - SLACK;
        let terms = Terms {
            identity,
            incident,
            time: notice.time,
            deadline: earlier.as_ref().map_or(deadline, |record| shortened(deadline, record.deadline)),
            successors_since: Some(since),
            resumed: earlier.is_some() || !self.sight.absent_before,
            planned_before: self.sight.absent_before
                || earlier.as_ref().is_some_and(|record| record.known.plan.is_some()),
        };
        let known = self.known(earlier.as_ref());
        if self.options.dry_run {
            self.say_what_would_be_done(terms, known);
            return;
        }
        let now = boot::now();
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
        let registrations = earlier.registrations.or(found.registrations).filter(|them| !them.is_empty());
        Known { registrations, plan: earlier.plan.or(found.plan) }
    }

    fn say_what_would_be_done(&mut self, terms: Terms, known: Known) {
        let now = boot::now();
        let mut handover = Handover::begin(terms, self.options.config.leave.clone(), known, now);
        let due = handover.due(now);
        for milestone in handover.take_milestones() {
            info!("dry run: {}", milestone.message);
        }
        for due in due {
            info!("dry run: the first calls would be {:?}", due.call);
        }
        info!("dry run: nothing was written to AWS, and nothing more is said of this notice");
        self.survived = Some(Notice { action: handover.terms().incident.action, time: handover.terms().time });
    }
}

/// The earlier process may have seen an earlier time; one that has passed says nothing.
fn shortened(deadline: BootInstant, earlier: BootInstant) -> BootInstant {
    if earlier > boot::now() { deadline.min(earlier) } else { deadline }
}
