//! What a person gets to see of the daemon: milestones in the log, the record, the status, the flags, systemd's line.
//!
//! Invariant: nothing here is in the way. Files are written by one task at a time, always the newest state; what cannot
//! be written is said once and changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::arrival::{Arrival, Step};
use crate::handover::{Duty, Handover, Known, Outcome};
use crate::life::{Life, Record, Remark, Standing, Task};
use crate::model::{Identity, Milestone, MilestoneKind};
use crate::record::{Files, Flag, State, Status};
use crate::systemd::Systemd;

/// How long the end of the process waits for the last files.
pub(super) const LAST_WRITE: Duration = Duration::from_millis(500);

pub(super) struct Publisher {
    systemd: Systemd,
    files: Files,
    status: Status,
    /// The record as it is to be written.
    record: Option<Record>,
    /// Not known before the first good look: then the flags stay as they are.
    notice_stands: Option<bool>,
    is_drained: bool,
    /// What is said while nothing happens.
    watching: String,
    is_dirty: bool,
    said_failures: BTreeSet<String>,
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
            notice_stands: None,
            is_drained: false,
            watching: "watching".to_owned(),
            is_dirty: true,
            said_failures: BTreeSet::new(),
        }
    }

    pub(super) fn systemd(&self) -> &Systemd {
        &self.systemd
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
        let plan = self.status.plan.clone().unwrap_or_else(|| "the owner is not known yet".to_owned());
        let groups = match known.registrations.as_deref() {
            None => "target groups not known yet".to_owned(),
            Some([]) => "in no target group".to_owned(),
            Some([one]) => format!("in target group {}", one.name()),
            Some(several) => format!("in {} target groups", several.len()),
        };
        self.watching = format!("watching; {groups}; on a notice: {plan}");
        self.is_dirty = true;
        if self.status.state == State::Watching {
            self.say(&self.watching.clone());
        }
    }

    /// A notice, before it is known whose.
    pub(super) fn notice_stands(&mut self) {
        self.is_dirty |= self.notice_stands != Some(true);
        self.notice_stands = Some(true);
    }

    /// Tells what has happened since the last time, and takes over how things stand. Returns the milestones told.
    pub(super) fn follow(&mut self, life: &mut Life) -> Vec<Milestone> {
        for remark in life.take_remarks() {
            match remark {
                Remark::Info(text) => info!("{text}"),
                Remark::Warn(text) => warn!("{text}"),
            }
        }
        let milestones = life.take_milestones();
        for milestone in &milestones {
            log(milestone, life);
            self.say(&milestone.message);
            if let (MilestoneKind::HandedOver, Some(outcome)) =
                (milestone.milestone, life.handover().and_then(Handover::outcome))
            {
                log_outcome(outcome);
            }
        }
        self.take_state(life);
        if self.record.as_ref() != life.record_to_write() {
            self.record = life.record_to_write().cloned();
            self.is_dirty = true;
        }
        self.status.handover = life.record().cloned();
        if let Some(flags) = life.flags() {
            self.is_dirty |= self.notice_stands != Some(flags.notice) || self.is_drained != flags.drained;
            self.notice_stands = Some(flags.notice);
            self.is_drained = flags.drained;
        }
        milestones
    }

    fn take_state(&mut self, life: &Life) {
        let state = match life.standing() {
            Standing::InService => State::Watching,
            Standing::HandingOver => State::HandingOver,
            Standing::HandedOver => State::HandedOver,
            Standing::Arriving => State::Arriving,
            Standing::StaysOut => State::StaysOut,
            Standing::Terminating => State::Terminating,
        };
        let is_new = state != self.status.state;
        self.status.state = state;
        let says = match state {
            State::Watching if is_new => self.watching.clone(),
            State::Arriving => match life.arrival().and_then(Arrival::waits_for) {
                Some(waits_for) => waits_for.to_owned(),
                None if is_new => "registering in the target groups, and waiting to be healthy there".to_owned(),
                None => return,
            },
            State::StaysOut if is_new => "[survive] then = \"stay-out\": out of its target groups, watching".to_owned(),
            State::Terminating if is_new => "AWS terminates this instance at its own request".to_owned(),
            State::HandedOver if is_new && life.handover().is_none() => {
                "handed over by the process before this one: waiting for the end, or for two minutes after it"
                    .to_owned()
            }
            _ => return,
        };
        if says == self.status.says {
            return;
        }
        if is_new && matches!(state, State::Terminating) {
            info!("{says}");
        }
        self.say(&says);
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
            status: self.status.clone(),
            record: self.record.clone(),
            notice_stands: self.notice_stands,
            is_drained: self.is_drained,
        }
    }

    /// What could not be written: each file is said once.
    pub(super) fn written(&mut self, failures: &[String]) {
        for failure in failures {
            let file = failure.split(':').next().unwrap_or_default().to_owned();
            if self.said_failures.insert(file) {
                warn!(
                    "failed to write {failure}; a handover does without; without its record an instance that lives on \
                     cannot be put back after a restart, and people and path units do not see the rest"
                );
            }
        }
    }

    pub(super) fn last(&self) -> Write {
        self.write()
    }
}

