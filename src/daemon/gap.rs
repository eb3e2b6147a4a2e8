//! The gaps that a look-up leaves, and the tempo of its calls.

use std::fmt;
use std::time::Duration;

use crate::core::model::Identity;
use crate::core::plan::Plan;
use crate::core::retry::{self, Backoff, Failure, FailureKind, start_in_some_turn, start_in_turn, takes_turns};

/// The pauses between two tries of a look-up that AWS throttles.
const THROTTLED: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(16) };
/// The same where many start at once: each refusal takes from the bucket, which never fills under more tries.
const THROTTLED_AMONG_MANY: Backoff = Backoff { first: Duration::from_secs(8), longest: Duration::from_secs(16) };
const TRIES: u32 = 6;

/// A look-up that failed, by its name: only what depends on it is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    what: String,
    is_of_hooks: bool,
    pub(crate) failure: Failure,
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

    pub(super) fn kind(&self) -> FailureKind {
        self.failure.kind
    }

    /// Tells whether asking again in a moment will probably fail again.
    fn is_likely_to_stay(&self) -> bool {
        matches!(self.kind(), FailureKind::Denied | FailureKind::Rejected | FailureKind::Unanswered)
    }

    fn into_failure(self) -> Failure {
        Failure::of(self.kind(), self.to_string())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.failure)
    }
}

/// The plan as far as it could be made, and the look-ups that failed.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) plan: Option<Plan>,
    pub(super) gaps: Vec<Gap>,
}

impl Planned {
    pub(super) fn unknown(gap: Gap) -> Planned {
        Planned { plan: None, gaps: vec![gap] }
    }

    /// The plan in the two minutes. One with a gap is used if the gap will probably stay; else it is looked up again.
    pub(super) fn at_a_notice(mut self) -> Result<Plan, Failure> {
        match self.plan {
            Some(plan) if self.gaps.iter().all(Gap::is_likely_to_stay) => Ok(plan),
            _ if self.gaps.is_empty() => Err(Failure::unanswered("nothing was looked up")),
            _ => Err(self.gaps.swap_remove(0).into_failure()),
        }
    }
}

/// The tempo of a look-up's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tempo {
    /// The calls begin without a wait, one after the other.
    AtOnce,
    /// After the first call each instance that starts at this time waits for its turn, which `seed` sets.
    InTurn { seed: u64 },
}

impl Tempo {
    /// Tells whether to put off look-ups that nothing depends on yet: then all members of a large group are ready soon.
    pub(super) fn puts_off(self, fellows: Option<usize>) -> bool {
        self != Tempo::AtOnce && fellows.is_some_and(takes_turns)
    }

    /// Makes a look-up's first call, which tells the number of fellows, and waits for this instance's turn among them.
    /// If AWS throttles, many are starting, and each waits for some turn before it tries again.
    pub(super) async fn first<T, F>(
        self,
        identity: &Identity,
        call: impl Fn() -> F,
        fellows: impl Fn(&T) -> usize,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let Tempo::InTurn { seed } = self else { return self.patiently(identity, call).await };
        match call().await {
            Err(failure) if failure.kind == FailureKind::Throttled => {
                tokio::time::sleep(start_in_some_turn(seed)).await;
                self.patiently(identity, call).await
            }
            answer => {
                let fellows = answer.as_ref().map(fellows).unwrap_or_default();
                tokio::time::sleep(start_in_turn(fellows, seed)).await;
                answer
            }
        }
    }

    /// Makes a throttled call again after a pause, so that a look-up of several calls does not begin again.
    pub(super) async fn patiently<T, F>(self, identity: &Identity, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let seed = retry::seed(identity.instance_id.as_str());
        for tries in 1..TRIES {
            match call().await {
                Err(failure) if failure.kind == FailureKind::Throttled => {
                    tokio::time::sleep(self.pause(tries, seed)).await;
                }
                answer => return answer,
            }
        }
        call().await
    }

    /// The pause after this many throttled tries in a row.
    fn pause(self, tries: u32, seed: u64) -> Duration {
        let backoff = match self {
            Tempo::AtOnce => THROTTLED,
            Tempo::InTurn { .. } => THROTTLED_AMONG_MANY,
        };
        backoff.pause(tries, seed).max(backoff.first / 4)
    }
}

