//! The daemon: start-up, the watch loop, the handover loop. It performs what the core says and decides nothing itself.
//!
//! Invariants: one loop, never held up: whatever can wait runs as a task of its own and comes back as an [`Event`]; no
//! answer and no failure of a task ends the loop; only a signal does.

mod look_up;
mod perform;
mod prepare;
mod publish;
mod seen;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{debug, error, info, warn};

use crate::aws::clock::Clock;
use crate::aws::elb::Found;
use crate::aws::{Aws, Connection};
use crate::boot;
use crate::config::{Config, Rebalance};
use crate::handover::{Answer, Duty, Handover};
use crate::imds::Imds;
use crate::model::{BootInstant, Identity, LifeCycle};
use crate::notice::{Notice, TWO_MINUTES};
use crate::record::{Files, Record};
use crate::retry::{self, Backoff, Failure};
use crate::signals::Signals;

use prepare::{Findings, Preparation};
use publish::Publisher;
use watch::{Looked, Sight};

/// Between two tries to find out who this instance is.
const IDENTIFY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
/// A member launched so long before the notice may be the successor all the same: AWS's clocks and ours.
const SLACK: Duration = Duration::from_secs(30);
/// How long the start waits for the record.
const READ_LIMIT: Duration = Duration::from_secs(1);

