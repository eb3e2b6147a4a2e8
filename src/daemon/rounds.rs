//! The times of what keeps knowledge fresh: the rounds of look-ups, the scans of all target groups, the credentials.
//!
//! Invariant: look-ups run at the start, spread by jitter, and rarely again; a failed round is tried again later.

use std::time::Duration;

use super::gap::Tempo;
use crate::cloud::elb::ScanSpeed;
use crate::core::model::{BootInstant, Identity};
use crate::core::retry::{self, Backoff, Failure, LOOK_UP};

/// A deregistration delay that is known for longer is asked for again in a usual round.
pub(super) const RENEW_DELAYS: Duration = Duration::from_secs(60 * 60);
/// The longest jitter at the start: instances that boot together do not ask together.
pub(super) const START_JITTER: Duration = Duration::from_secs(5);
/// The pause between two look-ups that found everything; an instance's own jitter makes it up to a tenth longer.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2 * 60 * 60);
/// The least delay of what was put off at the start. Chance makes it up to five times as long, to spread all fellows.
pub(super) const PUT_OFF_BY: Duration = Duration::from_secs(60);
/// The pauses while the tags name no owner, or this instance is in no target group: it may just have booted.
const NOT_REGISTERED_YET: Backoff = Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(30 * 60) };
/// The pauses between two looks at the remains of a raise on the fleet, while they cannot be put right.
const LEFT_OVER: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(2 * 60 * 60) };
/// The pauses after a denial, which only a person can change.
const DENIED: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(30 * 60) };
/// The number of rounds without a registration that ask all target groups; then only a recommendation does. A worker
/// that serves nothing must not ask the whole account for ever.
const SCANS_WITHOUT_REGISTRATION: u32 = 7;
/// The least time that a scan beside known registrations takes, however few target groups there are.
const SLOW_SCAN: Duration = Duration::from_secs(60 * 60);
/// The pause from one such scan to the next.
const SLOW_SCAN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// A scan that takes longer than this is not repeated in the two minutes.
const QUICK_SCAN: Duration = Duration::from_secs(10);
/// Credentials are renewed this long before they expire: AWS promises new ones five minutes before.
const CREDENTIALS_MARGIN: Duration = Duration::from_secs(4 * 60);
/// The least time between two renewals of the credentials.
const RENEW_CREDENTIALS_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// The times at which to look again.
#[derive(Default)]
pub(super) struct Rounds {
    pub(super) next: BootInstant,
    begun: bool,
    /// Rounds in a row that failed.
    pub(super) failures: u32,
    empty_rounds: u32,
    /// Rounds in a row that found something left over on the fleet that cannot be put right yet.
    pub(super) leftover_rounds: u32,
    seed: u64,
    /// Others of the group may begin in the same moment.
    in_turn: bool,
    /// A scan of the account's target groups is to follow the next round, if that finds this instance in none. So it is
    /// at start, and at a recommendation. No other way finds a registration that neither the owner nor a person names.
    scan_wanted: bool,
    scan_due: bool,
    /// The last scan took too long to be repeated at a notice: then "in no target group" is believed.
    pub(super) scan_was_slow: bool,
    /// The instant at which all target groups are asked though this instance is known to be in one: it may be in
    /// another as well.
    slow_scan_at: Option<BootInstant>,
    pub(super) scanning: Option<ScanSpeed>,
    renew_credentials_at: Option<BootInstant>,
    pub(super) renew_delays_at: BootInstant,
}

/// The result of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    Complete,
    /// Complete but for what was put off.
    PutOff,
    /// Complete, but there is no owner or no registration yet.
    Early,
    /// Complete but for what IAM denies.
    Denied,
    Incomplete,
}

impl Rounds {
    pub(super) fn new(now: BootInstant) -> Rounds {
        let renew_delays_at = now + RENEW_DELAYS;
        Rounds { next: now, in_turn: true, scan_wanted: true, renew_delays_at, ..Rounds::default() }
    }

    /// Sets the time of the first round: the identity is known now.
    pub(super) fn begin(&mut self, identity: &Identity, now: BootInstant) {
        self.seed = retry::seed(&format!("look-ups of {}", identity.instance_id));
        self.next = now + START_JITTER.mul_f64(retry::fraction(self.seed));
        self.begun = true;
    }

    pub(super) fn is_due(&self, now: BootInstant) -> bool {
        self.begun && now >= self.next
    }

    /// Begins the next round at once: at a recommendation, or after a standstill.
    pub(super) fn renew_now(&mut self, now: BootInstant) {
        self.next = now;
        self.in_turn = true;
        self.scan_wanted = true;
    }

