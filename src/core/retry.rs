//! Failures and backoff: what a failed call means, and how long to wait before the next try.
//!
//! There is one owner of retries: the handover (and, in quiet times, the look-up loop of the daemon). All of this is
//! pure. Jitter comes from a seed: two instances noticed together do not call together, and tests are repeatable.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::words::words;

/// A call that was not answered, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// AWS's error code, where AWS answered.
    pub code: Option<String>,
    /// The message for a person: AWS's own, or the chain of causes.
    pub message: String,
}

words! {
    /// The meaning of a failure for the next step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum FailureKind {
        /// No answer came: no connection, a lost answer, or no time left. AWS may have carried the call out.
        Unanswered = "unanswered",
        /// Too many calls in this account and region.
        Throttled = "throttled",
        /// AWS had a fault of its own (5xx). It may have carried the call out.
        Fault = "fault",
        /// The credentials are missing, expired, or signed with a wrong clock.
        Credentials = "credentials",
        /// IAM says no.
        Denied = "denied",
        /// AWS understood and refused.
        Rejected = "rejected",
    }
}

/// AWS's code for a version of a launch template that it does not know, as when it was deleted.
pub const VERSION_NOT_FOUND: &str = "InvalidLaunchTemplateId.VersionNotFound";

impl Failure {
    /// Makes a failure without an AWS code.
    pub fn of(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into() }
    }

    pub fn unanswered(message: impl Into<String>) -> Self {
        Self::of(FailureKind::Unanswered, message)
    }

    /// Tells whether AWS may have carried the call out all the same.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self.kind, FailureKind::Unanswered | FailureKind::Fault) && !self.is_busy()
    }

    /// Tells whether another change of the Auto Scaling group is under way. This one was not made, and may succeed in a
    /// moment. AWS answers so with any status.
    pub fn is_busy(&self) -> bool {
        self.has_code(&["ScalingActivityInProgress", "ResourceContention", "ResourceInUse"])
    }

    /// AWS will answer the same again: IAM denies the call, or the call itself is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, FailureKind::Denied | FailureKind::Rejected)
    }

    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) if !self.message.is_empty() => write!(f, "{code}: {}", self.message),
            Some(code) => f.write_str(code),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// The upper ends of the pauses: full jitter draws from zero to `first` doubled for each failure, up to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

/// The pauses in the two minutes after silence, a fault or a lost reply: short ones.
const SOON: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(4) };
/// The pauses in the two minutes after throttling, and after a refusal that only a person can turn into a success.
/// RegisterTargets and DeregisterTargets share 4 calls a second in an account.
const LATER: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(8) };
/// The pauses of a look that IAM denies: nobody changes that within seconds, and the others need the bucket.
const SELDOM: Backoff = Backoff { first: Duration::from_secs(8), longest: Duration::from_secs(32) };
/// The pauses of a throttled call that is first in precedence.
const EAGER: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(4) };
/// The pauses of a throttled call that is last in precedence: a registration, the tag, a look at health.
const LAST: Backoff = Backoff { first: Duration::from_secs(16), longest: Duration::from_secs(64) };
/// The pauses between look-ups, outside of the two minutes.
pub const LOOK_UP: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(300) };

/// The pause after this many looks, from a list of seconds; after its end the last one repeats.
pub(crate) fn growing(seconds: &[u64], looks: usize) -> Duration {
    Duration::from_secs(seconds.get(looks).or(seconds.last()).copied().unwrap_or_default())
}

impl Backoff {
    pub fn after(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unanswered | FailureKind::Fault | FailureKind::Credentials => SOON,
            FailureKind::Throttled | FailureKind::Denied | FailureKind::Rejected => LATER,
        }
    }

    /// The pause after `failures` failures in a row (at least one), drawn by `seed` from zero to the ceiling.
    /// Full jitter: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
    pub fn pause(self, failures: u32, seed: u64) -> Duration {
        self.ceiling(failures).mul_f64(fraction(seed ^ u64::from(failures).rotate_left(32)))
    }

    /// The longest pause after `failures` failures in a row (at least one).
    pub fn ceiling(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// The precedence of calls where AWS throttles, because the account's instances want more at once than its buckets
/// hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// Deregistrations: only these lose requests if they come late.
    Deregistration,
    /// Asking the owner for a successor.
    Request,
    #[default]
    Look,
    /// Registrations, the tag, looks that nobody waits for.
    Last,
}