/// What a call was for, for the line that tells of its failure.
pub(super) fn words(task: Task) -> &'static str {
    match task {
        Task::Leave(Duty::FindRegistrations(_)) => "failed to find this instance's target groups",
        Task::Leave(Duty::FindPlan) => "failed to find out who launches a successor",
        Task::Leave(Duty::Leave(_)) => "failed to leave a target group, or to see it left",
        Task::Leave(Duty::Quiet) => "failed to look at this instance's connections",
        Task::Leave(Duty::Ask) => "failed to ask for the successor",
        Task::Leave(Duty::Find) => "failed to find the successor",
        Task::Leave(Duty::Watch) => "failed to look at the successor",
        Task::Leave(Duty::Register(_)) => "failed to register the successor, or to see its health",
        Task::Leave(Duty::Lifecycle(_)) => "failed to see the termination hook through",
        Task::Leave(Duty::Mark) => "failed to tag this instance as one that goes",
        Task::Leave(Duty::Hook(_)) => "failed to run a hook",
        Task::Arrive(Step::Ready) => "failed to see the application ready",
        Task::Arrive(Step::Find) => "failed to look the target groups up",
        Task::Arrive(Step::Room) => "failed to put this instance back into its group",
        Task::Arrive(Step::Place(_)) => "failed to register this instance, or to see its health",
        Task::Arrive(Step::Unmark) => "failed to take the tag off this instance",
        Task::Arrive(Step::Capacity) => "failed to put the fleet's capacity back",
        Task::Arrive(Step::Terminate) => "failed to terminate this instance",
    }
}

/// How it goes on after a failure.
pub(super) fn tried_again(task: Task) -> &'static str {
    match task {
        Task::Leave(_) => "tried again as long as there is time",
        Task::Arrive(_) => "tried again until it is done",
    }
}

/// The record that a milestone belongs to: the closing ones belong to one that is closed.
pub(super) fn about<'a>(milestone: &Milestone, life: &'a Life) -> Option<&'a Record> {
    let closing = matches!(milestone.milestone, MilestoneKind::Survived | MilestoneKind::Reinstated);
    life.record().filter(|record| closing || record.closed.is_none())
}

/// Each milestone is one info line with the fields of the contract.
fn log(milestone: &Milestone, life: &Life) {
    let record = about(milestone, life);
    let outcome = record.and_then(|record| record.outcome.as_ref());
    let outcome = outcome.filter(|_| milestone.milestone == MilestoneKind::HandedOver);
    let action = record.and_then(|record| record.incident.action).map(|action| action.to_string());
    let seconds_left = milestone.left.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0);
    info!(
        milestone = milestone.milestone.as_str(),
        instance_id = life.identity().instance_id.as_str(),
        signal = record.map(|record| record.signal.as_str()),
        action = action.as_deref(),
        seconds_left,
        target_group = milestone.target_group.as_ref().map(|arn| arn.as_str()),
        successor_id = milestone.successor_id.as_ref().map(|id| id.as_str()),
        owner = milestone.owner.as_deref(),
        outcome = outcome.map(|outcome| if outcome.complete { "complete" } else { "partial" }),
        "{}",
        milestone.message
    );
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
