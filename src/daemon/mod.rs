//! The daemon: start-up, the watch loop, the calls of the core. It does what the core says, and decides nothing itself.
//!
//! Invariants: one loop, which nothing holds up: whatever can wait runs as a task of its own and comes back as an
//! [`Event`]. No answer and no failed task ends the loop; only a signal does, or the end of a drill.

mod announcement;
mod credentials;
mod deaths;
mod drill;
mod events;
mod fleets;
pub(crate) mod gap;
mod hook;
mod identify;
mod identity;
mod log_line;
pub(crate) mod look_up;
mod looks;
mod measure;
mod notifier;
mod options;
mod outlook;
mod parties;
mod perform;
mod posts;
mod preparation;
mod prepare;
mod publish;
mod put_off;
pub(crate) mod registrations;
mod rounds;
mod said;
mod survey;
mod tasks;
mod watch;
mod watchdog;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::{Id, JoinSet};
use tracing::{debug, info, warn};

use crate::cloud::Aws;
use crate::cloud::clock::Clock;
use crate::cloud::credentials::CredentialsState;
use crate::cloud::elb::FoundRegistrations;
use crate::cloud::imds::Imds;
use crate::core::call::{Answer, Call};
use crate::core::duty::Due;
use crate::core::handover::Handover;
use crate::core::life::{Life, Standing, Ticket};
use crate::core::model::{BootInstant, Identity};
use crate::core::notice::TWO_MINUTES;
use crate::core::retry::Failure;
use crate::core::watchdog::Watchdog;
use crate::host::boot;
use crate::host::signals::{Signals, StopRequest};
use crate::host::threads;

use deaths::DeadTasks;
use events::{Event, Purpose};
use log_line::LogLine;
use measure::Measures;
use notifier::Notifier;
use preparation::Preparation;
use prepare::Findings;
use publish::Publisher;
use watch::{EarlySignals, LookHistory};

pub use options::{DaemonEnd, Drill, Options};
pub(crate) use parties::Parties;
pub use survey::survey;

/// The loop runs every second. If it did not for this long, the machine stood still, and was hibernated as a rule.
const STOOD_STILL: Duration = Duration::from_secs(10);

struct Daemon {
    options: Options,
    imds: Arc<Imds>,
    clock: Clock,
    boot_id: String,
    look_history: LookHistory,
    next_look: BootInstant,
    /// The last pass of the loop.
    last_pass: BootInstant,
    /// The identity has to be read, for the first time or again.
    identify: bool,
    identify_at: BootInstant,
    identify_failures: u32,
    /// The identity of the last look, if it was another instance than before.
    another: Option<Identity>,
    /// The AWS clients' connections are dead: the machine stood still.
    reconnect: bool,
    aws: Option<Arc<Aws>>,
    preparation: Preparation,
    early_signals: EarlySignals,
    /// The life of this instance; `None` until its identity is known.
    life: Option<Life>,
    publisher: Publisher,
    notifier: Notifier,
    measures: Measures,
    /// systemd's watchdog, where there is one.
    watchdog: Option<Watchdog>,
    tasks: JoinSet<Event>,
    purposes: HashMap<Id, Purpose>,
    deaths: DeadTasks,
    /// The state of the credentials as it was last told.
    credentials: CredentialsState,
    stopping: bool,
    drill_is_called_off: bool,
}

/// Runs until a signal ends it, or a drill is over.
///
/// # Errors
/// Only at start-up: the metadata's address is no URL, or the metrics cannot be set up.
pub async fn run(options: Options, signals: &mut Signals) -> anyhow::Result<DaemonEnd> {
    let mut daemon = Daemon::new(options)?;
    daemon.publisher.systemd().ready();
    daemon.publisher.say("watching; finding out who this instance is");
    daemon.watch(signals).await;
    daemon.publisher.systemd().stopping();
    daemon.post_the_rest().await;
    daemon.publish_last().await;
    info!("stopped");
    let life = daemon.life.as_ref();
    Ok(DaemonEnd {
        record: life.and_then(Life::incident).cloned(),
        is_wholly_back: life.is_some_and(Life::is_wholly_back),
    })
}

