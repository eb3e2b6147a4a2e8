//! The consequences of a look at the metadata: trouble told, time learned, and the life of this instance told what was seen.
//!
//! Invariant: what is seen before it is known whose life it is waits for that, and nothing of it is lost.

use jiff::Timestamp;
use tracing::{info, warn};

use super::watch::{self, Glanced, Glances, Looked};
use super::{Daemon, Event, Purpose};
use crate::core::model::BootInstant;
use crate::core::notice::Notice;
use crate::host::boot;

/// Seen before it was known who this instance is.
#[derive(Default)]
pub(super) struct Waiting {
    /// The last look, and the first one that showed the notice.
    pub(super) notice: Option<(Option<Notice>, Timestamp, BootInstant)>,
    glanced: Option<(Glanced, BootInstant)>,
}

impl Waiting {
    pub(super) fn holds_a_notice(&self) -> bool {
        self.notice.is_some_and(|(notice, _, _)| notice.is_some())
    }
}

impl Daemon {
    pub(super) fn looked(&mut self, looked: Looked) {
        self.measures.looked(&looked);
        if let Some(watchdog) = self.watchdog.as_mut().filter(|_| looked.is_answered()) {
            watchdog.answered(looked.at, self.options.config.watch.interval);
        }
        if let Some(glances) = Glances::after(self.sight.looks, &self.options.config.watch)
            && self.may_begin(Purpose::Glance, looked.at)
        {
            let imds = self.imds.clone();
            let task = async move { Event::Glanced(watch::glance(&imds, glances).await, boot::now()) };
            self.begin(Purpose::Glance, task);
        }
        let seen = match looked.result {
            Ok(seen) => seen,
            Err(missed) => {
                if let Some(line) = self.sight.failed(looked.at, &missed.why) {
                    warn!("{line}");
                    self.publisher.went_blind(&missed.why);
                }
                return;
            }
        };
        if let Some(line) = self.sight.succeeded(looked.at) {
            info!("{line}");
        }
        self.publisher.looked(looked.at);
        let aws_now = seen.aws_now;
        if let Some(life) = &mut self.life {
            life.saw_notice(seen.notice, aws_now, looked.at);
            return;
        }
        match (seen.notice, self.waiting.holds_a_notice()) {
            (Some(notice), false) => {
                info!("a notice stands ({notice}); finding out first who this instance is");
                self.identify_at = boot::now();
                self.waiting.notice = Some((Some(notice), aws_now, looked.at));
            }
            (Some(_), true) => {}
            (None, _) => self.waiting.notice = Some((None, aws_now, looked.at)),
        }
    }

    pub(super) fn glanced(&mut self, glanced: Glanced, at: BootInstant) {
        let Some(life) = &mut self.life else {
            self.waiting.glanced = Some((glanced, at));
            return;
        };
        if let Some(state) = glanced.lifecycle_state {
            life.saw_lifecycle_state(state.as_deref(), at);
        }
        if let Some(recommendation) = glanced.recommendation {
            life.saw_recommendation(recommendation, at);
        }
        if let Some(events) = glanced.events {
            life.saw_scheduled_events(events, at);
        }
    }

    /// It is known now whose life it is.
    pub(super) fn tell_what_was_seen(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if let (Some(life), Some((notice, aws_now, at))) = (&mut self.life, waiting.notice) {
            life.saw_notice(notice, aws_now, at);
        }
        if let Some((glanced, at)) = waiting.glanced {
            self.glanced(glanced, at);
        }
    }
}
