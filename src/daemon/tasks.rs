//! Begins the daemon's tasks and takes their results.
//!
//! Invariant: a task that dies counts as failed, and its work pauses; it never ends the loop.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tracing::error;

use super::Daemon;
use super::events::{Event, Purpose};
use super::rounds::Round;
use crate::core::call::Answer;
use crate::core::model::BootInstant;
use crate::core::retry::Failure;
use crate::host::boot;

impl Daemon {
    pub(super) fn begin(&mut self, purpose: Purpose, task: impl Future<Output = Event> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.purposes.insert(id, purpose);
    }

    pub(super) fn is_running(&self, purpose: Purpose) -> bool {
        self.purposes.values().any(|running| *running == purpose)
    }

    /// Tells whether the work is not under way, and not paused after a death.
    pub(super) fn may_begin(&self, purpose: Purpose, now: BootInstant) -> bool {
        !self.is_running(purpose) && !self.deaths.is_paused(purpose, now)
    }

    /// The instant at which work that is due at `at` begins; `None` while it is under way.
    pub(super) fn begins_at(&self, purpose: Purpose, at: BootInstant) -> Option<BootInstant> {
        let paused_until = self.deaths.paused_until(purpose);
        (!self.is_running(purpose)).then(|| paused_until.map_or(at, |until| until.max(at)))
    }

    /// Forgets what is under way for the life that ends: its results are dropped.
    pub(super) fn forget_tasks_of_life(&mut self) {
        let is_of_life = |purpose: &Purpose| {
            matches!(purpose, Purpose::Prepare | Purpose::Scan | Purpose::Renew | Purpose::Call { .. })
        };
        self.purposes.retain(|_, purpose| !is_of_life(purpose));
    }

    pub(super) fn joined(&mut self, joined: Result<(Id, Event), JoinError>) {
        let (id, event) = match joined {
            Ok((id, event)) => (id, Some(event)),
            Err(died) => (died.id(), None),
        };
        let Some(purpose) = self.purposes.remove(&id) else { return };
        let Some(event) = event else { return self.died(purpose) };
        self.deaths.ended(purpose);
        match event {
            Event::Looked(looked) => self.looked(looked),
            Event::Identified(result) => self.identified(result),
            Event::Prepared(findings) => self.prepared(*findings),
            Event::Scanned(found, took) => self.scanned(found, took),
            Event::Renewed(result) => self.preparation.rounds.renewed(&result, boot::now()),
            Event::Glanced(glanced, at) => self.glanced(glanced, at),
            Event::Answered(ticket, answer) => self.answered(ticket, answer),
            Event::Posted(result) => self.posted(result),
            Event::Written(failures) => self.publisher.written(purpose, &failures),
        }
    }

    /// Takes the death of a task: its work has failed.
    fn died(&mut self, purpose: Purpose) {
        let now = boot::now();
        if let Some(line) = self.deaths.died(purpose, now) {
            error!("{line}");
        }
        let failure = || Failure::unanswered("the task that was to do it died");
        match purpose {
            Purpose::Identify => self.identified(Err("who this instance is: the task that asked died".to_owned())),
            Purpose::Prepare => self.preparation.rounds.schedule(Round::Incomplete, now),
            Purpose::Scan => self.scanned(Err(failure()), Duration::ZERO),
            Purpose::Renew => self.preparation.rounds.renewed(&Err(failure()), now),
            Purpose::Call { ticket, .. } => self.answered(ticket, Answer::Failed(failure())),
            Purpose::Post => self.posted(Err(failure().into())),
            Purpose::Write | Purpose::WriteRecord => {
                self.publisher.written(purpose, &["files: the task that was to write them died".to_owned()]);
            }
            Purpose::Look | Purpose::Glance => {}
        }
    }
}
