//! AWS's time, for signatures: the wall clock of an instance may be wrong by minutes, and AWS refuses what was signed
//! more than five minutes away from its own time.
//!
//! It measures no durations (that is the boot clock's work). Invariant: without a `Date` to learn from it is the wall
//! clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use jiff::{SignedDuration, Timestamp};

/// A `Date` has whole seconds and has travelled: a smaller difference says nothing.
const TOLERANCE: i64 = 2_000;

/// A handle; its copies share what they learn.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// What to add to the wall clock, in milliseconds.
    offset: Arc<AtomicI64>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.offset()).unwrap_or(now)
    }

    /// How far AWS's time is ahead of the wall clock; negative when it is behind.
    pub fn offset(&self) -> SignedDuration {
        SignedDuration::from_millis(self.offset.load(Ordering::Relaxed))
    }

    /// Takes AWS's time from the `Date` of an answer that has just come. Returns the new offset if that moved it.
    pub fn learn(&self, date: Timestamp) -> Option<SignedDuration> {
        // The header's second began up to a second ago: its middle is the best guess.
        let offset = date.as_millisecond() + 500 - Timestamp::now().as_millisecond();
        let standing = self.offset.load(Ordering::Relaxed);
        if offset.abs_diff(standing) <= TOLERANCE.unsigned_abs() {
            return None;
        }
        let offset = if offset.abs() <= TOLERANCE { 0 } else { offset };
        self.offset.store(offset, Ordering::Relaxed);
        (offset != standing).then(|| SignedDuration::from_millis(offset))
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let offset = self.offset.load(Ordering::Relaxed);
        let distance = Duration::from_millis(offset.unsigned_abs());
        let now = SystemTime::now();
        if offset < 0 { now.checked_sub(distance) } else { now.checked_add(distance) }.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_ten_minutes_away_is_followed_and_rounding_is_not() {
        let clock = Clock::default();
        let date = Timestamp::now() + SignedDuration::from_mins(10);
        assert!(clock.learn(date).is_some());
        let offset = clock.offset();
        assert!((SignedDuration::from_secs(599)..SignedDuration::from_secs(601)).contains(&offset), "{offset}");
        assert_eq!(clock.learn(date + SignedDuration::from_secs(1)), None);
        assert_eq!(clock.offset(), offset);
        assert!(TimeSource::now(&clock) > SystemTime::now() + Duration::from_secs(590));
    }

    #[test]
    fn a_corrected_wall_clock_is_believed_again() {
        let clock = Clock::default();
        clock.learn(Timestamp::now() - SignedDuration::from_mins(10));
        assert_eq!(clock.learn(Timestamp::now()), Some(SignedDuration::ZERO));
        assert_eq!(clock.offset(), SignedDuration::ZERO);
    }
}
