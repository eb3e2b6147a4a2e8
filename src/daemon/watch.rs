//! Looks at the metadata, and notes the trouble of looking.
//!
//! Invariant: every answer of the metadata, or its absence, is a value here and never an end. Trouble is told once when
//! it begins and once when it is over. The look for the notice comes first and alone: a task beside it glances at the
//! other signals, and holds no look up.

use jiff::Timestamp;

use crate::cloud::clock::Clock;
use crate::cloud::imds::{Imds, ImdsError};
use crate::core::config::{Rebalance, ScheduledEvents, Watch};
use crate::core::error_chain::error_chain;
use crate::core::life::Recommendation;
use crate::core::model::{BootInstant, ScheduledEvent};
use crate::core::notice::{self, Notice, TWO_MINUTES};
use crate::host::boot;

/// The other signals are looked at after this many looks for the notice, and not all after the same one. With an
/// interval of more than a second these are seconds instead, or every look.
const REBALANCE_EVERY: u32 = 5;
const LIFECYCLE_EVERY: u32 = 5;
const EVENTS_EVERY: u32 = 30;

/// The result of one look.
pub(super) struct Looked {
    pub(super) result: Result<LookAnswer, Missed>,
    /// The instant right after the answer.
    pub(super) at: BootInstant,
}

impl Looked {
    /// Tells whether there was an answer at all, of use or not.
    pub(super) fn is_answered(&self) -> bool {
        !matches!(&self.result, Err(missed) if missed.kind == Miss::Unanswered)
    }
}

/// A look without a result.
pub(super) struct Missed {
    pub(super) kind: Miss,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// Nobody is there, or nobody answers in time.
    Unanswered,
    /// A status other than 200 and 404.
    Refused,
    /// An answer that cannot be read.
    Unusable,
}

impl Missed {
    fn of(error: &ImdsError) -> Missed {
        let kind = match error {
            ImdsError::TimedOut(_) | ImdsError::Unreachable(_) => Miss::Unanswered,
            ImdsError::TurnedOff
            | ImdsError::Overloaded
            | ImdsError::TokenRefused(_)
            | ImdsError::Redirected(_)
            | ImdsError::Status(_) => Miss::Refused,
            ImdsError::TokenUnusable
            | ImdsError::TooLong
            | ImdsError::NotText
            | ImdsError::NotJson(..)
            | ImdsError::Missing(_)
            | ImdsError::Odd(_) => Miss::Unusable,
        };
        Missed { kind, why: error_chain(error) }
    }
}

pub(super) struct LookAnswer {
    pub(super) notice: Option<Notice>,
    /// AWS's time, as far as it is believed.
    pub(super) aws_now: Timestamp,
    /// No date is believed yet: AWS's time is the wall clock's.
    pub(super) is_in_doubt: bool,
}

/// Looks once, with one immediate second try. A dropped packet is no trouble yet (docs/aws.md 1), and neither is a
/// first date that nothing agrees with.
pub(super) async fn look(imds: &Imds, clock: &Clock) -> Looked {
    let mut result = look_once(imds, clock).await;
    if result.is_err() || clock.is_in_doubt() {
        result = look_once(imds, clock).await;
    }
    Looked { result, at: boot::now() }
}

async fn look_once(imds: &Imds, clock: &Clock) -> Result<LookAnswer, Missed> {
    let look = imds.instance_action().await.map_err(|error| Missed::of(&error))?;
    let unusable = |why: String| Missed { kind: Miss::Unusable, why };
    let notice = match &look.body {
        Some(body) => Some(Notice::parse(body).map_err(|error| unusable(error.to_string()))?),
        None => None,
    };
    let date = look.date.filter(|date| clock.learn(*date));
    Ok(LookAnswer { notice, aws_now: date.unwrap_or_else(|| clock.now()), is_in_doubt: !clock.is_known() })
}

/// The signals to glance at after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glances {
    rebalance: bool,
    lifecycle: bool,
    events: bool,
}

impl Glances {
    /// The glances after this look; after the first one all of them.
    pub(super) fn after(look: u32, watch: &Watch) -> Option<Glances> {
        let interval = watch.interval.as_secs().max(1);
        let is_turn = |every: u32, offset: u32| {
            let every = u32::try_from(u64::from(every) / interval).unwrap_or(every).clamp(1, every);
            look <= 1 || look % every == offset % every
        };
        let glances = Glances {
            rebalance: watch.rebalance != Rebalance::Ignore && is_turn(REBALANCE_EVERY, 0),
            // The state is needed even if no handover follows: an instance in the warm pool is not registered.
            lifecycle: is_turn(LIFECYCLE_EVERY, 2),
            events: watch.scheduled_events != ScheduledEvents::Ignore && is_turn(EVENTS_EVERY, 4),
        };
        (glances.rebalance || glances.lifecycle || glances.events).then_some(glances)
    }
}

