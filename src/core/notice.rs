//! Makes signals of metadata bodies, and computes the deadline. Pure: instants and AWS's time come in as arguments.
//!
//! Invariant: a first sight fixes the deadline, and whatever comes later can only shorten it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::model::{Action, BootInstant, ScheduledEvent};

/// The time that AWS promises between the notice and the interruption.
pub const TWO_MINUTES: Duration = Duration::from_secs(120);
/// A notice whose time is further in the past than this was withdrawn: the instance lives on.
pub const SURVIVED_AFTER: Duration = Duration::from_secs(120);
/// The least time that a deadline leaves: an instance that runs at the notice's time can still leave its target groups.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A Spot interruption notice: the body of `spot/instance-action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub action: Action,
    /// The time of the interruption, by AWS's clock. If AWS wrote no time that can be read, two minutes are assumed.
    pub time: Option<Timestamp>,
}

/// A body that is no notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata answered spot/instance-action with what is no notice: {0}")]
pub struct NotANotice(String);

impl Notice {
    /// Reads `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`. An unknown action counts as `terminate`, the
    /// worst one: to miss a notice costs more than to leave once too often.
    ///
    /// # Errors
    /// The body is no JSON object, or has no `action`.
    pub fn parse(body: &str) -> Result<Notice, NotANotice> {
        #[derive(Deserialize)]
        struct ActionBody {
            action: String,
            time: Option<serde_json::Value>,
        }
        let parsed: ActionBody = serde_json::from_str(body).map_err(|error| NotANotice(error.to_string()))?;
        let action = match parsed.action.as_str() {
            "stop" => Action::Stop,
            "hibernate" => Action::Hibernate,
            _ => Action::Terminate,
        };
        let time = parsed.time.as_ref().and_then(serde_json::Value::as_str).and_then(|time| time.parse().ok());
        Ok(Notice { action, time: time.and_then(plausible) })
    }

    /// The deadline as this look shows it. `aws_now` is AWS's time at the look: the `Date` of the metadata's answer, or
    /// the wall clock where it gave none.
    pub fn deadline(&self, aws_now: Timestamp, now: BootInstant) -> BootInstant {
        let left = match self.time {
            Some(time) => Duration::try_from(time.duration_since(aws_now)).unwrap_or(Duration::ZERO),
            None => TWO_MINUTES,
        };
        now + left.clamp(LAST_WORDS, TWO_MINUTES)
    }