impl Precedence {
    /// The pause after `failures` failures in a row (at least one), the last of them of this kind.
    pub fn pause(self, kind: FailureKind, failures: u32, seed: u64) -> Duration {
        let throttled = kind == FailureKind::Throttled;
        let backoff = match self {
            Precedence::Deregistration | Precedence::Request if throttled => EAGER,
            Precedence::Last if throttled => LAST,
            Precedence::Look | Precedence::Last if kind == FailureKind::Denied => SELDOM,
            _ => Backoff::after(kind),
        };
        backoff.pause(failures, seed)
    }
}

/// The number of instances up to which all start at once.
const FEW: usize = 20;
/// The starts in a second, if all of a group start at once. One call of each fits into a bucket of ten a second, three
/// fit into one of twenty.
const STARTS_PER_SECOND: u32 = 6;
/// The longest wait for a turn: three hundred that start together are ready within a minute.
const LONGEST_TURN: Duration = Duration::from_secs(50);

/// Tells whether this many instances that start together have to take turns.
pub fn takes_turns(fellows: usize) -> bool {
    fellows > FEW
}

/// The wait of one of `fellows` that start together for its turn.
pub fn start_in_turn(fellows: usize, seed: u64) -> Duration {
    if !takes_turns(fellows) {
        return Duration::ZERO;
    }
    let all = Duration::from_secs(u64::try_from(fellows).unwrap_or(u64::MAX).min(3600)) / STARTS_PER_SECOND;
    all.min(LONGEST_TURN).mul_f64(fraction(seed.rotate_left(23)))
}

/// The wait for a turn if nobody knows yet how many start together, and AWS throttles already.
pub fn start_in_some_turn(seed: u64) -> Duration {
    LONGEST_TURN.mul_f64(fraction(seed.rotate_left(41)))
}

/// A number in `0.0..1.0` that `seed` alone decides, spread evenly (the finaliser of SplitMix64).
pub fn fraction(seed: u64) -> f64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// Makes a seed from text, the same in every process and every version (FNV-1a): client tokens rest on it too.
pub fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_and_stays_under_its_ceiling() {
        for failures in 1..40 {
            for of in 0..200 {
                let ceiling = Duration::from_millis(250 * (1 << (failures - 1).min(20))).min(Duration::from_secs(4));
                assert!(SOON.pause(failures, of) <= ceiling);
            }
        }
    }

    #[test]
    fn where_aws_throttles_the_first_in_precedence_pause_for_seconds_and_the_last_for_a_minute() {
        let longest = |precedence: Precedence, failures: u32| {
            let pauses = (0..500).map(|of| precedence.pause(FailureKind::Throttled, failures, of));
            pauses.max().unwrap_or_default().as_secs_f64().ceil() as u64
        };
        for (precedence, ceilings) in [
            (Precedence::Deregistration, [1, 2, 4, 4]),
            (Precedence::Request, [1, 2, 4, 4]),
            (Precedence::Look, [1, 2, 4, 8]),
            (Precedence::Last, [16, 32, 64, 64]),
        ] {
            assert_eq!([1, 2, 3, 9].map(|failures| longest(precedence, failures)), ceilings, "{precedence:?}");
        }
    }

    #[test]
    fn a_look_that_is_denied_is_repeated_some_ten_times_in_two_minutes_and_a_request_oftener() {
        let repeats = |precedence: Precedence, of: u64| {
            let pauses = (1..).map(|failures| precedence.pause(FailureKind::Denied, failures, of).as_secs_f64());
            pauses.scan(0.0, |at, pause| Some(std::mem::replace(at, *at + pause))).take_while(|at| *at < 120.0).count()
        };
        let mean = |precedence| (0..200).map(|of| repeats(precedence, of)).sum::<usize>() / 200;
        assert!((5..=12).contains(&mean(Precedence::Look)), "{}", mean(Precedence::Look));
        assert!((20..=40).contains(&mean(Precedence::Request)), "{}", mean(Precedence::Request));
    }

    #[test]
    fn a_hundred_instances_spread_over_the_whole_pause() {
        let pauses: Vec<Duration> =
            (0..100).map(|instance| LATER.pause(3, seed(&format!("i-{instance:017x}")))).collect();
        for tenth in 0..4 {
            let from = Duration::from_secs(tenth);
            let here = pauses.iter().filter(|pause| **pause >= from && **pause < from + Duration::from_secs(1)).count();
            assert!((10..=45).contains(&here), "{here} of 100 pauses in second {tenth}");
        }
    }

    #[test]
    fn a_failure_reads_as_aws_spelled_it() {
        let failure =
            Failure { kind: FailureKind::Throttled, code: Some("Throttling".into()), message: "Rate exceeded".into() };
        assert_eq!(failure.to_string(), "Throttling: Rate exceeded");
        assert_eq!(Failure::unanswered("no answer within 3 s").to_string(), "no answer within 3 s");
    }
}