pub struct Options {
    pub config: Config,
    /// Say what would be done, and write nothing to AWS.
    pub dry_run: bool,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`
    pub metadata_endpoint: Option<String>,
    pub files: Files,
}

/// What a task came back with.
enum Event {
    Looked(Looked),
    Identified(Result<Box<Identified>, String>),
    Prepared(Box<Findings>),
    Scanned(Result<Found, Failure>, Duration),
    Renewed(Result<Option<Duration>, Failure>),
    Answered(Duty, Answer),
    /// What could not be written.
    Written(Vec<String>),
}

/// What a task is for: known also when the task itself dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Look,
    Identify,
    Prepare,
    Scan,
    Renew,
    Call(Duty),
    Write,
}

struct Daemon {
    options: Options,
    imds: Arc<Imds>,
    clock: Clock,
    boot_id: String,
    sight: Sight,
    next_look: BootInstant,
    identity: Option<Identity>,
    identify_at: BootInstant,
    identify_failures: u32,
    aws: Option<Arc<Aws>>,
    preparation: Preparation,
    /// A notice seen before it was known who this instance is.
    waiting_notice: Option<(Notice, Timestamp, BootInstant)>,
    survived: Option<Notice>,
    handover: Option<Handover>,
    publisher: Publisher,
    tasks: JoinSet<Event>,
    purposes: HashMap<Id, Purpose>,
    stopping: bool,
}

/// Runs until a signal ends it.
///
/// # Errors
/// Only at start-up: the metadata's address is no URL, or signals cannot be caught.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let imds = Imds::new(options.metadata_endpoint.as_deref()).context("failed to set up the metadata client")?;
    let mut signals = Signals::new().context("failed to catch signals")?;
    let now = boot::now();
    info!("spot-relay {} watches {}", env!("CARGO_PKG_VERSION"), imds.endpoint());
    let mut daemon = Daemon {
        imds: Arc::new(imds),
        clock: Clock::default(),
        boot_id: boot::id(),
        sight: Sight::default(),
        next_look: now,
        identity: None,
        identify_at: now,
        identify_failures: 0,
        aws: None,
        preparation: Preparation::new(now),
        waiting_notice: None,
        survived: None,
        handover: None,
        publisher: Publisher::new(options.files.clone()),
        tasks: JoinSet::new(),
        purposes: HashMap::new(),
        stopping: false,
        options,
    };
    daemon.publisher.systemd().ready();
    daemon.publisher.say("watching; finding out who this instance is");
    daemon.watch(&mut signals).await;
    daemon.publisher.systemd().stopping();
    daemon.publish_last().await;
    info!("stopped");
    Ok(())
}

impl Daemon {
    async fn watch(&mut self, signals: &mut Signals) {
        loop {
            self.begin_what_is_due();
            if self.is_handing_over() {
                // The calls just begun go out before anybody is told of them.
                tokio::task::yield_now().await;
            }
            self.publish();
            if self.stopping && !self.is_handing_over() {
                return;
            }
            let pause = self.wake().since(boot::now()).max(Duration::from_millis(1));
            tokio::select! {
                biased;
                () = signals.recv() => {
                    if self.stop() {
                        return;
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Returns whether to stop at once.
    fn stop(&mut self) -> bool {
        if !self.is_handing_over() {
            return true;
        }
        if self.stopping {
            let reports = self.handover.as_ref().map(Handover::reports).unwrap_or_default();
            let undone: Vec<String> = reports.into_iter().filter(|it| !it.done).map(|it| it.duty).collect();
            warn!("ended by a second signal in the middle of a handover; not done: {}", undone.join(", "));
            return true;
        }
        self.stopping = true;
        let left = self.handover.as_ref().map_or(TWO_MINUTES, |it| it.terms().deadline.since(boot::now()));
        info!(
            "asked to stop in the middle of a handover: it is finished first, {:.0} s at most; a second signal ends at once",
            left.as_secs_f64()
        );
        self.publisher.systemd().extend_timeout(left + Duration::from_secs(5));
        false
    }

    /// A notice that only waits for the identity counts: what it asks for is about to begin.
    fn is_handing_over(&self) -> bool {
        self.waiting_notice.is_some() || self.handover.as_ref().is_some_and(|handover| handover.outcome().is_none())
    }

    fn begin_what_is_due(&mut self) {
        let now = boot::now();
        // First what a notice asks for.
        self.advance_handover(now);
        // After the first look and beside none, so that one connection and one token serve them all.
        let beside_a_look = self.sight.looks == 0 || self.is_running(Purpose::Look);
        let unknown = self.identity.is_none() && !self.is_running(Purpose::Identify);
        if unknown && now >= self.identify_at && !beside_a_look {
            let (imds, clock) = (self.imds.clone(), self.clock.clone());
            let files = self.options.files.clone();
            self.begin(Purpose::Identify, async move { Event::Identified(identify(&imds, clock, files).await) });
        }
        if now >= self.next_look && !self.is_running(Purpose::Look) {
            self.next_look = now + self.options.config.watch.interval;
            self.sight.looks = self.sight.looks.wrapping_add(1);
            let (imds, number) = (self.imds.clone(), self.sight.looks);
            let rebalance = self.options.config.watch.rebalance != Rebalance::Ignore;
            self.begin(Purpose::Look, async move { Event::Looked(watch::look(&imds, number, rebalance).await) });
        }
        self.prepare_if_due(now);
    }

    /// Tells the milestones reached, and writes the files.
    fn publish(&mut self) {
        if let Some(handover) = &mut self.handover
            && !self.publisher.knows_outcome()
        {
            self.publisher.follow(handover);
        }
        if let Some(write) = self.publisher.due(self.is_running(Purpose::Write)) {
            let id = self.tasks.spawn_blocking(move || Event::Written(write.perform())).id();
            self.purposes.insert(id, Purpose::Write);
        }
    }

    /// Looks everything up, if it is time and no handover is in the way; then scans, if that is wanted.
    fn prepare_if_due(&mut self, now: BootInstant) {
        let (Some(identity), Some(aws)) = (&self.identity, &self.aws) else { return };
        if self.preparation.is_renewal_due(now) && !self.is_running(Purpose::Renew) {
            let aws = aws.clone();
            self.begin(Purpose::Renew, async move { Event::Renewed(prepare::renew_credentials(&aws).await) });
            return;
        }
        if self.is_handing_over() || self.is_running(Purpose::Prepare) || self.is_running(Purpose::Scan) {
            return;
        }
        let asked = prepare::Asked {
            aws: aws.clone(),
            imds: self.imds.clone(),
            identity: identity.clone(),
            config: self.options.config.clone(),
            dry_run: self.options.dry_run,
            known: self.preparation.known().registrations.unwrap_or_default(),
        };
        if self.preparation.is_due(now) {
            self.begin(Purpose::Prepare, async move { Event::Prepared(Box::new(prepare::prepare(asked).await)) });
        } else if self.preparation.is_scan_due(&self.options.config) {
            self.begin(Purpose::Scan, async move {
                let began = Instant::now();
                let found = prepare::scan(asked).await;
                Event::Scanned(found, began.elapsed())
            });
        }
    }

    /// Lets the core go on and begins the calls it wants.
    fn advance_handover(&mut self, now: BootInstant) {
        let (Some(handover), Some(aws), Some(identity)) = (&mut self.handover, &self.aws, &self.identity) else {
            return;
        };
        if self.publisher.knows_outcome() {
            return;
        }
        let due = handover.due(now);
        let asked = perform::Asked {
            aws: aws.clone(),
            imds: self.imds.clone(),
            identity: identity.clone(),
            config: Arc::new(self.options.config.clone()),
        };
        for due in due {
            let (duty, asked) = (due.duty, asked.clone());
            let task = async move { Event::Answered(duty, perform::perform(asked, due.call, due.limit).await) };
            let id = self.tasks.spawn(task).id();
            self.purposes.insert(id, Purpose::Call(duty));
        }
    }

    /// The last state on disk, if the disk answers: after the write under way, because the newest has to stay.
    async fn publish_last(&mut self) {
        let write = self.publisher.last();
        let tasks = &mut self.tasks;
        let purposes = &mut self.purposes;
        let written = async {
            while purposes.values().any(|purpose| *purpose == Purpose::Write) {
                match tasks.join_next_with_id().await {
                    Some(Ok((id, _))) => drop(purposes.remove(&id)),
                    Some(Err(died)) => drop(purposes.remove(&died.id())),
                    None => break,
                }
            }
            // What cannot be written now is said by nobody any more.
            let _ = tokio::task::spawn_blocking(move || write.perform()).await;
        };
        let _ = tokio::time::timeout(publish::LAST_WRITE, written).await;
        self.tasks.abort_all();
    }

    fn begin(&mut self, purpose: Purpose, task: impl Future<Output = Event> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.purposes.insert(id, purpose);
    }

    fn is_running(&self, purpose: Purpose) -> bool {
        self.purposes.values().any(|running| *running == purpose)
    }

    fn wake(&self) -> BootInstant {
        let look = (!self.is_running(Purpose::Look)).then_some(self.next_look);
        let busy = self.is_running(Purpose::Identify) || self.is_running(Purpose::Look);
        let identify = (self.identity.is_none() && !busy).then_some(self.identify_at);
        let handover = self.handover.as_ref().and_then(Handover::wake);
        let far = boot::now() + Duration::from_secs(1);
        [look, identify, handover].into_iter().flatten().min().unwrap_or(far).min(far)
    }

    fn joined(&mut self, joined: Result<(Id, Event), JoinError>) {
        let (id, event) = match joined {
            Ok((id, event)) => (id, Some(event)),
            Err(died) => {
                error!("a task of this program died; its work is begun again: {died}");
                (died.id(), None)
            }
        };
        let purpose = self.purposes.remove(&id);
        match (event, purpose) {
            (Some(Event::Looked(looked)), _) => self.looked(looked),
            (Some(Event::Identified(result)), _) => self.identified(result),
            (Some(Event::Prepared(findings)), _) => self.prepared(*findings),
            (Some(Event::Scanned(found, took)), _) => self.scanned(found, took),
            (Some(Event::Renewed(result)), _) => {
                if let Some(line) = self.preparation.renewed(result, boot::now()) {
                    line.log();
                }
            }
            (Some(Event::Answered(duty, answer)), _) => self.answered(duty, answer),
            (None, Some(Purpose::Call(duty))) => {
                self.answered(duty, Answer::Failed(Failure::unanswered("the task that made the call died")));
            }
            (Some(Event::Written(failures)), _) => self.publisher.written(&failures),
            (None, _) => {}
        }
    }

    fn answered(&mut self, duty: Duty, answer: Answer) {
        let Some(handover) = &mut self.handover else { return };
        if let Some(failure) = handover.answered(boot::now(), duty, answer) {
            warn!("{}: {failure}; tried again as long as there is time", publish::words(duty));
        }
    }

    fn identified(&mut self, result: Result<Box<Identified>, String>) {
        let now = boot::now();
        let Identified { identity, aws, record } = match result {
            Ok(identified) => *identified,
            Err(why) => {
                self.identify_failures += 1;
                if self.identify_failures == 1 {
                    warn!("{why}; still trying");
                }
                self.identify_at = now + IDENTIFY.pause(self.identify_failures, retry::seed(&self.boot_id));
                return;
            }
        };
        info!(
            "instance {} ({}, {}, {})",
            identity.instance_id,
            identity.instance_type,
            identity.availability_zone,
            if identity.life_cycle == LifeCycle::Spot { "spot" } else { "on demand" },
        );
        if identity.life_cycle == LifeCycle::OnDemand {
            warn!(
                "this is an on-demand instance: AWS gives no Spot notice for it; watching what can still happen to it"
            );
        }
        match record {
            Ok(record) => self.publisher.remember(record),
            Err(why) => warn!("{why}"),
        }
        self.publisher.identified(&identity);
        self.aws = Some(Arc::new(aws));
        self.preparation.begin(&identity, now);
        self.identity = Some(identity);
        if let Some((notice, aws_now, at)) = self.waiting_notice.take() {
            self.noticed(notice, aws_now, at);
        }
    }

    fn scanned(&mut self, found: Result<Found, Failure>, took: Duration) {
        // A notice may have come meanwhile.
        if let (Some(handover), Ok(found)) = (&mut self.handover, &found) {
            handover.learn_all_registrations(found.registrations.clone(), boot::now());
        }
        debug!("all target groups are scanned: {}", if found.is_ok() { "done" } else { "failed" });
        let lines = self.preparation.scanned(found, took, boot::now());
        if self.handover.is_none() {
            lines.iter().for_each(prepare::Line::log);
        }
        self.publisher.prepared(&self.preparation.known());
    }

    fn prepared(&mut self, findings: Findings) {
        let lines = self.preparation.learn(findings, boot::now());
        // After a notice nobody wants to read what would happen on one.
        if self.handover.is_none() {
            lines.iter().for_each(prepare::Line::log);
        }
        // A notice may have come meanwhile.
        let known = self.preparation.known();
        if let (Some(handover), Some(registrations)) = (&mut self.handover, known.registrations) {
            handover.learn_registrations(registrations, boot::now());
        }
        self.publisher.prepared(&self.preparation.known());
    }
}

/// Who this instance is, the clients for its region, and the record of its last handover.
struct Identified {
    identity: Identity,
    aws: Aws,
    record: Result<Option<Record>, String>,
}

async fn identify(imds: &Imds, clock: Clock, files: Files) -> Result<Box<Identified>, String> {
    let identity = imds
        .identity()
        .await
        .map_err(|error| format!("who this instance is cannot be read from the metadata: {}", watch::chain(&error)))?;
    let connection = Connection::new(&identity.region, clock);
    let aws = Aws::connect(connection).await.map_err(|error| format!("failed to set up the AWS clients: {error:#}"))?;
    let ours = identity.clone();
    let read = tokio::task::spawn_blocking(move || files.read_record(&ours));
    // A disk that hangs is no reason to wait: no record is one that can be done without.
    let record = match tokio::time::timeout(READ_LIMIT, read).await {
        Ok(Ok(record)) => record,
        Ok(Err(_)) | Err(_) => {
            Err("the record cannot be read: the disk does not answer; going on without it".to_owned())
        }
    };
    Ok(Box::new(Identified { identity, aws, record }))
}