impl Daemon {
    fn new(mut options: Options) -> anyhow::Result<Daemon> {
        let imds = Imds::new(options.metadata_endpoint.as_deref()).context("failed to set up the metadata client")?;
        let now = boot::now();
        info!("spot-relay {} watches {}", env!("CARGO_PKG_VERSION"), imds.endpoint());
        let publisher = Publisher::new(&options);
        Ok(Daemon {
            imds: Arc::new(imds),
            clock: Clock::default(),
            boot_id: boot::id(),
            look_history: LookHistory::default(),
            next_look: now,
            last_pass: now,
            identify: true,
            identify_at: now,
            identify_failures: 0,
            another: None,
            reconnect: false,
            aws: None,
            preparation: Preparation::new(options.config.leave.when, now),
            early_signals: EarlySignals::default(),
            life: None,
            watchdog: publisher.systemd().watchdog_limit().map(|limit| Watchdog::new(limit, now)),
            publisher,
            measures: Measures::begin(options.config.metrics.listen, now)?,
            notifier: Notifier::new(options.webhook.take()),
            tasks: JoinSet::new(),
            purposes: HashMap::new(),
            deaths: DeadTasks::default(),
            credentials: CredentialsState::default(),
            stopping: false,
            drill_is_called_off: false,
            options,
        })
    }

