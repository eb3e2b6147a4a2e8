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

    pub(super) fn joined(&mut self, joined: Result<(Id, Event), JoinError>) {
        let (id, event) = match joined {
            Ok((id, event)) => (id, Some(event)),
            Err(died) => (died.id(), None),
        };
        let purpose = self.purposes.remove(&id);
        match (&event, purpose) {
            (Some(_), Some(purpose)) => self.deaths.ended(purpose),
            (None, Some(purpose)) => self.died(purpose),
            (_, None) => {}
        }
        match (event, purpose) {
            (Some(Event::Looked(looked)), _) => self.looked(looked),
            (Some(Event::Identified(result)), _) => self.identified(result),
            (Some(Event::Prepared(findings)), _) => self.prepared(*findings),
            (Some(Event::Scanned(found, took)), _) => self.scanned(found, took),
            (Some(Event::Renewed(result)), _) => self.preparation.rounds.renewed(&result, boot::now()),
            (Some(Event::Glanced(glanced, at)), _) => self.glanced(glanced, at),
            (Some(Event::Answered(ticket, answer)), _) => self.answered(ticket, answer),
            (Some(Event::Posted(result)), _) => self.posted(result),
            (Some(Event::Written(failures)), _) => self.publisher.written(&failures),
            (None, _) => {}
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
            Purpose::Look => self.next_look = self.deaths.paused_until(purpose).unwrap_or(now),
            Purpose::Identify => self.identified(Err("who this instance is: the task that asked died".to_owned())),
            Purpose::Prepare => self.preparation.rounds.schedule(Round::Incomplete, now),
            Purpose::Scan => self.scanned(Err(failure()), Duration::ZERO),
            Purpose::Renew => self.preparation.rounds.renewed(&Err(failure()), now),
            Purpose::Call { ticket, .. } => self.answered(ticket, Answer::Failed(failure())),
            Purpose::Post => self.posted(Err(failure().into())),
            Purpose::Glance | Purpose::Write | Purpose::WriteRecord => {}
        }
    }
}
