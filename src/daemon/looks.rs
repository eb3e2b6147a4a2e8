//! Takes the looks at the metadata: tells of trouble, learns AWS's time, and tells the life what was seen.
//!
//! Invariant: signals that are seen before the identity is known are kept until it is.

use tracing::{info, warn};

use super::Daemon;
use super::events::{Event, Purpose};
use super::watch::{self, Glanced, Glances, Looked};
use crate::core::model::BootInstant;
use crate::host::boot;

impl Daemon {
    pub(super) fn looked(&mut self, looked: Looked) {
        self.measures.looked(&looked);
        if let Some(watchdog) = self.watchdog.as_mut().filter(|_| looked.is_answered()) {
            watchdog.answered(looked.at, self.options.config.watch.interval);
        }
        if let Some(glances) = Glances::after(self.look_history.looks, &self.options.config.watch)
            && self.may_begin(Purpose::Glance, looked.at)
        {
            let imds = self.imds.clone();
            let task = async move { Event::Glanced(watch::glance(&imds, glances).await, boot::now()) };
            self.begin(Purpose::Glance, task);
        }
        let answer = match looked.result {
            Ok(answer) => answer,
            Err(missed) => {
                if let Some(line) = self.look_history.failed(looked.at, &missed.why) {
                    warn!("{line}");
                    self.publisher.went_blind(&missed.why);
                }
                return;
            }
        };
        if let Some(line) = self.look_history.succeeded(looked.at) {
            info!("{line}");
        }
        self.publisher.looked(looked.at);
        let aws_now = answer.aws_now;
        if let Some(life) = &mut self.life {
            life.time_is_in_doubt(answer.is_in_doubt);
            life.saw_notice(answer.notice, aws_now, looked.at);
            return;
        }
        if !self.early_signals.holds_a_notice() {
            self.early_signals.is_in_doubt = answer.is_in_doubt;
        }
        if let Some(notice) = answer.notice.filter(|_| !self.early_signals.holds_a_notice()) {
            info!("a notice stands ({notice}); finding out first who this instance is");
            self.identify_at = boot::now();
        }
        self.early_signals.saw(answer.notice, aws_now, looked.at);
    }

    pub(super) fn glanced(&mut self, glanced: Glanced, at: BootInstant) {
        let Some(life) = &mut self.life else {
            self.early_signals.glanced = Some((glanced, at));
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

    /// Tells a new life the signals that were seen before the identity was known.
    pub(super) fn tell_early_signals(&mut self) {
        let early = std::mem::take(&mut self.early_signals);
        if let Some(life) = &mut self.life {
            life.time_is_in_doubt(early.is_in_doubt);
            early.looks().for_each(|(notice, aws_now, at)| life.saw_notice(notice, aws_now, at));
        }
        if let Some((glanced, at)) = early.glanced {
            self.glanced(glanced, at);
        }
    }
}
