//! Tells whether this process is alive enough to say so to systemd, which restarts one that does not.
//!
//! A loop that turns is not enough: the metadata has to answer, and a handover has to go on. Invariants: no clock. A
//! process that is well but for its metadata lives for [`PATIENCE`] at least. So it is restarted no more often,
//! although a restarted process remembers nothing.

use std::time::Duration;

use crate::core::model::BootInstant;

/// The time after its start in which a process is not given up for a metadata service that does not answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The time that one look at the metadata may take, with its second try and a new token for each.
const LOOK: Duration = Duration::from_secs(15);
/// A call or a handover is stuck this long after its end was due; ending a hook takes a moment.
const GRACE: Duration = Duration::from_secs(10);

/// The deadlines of the work under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// The instant at which the handover under way has to be over.
    pub handover_until: Option<BootInstant>,
    /// The instant at which the first of the calls on their way has to be back.
    pub call_until: Option<BootInstant>,
}

/// The step to take now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Say that we are alive.
    Alive,
    /// Say nothing: it is too early, or there is nothing good to say.
    Silence,
    /// Say nothing from now on: systemd will restart this process unless it recovers. The reason is for a person, once.
    GivenUp(String),
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    every: Duration,
    begun: BootInstant,
    next: BootInstant,
    /// The last answer of the metadata, and the instant until which the next one may take.
    answered: BootInstant,
    answered_until: BootInstant,
    is_given_up: bool,
}

impl Watchdog {
    /// `limit` is the silence after which systemd restarts this process.
    pub(crate) fn new(limit: Duration, begun: BootInstant) -> Self {
        let every = limit / 3;
        Self { every, begun, next: begun, answered: begun, answered_until: begun, is_given_up: false }
    }

    /// The metadata has answered: a 404 is an answer, and so is a 503. The next look is after `interval`.
    pub(crate) fn answered(&mut self, at: BootInstant, interval: Duration) {
        self.answered = at;
        self.answered_until = at + interval + LOOK;
    }

    pub(crate) fn sign(&mut self, now: BootInstant, deadlines: Deadlines) -> Sign {
        match self.trouble(now, deadlines) {
            None if now < self.next => Sign::Silence,
            None => {
                (self.next, self.is_given_up) = (now + self.every, false);
                Sign::Alive
            }
            Some(_) if self.is_given_up => Sign::Silence,
            Some(why) => {
                self.is_given_up = true;
                Sign::GivenUp(why)
            }
        }
    }