    async fn watch(&mut self, signals: &mut Signals) {
        loop {
            self.notice_a_standstill();
            self.begin_what_is_due();
            if self.has_to_finish() {
                // The calls just begun go out before anybody is told of them.
                tokio::task::yield_now().await;
            }
            self.publish();
            self.feed_the_watchdog();
            if self.drill_is_over() || (self.stopping && !self.has_to_finish()) {
                return;
            }
            let pause = self.wake().since(boot::now()).max(Duration::from_millis(1));
            tokio::select! {
                biased;
                asked = signals.recv() => {
                    if self.stop(asked) {
                        return;
                    }
                }
                Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Begins again after a standstill: connections and tokens are dead, and this may be another instance.
    fn notice_a_standstill(&mut self) {
        let now = boot::now();
        let stood = now.since(self.last_pass);
        self.last_pass = now;
        if stood < STOOD_STILL {
            return;
        }
        warn!(
            "this machine, or this program, stood still for {:.0} s (hibernated?): connecting again and looking again",
            stood.as_secs_f64()
        );
        if let Ok(imds) = Imds::new(self.options.metadata_endpoint.as_deref()) {
            self.imds = Arc::new(imds);
        }
        (self.identify, self.reconnect, self.identify_at) = (true, true, now);
        self.life.iter_mut().for_each(Life::stood_still);
        self.preparation.rounds.renew_now(now);
    }

    /// Takes a request to stop. Returns whether to stop at once.
    fn stop(&mut self, asked: StopRequest) -> bool {
        if let Some(at_once) = self.stop_drill(asked) {
            return at_once;
        }
        if !self.has_to_finish() {
            return true;
        }
        if self.stopping && asked == StopRequest::HangUp {
            return false;
        }
        let handover = self.life.as_ref().and_then(Life::handover);
        if self.stopping {
            let reports = handover.map(Handover::reports).unwrap_or_default();
            let undone: Vec<String> = reports.into_iter().filter(|it| !it.done).map(|it| it.duty).collect();
            warn!("ended by a second signal in the middle of a handover; not done: {}", undone.join(", "));
            return true;
        }
        let left = handover.map_or(TWO_MINUTES, |it| it.incident().deadline.since(boot::now()));
        let says = format!(
            "asked to stop in the middle of a handover: it is finished first, {:.0} s at most; a second signal ends at once",
            left.as_secs_f64()
        );
        info!("{says}");
        self.publisher.say(&says);
        self.publisher.systemd().extend_timeout(left + Duration::from_secs(5));
        self.stopping = true;
        false
    }

    /// Tells whether a handover has to be finished. A notice that waits for the identity counts too, for two minutes.
    fn has_to_finish(&self) -> bool {
        self.early_signals.is_about_to_begin(boot::now()) || self.life.as_ref().is_some_and(Life::has_to_finish)
    }

    fn begin_what_is_due(&mut self) {
        let now = boot::now();
        // The calls of a handover come first.
        self.advance(now);
        // The identity is read after the first look and never beside one: one connection and one token serve both.
        let is_look_first = self.look_history.looks == 0 || self.is_running(Purpose::Look);
        let unknown = self.identify && self.may_begin(Purpose::Identify, now);
        if unknown && now >= self.identify_at && !is_look_first {
            self.begin_identify();
        }
        if now >= self.next_look && self.may_begin(Purpose::Look, now) {
            self.next_look = now + self.options.config.watch.interval;
            self.look_history.looks = self.look_history.looks.wrapping_add(1);
            let (imds, clock) = (self.imds.clone(), self.clock.clone());
            self.begin(Purpose::Look, async move { Event::Looked(watch::look(&imds, &clock).await) });
        }
        self.prepare_if_due(now);
    }

    /// Lets the core go on and begins the calls it wants.
    fn advance(&mut self, now: BootInstant) {
        let (Some(life), Some(aws)) = (&mut self.life, &self.aws) else { return };
        let calls = life.due(now);
        if life.take_wants_look_up() {
            self.preparation.rounds.renew_now(now);
            (self.identify, self.identify_at) = (true, now);
        }
        if calls.is_empty() {
            return;
        }
        let config = Arc::new(self.options.config.clone());
        let asked = Parties::new(aws.clone(), self.imds.clone(), life.identity().clone(), config);
        for (ticket, Due { call, limit, .. }) in calls {
            debug!("begins {call}");
            let environment = match (&call, life.handover()) {
                (Call::RunHook { .. }, Some(handover)) => {
                    let left = handover.incident().deadline.since(now);
                    hook::environment(life.identity(), handover, left)
                }
                _ => Vec::new(),
            };
            self.measures.calls(ticket);
            let asked = asked.clone();
            let task = async move { Event::Answered(ticket, perform::perform(asked, call, environment, limit).await) };
            let id = self.tasks.spawn(task).id();
            self.purposes.insert(id, Purpose::Call { ticket, until: now + limit });
        }
    }

    /// Tells what there is to tell, and writes the files.
    fn publish(&mut self) {
        match &mut self.life {
            Some(life) => {
                for milestone in self.publisher.follow(life) {
                    self.measures.reached(&milestone, publish::about(&milestone, life));
                    self.notifier.push(boot::now(), &announcement::announcement(&milestone, life, self.clock.now()));
                }
            }
            None if self.early_signals.holds_a_notice() => self.publisher.notice_stands(),
            None => {}
        }
        self.follow_credentials();
        self.post_if_due();
        let waits = !self.may_begin(Purpose::Write, boot::now());
        if let Some(write) = self.publisher.due(waits) {
            self.begin_write(Purpose::Write, move || write.perform());
        }
        let waits = !self.may_begin(Purpose::WriteRecord, boot::now());
        if let Some(write) = self.publisher.record_due(waits) {
            self.begin_write(Purpose::WriteRecord, move || write.perform());
        }
    }

    fn begin_write(&mut self, purpose: Purpose, write: impl FnOnce() -> Vec<String> + Send + 'static) {
        self.begin(purpose, async move {
            let written = threads::run(write).await;
            Event::Written(written.unwrap_or_else(|error| vec![format!("files: {error}")]))
        });
    }

    /// Looks everything up, if it is time and no handover is in the way; then scans, if that is wanted.
    fn prepare_if_due(&mut self, now: BootInstant) {
        let (Some(life), Some(aws)) = (&self.life, &self.aws) else { return };
        if self.preparation.rounds.is_renewal_due(now) && self.may_begin(Purpose::Renew, now) {
            let aws = aws.clone();
            self.begin(Purpose::Renew, async move { Event::Renewed(prepare::renew_credentials(&aws).await) });
            return;
        }
        let round = self.preparation.rounds.is_due(now);
        let scan = self.preparation.is_scan_due(&self.options.config, now).filter(|_| !round);
        let may_begin = self.may_begin(Purpose::Prepare, now) && !self.preparation.rounds.waits_for_scan();
        if !(round || scan.is_some()) || life.has_to_finish() || !may_begin {
            return;
        }
        let config = Arc::new(self.options.config.clone());
        let parties = Parties::new(aws.clone(), self.imds.clone(), life.identity().clone(), config);
        let asked = prepare::RoundInput {
            parties: Parties { tempo: self.preparation.rounds.tempo(), ..parties },
            dry_run: self.options.dry_run,
            known: self.preparation.known_in_full(),
            groups: self.preparation.groups(),
            chooses_zones: self.preparation.chooses_zones(&self.options.config),
            renews_delays: self.preparation.rounds.renews_delays(now),
        };
        if round {
            self.measures.prepares(self.preparation.rounds.failures);
            self.begin(Purpose::Prepare, async move { Event::Prepared(Box::new(prepare::prepare(asked).await)) });
        } else if let Some(speed) = scan.filter(|_| self.may_begin(Purpose::Scan, now)) {
            self.preparation.rounds.scanning = Some(speed);
            self.begin(Purpose::Scan, async move {
                let began = Instant::now();
                let found = prepare::scan(asked, speed).await;
                Event::Scanned(found, began.elapsed())
            });
        }
    }

    /// Writes the last state to disk, if the disk answers: after the writes under way, so that the newest stays.
    async fn publish_last(&mut self) {
        let Some((runtime, record)) = self.publisher.last() else { return };
        let written = async {
            // Nobody is told any more what cannot be written now.
            self.wait_for_write(Purpose::Write).await;
            let _ = threads::run(move || runtime.perform()).await;
            self.wait_for_write(Purpose::WriteRecord).await;
            if let Some(record) = record {
                let _ = threads::run(move || record.perform()).await;
            }
        };
        let _ = tokio::time::timeout(publish::LAST_WRITE, written).await;
        self.tasks.abort_all();
    }

    /// Waits for the end of a write under way.
    async fn wait_for_write(&mut self, write: Purpose) {
        while self.is_running(write) {
            match self.tasks.join_next_with_id().await {
                Some(Ok((id, _))) => drop(self.purposes.remove(&id)),
                Some(Err(died)) => drop(self.purposes.remove(&died.id())),
                None => break,
            }
        }
    }

    fn wake(&self) -> BootInstant {
        let look = self.begins_at(Purpose::Look, self.next_look);
        let is_wanted = self.identify && look.is_some();
        let identify = self.begins_at(Purpose::Identify, self.identify_at).filter(|_| is_wanted);
        let life = self.life.as_ref().and_then(Life::wake);
        let far = boot::now() + Duration::from_secs(1);
        [look, identify, life, self.notifier.wake()].into_iter().flatten().min().unwrap_or(far).min(far)
    }

    fn answered(&mut self, ticket: Ticket, answer: Answer) {
        self.measures.answered(ticket, &answer);
        let Some(life) = &mut self.life else { return };
        if let Some(failure) = life.answered(boot::now(), ticket, answer) {
            warn!("{}: {failure}; {}", ticket.duty.failure(), ticket.duty.goes_on(failure.kind));
        }
    }

    fn scanned(&mut self, found: Result<FoundRegistrations, Failure>, took: Duration) {
        // A handover may have begun meanwhile.
        if let (Some(life), Ok(found)) = (&mut self.life, &found) {
            life.learn_all_registrations(&found.registrations, boot::now());
        }
        debug!("all target groups are scanned: {}", if found.is_ok() { "done" } else { "failed" });
        let lines = self.preparation.scanned(found, took, boot::now());
        self.prepared_lines(&lines);
    }

    fn prepared(&mut self, findings: Findings) {
        let lines = self.preparation.learn(findings, boot::now());
        (self.identify, self.identify_at) = (true, boot::now());
        self.prepared_lines(&lines);
    }

    fn prepared_lines(&mut self, lines: &[LogLine]) {
        // After a notice nobody wants to read what would happen on one, unless this instance lives on.
        let is_quiet =
            |life: &Life| matches!(life.standing(), Standing::Watching | Standing::Arriving | Standing::StaysOut);
        if self.life.as_ref().is_some_and(is_quiet) {
            lines.iter().for_each(LogLine::log);
        }
        let known = self.preparation.known();
        self.publisher.prepared(&known);
        self.measures.prepared(&known);
        if let Some(life) = &mut self.life {
            life.learn(known, self.preparation.rounds.scan_was_slow, boot::now());
        }
    }
}
