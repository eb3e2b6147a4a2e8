//! Posts to the webhook as tasks of the daemon.

use tracing::warn;

use super::Daemon;
use super::events::{Event, Purpose};
use crate::host::boot;
use crate::telemetry::webhook::{self, PostError};

impl Daemon {
    pub(super) fn post_if_due(&mut self) {
        if let Some((webhook, body, limit)) = self.notifier.due(boot::now()) {
            self.begin(Purpose::Post, async move { Event::Posted(webhook.post(body, limit).await) });
        }
    }

    /// Gives the webhook the time of one try for what it has not been told yet.
    pub(super) async fn post_the_rest(&mut self) {
        self.notifier.hurry(boot::now());
        let rest = async {
            while !self.notifier.is_empty() {
                self.post_if_due();
                let pause = self.notifier.wake().map_or(webhook::LIMIT, |wake| wake.since(boot::now()));
                tokio::select! {
                    Some(joined) = self.tasks.join_next_with_id() => self.joined(joined),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        if tokio::time::timeout(webhook::LIMIT, rest).await.is_err() {
            warn!("the webhook is too slow: not every milestone was posted before the end");
        }
    }

    pub(super) fn posted(&mut self, result: Result<(), PostError>) {
        self.measures.posted(result.as_ref().err().map(|it| it.failure.kind));
        self.notifier.answered(boot::now(), result);
    }
}
