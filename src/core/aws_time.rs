//! AWS's time, as the `Date` headers of its answers tell it. Pure: this machine's two clocks come in as arguments.
//!
//! Invariant: one wrong date moves nothing. A date counts at once if it agrees with the believed time or with this
//! machine's wall clock. Any other date counts when a second one agrees with it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::model::BootInstant;
use crate::core::notice::plausible;

/// Two dates disagree if they lie further apart than this: a date has whole seconds, and travels for a while.
const AGREEMENT: Duration = Duration::from_secs(5);
/// A date that contradicts the believed time is doubted for this long, however often it comes: AWS's time never jumps.
const DOUBTED_FOR: Duration = Duration::from_secs(3);

/// This machine's clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// The wall clock, which anybody can set.
    pub wall: Timestamp,
    /// The boot clock, which nobody can set.
    pub boot: BootInstant,
}

/// AWS's time as far as it is believed, as its distance from the boot clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AwsTime {
    believed: Option<SignedDuration>,
    doubted: Option<Doubted>,
}

#[derive(Clone, Copy, Debug)]
struct Doubted {
    distance: SignedDuration,
    since: BootInstant,
}

impl AwsTime {
    /// Takes the date of an answer that has just come. Returns whether the date is believed.
    pub(crate) fn told(&mut self, date: Timestamp, now: Clocks) -> bool {
        if plausible(date).is_none() {
            return false;
        }
        let distance = from_boot(date, now.boot);
        let is_close = |other: SignedDuration| distance.saturating_sub(other).unsigned_abs() <= AGREEMENT;
        let second = self.doubted.filter(|doubted| is_close(doubted.distance));
        let is_confirmed = |doubted: Doubted| self.believed.is_none() || now.boot.since(doubted.since) >= DOUBTED_FOR;
        let is_believed = self.believed.is_some_and(is_close)
            || is_close(from_boot(now.wall, now.boot))
            || second.is_some_and(is_confirmed);
        if is_believed {
            (self.believed, self.doubted) = (Some(distance), None);
        } else if second.is_none() {
            self.doubted = Some(Doubted { distance, since: now.boot });
        }
        is_believed
    }

    /// Believes the doubted date: AWS has refused a signature, so the time believed so far is wrong.
    pub(crate) fn confirm(&mut self) {
        if let Some(doubted) = self.doubted.take() {
            self.believed = Some(doubted.distance);
        }
    }

    /// Tells whether AWS has sent one date, which is not believed yet; a second one decides.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.believed.is_none() && self.doubted.is_some()
    }

    /// Tells whether a date of AWS's is believed.
    pub(crate) fn is_known(&self) -> bool {
        self.believed.is_some()
    }

    /// AWS's time as far as it is believed; the wall clock before any date is believed.
    pub(crate) fn now(&self, now: Clocks) -> Timestamp {
        let told = self.believed.and_then(|distance| at_distance(distance, now.boot));
        told.unwrap_or(now.wall)
    }
}

fn from_boot(time: Timestamp, boot: BootInstant) -> SignedDuration {
    let since_boot = SignedDuration::try_from(boot.as_duration()).unwrap_or(SignedDuration::MAX);
    SignedDuration::from_nanos_i128(time.as_nanosecond()).saturating_sub(since_boot)
}

fn at_distance(distance: SignedDuration, boot: BootInstant) -> Option<Timestamp> {
    let since_boot = SignedDuration::try_from(boot.as_duration()).ok()?;
    Timestamp::from_duration(distance.checked_add(since_boot)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_700_000_000;

    /// Both clocks so many seconds after the boot at noon; the wall clock is ahead of AWS's by `wall_ahead`.
    fn clocks(seconds: u64, wall_ahead: i64) -> Clocks {
        let wall = at(seconds.cast_signed() + wall_ahead);
        Clocks { wall, boot: BootInstant::since_boot(Duration::from_secs(seconds)) }
    }

    /// AWS's time so many seconds after the boot.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOON + seconds).expect("a time")
    }

    #[test]
    fn without_a_date_it_is_the_wall_clock() {
        assert_eq!(AwsTime::default().now(clocks(7, 600)), at(607));
    }

    #[test]
    fn a_date_that_agrees_with_the_wall_clock_is_believed_at_once_and_holds_when_somebody_sets_it() {
        let mut time = AwsTime::default();
        assert!(time.told(at(1), clocks(1, 0)));
        assert_eq!(time.now(clocks(20, -3_600)), at(20));
        assert!(time.told(at(21), clocks(21, -3_600)));
    }

    #[test]
    fn a_wall_clock_that_is_wrong_is_outvoted_by_two_dates() {
        for wrong in [-86_400, -600, 600, 86_400] {
            let mut time = AwsTime::default();
            assert!(!time.told(at(1), clocks(1, wrong)), "{wrong}");
            assert!(time.is_in_doubt());
            assert!(time.told(at(1), clocks(1, wrong)), "{wrong}");
            assert_eq!(time.now(clocks(9, wrong)), at(9));
        }
    }

    #[test]
    fn a_wrong_date_at_any_place_among_right_ones_moves_nothing() {
        for wall in [0, 600] {
            for place in 0..20 {
                let mut time = AwsTime::default();
                for look in 0..20 {
                    let now = clocks(look, wall);
                    let date = if look == place { at(look.cast_signed() + 7_200) } else { at(look.cast_signed()) };
                    let is_believed = time.told(date, now);
                    assert!(look != place || !is_believed);
                    let off = (time.now(now).as_second() - now.wall.as_second()).abs();
                    assert!(off == 0 || off == wall, "look {look}, wrong at {place}: {off} s off");
                }
                assert_eq!(time.now(clocks(30, wall)), at(30));
            }
        }
    }

    #[test]
    fn dates_that_are_wrong_for_a_moment_are_doubted_however_often_they_come() {
        let mut time = AwsTime::default();
        time.told(at(0), clocks(0, 0));
        for millis in (0..2_900).step_by(100) {
            let boot = BootInstant::since_boot(Duration::from_millis(millis));
            assert!(!time.told(at(7_200), Clocks { wall: at(0), boot }), "{millis}");
        }
        assert!(time.told(at(3), clocks(3, 0)));
        assert_eq!(time.now(clocks(4, 0)), at(4));
    }

    #[test]
    fn dates_that_stay_elsewhere_are_followed_in_the_end() {
        let mut time = AwsTime::default();
        time.told(at(0), clocks(0, 0));
        let followed = (1_u64..10).find(|second| time.told(at(second.cast_signed() + 600), clocks(*second, 0)));
        assert_eq!(followed, Some(4));
        assert_eq!(time.now(clocks(9, 0)), at(609));
    }

    #[test]
    fn dates_at_the_ends_of_all_time_are_borne() {
        for date in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
            for boot in [BootInstant::default(), BootInstant::since_boot(Duration::MAX)] {
                let mut time = AwsTime::default();
                let now = Clocks { wall: at(0), boot };
                for _ in 0..3 {
                    time.told(date, now);
                    time.now(now);
                }
            }
        }
    }
}
