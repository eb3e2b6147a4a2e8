//! Publishes the daemon's state: milestones in the log, the record, the status, the flags, systemd's line.
//!
//! Invariant: nothing here is in the way. One task at a time writes a file, always with the newest state; a failed
//! write is reported once, and made again after a pause. While nothing happens only the status is written, every [`IDLE_WRITE`]:
//! its age tells whether anybody is there.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::events::Purpose;
use super::options::Options;
use super::outlook;
use super::write::{WriteRecord, WriteRuntime};
use crate::cloud::credentials::CredentialsState;
use crate::core::arrival::Arrival;
use crate::core::config::When;
use crate::core::duty::DutyReport;
use crate::core::handover::{Handover, LookedUp};
use crate::core::incident::{Incident, Outcome};
use crate::core::life::{Life, Remark, Standing};
use crate::core::model::{BootInstant, Identity, Milestone, MilestoneKind};
use crate::host::boot;
use crate::host::files::{CredentialsStatus, Files, MetadataTrouble, Moment, OwnerStatus, Status};
use crate::host::processes;
use crate::host::systemd::Systemd;

/// The wait for the last files at the end of the process. A busy disk takes a second for what it has to keep; one that
/// does not answer holds no process up for longer.
pub(super) const LAST_WRITE: Duration = Duration::from_secs(5);
/// The pause between two writes of the status while nothing happens.
const IDLE_WRITE: Duration = Duration::from_secs(10);
/// The pause between two writes during a handover, whose duties change without a milestone.
const BUSY_WRITE: Duration = Duration::from_secs(1);

pub(super) struct Publisher {
    systemd: Systemd,
    files: Files,
    when: When,
    /// A dry run may watch beside the daemon whose files these are, and writes none.
    is_dry_run: bool,
    status: Status,
    /// The record as it is to be written.
    record: Option<Incident>,
    /// `None` before the first good look: then the flags stay as they are.
    notice_stands: Option<bool>,
    is_drained: bool,
    /// The idle sentence.
    watching: String,
    is_dirty: bool,
    /// The flags or the status could not be written: they are written again with the next status.
    is_unwritten: bool,
    /// The instant from which the record is to be written: it has changed, or could not be written.
    record_from: Option<BootInstant>,
    said_failures: BTreeSet<String>,
}

impl Publisher {
    pub(super) fn new(options: &Options) -> Publisher {
        let (now, pid) = (moment(), std::process::id());
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            process_started: processes::started(pid),
            since: now,
            written: now,
            ended: None,
            interval: options.config.watch.interval,
            last_good_look: None,
            trouble: None,
            credentials: None,
            state: Standing::Watching,
            says: String::new(),
            instance: None,
            owner: None,
            on_a_notice: None,
            registrations: None,
            handover: None,
            duties: Vec::new(),
        };
        Publisher {
            systemd: Systemd::from_env(),
            files: options.files.clone(),
            when: options.config.leave.when,
            is_dry_run: options.dry_run,
            status,
            record: None,
            notice_stands: None,
            is_drained: false,
            watching: "watching".to_owned(),
            is_dirty: true,
            is_unwritten: false,
            record_from: None,
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

    pub(super) fn prepared(&mut self, known: &LookedUp) {
        let outlook = outlook::on_a_notice(known.registrations.as_deref(), known.plan.as_ref(), self.when);
        self.watching = format!("watching; on a notice: {outlook}");
        self.status.on_a_notice = Some(outlook);
        self.status.owner = known
            .plan
            .as_ref()
            .map(|plan| OwnerStatus { kind: plan.owner_kind().to_owned(), id: plan.owner_id().map(str::to_owned) });
        self.status.registrations.clone_from(&known.registrations);
        self.is_dirty = true;
        self.say_watching();
    }

    /// Notes a look that told whether a notice stands.
    pub(super) fn looked(&mut self, at: BootInstant) {
        self.status.last_good_look = Some(Moment { at: Timestamp::now(), boot: at });
        if self.status.trouble.take().is_some() {
            self.is_dirty = true;
            self.say_watching();
        }
    }

    pub(super) fn credentials(&mut self, standing: &CredentialsState) {
        self.status.credentials =
            Some(CredentialsStatus { expires: standing.expires, trouble: standing.trouble.clone() });
        self.is_dirty = true;
    }

    /// Notes the first failed look after a good one.
    pub(super) fn went_blind(&mut self, why: &str) {
        self.status.trouble = Some(MetadataTrouble { since: moment(), why: why.to_owned() });
        self.is_dirty = true;
        self.say_watching();
    }

    /// Says the idle sentence, if nothing happens.
    fn say_watching(&mut self) {
        if self.status.state != Standing::Watching {
            return;
        }
        let says = match &self.status.trouble {
            Some(trouble) => {
                format!("sees no notice: the instance metadata does not answer as it should: {}", trouble.why)
            }
            None => self.watching.clone(),
        };
        if says != self.status.says {
            self.say(&says);
        }
    }

    /// Raises the flag for a notice that came before the identity is known.
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
        self.take_record(life.incident_to_write());
        self.status.handover = life.incident().cloned();
        let handover = life.handover().filter(|_| self.status.state == Standing::HandingOver);
        let reports = handover.map(Handover::reports).unwrap_or_default();
        self.status.duties = reports.into_iter().map(DutyReport::so_far).collect();
        if let Some(flags) = life.flags() {
            self.is_dirty |= self.notice_stands != Some(flags.notice) || self.is_drained != flags.drained;
            self.notice_stands = Some(flags.notice);
            self.is_drained = flags.drained;
        }
        milestones
    }