    /// The tempo of the next round's calls.
    pub(super) fn tempo(&self) -> Tempo {
        if self.in_turn { Tempo::InTurn { seed: self.seed } } else { Tempo::AtOnce }
    }

    /// Tells whether to ask again for known deregistration delays, which may have changed. Not while many ask at once.
    pub(super) fn renews_delays(&self, now: BootInstant) -> bool {
        !self.in_turn && now >= self.renew_delays_at
    }

    /// The speed of a scan that is to begin now. A round comes before it, because it is quick.
    pub(super) fn scan_speed(
        &self,
        now: BootInstant,
        fellows: Option<usize>,
        is_registered: bool,
    ) -> Option<ScanSpeed> {
        let slow = self.slow_scan_at.is_some_and(|at| now >= at) && is_registered;
        match () {
            () if self.scanning.is_some() => None,
            () if self.scan_due => Some(ScanSpeed::last_way(fellows)),
            () if slow => Some(ScanSpeed::slow(fellows, SLOW_SCAN)),
            () => None,
        }
    }

    /// Tells whether the rounds wait for the end of a scan, because nothing else is known.
    pub(super) fn waits_for_scan(&self) -> bool {
        self.scanning.is_some_and(|speed| !speed.is_slow())
    }

    /// Ends a scan. Returns whether it was a slow one, beside what is known.
    pub(super) fn scan_ends(&mut self, took: Duration, now: BootInstant) -> bool {
        let was_slow = self.scanning.take().is_some_and(ScanSpeed::is_slow);
        if was_slow {
            self.slow_scan_at = Some(now + SLOW_SCAN_EVERY.mul_f64(1.0 + retry::fraction(self.seed) / 10.0));
        } else {
            self.scan_due = false;
            self.scan_was_slow = took >= QUICK_SCAN;
        }
        was_slow
    }

    /// Repeats a scan that has not told all.
    pub(super) fn scan_failed(&mut self, now: BootInstant) {
        self.scan_wanted = true;
        self.schedule(Round::Incomplete, now);
    }

    pub(super) fn is_renewal_due(&self, now: BootInstant) -> bool {
        self.renew_credentials_at.is_some_and(|renew_at| now >= renew_at)
    }

    /// Sets the time of the next renewal of the credentials, after a success or a failure.
    pub(super) fn renewed(&mut self, result: &Result<Option<Duration>, Failure>, now: BootInstant) {
        let last = result.as_ref().map_or(Some(Duration::ZERO), |last| *last);
        self.renew_credentials_at =
            last.map(|last| now + last.saturating_sub(CREDENTIALS_MARGIN).max(RENEW_CREDENTIALS_AT_MOST_EVERY));
    }

    /// Decides after a round whether to scan, which is the last way to find a target group with this instance.
    pub(super) fn wants_scan(&mut self, is_registered: bool, may_scan: bool, now: BootInstant) {
        self.in_turn = false;
        let looks_on = self.scan_wanted || self.empty_rounds < SCANS_WITHOUT_REGISTRATION;
        self.scan_due = may_scan && !is_registered && looks_on;
        self.scan_wanted &= !(self.scan_due || is_registered);
        if is_registered {
            self.slow_scan_at.get_or_insert(now + SLOW_SCAN.mul_f64(retry::fraction(self.seed.rotate_left(7)) / 4.0));
        }
    }

    pub(super) fn schedule(&mut self, round: Round, now: BootInstant) {
        let chance = retry::fraction(self.seed);
        let longest = match self.leftover_rounds {
            0 => Duration::MAX,
            rounds => LEFT_OVER.ceiling(rounds).mul_f64(1.0 + chance),
        };
        (self.failures, self.empty_rounds) = match round {
            Round::Denied | Round::Incomplete => (self.failures + 1, self.empty_rounds),
            Round::Early => (0, self.empty_rounds + 1),
            Round::Complete | Round::PutOff => (0, 0),
        };
        let pause = match round {
            Round::Denied => DENIED.pause(self.failures, self.seed).max(LOOK_UP.first),
            Round::Incomplete => LOOK_UP.pause(self.failures, self.seed).max(LOOK_UP.first),
            Round::Early => NOT_REGISTERED_YET.ceiling(self.empty_rounds),
            Round::PutOff => PUT_OFF_BY.mul_f64(1.0 + chance * 4.0),
            Round::Complete => RENEW_EVERY.mul_f64(1.0 + chance * 0.1),
        };
        self.next = now + pause.min(longest);
    }
}
