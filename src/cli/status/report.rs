//! The report of `spot-relay status`, for other programs (`--json`): pure, from the daemon's file to this schema.
//!
//! The schema is a contract: fields may be added, and [`SCHEMA`] goes up when one changes or is removed. Every key is
//! always present, and `null` if unknown. Times are RFC 3339 in UTC, durations are seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::core::duty::DutyReport;
use crate::core::incident::{Closed, Incident, Outcome};
use crate::core::life::Standing;
use crate::core::model::{Action, BootInstant, Identity, Milestone, MilestoneKind, Registration, Signal};
use crate::host::files::{MetadataTrouble, Moment, OwnerStatus, Status};
use crate::host::lock::LockedDaemon;

const SCHEMA: u32 = 1;
/// A status older than this means that the daemon hangs: it writes more often.
const SILENT: Duration = Duration::from_secs(60);
/// The last good look counts as old after this many intervals and the longest age of the status.
const MISSING_LOOKS: u32 = 5;
const WRITTEN_EVERY: Duration = Duration::from_secs(12);

/// The sources of a report.
pub(super) struct StatusSources {
    pub(super) status: Option<Status>,
    /// The record on the disk, if there is no status.
    pub(super) record: Option<Incident>,
    pub(super) presence: Presence,
    /// The processes of dry runs, which write no status.
    pub(super) dry_runs: Vec<u32>,
    /// The path of the status file.
    pub(super) path: String,
    pub(super) now: BootInstant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Running,
    /// Its process lives, but writes no status.
    Silent,
    /// This daemon has the lock, but the status is not its own.
    Untold(LockedDaemon),
    /// The daemon wrote that it ended, or its process is gone.
    Ended,
    Absent,
}