    fn take_record(&mut self, record: Option<&Incident>) {
        if self.record.as_ref() != record {
            self.record = record.cloned();
            (self.is_dirty, self.record_from) = (true, Some(boot::now()));
        }
    }

    fn take_state(&mut self, life: &Life) {
        let state = life.standing();
        let is_new = state != self.status.state;
        self.is_dirty |= is_new;
        self.status.state = state;
        let says = match state {
            Standing::Watching if is_new => return self.say_watching(),
            Standing::Arriving => match life.arrival().and_then(Arrival::waits_for) {
                Some(waits_for) => waits_for.to_owned(),
                None if is_new => "registering in the target groups, and waiting to be healthy there".to_owned(),
                None => return,
            },
            Standing::StaysOut if is_new => {
                "[survive] then = \"stay-out\": out of its target groups, watching".to_owned()
            }
            Standing::Terminating if life.terminates_itself() => {
                "terminating this instance, because it has handed over: asking AWS until it accepts".to_owned()
            }
            Standing::Terminating => "AWS terminates this instance at its own request".to_owned(),
            Standing::HandedOver if is_new && life.handover().is_none() => {
                "handed over by the process before this one: waiting for the end, or for two minutes after it"
                    .to_owned()
            }
            _ => return,
        };
        if says == self.status.says {
            return;
        }
        if matches!(state, Standing::Terminating) && !life.terminates_itself() {
            info!("{says}");
        }
        self.say(&says);
    }

    pub(super) fn due(&mut self, is_writing: bool) -> Option<WriteRuntime> {
        if self.is_dry_run {
            return None;
        }
        let is_old = boot::now().since(self.status.written.boot) >= self.pause();
        if is_writing || !(self.is_dirty || is_old) {
            return None;
        }
        let is_whole = std::mem::take(&mut self.is_dirty) | std::mem::take(&mut self.is_unwritten);
        let write = self.write_runtime();
        Some(if is_whole { write } else { WriteRuntime { notice_stands: None, ..write } })
    }

    /// The pause until the status is written though nothing has changed, and after a write that failed.
    fn pause(&self) -> Duration {
        if self.status.state == Standing::HandingOver { BUSY_WRITE } else { IDLE_WRITE }
    }

    /// The write of the record, if a change is not in the file yet.
    pub(super) fn record_due(&mut self, is_writing: bool) -> Option<WriteRecord> {
        let waits = self.record_from.is_none_or(|from| boot::now() < from);
        let record = self.record.as_ref().filter(|_| !waits && !is_writing && !self.is_dry_run)?;
        self.record_from = None;
        Some(WriteRecord { files: self.files.clone(), record: record.clone() })
    }

    fn write_runtime(&mut self) -> WriteRuntime {
        self.status.written = moment();
        WriteRuntime {
            files: self.files.clone(),
            status: self.status.clone(),
            notice_stands: self.notice_stands,
            is_drained: self.is_drained,
        }
    }

    /// Reports the files that could not be written, each once, and has them written again.
    pub(super) fn written(&mut self, write: Purpose, failures: &[String]) {
        if failures.is_empty() {
            return;
        }
        if write == Purpose::WriteRecord {
            self.record_from.get_or_insert(boot::now() + self.pause());
        } else {
            self.is_unwritten = true;
        }
        for failure in failures {
            let file = failure.split(':').next().unwrap_or_default().to_owned();
            if self.said_failures.insert(file) {
                let without = match failure.contains("handover.json") {
                    true => "an instance that lives on cannot be put back after a restart",
                    false => "status and path units may show an old state",
                };
                warn!("failed to write {failure}; no handover needs it, but until it can be written {without}");
            }
        }
    }

