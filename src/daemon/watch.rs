//! One look at the metadata, and what the looks of the last time amount to.
//!
//! Invariant: whatever the metadata answers, or does not, is a value here and never an end; trouble is told once when it
//! begins and once when it is over.

use jiff::Timestamp;

use crate::boot;
use crate::imds::{Imds, ImdsError};
use crate::model::BootInstant;
use crate::notice::{self, Notice};

/// The rebalance recommendation is weak and early: every so many looks is often enough.
const REBALANCE_EVERY: u32 = 5;

/// What one look showed.
pub(super) struct Looked {
    pub(super) result: Result<Seen, String>,
    /// Right after the answer.
    pub(super) at: BootInstant,
}

pub(super) struct Seen {
    pub(super) notice: Option<Notice>,
    /// The `Date` of the answer: AWS's clock.
    pub(super) date: Option<Timestamp>,
    /// `None`: not asked this time.
    pub(super) rebalance: Option<Recommendation>,
}

/// What the metadata says of rebalancing.
pub(super) enum Recommendation {
    Absent,
    /// With its time, where it could be read.
    Given(Option<Timestamp>),
}

/// Looks once, with one immediate second try: a dropped packet is no trouble yet (FIELD.md 1).
pub(super) async fn look(imds: &Imds, number: u32, rebalance: bool) -> Looked {
    let mut result = look_once(imds).await;
    if result.is_err() {
        result = look_once(imds).await;
    }
    let at = boot::now();
    if let (Ok(seen), true) = (&mut result, rebalance && number.is_multiple_of(REBALANCE_EVERY))
        && seen.notice.is_none()
    {
        // Its failure is no news: the notice was answered a moment ago.
        seen.rebalance = imds.rebalance_recommendation().await.ok().map(|look| match look.body {
            Some(body) => Recommendation::Given(notice::parse_recommendation(&body)),
            None => Recommendation::Absent,
        });
    }
    Looked { result, at }
}

async fn look_once(imds: &Imds) -> Result<Seen, String> {
    let look = imds.instance_action().await.map_err(|error| chain(&error))?;
    let notice = match &look.body {
        Some(body) => Some(Notice::parse(body).map_err(|error| error.to_string())?),
        None => None,
    };
    Ok(Seen { notice, date: look.date, rebalance: None })
}

/// An error with its sources, as in "a: b: c".
pub(super) fn chain(error: &ImdsError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A time without a good look.
#[derive(Debug)]
pub(super) struct Trouble {
    since: BootInstant,
    looks: u32,
}

/// What the looks so far amount to.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) looks: u32,
    pub(super) trouble: Option<Trouble>,
    /// A look of this process was answered with 404.
    pub(super) absent_before: bool,
    /// Looks in a row that were answered with 404.
    pub(super) absent_looks: u32,
    /// The first recommendation that stands: AWS's time of it.
    pub(super) recommended: Option<Timestamp>,
}

impl Sight {
    /// Notes a failed look. Returns the line to log when the trouble begins.
    pub(super) fn failed(&mut self, at: BootInstant, why: &str) -> Option<String> {
        match &mut self.trouble {
            Some(trouble) => {
                trouble.looks += 1;
                None
            }
            None => {
                self.trouble = Some(Trouble { since: at, looks: 1 });
                Some(format!(
                    "the instance metadata does not answer as it should: {why}; \
                     no notice can be seen until it does; still looking"
                ))
            }
        }
    }

    /// Notes a good look. Returns the line to log when trouble is over.
    pub(super) fn succeeded(&mut self, at: BootInstant) -> Option<String> {
        let trouble = self.trouble.take()?;
        let lasted = at.since(trouble.since);
        let looks = trouble.looks;
        Some(format!(
            "the instance metadata answers again, after {:.1} s and {looks} failed looks",
            lasted.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn trouble_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut sight = Sight::default();
        assert!(sight.succeeded(at(0)).is_none());
        assert!(sight.failed(at(1), "503").is_some_and(|line| line.contains("503")));
        assert!(sight.failed(at(2), "503").is_none());
        assert!(sight.failed(at(3), "timeout").is_none());
        assert!(sight.succeeded(at(4)).is_some_and(|line| line.contains("after 3.0 s and 3 failed looks")));
        assert!(sight.succeeded(at(5)).is_none());
    }
}