/// Makes a call again while AWS throttles it: [`Tempo::patiently`] without a crowd.
pub(super) async fn patiently<T, F>(identity: &Identity, call: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    Tempo::AtOnce.patiently(identity, call).await
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::cloud::elb::ScanSpeed;
    use crate::core::retry::LOOK_UP;
    use crate::daemon::rounds::START_JITTER;

    /// An account's bucket of calls (docs/aws.md 3 and 4), in milliseconds. A refused call may cost it what it has
    /// gathered for the next one.
    struct CallBudget {
        size: f64,
        per_second: f64,
        level: f64,
        filled: u64,
        loses: bool,
    }

    impl CallBudget {
        fn take(&mut self, now: u64) -> bool {
            self.level = (self.level + (now - self.filled) as f64 / 1_000.0 * self.per_second).min(self.size);
            self.filled = now;
            let taken = self.level >= 1.0;
            self.level = if taken { self.level - 1.0 } else { self.level * f64::from(u8::from(!self.loses)) };
            taken
        }
    }

    /// The buckets of a start's calls. The owner comes first, which tells the number of fellows; target groups come last.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Of {
        AutoScaling,
        Ec2,
        Elb,
    }

    const GROUP: &[Of] = &[Of::AutoScaling, Of::Elb];
    const FLEET: &[Of] = &[Of::Ec2, Of::Elb];
    /// The template's instances, the Spot request, the template.
    const TEMPLATE: &[Of] = &[Of::Ec2, Of::Ec2, Of::Ec2, Of::Elb];
    /// The same where nobody names a target group: all are listed, and the only one is asked for its targets.
    const SCAN: &[Of] = &[Of::Ec2, Of::Ec2, Of::Ec2, Of::Elb, Of::Elb];

    struct Starting {
        seed: u64,
        pauses: u64,
        tempo: Tempo,
        scans: bool,
        step: usize,
        has_waited: bool,
        tries: u32,
        failures: u32,
    }

    impl Starting {
        fn new(number: usize, scans: bool) -> Starting {
            let id = format!("i-{number:017x}");
            let seed = retry::seed(&format!("look-ups of {id}"));
            let (pauses, tempo) = (retry::seed(&id), Tempo::InTurn { seed });
            Starting { seed, pauses, tempo, scans, step: 0, has_waited: false, tries: 0, failures: 0 }
        }

        /// The time until the next call.
        fn answered(&mut self, taken: bool, fellows: usize) -> Duration {
            const ROUND_TRIP: Duration = Duration::from_millis(40);
            let is_first = self.step == 0 && !std::mem::replace(&mut self.has_waited, true);
            let scan_pause = || ScanSpeed::last_way(Some(fellows)).pause(1, retry::fraction(self.pauses));
            if self.scans && self.step >= TEMPLATE.len() - 1 {
                self.step += usize::from(taken);
                let is_over = self.step == SCAN.len();
                return ROUND_TRIP + if is_over { Duration::ZERO } else { scan_pause() * if taken { 1 } else { 4 } };
            }
            if taken {
                (self.step, self.tries) = (self.step + 1, 0);
                return ROUND_TRIP + if is_first { start_in_turn(fellows, self.seed) } else { Duration::ZERO };
            }
            if is_first {
                return start_in_some_turn(self.seed);
            }
            self.tries += 1;
            if self.tries < TRIES {
                return self.tempo.pause(self.tries, self.pauses);
            }
            // The round has failed.
            (self.step, self.tries, self.tempo) = (0, 0, Tempo::AtOnce);
            self.failures += 1;
            LOOK_UP.pause(self.failures, self.seed).max(LOOK_UP.first)
        }
    }

    /// The seconds until the last of so many that start at once is ready, and the calls of each.
    fn all_start(count: usize, of: &[Of], loses: bool) -> (u64, f64) {
        let bucket = |size: f64, per_second: f64| CallBudget { size, per_second, level: size, filled: 0, loses };
        let (mut auto_scaling, mut ec2, mut elb) = (bucket(100.0, 10.0), bucket(100.0, 20.0), bucket(40.0, 10.0));
        let mut starts: Vec<Starting> = (0..count).map(|number| Starting::new(number, of == SCAN)).collect();
        let first = |start: &Starting| START_JITTER.mul_f64(retry::fraction(start.seed)).as_millis() as u64;
        let mut queue: BinaryHeap<_> = starts.iter().map(first).enumerate().map(|(n, at)| Reverse((at, n))).collect();
        let (mut calls, mut last) = (0, 0);
        while let Some(Reverse((now, number))) = queue.pop() {
            let start = &mut starts[number];
            let Some(of) = of.get(start.step) else {
                last = now;
                continue;
            };
            calls += 1;
            let taken = match of {
                Of::AutoScaling => auto_scaling.take(now),
                Of::Ec2 => ec2.take(now),
                Of::Elb => elb.take(now),
            };
            queue.push(Reverse((now + start.answered(taken, count).as_millis() as u64, number)));
        }
        (last / 1_000, f64::from(calls) / count as f64)
    }

    #[test]
    fn three_hundred_that_start_at_once_are_ready_within_a_minute_by_five_calls_each() {
        for loses in [false, true] {
            for (count, latest) in [(20, 6), (60, 20), (150, 60), (300, 60)] {
                for of in [GROUP, FLEET, TEMPLATE] {
                    let (last, calls) = all_start(count, of, loses);
                    assert!(last <= latest, "{count} start, {of:?}, loses {loses}: ready after {last} s");
                    assert!(calls <= 5.0, "{count} start, {of:?}, loses {loses}: {calls} calls each");
                }
            }
        }
    }

    /// A scan leaves most of ELB's calls to others: all fellows together make four a second of the account's ten.
    #[test]
    fn three_hundred_that_have_to_scan_are_ready_within_three_minutes_by_six_calls_each() {
        for loses in [false, true] {
            let (last, calls) = all_start(300, SCAN, loses);
            assert!(last <= 180 && calls <= 6.0, "loses {loses}: ready after {last} s, {calls} calls each");
        }
    }
}