    pub(super) fn last(&mut self) -> Option<(WriteRuntime, Option<WriteRecord>)> {
        self.status.ended = Some(Timestamp::now());
        self.record_from = Some(boot::now());
        let record = self.record_due(false);
        (!self.is_dry_run).then(|| (self.write_runtime(), record))
    }
}

fn moment() -> Moment {
    Moment { at: Timestamp::now(), boot: boot::now() }
}

/// The record to which a milestone belongs. A closed record has only the closing ones.
pub(super) fn about<'a>(milestone: &Milestone, life: &'a Life) -> Option<&'a Incident> {
    let closing = matches!(milestone.milestone, MilestoneKind::Survived | MilestoneKind::Reinstated);
    life.incident().filter(|record| closing || !record.is_closed())
}

/// Each milestone is one info line with the fields of the contract.
fn log(milestone: &Milestone, life: &Life) {
    let record = about(milestone, life);
    let outcome = record.and_then(|record| record.outcome.as_ref());
    let outcome = outcome.filter(|_| milestone.milestone == MilestoneKind::HandedOver);
    let action = record.and_then(|record| record.id.action).map(|action| action.to_string());
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
        outcome = outcome.map(Outcome::as_str),
        "{}",
        milestone.message
    );
}

/// Logs the result of each duty.
fn log_outcome(outcome: &Outcome) {
    for report in &outcome.duties {
        match report.done {
            true => info!("done: {}", report.in_words()),
            false => warn!("not done: {}", report.in_words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::Config;
    use crate::core::incident::Start;
    use crate::core::model::{IncidentId, InstanceId, Signal};

    fn publisher() -> Publisher {
        let files = Files::new(Some("/nowhere/state"), Some("/nowhere/run"));
        let options = Options {
            config: Config::default(),
            dry_run: false,
            metadata_endpoint: None,
            files,
            webhook: None,
            drill: None,
        };
        Publisher::new(&options)
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_up_nothing_on_the_other() {
        let mut publisher = publisher();
        publisher.take_record(Some(&record()));
        publisher.notice_stands();
        assert!(publisher.due(false).is_some_and(|write| write.notice_stands == Some(true)));
        assert!(publisher.record_due(false).is_some());
        // The record's write goes on and on; something changes.
        publisher.take_record(Some(&Incident { recommended: true, ..record() }));
        publisher.is_drained = true;
        assert!(publisher.due(false).is_some_and(|write| write.is_drained));
        assert!(publisher.record_due(true).is_none());
        assert!(publisher.due(false).is_none());
        // It has come to its end: the change is to be in it.
        assert!(publisher.record_due(false).is_some());
        assert!(publisher.record_due(false).is_none());
        // Now the flags are being written, and the record changes.
        publisher.take_record(Some(&record()));
        assert!(publisher.due(true).is_none());
        assert!(publisher.record_due(false).is_some());
        assert!(publisher.last().is_some_and(|(_, record)| record.is_some()));
    }

    #[test]
    fn what_could_not_be_written_is_written_again_after_a_pause() {
        let mut publisher = publisher();
        publisher.take_record(Some(&record()));
        publisher.notice_stands();
        assert!(publisher.due(false).is_some() && publisher.record_due(false).is_some());
        publisher.written(Purpose::Write, &["the notice flag: no space".to_owned()]);
        publisher.written(Purpose::WriteRecord, &["handover.json: no space".to_owned()]);
        assert!(publisher.due(false).is_none() && publisher.record_due(false).is_none(), "not at once");
        assert!(publisher.record_from.is_some_and(|from| from <= boot::now() + IDLE_WRITE));
        (publisher.status.written.boot, publisher.record_from) =
            (BootInstant::default(), publisher.record_from.map(|_| BootInstant::default()));
        assert!(publisher.due(false).is_some_and(|write| write.notice_stands == Some(true)), "the flags too");
        assert!(publisher.record_due(false).is_some());
        publisher.written(Purpose::Write, &[]);
        publisher.written(Purpose::WriteRecord, &[]);
        publisher.status.written.boot = BootInstant::default();
        assert!(publisher.due(false).is_some_and(|write| write.notice_stands.is_none()), "the status alone");
        assert!(publisher.record_due(false).is_none());
    }

    fn record() -> Incident {
        let (instance_id, boot_id) = (InstanceId::new("i-us"), "boot".into());
        let id = IncidentId { instance_id, boot_id, action: None, number: 0 };
        Incident::new(id, Signal::Notice, BootInstant::default(), Start::default())
    }
}