    /// The reason why this process should not live on.
    fn trouble(&self, now: BootInstant, deadlines: Deadlines) -> Option<String> {
        let is_stuck = |until: Option<BootInstant>| until.is_some_and(|until| now > until + GRACE);
        if is_stuck(deadlines.call_until) {
            return Some("a call has not ended, although its time is up".to_owned());
        }
        if is_stuck(deadlines.handover_until) {
            return Some("a handover does not end, although its time is up".to_owned());
        }
        let is_patient = now <= self.answered_until || now < self.begun + PATIENCE;
        if deadlines.handover_until.is_some() || is_patient {
            return None;
        }
        let silence = now.since(self.answered).as_secs();
        Some(format!("the instance metadata has not answered for {silence} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_secs(seconds))
    }

    /// Processes one after the other, as systemd starts them, each turning once a second; the instants of the restarts.
    fn restarts(
        seconds: std::ops::Range<u64>,
        answers: impl Fn(u64) -> bool,
        deadlines: impl Fn(u64) -> Deadlines,
    ) -> Vec<u64> {
        let mut restarts = Vec::new();
        let mut watchdog = Watchdog::new(LIMIT, at(seconds.start));
        let mut fed = seconds.start;
        for now in seconds {
            if answers(now) {
                watchdog.answered(at(now), SECOND);
            }
            if watchdog.sign(at(now), deadlines(now)) == Sign::Alive {
                fed = now;
            }
            if now - fed > LIMIT.as_secs() {
                restarts.push(now);
                watchdog = Watchdog::new(LIMIT, at(now));
                fed = now;
            }
        }
        restarts
    }

    fn nothing(_: u64) -> Deadlines {
        Deadlines::default()
    }

    #[test]
    fn a_daemon_whose_metadata_answers_is_never_restarted() {
        assert!(restarts(0..86_400, |_| true, nothing).is_empty());
    }

    #[test]
    fn metadata_in_trouble_for_an_hour_restarts_the_daemon_at_most_once_in_five_minutes() {
        let trouble = 10_000..13_600;
        let restarts = restarts(0..20_000, |now| !trouble.contains(&now), nothing);
        assert!((10..=12).contains(&restarts.len()), "{restarts:?}");
        let first = *restarts.first().unwrap();
        assert!((10_030..=10_050).contains(&first), "one gone blind is restarted soon: {restarts:?}");
        assert!(restarts.iter().all(|now| trouble.contains(now)), "{restarts:?}");
        assert!(restarts.windows(2).all(|pair| pair[1] - pair[0] >= PATIENCE.as_secs()), "{restarts:?}");
    }

    #[test]
    fn metadata_that_never_answers_is_waited_for_as_long_as_that() {
        let restarts = restarts(0..3_600, |_| false, nothing);
        assert!(restarts.windows(2).all(|pair| pair[1] - pair[0] >= PATIENCE.as_secs()), "{restarts:?}");
        assert!(restarts.first().is_some_and(|first| *first >= PATIENCE.as_secs()), "{restarts:?}");
    }

    #[test]
    fn a_trouble_of_half_a_minute_restarts_nothing() {
        assert!(restarts(0..2_000, |now| !(1_000..1_030).contains(&now), nothing).is_empty());
    }

    #[test]
    fn a_seldom_look_vouches_until_the_next_one() {
        let mut watchdog = Watchdog::new(LIMIT, at(0));
        watchdog.answered(at(1_000), Duration::from_secs(60));
        assert_eq!(watchdog.sign(at(1_065), Deadlines::default()), Sign::Alive);
        assert!(matches!(watchdog.sign(at(1_080), Deadlines::default()), Sign::GivenUp(_)));
    }

    #[test]
    fn a_handover_whose_calls_are_within_their_limits_goes_on_without_the_metadata() {
        let deadlines = |now| match now {
            1_000..=1_110 => Deadlines { handover_until: Some(at(1_110)), call_until: Some(at(now / 20 * 20 + 20)) },
            _ => Deadlines::default(),
        };
        // Nothing answers from the notice on: the process lives through the two minutes, and not for ever after.
        let restarts = restarts(0..1_200, |now| now < 1_000, deadlines);
        assert!(restarts.iter().all(|now| *now > 1_130), "{restarts:?}");
        assert_eq!(restarts.len(), 1, "{restarts:?}");
    }

    #[test]
    fn a_call_that_never_comes_back_gives_the_process_up_whatever_the_metadata_says() {
        let hung = |now| Deadlines { call_until: (now >= 1_000).then(|| at(1_003)), ..Deadlines::default() };
        let restarts = restarts(0..1_045, |_| true, hung);
        assert_eq!(restarts.len(), 1, "{restarts:?}");
    }

    #[test]
    fn a_handover_that_never_ends_gives_the_process_up() {
        let mut watchdog = Watchdog::new(LIMIT, at(0));
        watchdog.answered(at(1_011), SECOND);
        let deadlines = Deadlines { handover_until: Some(at(1_000)), call_until: None };
        assert_eq!(
            watchdog.sign(at(1_011), deadlines),
            Sign::GivenUp("a handover does not end, although its time is up".to_owned())
        );
    }

    #[test]
    fn giving_up_is_said_once_and_taken_back_by_an_answer() {
        let mut watchdog = Watchdog::new(LIMIT, at(0));
        watchdog.answered(at(1_000), SECOND);
        assert_eq!(watchdog.sign(at(1_000), Deadlines::default()), Sign::Alive);
        assert_eq!(watchdog.sign(at(1_001), Deadlines::default()), Sign::Silence);
        assert_eq!(
            watchdog.sign(at(1_017), Deadlines::default()),
            Sign::GivenUp("the instance metadata has not answered for 17 s".to_owned())
        );
        assert_eq!(watchdog.sign(at(1_018), Deadlines::default()), Sign::Silence);
        watchdog.answered(at(1_019), SECOND);
        assert_eq!(watchdog.sign(at(1_019), Deadlines::default()), Sign::Alive);
        assert!(
            matches!(watchdog.sign(at(1_036), Deadlines::default()), Sign::GivenUp(_)),
            "a second time is said again"
        );
    }
}
