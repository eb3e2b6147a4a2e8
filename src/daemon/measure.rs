//! The daemon's counts, for the metrics.
//!
//! Invariant: nothing is counted unless somebody can read it, because hundreds of series would be much of an idle
//! daemon's memory. Nothing waits for a count.

use core::net::SocketAddr;
use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::watch::{Looked, Miss};
use crate::cloud::tally::{ACTIONS, Tally};
use crate::core::call::Answer;
use crate::core::duty::DutyId;
use crate::core::handover::LookedUp;
use crate::core::incident::{Incident, Outcome};
use crate::core::life::Ticket;
use crate::core::model::{BootInstant, Milestone, MilestoneKind};
use crate::core::plan::Plan;
use crate::core::retry::FailureKind;
use crate::host::boot;
use crate::telemetry::metrics::{self, LookResult, PrometheusMetrics};

/// The label for reading the identity.
const IDENTIFY: &str = "identify";
/// The label for a round of look-ups before a notice.
const PREPARE: &str = "prepare";

pub(super) struct Measures {
    /// `None` where nothing is served.
    metrics: Option<Arc<PrometheusMetrics>>,
    server: Option<JoinHandle<()>>,
    /// The duties whose last call failed, each in its handover or arrival.
    failed: HashSet<Ticket>,
}

impl Measures {
    /// Serves the metrics at `listen`, if it is given.
    pub(super) fn begin(listen: Option<SocketAddr>, now: BootInstant) -> anyhow::Result<Self> {
        let Some(address) = listen else { return Ok(Self { metrics: None, server: None, failed: HashSet::new() }) };
        // The values of the label `duty`: the work that is tried again after a failure.
        let duties: Vec<&str> = [IDENTIFY, PREPARE].into_iter().chain(DutyId::labels()).collect();
        let metrics =
            PrometheusMetrics::new(&ACTIONS, &duties, Timestamp::now(), now).context("failed to set up the metrics")?;
        let metrics = Arc::new(metrics);
        let shared = metrics.clone();
        let server = tokio::spawn(metrics::serve(address, move || shared.text(boot::now())));
        Ok(Self { metrics: Some(metrics), server: Some(server), failed: HashSet::new() })
    }

    /// The counter for the clients of AWS.
    pub(super) fn tally(&self) -> Tally {
        let Some(metrics) = self.metrics.clone() else { return Tally::default() };
        Tally::new(move |action, failure| metrics.aws_call(action, failure))
    }

    fn tell(&self, count: impl FnOnce(&PrometheusMetrics)) {
        if let Some(metrics) = &self.metrics {
            count(metrics);
        }
    }

    pub(super) fn looked(&self, looked: &Looked) {
        let result = match &looked.result {
            Ok(answer) if answer.notice.is_some() => LookResult::Notice,
            Ok(_) => LookResult::Absent,
            Err(missed) => match missed.kind {
                Miss::Unanswered => LookResult::Unanswered,
                Miss::Refused => LookResult::Refused,
                Miss::Unusable => LookResult::Unusable,
            },
        };
        self.tell(|metrics| metrics.looked(result, looked.at));
    }

    /// `now` is AWS's time.
    pub(super) fn credentials(&self, expires: Option<Timestamp>, now: Timestamp) {
        self.tell(|metrics| metrics.credentials_left(expires.map(|expires| expires.duration_since(now).as_secs_f64())));
    }

    /// Counts a try to read the identity, after this many failures in a row.
    pub(super) fn identifies(&self, failures: u32) {
        if failures > 0 {
            self.tell(|metrics| metrics.retried(IDENTIFY));
        }
    }

    /// Counts a round of look-ups, after this many failed ones in a row.
    pub(super) fn prepares(&self, failures: u32) {
        if failures > 0 {
            self.tell(|metrics| metrics.retried(PREPARE));
        }
    }

    /// Counts a call of the core, if the duty's last one failed.
    pub(super) fn calls(&mut self, ticket: Ticket) {
        if self.failed.contains(&ticket) {
            self.tell(|metrics| metrics.retried(ticket.duty.label()));
        }
    }

    pub(super) fn answered(&mut self, ticket: Ticket, answer: &Answer) {
        self.failed.retain(|failed| failed.epoch == ticket.epoch && *failed != ticket);
        if matches!(answer, Answer::Failed(_)) {
            self.failed.insert(ticket);
        }
        if let DutyId::Hook(kind) = ticket.duty {
            self.tell(|metrics| metrics.hook(kind, matches!(answer, Answer::Hook { succeeded: true, .. })));
        }
    }

    /// `failure` is the kind of what went wrong, if anything.
    pub(super) fn posted(&self, failure: Option<FailureKind>) {
        self.tell(|metrics| metrics.posted(failure));
    }

    /// `record` is that of the handover to which the milestone belongs.
    pub(super) fn reached(&self, milestone: &Milestone, record: Option<&Incident>) {
        self.tell(|metrics| metrics.reached(milestone, record.map(|record| record.begun)));
        let outcome = record.and_then(|record| record.outcome.as_ref());
        if let (MilestoneKind::HandedOver, Some(outcome)) = (milestone.milestone, outcome) {
            self.tell(|metrics| metrics.handed_over(Outcome::as_str(outcome)));
        }
    }

    /// Shows what the look-ups before a notice know.
    pub(super) fn prepared(&self, known: &LookedUp) {
        let registrations = known.registrations.as_ref();
        let targets = registrations.map(|all| all.iter().map(|one| one.targets.len()).sum());
        self.tell(|metrics| metrics.looked_up(targets, known.plan.as_ref().map(Plan::owner_kind)));
    }
}

impl Drop for Measures {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}
