//! What a person gets to see of the daemon: milestones in the log, the record, the status, the flags, systemd's line.
//!
//! Invariant: nothing here is in the way. Files are written by one task at a time, always the newest state; what cannot
//! be written is said once and changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::handover::{Duty, Handover, Known, Outcome};
use crate::model::{Action, BootInstant, Identity, Milestone, MilestoneKind};
use crate::record::{Files, Flag, Record, State, Status};
use crate::systemd::Systemd;

/// How long the end of the process waits for the last files.
pub(super) const LAST_WRITE: Duration = Duration::from_millis(500);

pub(super) struct Publisher {
    systemd: Systemd,
    files: Files,
    status: Status,
    /// Of the last handover of this instance, by this process or the one before.
    record: Option<Record>,
    /// The record is this process's own and has to be written.
    record_is_ours: bool,
    /// Not known before the first good look: then the flags stay as they are.
    notice_stands: Option<bool>,
    is_drained: bool,
    is_dirty: bool,
    said_failure: bool,
}

/// Files to write, detached from the daemon.
pub(super) struct Write {
    files: Files,
    status: Status,
    record: Option<Record>,
    notice_stands: Option<bool>,
    is_drained: bool,
}

impl Write {
    /// Writes everything; returns what could not be written. Blocks as long as the disk does.
    pub(super) fn perform(self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut note = |what: &str, result: std::io::Result<()>| {
            if let Err(error) = result {
                failures.push(format!("{what}: {error}"));
            }
        };
        let flag = |flag: Flag, stands: bool| if stands { self.files.raise(flag) } else { self.files.lower(flag) };
        // The flags start units of a user's: they come first.
        if let Some(notice_stands) = self.notice_stands {
            note("the notice flag", flag(Flag::Notice, notice_stands));
            note("the drained flag", flag(Flag::Drained, self.is_drained));
        }
        if let Some(record) = &self.record {
            note(&self.files.record_path().display().to_string(), self.files.write_record(record));
        }
        note(&self.files.status_path().display().to_string(), self.files.write_status(&self.status));
        failures
    }
}