impl Presence {
    /// `lives`: the process that wrote the status lives. `holder`: the daemon that has the lock.
    pub(super) fn of(status: Option<&Status>, lives: bool, holder: Option<LockedDaemon>, now: BootInstant) -> Presence {
        let is_over = |status: &Status| status.ended.is_some() || !lives;
        match (status, holder) {
            (status, Some(holder)) if status.is_none_or(is_over) => Presence::Untold(holder),
            (None, _) => Presence::Absent,
            (Some(status), _) if is_over(status) => Presence::Ended,
            (Some(status), _) if now.since(status.written.boot) > SILENT => Presence::Silent,
            (Some(_), _) => Presence::Running,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StatusReport {
    schema: u32,
    pub(super) running: bool,
    /// The state in the status file, or `not-running`, `silent` or `untold`.
    pub(super) state: &'static str,
    /// The state in a sentence, as `systemctl status` shows it.
    pub(super) says: Option<String>,
    pub(super) problems: Vec<StatusProblem>,
    #[serde(skip)]
    pub(super) dry_runs: Vec<u32>,
    pub(super) version: Option<String>,
    pub(super) pid: Option<u32>,
    pub(super) since: Option<Timestamp>,
    pub(super) running_seconds: Option<f64>,
    pub(super) ended: Option<Timestamp>,
    /// The age of the status.
    pub(super) age_seconds: Option<f64>,
    pub(super) metadata: Option<ReportedMetadata>,
    pub(super) credentials: Option<ReportedCredentials>,
    pub(super) instance: Option<Identity>,
    pub(super) owner: Option<OwnerStatus>,
    pub(super) on_a_notice: Option<String>,
    pub(super) registrations: Option<Vec<ReportedRegistration>>,
    pub(super) handover: Option<ReportedHandover>,
}

/// A problem and its remedies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct StatusProblem {
    pub(super) what: String,
    pub(super) remedy: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReportedMetadata {
    pub(super) interval_seconds: f64,
    pub(super) last_good_look: Option<Timestamp>,
    pub(super) age_seconds: Option<f64>,
    pub(super) trouble_since: Option<Timestamp>,
    pub(super) trouble: Option<String>,
}

/// The credentials that sign calls to AWS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReportedCredentials {
    pub(super) expires: Option<Timestamp>,
    pub(super) seconds_left: Option<f64>,
    pub(super) trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReportedRegistration {
    pub(super) target_group: String,
    pub(super) name: String,
    pub(super) ports: BTreeSet<u16>,
    pub(super) deregistration_delay_seconds: f64,
    pub(super) network_load_balancer: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReportedHandover {
    pub(super) instance_id: String,
    pub(super) signal: Signal,
    pub(super) action: Option<Action>,
    pub(super) begun_at: Timestamp,
    /// `null` for a recommendation.
    pub(super) deadline: Option<Timestamp>,
    pub(super) seconds_to_deadline: Option<f64>,
    /// `complete` or `partial`; `null` while the handover runs.
    pub(super) outcome: Option<&'static str>,
    /// The time from its beginning to its end, or until now.
    pub(super) seconds: Option<f64>,
    pub(super) closed: Option<Closed>,
    pub(super) milestones: Vec<ReportedMilestone>,
    pub(super) duties: Vec<DutyReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ReportedMilestone {
    pub(super) milestone: MilestoneKind,
    /// `null` for a later boot, whose clock does not give a time of this one.
    pub(super) at: Option<Timestamp>,
    /// The time after the beginning of the handover.
    pub(super) seconds: Option<f64>,
    pub(super) seconds_left: Option<f64>,
    pub(super) target_group: Option<String>,
    pub(super) successor_id: Option<String>,
    pub(super) message: String,
}

impl StatusReport {
    pub(super) fn of(found: &StatusSources) -> StatusReport {
        let StatusSources { status, presence, now, .. } = found;
        let status = status.as_ref();
        let age = |moment: Moment| seconds(now.since(moment.boot));
        let is_running = *presence == Presence::Running;
        let record = status.map_or(found.record.as_ref(), |status| status.handover.as_ref());
        let goes_on = status.is_some_and(|status| is_running && status.state == Standing::HandingOver);
        let open = status.filter(|_| goes_on).map(|status| (status.duties.clone(), *now));
        StatusReport {
            schema: SCHEMA,
            running: is_running || matches!(presence, Presence::Untold(_)),
            state: match (presence, status) {
                (Presence::Running, Some(status)) => status.state.as_str(),
                (Presence::Silent, _) => "silent",
                (Presence::Untold(_), _) => "untold",
                _ => "not-running",
            },
            says: status.map(|status| status.says.clone()),
            problems: problems(found),
            dry_runs: found.dry_runs.clone(),
            version: status.map(|status| status.version.clone()),
            pid: if let Presence::Untold(it) = presence { it.pid } else { status.map(|status| status.pid) },
            since: status.map(|status| whole(status.since.at)),
            running_seconds: status.filter(|_| is_running).map(|status| age(status.since)),
            ended: status.and_then(|status| status.ended).map(whole),
            age_seconds: status.map(|status| age(status.written)),
            metadata: status.map(|status| ReportedMetadata::of(status, *now)),
            credentials: status.and_then(|status| ReportedCredentials::of(status, *now)),
            instance: status.and_then(|status| status.instance.clone()),
            owner: status.and_then(|status| status.owner.clone()),
            on_a_notice: status.and_then(|status| status.on_a_notice.clone()),
            registrations: status.and_then(|it| it.registrations.as_deref()).map(places),
            handover: record.map(|record| ReportedHandover::of(record, open)),
        }
    }

    /// Tells whether the credentials are the only problem.
    pub(super) fn lacks_credentials_alone(&self) -> bool {
        self.problems.len() == 1 && self.credentials.as_ref().is_some_and(|credentials| credentials.trouble.is_some())
    }

    /// Tells whether something other than ages and counters has changed.
    pub(super) fn is_news_after(&self, earlier: &StatusReport) -> bool {
        self.without_ages() != earlier.without_ages()
    }

    fn without_ages(&self) -> StatusReport {
        let metadata = self.metadata.clone();
        let metadata = metadata.map(|it| ReportedMetadata { last_good_look: None, age_seconds: None, ..it });
        let handover = self.handover.clone();
        let handover = handover.map(|it| match it.outcome {
            None => ReportedHandover { seconds: None, seconds_to_deadline: None, duties: Vec::new(), ..it },
            Some(_) => it,
        });
        let credentials = self.credentials.clone().map(|it| ReportedCredentials { seconds_left: None, ..it });
        let (running_seconds, age_seconds, dry_runs) = (None, None, Vec::new());
        StatusReport { running_seconds, age_seconds, dry_runs, metadata, credentials, handover, ..self.clone() }
    }
}

impl ReportedMetadata {
    fn of(status: &Status, now: BootInstant) -> ReportedMetadata {
        ReportedMetadata {
            interval_seconds: seconds(status.interval),
            last_good_look: status.last_good_look.map(|look| whole(look.at)),
            age_seconds: status.last_good_look.map(|look| seconds(now.since(look.boot))),
            trouble_since: status.trouble.as_ref().map(|trouble| whole(trouble.since.at)),
            trouble: status.trouble.as_ref().map(|trouble| trouble.why.clone()),
        }
    }
}

impl ReportedCredentials {
    fn of(status: &Status, now: BootInstant) -> Option<ReportedCredentials> {
        let credentials = status.credentials.as_ref()?;
        // The wall clock when the status was written, plus the time since on the boot clock.
        let left = credentials.expires.map(|expires| {
            expires.duration_since(status.written.at).as_secs_f64() - now.since(status.written.boot).as_secs_f64()
        });
        Some(ReportedCredentials {
            expires: credentials.expires.map(whole),
            seconds_left: left.map(|left| left.max(0.0).round()),
            trouble: credentials.trouble.clone(),
        })
    }
}

impl ReportedHandover {
    /// `open`: the present duties of a running handover.
    pub(super) fn of(record: &Incident, open: Option<(Vec<DutyReport>, BootInstant)>) -> ReportedHandover {
        let ended = record.milestones.iter().rev().find(|it| it.milestone == MilestoneKind::HandedOver);
        let until = ended.map(|milestone| milestone.at).or(open.as_ref().map(|(_, now)| *now));
        let is_announced = record.signal != Signal::RebalanceRecommendation || record.is_terminating();
        // A signal after the end may have brought the deadline.
        let left = match ended {
            Some(milestone) => milestone.left,
            None => until.filter(|_| is_announced).map(|until| record.deadline.since(until)),
        };
        let deadline = record.begun_at.checked_add(record.deadline.since(record.begun)).ok().filter(|_| is_announced);
        let duties = match (&record.outcome, open) {
            (Some(outcome), _) => outcome.duties.clone(),
            (None, Some((duties, _))) => duties,
            (None, None) => Vec::new(),
        };
        ReportedHandover {
            instance_id: record.id.instance_id.to_string(),
            signal: record.signal,
            action: record.id.action,
            begun_at: whole(record.begun_at),
            deadline: deadline.map(whole),
            seconds_to_deadline: left.map(seconds),
            outcome: record.outcome.as_ref().map(Outcome::as_str),
            seconds: until.map(|until| seconds(until.since(record.begun))),
            closed: record.closed(),
            milestones: record.milestones.iter().map(|milestone| ReportedMilestone::of(milestone, record)).collect(),
            duties,
        }
    }
}

impl ReportedMilestone {
    fn of(milestone: &Milestone, record: &Incident) -> ReportedMilestone {
        let after = (milestone.at >= record.begun).then(|| milestone.at.since(record.begun));
        ReportedMilestone {
            milestone: milestone.milestone,
            at: after.and_then(|after| record.begun_at.checked_add(after).ok()).map(whole),
            seconds: after.map(seconds),
            seconds_left: milestone.left.map(seconds),
            target_group: milestone.target_group.as_ref().map(ToString::to_string),
            successor_id: milestone.successor_id.as_ref().map(ToString::to_string),
            message: milestone.message.clone(),
        }
    }
}

fn places(registrations: &[Registration]) -> Vec<ReportedRegistration> {
    let mut places: Vec<ReportedRegistration> = registrations
        .iter()
        .map(|it| ReportedRegistration {
            target_group: it.target_group.to_string(),
            name: it.name().to_owned(),
            ports: it.ports(),
            deregistration_delay_seconds: seconds(it.deregistration_delay),
            network_load_balancer: it.network,
        })
        .collect();
    // The order differs between look-ups.
    places.sort_by(|one, other| one.target_group.cmp(&other.target_group));
    places
}

fn problems(found: &StatusSources) -> Vec<StatusProblem> {
    let mut problems = Vec::new();
    let mut add = |what: String, remedy: &[&str]| {
        problems.push(StatusProblem { what, remedy: remedy.iter().map(|&line| line.to_owned()).collect() });
    };
    const START_IT: [&str; 1] = ["start it: systemctl start spot-relay"];
    const START: [&str; 2] = [START_IT[0], "see why it ended: journalctl -u spot-relay -e"];
    let nothing = match found.dry_runs.first() {
        Some(pid) => format!("a dry run (process {pid}) only says what it would do, and nothing would be handed over"),
        None => "no notice is seen, and nothing would be handed over".to_owned(),
    };
    let never_ran: &[&str] = if found.dry_runs.is_empty() { &START } else { &START_IT };
    if let Presence::Untold(LockedDaemon { pid }) = found.presence {
        let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        add(
            format!("spot-relay runs{process} and has not written {}: what it does is not known here", found.path),
            &["make room where that file is, and see its journal: journalctl -u spot-relay -e"],
        );
        return problems;
    }
    let Some(status) = &found.status else {
        add(format!("there is no {}: {nothing}", found.path), never_ran);
        return problems;
    };
    let last_good_look = status.last_good_look.map_or(status.since, |look| look);
    let may_be_old = status.interval * MISSING_LOOKS + WRITTEN_EVERY;
    match (found.presence, &status.trouble) {
        (Presence::Ended, _) if status.ended.is_some() => {
            add(format!("spot-relay was stopped: {nothing}"), &START);
        }
        (Presence::Ended, _) => {
            add(format!("spot-relay has died (process {} is gone): {nothing}", status.pid), &START);
        }
        (Presence::Silent, _) => add(
            "spot-relay hangs: its process is there, but it has written no status for over a minute; by all that \
             can be seen here no notice is seen"
                .to_owned(),
            &["restart it: systemctl restart spot-relay", "see what it did last: journalctl -u spot-relay -e"],
        ),
        (Presence::Running, Some(MetadataTrouble { why, .. })) => add(
            format!("spot-relay sees no notice, because the instance metadata does not answer as it should: {why}"),
            &["see what is in the way: spot-relay check"],
        ),
        (Presence::Running, None) if found.now.since(last_good_look.boot) > may_be_old => add(
            "the last good look at the metadata is old: a notice that came since is not seen".to_owned(),
            &["see what is in the way: spot-relay check", "see what it did last: journalctl -u spot-relay -e"],
        ),
        (Presence::Running | Presence::Untold(_) | Presence::Absent, _) => {}
    }
    let trouble = status.credentials.as_ref().and_then(|credentials| credentials.trouble.as_ref());
    if let (Presence::Running, Some(why)) = (found.presence, trouble) {
        add(
            format!("spot-relay has trouble with its credentials, so calls to AWS fail: {why}"),
            &["see what is in the way: spot-relay check"],
        );
    }
    problems
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// Rounds to the millisecond.
fn whole(time: Timestamp) -> Timestamp {
    time.round(Unit::Millisecond).unwrap_or(time)
}
