//! What a look-up could not find out, and the patience with which it goes about its calls.

use std::fmt;
use std::time::Duration;

use crate::core::model::Identity;
use crate::core::plan::Plan;
use crate::core::retry::{self, Backoff, Failure, FailureKind, start_in_turn};

/// The pauses between two tries of a look-up that AWS throttles.
const THROTTLED: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(16) };
const TRIES: u32 = 6;

/// A look-up that failed, by its own name: only what it alone feeds is unknown.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    what: String,
    is_of_hooks: bool,
    failure: Failure,
}

impl Gap {
    pub(super) fn new(what: impl Into<String>, failure: Failure) -> Gap {
        Gap { what: what.into(), is_of_hooks: false, failure }
    }

    pub(super) fn of_hooks(group: &str, failure: Failure) -> Gap {
        Gap { is_of_hooks: true, ..Gap::new(format!("the termination hooks of group {group}"), failure) }
    }

    pub(super) fn is_of_hooks(&self) -> bool {
        self.is_of_hooks
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The failure without the name.
    pub(super) fn into_bare(self) -> Failure {
        self.failure
    }

    pub(super) fn kind(&self) -> FailureKind {
        self.failure.kind
    }

    /// Tells whether asking again in a moment is likely to get the same.
    fn lasts(&self) -> bool {
        matches!(self.kind(), FailureKind::Denied | FailureKind::Rejected | FailureKind::Unanswered)
    }

    fn into_failure(self) -> Failure {
        Failure { kind: self.kind(), code: None, message: self.to_string() }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.failure)
    }
}

/// The plan, as far as it could be made, and what is unknown of it.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) plan: Option<Plan>,
    pub(super) gaps: Vec<Gap>,
}

impl Planned {
    pub(super) fn unknown(gap: Gap) -> Planned {
        Planned { plan: None, gaps: vec![gap] }
    }

    /// The plan in the two minutes: one with a gap is taken where the gap stays, and looked up again where it may
    /// close.
    pub(super) fn in_a_hurry(mut self) -> Result<Plan, Failure> {
        match self.plan {
            Some(plan) if self.gaps.iter().all(Gap::lasts) => Ok(plan),
            _ if self.gaps.is_empty() => Err(Failure::unanswered("nothing was looked up")),
            _ => Err(self.gaps.swap_remove(0).into_failure()),
        }
    }
}

/// The tempo of a look-up's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tempo {
    /// One after the other.
    AtOnce,
    /// A pause comes first, in which all members of a large group that start together get their turn; `seed` says whose
    /// is when.
    InTurn { seed: u64 },
}

impl Tempo {
    pub(super) async fn wait_among(self, fellows: usize) {
        if let Tempo::InTurn { seed } = self {
            tokio::time::sleep(start_in_turn(fellows, seed)).await;
        }
    }
}

/// A look-up of several calls does not begin again because one of them was throttled: that one is made again, after a
/// pause.
pub(super) async fn patiently<T, F>(identity: &Identity, call: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let seed = retry::seed(identity.instance_id.as_str());
    for tries in 1..TRIES {
        match call().await {
            Err(failure) if failure.kind == FailureKind::Throttled => {
                tokio::time::sleep(THROTTLED.pause(tries, seed).max(THROTTLED.first / 4)).await;
            }
            answer => return answer,
        }
    }
    call().await
}