impl Publisher {
    pub(super) fn new(files: Files) -> Publisher {
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: Timestamp::now(),
            state: State::Watching,
            says: String::new(),
            instance: None,
            plan: None,
            registrations: None,
            handover: None,
        };
        Publisher {
            systemd: Systemd::from_env(),
            files,
            status,
            record: None,
            record_is_ours: false,
            notice_stands: None,
            is_drained: false,
            is_dirty: true,
            said_failure: false,
        }
    }

    pub(super) fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(super) fn remember(&mut self, record: Option<Record>) {
        self.record = record;
    }

    /// The state in a sentence, for `systemctl status` and the status file.
    pub(super) fn say(&mut self, says: &str) {
        self.status.says = says.to_owned();
        self.is_dirty = true;
        self.systemd.status(says);
    }

    pub(super) fn identified(&mut self, identity: &Identity) {
        self.status.instance = Some(identity.clone());
        self.is_dirty = true;
    }

    pub(super) fn prepared(&mut self, known: &Known) {
        self.status.plan = known.plan.as_ref().map(ToString::to_string);
        self.status.registrations.clone_from(&known.registrations);
        if self.status.state == State::Watching {
            let plan = self.status.plan.clone().unwrap_or_else(|| "the owner is not known yet".to_owned());
            let groups = known.registrations.as_ref().map_or(0, Vec::len);
            self.say(&format!("watching; in {groups} target groups; on a notice: {plan}"));
        }
    }

    pub(super) fn begin(&mut self, handover: &Handover, aws_now: Timestamp, now: BootInstant) {
        let terms = handover.terms();
        let reached_before = |record: &Record| {
            let is_quiet = |milestone: &Milestone| milestone.milestone == MilestoneKind::Quiet;
            record.incident == terms.incident && record.milestones.iter().any(is_quiet)
        };
        self.is_drained = self.record.as_ref().is_some_and(reached_before);
        self.record = Some(Record {
            incident: terms.incident.clone(),
            time: terms.time,
            begun_at: aws_now,
            begun: now,
            deadline: terms.deadline,
            known: handover.known(),
            milestones: Vec::new(),
            outcome: None,
        });
        self.record_is_ours = true;
        self.notice_stands = Some(true);
        self.status.state = State::HandingOver;
        self.is_dirty = true;
    }

    /// Whether the outcome of the handover under way has been told.
    pub(super) fn knows_outcome(&self) -> bool {
        self.record_is_ours && self.record.as_ref().is_some_and(|record| record.outcome.is_some())
    }

    /// Tells the milestones reached since the last time, and the outcome.
    pub(super) fn follow(&mut self, handover: &mut Handover) {
        let milestones = handover.take_milestones();
        let Some(record) = &mut self.record else { return };
        if milestones.is_empty() && record.deadline == handover.terms().deadline {
            return;
        }
        record.deadline = handover.terms().deadline;
        record.known = handover.known();
        for milestone in milestones {
            log(&milestone, handover);
            self.is_drained |= milestone.milestone == MilestoneKind::Quiet;
            self.status.says.clone_from(&milestone.message);
            self.systemd.status(&milestone.message);
            record.milestones.push(milestone);
        }
        if let (Some(outcome), None) = (handover.outcome(), &record.outcome) {
            log_outcome(outcome);
            record.outcome = Some(outcome.clone());
            self.status.state = State::HandedOver;
        }
        self.is_dirty = true;
    }

    pub(super) fn notice_stands(&mut self) {
        self.is_dirty |= self.notice_stands != Some(true);
        self.notice_stands = Some(true);
    }

    pub(super) fn notice_is_gone(&mut self) {
        if self.notice_stands != Some(false) {
            self.notice_stands = Some(false);
            self.is_drained = false;
            self.is_dirty = true;
        }
    }

    pub(super) fn due(&mut self, is_writing: bool) -> Option<Write> {
        if !self.is_dirty || is_writing {
            return None;
        }
        self.is_dirty = false;
        Some(self.write())
    }

    fn write(&self) -> Write {
        Write {
            files: self.files.clone(),
            status: Status { handover: self.record.clone(), ..self.status.clone() },
            record: self.record.clone().filter(|_| self.record_is_ours),
            notice_stands: self.notice_stands,
            is_drained: self.is_drained,
        }
    }

    pub(super) fn written(&mut self, failures: &[String]) {
        if !failures.is_empty() && !self.said_failure {
            self.said_failure = true;
            let failures = failures.join("; ");
            warn!("failed to write {failures}; a handover does without, people and path units do not see it");
        }
    }

    pub(super) fn last(&self) -> Write {
        self.write()
    }
}

/// What a duty does, for the line that tells of a failed call.
pub(super) fn words(duty: Duty) -> &'static str {
    match duty {
        Duty::FindRegistrations(_) => "failed to find this instance's target groups",
        Duty::FindPlan => "failed to find out who launches a successor",
        Duty::Leave(_) => "failed to leave a target group, or to see it left",
        Duty::Quiet => "failed to look at this instance's connections",
        Duty::Ask => "failed to ask for the successor",
        Duty::Find => "failed to find the successor",
        Duty::Watch => "failed to look at the successor",
        Duty::Register(_) => "failed to register the successor, or to see its health",
        Duty::Lifecycle(_) => "failed to see the termination hook through",
    }
}

/// Each milestone is one info line with the fields of the contract.
fn log(milestone: &Milestone, handover: &Handover) {
    let terms = handover.terms();
    let outcome = handover.outcome().filter(|_| milestone.milestone == MilestoneKind::HandedOver);
    let seconds_left = (milestone.left.as_secs_f64() * 10.0).round() / 10.0;
    info!(
        milestone = milestone.milestone.as_str(),
        instance_id = terms.identity.instance_id.as_str(),
        action = action(terms.incident.action),
        seconds_left,
        target_group = milestone.target_group.as_ref().map(|arn| arn.as_str()),
        successor_id = milestone.successor_id.as_ref().map(|id| id.as_str()),
        owner = milestone.owner.as_deref(),
        outcome = outcome.map(|outcome| if outcome.complete { "complete" } else { "partial" }),
        "{}",
        milestone.message
    );
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Terminate => "terminate",
        Action::Stop => "stop",
        Action::Hibernate => "hibernate",
    }
}

/// Per duty what was done.
fn log_outcome(outcome: &Outcome) {
    for report in &outcome.duties {
        match report.done {
            true => info!("done: {}: {}", report.duty, report.what),
            false => warn!("not done: {}: {}", report.duty, report.what),
        }
    }
}