/// The results of the glances; `None`: not asked or not answered, and asked again later.
#[derive(Clone, Debug, Default)]
pub(super) struct Glanced {
    pub(super) recommendation: Option<Recommendation>,
    /// Inside, `None` is a 404.
    pub(super) lifecycle_state: Option<Option<String>>,
    pub(super) events: Option<Vec<ScheduledEvent>>,
}

pub(super) async fn glance(imds: &Imds, glances: Glances) -> Glanced {
    let mut glanced = Glanced::default();
    if glances.lifecycle {
        glanced.lifecycle_state = imds.target_lifecycle_state().await.ok().map(|look| look.body);
    }
    if glances.rebalance {
        glanced.recommendation = imds.rebalance_recommendation().await.ok().and_then(|look| match look.body {
            Some(body) => notice::parse_recommendation(&body),
            None => Some(Recommendation::Absent),
        });
    }
    if glances.events {
        let look = imds.scheduled_events().await.ok();
        glanced.events = look.map(|look| notice::parse_scheduled_events(&look.body.unwrap_or_default()));
    }
    glanced
}

/// The signals that were seen before the identity was known.
#[derive(Default)]
pub(super) struct EarlySignals {
    /// The first look that showed the notice that stands, or else the last look.
    pub(super) notice: Option<(Option<Notice>, Timestamp, BootInstant)>,
    /// The time of that look is a guess by the wall clock.
    pub(super) is_in_doubt: bool,
    /// The last look that showed no notice, kept beside a later notice: that is new then, whatever any clock says.
    absent: Option<(Timestamp, BootInstant)>,
    pub(super) glanced: Option<(Glanced, BootInstant)>,
}

impl EarlySignals {
    pub(super) fn holds_a_notice(&self) -> bool {
        self.notice.is_some_and(|(notice, _, _)| notice.is_some())
    }

    pub(super) fn saw(&mut self, notice: Option<Notice>, aws_now: Timestamp, at: BootInstant) {
        if notice.is_none() {
            self.absent = Some((aws_now, at));
        }
        if notice.is_none() || !self.holds_a_notice() {
            self.notice = Some((notice, aws_now, at));
        }
    }

    /// The looks to tell a life, in their order.
    pub(super) fn looks(&self) -> impl Iterator<Item = (Option<Notice>, Timestamp, BootInstant)> {
        let before = self.absent.filter(|_| self.holds_a_notice());
        before.map(|(aws_now, at)| (None, aws_now, at)).into_iter().chain(self.notice)
    }

    /// Tells whether the handover for such a notice may still begin in time.
    pub(super) fn is_about_to_begin(&self, now: BootInstant) -> bool {
        self.notice.is_some_and(|(notice, _, at)| notice.is_some() && now < at + TWO_MINUTES)
    }
}

/// A time without a good look.
#[derive(Debug)]
pub(super) struct Trouble {
    since: BootInstant,
    looks: u32,
}

/// The number of looks so far, and the trouble under way.
#[derive(Debug, Default)]
pub(super) struct LookHistory {
    pub(super) looks: u32,
    pub(super) trouble: Option<Trouble>,
}

impl LookHistory {
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
    use crate::core::model::Action;

    fn at(seconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn trouble_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut sight = LookHistory::default();
        assert!(sight.succeeded(at(0)).is_none());
        assert!(sight.failed(at(1), "503").is_some_and(|line| line.contains("503")));
        assert!(sight.failed(at(2), "503").is_none());
        assert!(sight.failed(at(3), "timeout").is_none());
        assert!(sight.succeeded(at(4)).is_some_and(|line| line.contains("after 3.0 s and 3 failed looks")));
        assert!(sight.succeeded(at(5)).is_none());
    }

    #[test]
    fn a_notice_that_waits_for_the_identity_holds_up_a_stop_for_two_minutes() {
        let mut early = EarlySignals::default();
        assert!(!early.is_about_to_begin(at(10)));
        early.saw(None, Timestamp::UNIX_EPOCH, at(9));
        assert!(!early.is_about_to_begin(at(10)));
        early.saw(Some(Notice { action: Action::Stop, time: None }), Timestamp::UNIX_EPOCH, at(10));
        assert!(early.is_about_to_begin(at(129)));
        assert!(!early.is_about_to_begin(at(130)));
    }

    #[test]
    fn it_is_remembered_that_there_was_no_notice_before() {
        let mut early = EarlySignals::default();
        let notice = Some(Notice { action: Action::Stop, time: None });
        early.saw(None, Timestamp::UNIX_EPOCH, at(9));
        early.saw(notice, Timestamp::UNIX_EPOCH, at(10));
        early.saw(notice, Timestamp::UNIX_EPOCH, at(11));
        let looks: Vec<_> = early.looks().map(|(notice, _, at)| (notice.is_some(), at)).collect();
        assert_eq!(looks, [(false, at(9)), (true, at(10))]);
        early.saw(None, Timestamp::UNIX_EPOCH, at(12));
        assert_eq!(early.looks().count(), 1);
    }
}