    /// Judges a notice that is seen for the first time. `absent_before` says whether an earlier look of
    /// this process was answered with 404: then the notice is new, whatever any clock says.
    pub fn first_sight(&self, aws_now: Timestamp, now: BootInstant, absent_before: bool) -> FirstSight {
        match self.time.map(|time| Duration::try_from(aws_now.duration_since(time))) {
            Some(Ok(past)) if past > SURVIVED_AFTER && !absent_before => FirstSight::Survived { past },
            _ => FirstSight::New { deadline: self.deadline(aws_now, now) },
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{} at {time}", self.action),
            None => write!(f, "{} at a time that could not be read", self.action),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSight {
    New {
        deadline: BootInstant,
    },
    /// The notice's time is long past and the instance runs: the interruption was withdrawn (docs/aws.md 2).
    Survived {
        past: Duration,
    },
}

/// A look at the rebalance recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recommendation {
    Absent,
    /// A recommendation, with its time if that could be read.
    Given(Option<Timestamp>),
}

/// Reads a rebalance recommendation, `{"noticeTime": "2020-10-27T08:22:00Z"}`: the body of
/// `events/recommendations/rebalance`. `None`: it is none. It also counts if its time cannot be read.
pub fn parse_recommendation(body: &str) -> Option<Recommendation> {
    let parsed: serde_json::Value = serde_json::from_str(body).ok()?;
    let time = parsed.get("noticeTime")?.as_str().and_then(|time| time.parse().ok()).and_then(plausible);
    Some(Recommendation::Given(time))
}

/// Reads `events/maintenance/scheduled`, a list of rows like
/// `{"Code": "system-reboot", "EventId": "event-0a", "State": "active", "NotBefore": "8 May 2020 16:00:00 GMT"}`.
/// A row without a code is skipped. A body that is empty or no list means that there are no events.
pub fn parse_scheduled_events(body: &str) -> Vec<ScheduledEvent> {
    let rows: Vec<serde_json::Value> = serde_json::from_str(body).unwrap_or_default();
    rows.iter().filter_map(scheduled_event).collect()
}

fn scheduled_event(row: &serde_json::Value) -> Option<ScheduledEvent> {
    let text = |key: &str| row.get(key).and_then(serde_json::Value::as_str).map(str::trim).filter(|it| !it.is_empty());
    let code = text("Code")?.to_owned();
    let not_before = text("NotBefore").and_then(parse_event_time);
    let id = match text("EventId") {
        Some(id) => id.to_owned(),
        None => format!("{code} {}", text("NotBefore").unwrap_or_default()),
    };
    // The description says first that an event is completed or cancelled, before AWS changes its state.
    let over = |words: &str| ["completed", "canceled", "cancelled"].iter().any(|over| words.eq_ignore_ascii_case(over));
    let bracketed = text("Description").and_then(|words| words.strip_prefix('[')?.split_once(']').map(|(it, _)| it));
    let active = !text("State").is_some_and(over) && !bracketed.is_some_and(over);
    Some(ScheduledEvent { id, code, active, not_before })
}

/// Reads `8 May 2020 16:00:00 GMT`, the day not padded; also the forms that other AWS services write.
fn parse_event_time(text: &str) -> Option<Timestamp> {
    let iso = || text.parse().ok();
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()).or_else(iso).and_then(plausible)
}

/// The effect of a scheduled event on the instance, where its code tells.
pub fn action_of(event: &ScheduledEvent) -> Option<Action> {
    match event.code.as_str() {
        // A retired instance is stopped where it can be started again elsewhere, and terminated where it cannot.
        "instance-stop" | "instance-retirement" => Some(Action::Stop),
        "system-reboot" | "instance-reboot" => Some(Action::Reboot),
        _ => None,
    }
}

/// The time, if AWS can have meant it: far enough from both ends of all time to calculate with.
pub fn plausible(time: Timestamp) -> Option<Timestamp> {
    const CENTURIES: std::ops::Range<i64> = 0..10_000_000_000;
    CENTURIES.contains(&time.as_second()).then_some(time)
}

/// Reads a date of HTTP, in each of the three forms that have to be read (RFC 9110, 5.6.7).
pub fn parse_http_date(header: &str) -> Option<Timestamp> {
    let header = header.trim();
    let by = |format: &str| {
        let time = jiff::civil::DateTime::strptime(format, header).ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let imf_fixdate = jiff::fmt::rfc2822::parse(header).ok().map(|zoned| zoned.timestamp());
    let rfc_850 = || by("%A, %d-%b-%y %H:%M:%S GMT");
    let asctime = || by("%a %b %e %H:%M:%S %Y");
    imf_fixdate.or_else(rfc_850).or_else(asctime).and_then(plausible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn seconds(seconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_secs(seconds))
    }

    fn notice(time: &str) -> Notice {
        Notice::parse(&format!(r#"{{"action": "terminate", "time": "{time}"}}"#)).expect("a notice")
    }

    #[test]
    fn the_body_of_the_documentation_is_a_notice() {
        let notice = notice("2017-09-18T08:22:00Z");
        assert_eq!(notice, Notice { action: Action::Terminate, time: Some(at("2017-09-18T08:22:00Z")) });
    }

    #[test]
    fn a_date_of_http_is_read_in_each_form() {
        let time = at("1994-11-06T08:49:37Z");
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_http_date(form), Some(time), "{form}");
        }
        assert_eq!(parse_http_date("Sunday, 06-Dec-26 08:49:37 GMT"), Some(at("2026-12-06T08:49:37Z")));
        assert_eq!(parse_http_date("Wed Nov 16 08:49:37 1994"), Some(at("1994-11-16T08:49:37Z")));
        for nonsense in ["", "soon", "Sunday, 06-Nov-94", "Sun Nov 66 08:49:37 1994", "Sun Nov  6 08:49:37 1994 or so"]
        {
            assert_eq!(parse_http_date(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn scheduled_events_are_read_however_their_dates_are_padded() {
        let events = parse_scheduled_events(
            r#"[{"NotBefore": "8 May 2020 16:00:00 GMT", "Code": "system-reboot", "Description": "a reboot",
                 "EventId": "instance-event-0d59937288b749b32", "NotAfter": "", "State": "active"},
                {"NotBefore": "21 Jan 2019 09:00:43 GMT", "Code": "instance-stop",
                 "Description": "[Canceled] the instance is stopped", "EventId": "e2", "State": "active"},
                {"NotBefore": "soon", "Code": "instance-retirement", "EventId": "e3", "State": "completed"},
                {"Description": "nothing"}]"#,
        );
        let row = |id: &str, code: &str, active, not_before: Option<&str>| ScheduledEvent {
            id: id.into(),
            code: code.into(),
            active,
            not_before: not_before.map(at),
        };
        assert_eq!(
            events,
            [
                row("instance-event-0d59937288b749b32", "system-reboot", true, Some("2020-05-08T16:00:00Z")),
                row("e2", "instance-stop", false, Some("2019-01-21T09:00:43Z")),
                row("e3", "instance-retirement", false, None),
            ]
        );
        assert_eq!(parse_scheduled_events("[]"), []);
        assert_eq!(parse_scheduled_events(""), []);
        assert_eq!(parse_scheduled_events("<html>"), []);
    }

    #[test]
    fn indented_json_and_fractions_of_a_second_are_borne() {
        let body = "{\n  \"action\": \"hibernate\",\n  \"time\": \"2017-09-18T08:22:00.250Z\",\n  \"more\": 1\n}\n";
        let notice = Notice::parse(body).expect("a notice");
        assert_eq!(notice, Notice { action: Action::Hibernate, time: Some(at("2017-09-18T08:22:00.25Z")) });
    }

    #[test]
    fn an_html_body_is_no_notice() {
        for body in ["<html><body>404</body></html>", "", "[]", "\"terminate\"", "{}", "null"] {
            assert!(Notice::parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn an_unknown_action_is_taken_for_the_worst() {
        let notice = Notice::parse(r#"{"action": "evaporate", "time": "soon"}"#).expect("a notice");
        assert_eq!(notice, Notice { action: Action::Terminate, time: None });
        assert_eq!(notice.deadline(at("2026-01-01T00:00:00Z"), seconds(5)), seconds(125));
    }

    #[test]
    fn a_time_beyond_all_reckoning_is_no_time() {
        for time in ["\"-009999-01-02T02:00:00Z\"", "\"9999-12-30T00:00:00Z\"", "1505722920", "null"] {
            let notice = Notice::parse(&format!(r#"{{"action": "stop", "time": {time}}}"#)).expect("a notice");
            assert_eq!(notice, Notice { action: Action::Stop, time: None }, "{time}");
        }
    }

    #[test]
    fn the_time_of_a_recommendation_is_read() {
        let at_noon = parse_recommendation(r#"{"noticeTime": "2020-10-27T12:00:00Z"}"#);
        assert_eq!(at_noon, Some(Recommendation::Given(Some(at("2020-10-27T12:00:00Z")))));
        assert_eq!(parse_recommendation(r#"{"noticeTime": "soon"}"#), Some(Recommendation::Given(None)));
        for body in ["", "null", "{}", "[]", "<html>", "Service Unavailable", "2020-10-27T12:00:00Z"] {
            assert_eq!(parse_recommendation(body), None, "{body}");
        }
    }

    #[test]
    fn the_deadline_counts_aws_time_on_the_boot_clock() {
        let notice = notice("2026-01-01T00:02:00Z");
        assert_eq!(notice.deadline(at("2026-01-01T00:00:12Z"), seconds(1000)), seconds(1108));
    }

    #[test]
    fn a_wall_clock_ten_minutes_slow_gives_no_more_than_two_minutes() {
        let notice = notice("2026-01-01T00:10:00Z");
        assert_eq!(notice.deadline(at("2026-01-01T00:00:00Z"), seconds(0)), seconds(120));
    }

    #[test]
    fn a_wall_clock_ten_minutes_fast_does_not_hide_a_notice_that_was_absent_before() {
        let notice = notice("2026-01-01T00:00:00Z");
        let sight = notice.first_sight(at("2026-01-01T00:08:00Z"), seconds(50), true);
        assert_eq!(sight, FirstSight::New { deadline: seconds(60) });
    }

    #[test]
    fn a_notice_minutes_in_the_past_at_first_sight_is_a_survivors() {
        let notice = notice("2026-01-01T00:00:00Z");
        let sight = |now: &str| notice.first_sight(at(now), seconds(50), false);
        assert_eq!(sight("2026-01-01T00:02:01Z"), FirstSight::Survived { past: Duration::from_secs(121) });
        assert_eq!(sight("2026-01-01T00:01:30Z"), FirstSight::New { deadline: seconds(60) });
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(parse_http_date("Mon, 23 Nov 2026 01:51:10 GMT"), Some(at("2026-11-23T01:51:10Z")));
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
