//! AWS's time, for signatures and for the deadline. The wall clock of an instance may be wrong by minutes, and AWS
//! rejects a signature more than five minutes away from its own time.
//!
//! The boot clock measures durations, not this one. Invariants: before it has learned a `Date` it is the wall clock;
//! one wrong `Date` changes nothing ([`AwsTime`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use crate::core::aws_time::{AwsTime, Clocks};
use crate::core::model::BootInstant;

/// A `Date` has whole seconds and needs time to arrive. A smaller difference means nothing.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
/// The second in the header began up to a second ago, so its middle is the best guess.
const HALF_A_SECOND: SignedDuration = SignedDuration::from_millis(500);

/// A handle; its copies share what they learn.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    time: Arc<Mutex<AwsTime>>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let clocks = clocks();
        let aws_time = self.time().now(clocks);
        if aws_time.duration_since(clocks.wall).abs() <= TOLERANCE { clocks.wall } else { aws_time }
    }

    /// The time by which AWS's clock is ahead of the wall clock; negative when it is behind.
    pub fn offset(&self) -> SignedDuration {
        let clocks = clocks();
        let offset = self.time().now(clocks).duration_since(clocks.wall);
        if offset.abs() <= TOLERANCE { SignedDuration::ZERO } else { offset }
    }

    /// Takes AWS's time from the `Date` of an answer that has just come. Returns whether the date is believed.
    pub fn learn(&self, date: Timestamp) -> bool {
        let date = date.checked_add(HALF_A_SECOND).unwrap_or(date);
        self.time().told(date, clocks())
    }

    /// Believes the last `Date`, because AWS has rejected a signature: AWS's own clock decides.
    pub(super) fn confirm(&self) {
        self.time().confirm();
    }

    /// Tells whether a date has come but none is believed yet. A second one would decide.
    pub fn is_in_doubt(&self) -> bool {
        self.time().is_in_doubt()
    }

    /// Tells whether a date of AWS's is believed. Otherwise this clock is the wall clock.
    pub fn is_known(&self) -> bool {
        self.time().is_known()
    }

    /// Nothing panics while this lock is held.
    fn time(&self) -> MutexGuard<'_, AwsTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::from(Clock::now(self))
    }
}

/// The time since this machine booted, sleep included.
pub(super) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

fn clocks() -> Clocks {
    Clocks { wall: Timestamp::now(), boot: BootInstant::since_boot(since_boot()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_ten_minutes_away_is_followed_once_a_second_one_agrees() {
        let clock = Clock::default();
        let date = Timestamp::now() + SignedDuration::from_mins(10);
        assert!(!clock.learn(date));
        assert_eq!(clock.offset(), SignedDuration::ZERO);
        assert!(clock.learn(date));
        let offset = clock.offset();
        assert!((SignedDuration::from_secs(599)..SignedDuration::from_secs(602)).contains(&offset), "{offset}");
        assert!(TimeSource::now(&clock) > SystemTime::now() + Duration::from_secs(590));
    }

    #[test]
    fn a_wall_clock_that_is_right_is_believed_again_at_once() {
        let clock = Clock::default();
        let wrong = Timestamp::now() - SignedDuration::from_mins(10);
        assert!(!clock.learn(wrong) && clock.learn(wrong));
        assert!(clock.learn(Timestamp::now()));
        assert_eq!(clock.offset(), SignedDuration::ZERO);
    }
}
