//! The simulated world's wall clock, and how AWS writes times.
//!
//! Inside the simulator every instant is monotonic. The wall clock is the machine's at the start plus an offset that a
//! test chooses. Only output (metadata, `Date` headers, notices) uses it. So a test can give the daemon a clock that is
//! wrong by minutes without changing the machine's.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug)]
pub(crate) struct WorldClock {
    started: Instant,
    wall: Timestamp,
}

impl WorldClock {
    pub(crate) fn starting_now(offset: SignedDuration) -> WorldClock {
        let now = Timestamp::now();
        WorldClock { started: Instant::now(), wall: now.checked_add(offset).unwrap_or(now) }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn wall(&self, at: Instant) -> Timestamp {
        let wall = match at.checked_duration_since(self.started) {
            Some(after) => self.wall.checked_add(after),
            None => self.wall.checked_sub(self.started.saturating_duration_since(at)),
        };
        wall.unwrap_or(self.wall)
    }

    /// The instant at which the wall clock shows `time`; `None` before the world began.
    pub(crate) fn instant(&self, time: Timestamp) -> Option<Instant> {
        let since = Duration::try_from(time.duration_since(self.wall)).ok()?;
        self.started.checked_add(since)
    }

    /// A time such as `2017-09-18T08:22:00Z`, as in the metadata and the Query APIs.
    pub(crate) fn iso(&self, at: Instant) -> String {
        self.wall(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A time such as `2017-09-18T08:22:00.000Z`, as in EC2's launch times.
    pub(crate) fn iso_millis(&self, at: Instant) -> String {
        self.wall(at).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
    }

    /// The `Date` header of HTTP.
    pub(crate) fn http_date(&self, at: Instant) -> String {
        self.wall(at).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
}

/// Durations in settings and faults are text with a unit: `"150ms"`, `"2s"`, `"5m"`.
pub(crate) mod duration_text {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        Duration::try_from(SignedDuration::deserialize(input)?).map_err(D::Error::custom)
    }

    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, Duration, Error, SignedDuration};

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
            match Option::<SignedDuration>::deserialize(input)? {
                Some(duration) => Duration::try_from(duration).map(Some).map_err(D::Error::custom),
                None => Ok(None),
            }
        }
    }
}
