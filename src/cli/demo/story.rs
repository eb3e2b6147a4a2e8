//! The story of the demo, as lines for people and as facts for the end. Pure: every event comes in with its instant.
//!
//! There are three sources: the simulated world, the requests that arrived, and the daemon's log. Invariant: a fact is
//! the first observation of a real event; nothing else is claimed.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::calls;
use super::facts::{Witnessed, first};
use super::story_line::StoryLine;
use super::web::RequestCount;
use super::world::{Change, Glimpse, changes};
use crate::cli::chart::{self, Budget};
use crate::cli::screen::{Paint, Tone, wrap};
use crate::core::notice::TWO_MINUTES;
use crate::sim::{Request, RequestMoment};

/// The request for the notice.
const NOTICE: &str = "GET /latest/meta-data/spot/instance-action";
/// The number of the daemon's last log lines, which are shown if it dies.
const LAST: usize = 8;
/// The most time between two sources' reports of one moment.
const APART: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Story {
    notice: Option<Instant>,
    glimpse: Glimpse,
    facts: Witnessed,
    /// The calls before the notice, in order.
    asked: Vec<String>,
    shown: BTreeSet<String>,
    reads: usize,
    writes: usize,
    last: VecDeque<String>,
    pub(super) is_ready: bool,
    pub(super) log_has_ended: bool,
}

impl Story {
    pub(super) fn new(glimpse: Glimpse) -> Story {
        Story { glimpse, ..Story::default() }
    }

    pub(super) fn glimpse(&self) -> &Glimpse {
        &self.glimpse
    }

    pub(super) fn has_handed_over(&self) -> bool {
        self.facts.handed_over.is_some()
    }

    pub(super) fn last_log_lines(&self) -> impl Iterator<Item = &String> {
        self.last.iter()
    }

    pub(super) fn since_notice(&self, now: Instant) -> Option<Duration> {
        self.notice.map(|notice| now.saturating_duration_since(notice))
    }

    fn line(&self, now: Instant, who: &'static str, tone: Tone, text: impl AsRef<str>) -> StoryLine {
        StoryLine::new(self.since_notice(now), who, tone, text.as_ref())
    }

    /// Records that the notice is in the metadata from now on.
    pub(super) fn put_up(&mut self, now: Instant, time: &str) -> StoryLine {
        self.notice = Some(now);
        self.line(now, "metadata", Tone::Alarm, format!("AWS gives notice: terminate at {time}"))
    }

    /// Takes a line of the daemon's log.
    pub(super) fn hear_log(&mut self, now: Instant, line: &str) -> Vec<StoryLine> {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            self.last.push_back(line.to_owned());
            return vec![self.line(now, "daemon", Tone::Bad, line)];
        };
        let field = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let (level, message, milestone) = (field("level"), field("message"), field("milestone"));
        self.last.push_back(format!("{level} {message}"));
        let at = self.since_notice(now);
        match milestone {
            "quiet" => first(&mut self.facts.quiet, at),
            "handed-over" => first(&mut self.facts.handed_over, at),
            _ => {}
        }
        let tone = match (level, milestone) {
            ("INFO", "handed-over") => Tone::Strong,
            ("INFO", _) => Tone::Plain,
            _ => Tone::Alarm,
        };
        // The "ready" line has said what it will do, and the chart shows the duties that are done.
        let message = if milestone == "noticed" { message.split("; now:").next().unwrap_or(message) } else { message };
        if message.starts_with("done: ") || (self.notice.is_none() && message.contains(" watches http")) {
            return Vec::new();
        }
        let is_ready = milestone.is_empty() && message.starts_with("ready; ");
        let mut lines = Vec::new();
        if is_ready && !self.is_ready {
            self.is_ready = true;
            lines.push(self.line(now, "calls", Tone::Call, self.asked.join(", ")));
        }
        lines.push(self.line(now, "daemon", tone, message));
        lines
    }

    /// Takes a request that arrived at the metadata service or at AWS.
    pub(super) fn hear_request(&mut self, now: Instant, request: &Request, moment: RequestMoment) -> Option<StoryLine> {
        if request.service == "metadata" {
            if request.action == NOTICE && moment == RequestMoment::Done && request.status == Some(200) {
                let at = self.since_notice(now);
                first(&mut self.facts.noticed, at);
            }
            return None;
        }
        if moment == RequestMoment::Done {
            let status = request.status.filter(|status| *status >= 400)?;
            return Some(self.line(now, "call", Tone::Alarm, format!("{} was refused: {status}", request.action)));
        }
        if self.notice.is_none() {
            if !self.asked.contains(&request.action) {
                self.asked.push(request.action.clone());
            }
            return None;
        }
        // The request counts, not the daemon's log line: LaunchInstances answers long after the launch.
        if calls::asks_for_a_successor(&request.action) {
            let at = self.since_notice(now);
            first(&mut self.facts.asked, at);
        }
        let words = calls::words(&request.action, &request.parameters);
        let is_read = calls::is_read(&request.action);
        let count = if is_read { &mut self.reads } else { &mut self.writes };
        *count += 1;
        // Reads are repeated until something changes, so only the first of each is shown.
        let is_news = self.shown.insert(words.clone()) || !is_read;
        let tone = if is_read { Tone::Faint } else { Tone::Call };
        is_news.then(|| self.line(now, "call", tone, words))
    }

    /// Takes the present state of the world.
    pub(super) fn look(&mut self, now: Instant, glimpse: Glimpse) -> Vec<StoryLine> {
        let at = self.since_notice(now);
        let changes = changes(&self.glimpse, &glimpse);
        self.glimpse = glimpse;
        for change in &changes {
            self.note(change, at);
        }
        changes.iter().map(|change| self.tell(now, change)).collect()
    }

    fn note(&mut self, change: &Change, at: Option<Duration>) {
        match change {
            Change::Target(state) if state != "healthy" => first(&mut self.facts.out, at),
            Change::Capacity(before, after) if after < before => self.facts.restored = at,
            Change::SuccessorGlimpse(one) => {
                first(&mut self.facts.launched, at);
                if one.state == "running" {
                    first(&mut self.facts.runs, at);
                }
            }
            Change::SuccessorTarget(one) => {
                first(&mut self.facts.registered, at);
                if one.target.as_deref() == Some("healthy") {
                    first(&mut self.facts.serves, at);
                }
            }
            Change::Target(_) | Change::Instance(_) | Change::Capacity(..) => {}
        }
    }

    fn tell(&self, now: Instant, change: &Change) -> StoryLine {
        let (who, tone, text) = match change {
            Change::Target(state) if state == "draining" => {
                ("target", Tone::Good, "draining: the load balancer sends nothing new".to_owned())
            }
            Change::Target(state) => ("target", Tone::Plain, format!("of this instance: {state}")),
            Change::Instance(state) => ("instance", Tone::Plain, state.clone()),
            Change::Capacity(before, after) => {
                ("owner", Tone::Plain, format!("target capacity {after} instead of {before}"))
            }
            Change::SuccessorGlimpse(one) => {
                let state = if one.state == "pending" { "launched, pending" } else { one.state.as_str() };
                ("successor", Tone::Plain, format!("{} in {}: {state}", one.id, one.zone))
            }
            Change::SuccessorTarget(one) => match one.target.as_deref() {
                Some("healthy") => ("successor", Tone::Good, format!("{}: healthy, it serves", one.id)),
                Some("initial") => ("successor", Tone::Plain, format!("{}: registered, health checks begin", one.id)),
                other => ("successor", Tone::Plain, format!("{}: target {}", one.id, other.unwrap_or("gone"))),
            },
        };
        self.line(now, who, tone, text)
    }

    /// Tells that the slow request was sent.
    pub(super) fn sent(&self, now: Instant, slow: Duration) -> StoryLine {
        let text = format!("opens a request whose answer takes {} s", slow.as_secs_f64());
        self.line(now, "client", Tone::Plain, text)
    }

    /// Takes the end of the slow request.
    pub(super) fn hear_answer(&mut self, now: Instant, answered: bool) -> StoryLine {
        if answered {
            let at = self.since_notice(now);
            first(&mut self.facts.answered, at);
            return self.line(now, "client", Tone::Good, "has the answer to its open request");
        }
        self.line(now, "client", Tone::Bad, "lost its request")
    }

    /// Tells whether the world shows a complete handover, and no request was lost.
    pub(super) fn is_proved(&self, count: RequestCount) -> bool {
        let serving = self.glimpse.successors.iter().filter(|one| one.target.as_deref() == Some("healthy")).count();
        let one_successor = self.glimpse.successors.len() == 1 && serving == 1;
        let served = self.facts.answered.is_some() && count.lost + count.open() == 0;
        one_successor && !self.glimpse.in_service() && served && !self.was_hasty()
    }

    /// Tells whether the daemon reported quiet while a request was open.
    fn was_hasty(&self) -> bool {
        let Some(quiet) = self.facts.quiet else { return false };
        self.facts.answered.is_none_or(|answered| answered > quiet + APART)
    }

    /// The number of calls to AWS, such as "15 AWS calls: 2 that change something, 13 that look".
    pub(super) fn calls(&self) -> String {
        let Story { reads, writes, .. } = self;
        format!("The handover took {} AWS calls: {writes} that change something, {reads} that look.", reads + writes)
    }

    /// The last lines, none wider than `width`: the chart, the summary, the calls.
    pub(super) fn closing(&self, count: RequestCount, complete: bool, width: usize, paint: Paint) -> Vec<String> {
        let mut lines =
            vec![String::new(), paint.with(Tone::Strong, "The handover, in seconds after the notice"), String::new()];
        let budget = Budget { label: "left of the two minutes", whole: TWO_MINUTES };
        lines.extend(chart::lines(&self.facts.bars(), Some(budget), width, paint));
        lines.push(String::new());
        let tone = if complete { Tone::Good } else { Tone::Bad };
        let sum = self.sum(count);
        let sum = if complete { sum } else { format!("The handover was NOT complete. {sum}") };
        lines.extend(wrap(&sum, width).iter().map(|line| paint.with(tone, line)));
        lines.extend(wrap(&self.calls(), width).iter().map(|line| paint.with(Tone::Faint, line)));
        lines
    }

    /// The summary.
    pub(super) fn sum(&self, count: RequestCount) -> String {
        let facts = &self.facts;
        let mut parts = Vec::new();
        if let (Some(seen), Some(out)) = (facts.noticed, facts.out) {
            let took = out.saturating_sub(seen).as_secs_f64();
            let seen = seen.as_secs_f64();
            let on = match facts.serves.is_some_and(|serves| serves <= out) {
                true => "served on until the successor was healthy: ",
                false => "",
            };
            parts.push(format!(
                "The daemon saw the notice {seen:.2} s after AWS gave it, and {on}{took:.2} s later the target was out of \
                 the load balancer"
            ));
        }
        if let (Some(serves), [one]) = (facts.serves, self.glimpse.successors.as_slice()) {
            let left = TWO_MINUTES.saturating_sub(serves).as_secs_f64();
            let serves = serves.as_secs_f64();
            parts.push(format!(
                "the successor {} served {serves:.1} s after the notice, {left:.1} s before AWS takes the instance",
                one.id
            ));
        }
        parts.push(match (count.lost, count.open()) {
            (0, 0) => format!("all {} requests were answered, none was lost", count.sent),
            (lost, open) => format!("of {} requests {lost} were lost and {open} not answered", count.sent),
        });
        if self.was_hasty() {
            parts.push("the daemon took the instance for quiet while a request was open".to_owned());
        }
        format!("{}.", parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::SuccessorGlimpse;
    use super::*;

    const PLAIN: Paint = Paint { coloured: false };
    const ALL_ANSWERED: RequestCount = RequestCount { sent: 3, answered: 3, lost: 0 };

    fn log(milestone: &str, message: &str) -> String {
        serde_json::json!({"level": "INFO", "message": message, "milestone": milestone}).to_string()
    }

    fn glimpse(target: &str, successor: Option<(&str, Option<&str>)>) -> Glimpse {
        let successor = successor.map(|(state, target)| SuccessorGlimpse {
            id: "i-2".to_owned(),
            zone: "z".to_owned(),
            state: state.to_owned(),
            target: target.map(str::to_owned),
        });
        Glimpse {
            instance: Some("running".to_owned()),
            target: Some(target.to_owned()),
            successors: successor.into_iter().collect(),
            capacity: None,
        }
    }

    /// A whole handover; the last request is answered and the instance quiet so many seconds after the notice.
    fn told(answered: u64, quiet: u64) -> (Story, Vec<StoryLine>) {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut story = Story::new(glimpse("healthy", None));
        let mut lines = story.hear_log(start, &log("", "ready; on a notice: leave web"));
        assert!(story.is_ready);
        lines.push(story.put_up(start, "12:00:00Z"));
        story.facts.noticed = story.since_notice(at(1));
        lines.extend(story.look(at(1), glimpse("draining", None)));
        lines.extend(story.look(at(2), glimpse("draining", Some(("pending", None)))));
        let mut rest = vec![(answered, true), (quiet, false)];
        rest.sort();
        for (when, is_answer) in rest {
            match is_answer {
                true => lines.push(story.hear_answer(at(when), true)),
                false => lines.extend(story.hear_log(at(when), &log("quiet", "no request is open"))),
            }
        }
        lines.extend(story.look(at(10), glimpse("draining", Some(("running", Some("initial"))))));
        lines.extend(story.look(at(12), glimpse("draining", Some(("running", Some("healthy"))))));
        lines.extend(story.hear_log(at(13), &log("handed-over", "handed over completely in 12.0 s")));
        (story, lines)
    }

    #[test]
    fn what_happened_stands_with_its_seconds() {
        let (story, lines) = told(3, 5);
        let lines: Vec<String> = lines.iter().flat_map(|line| line.rendered(80, PLAIN)).collect();
        let expected = [
            "  daemon    ready; on a notice: leave web",
            "    0.00   120  metadata  AWS gives notice: terminate at 12:00:00Z",
            "    1.00   119  target    draining: the load balancer sends nothing new",
            "    2.00   118  successor i-2 in z: launched, pending",
            "    3.00   117  client    has the answer to its open request",
            "    5.00   115  daemon    no request is open",
            "   10.00   110  successor i-2 in z: running",
            "   10.00   110  successor i-2: registered, health checks begin",
            "   12.00   108  successor i-2: healthy, it serves",
            "   13.00   107  daemon    handed over completely in 12.0 s",
        ];
        assert_eq!(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>(), expected);
        let untils: Vec<u64> = story.facts.bars().iter().map(|bar| bar.until.as_secs()).collect();
        assert_eq!(untils, [1, 1, 3, 5, 2, 10, 10, 12, 13]);
        assert!(story.is_proved(ALL_ANSWERED));
    }

    #[test]
    fn the_whole_demo_reads_well() {
        let (story, lines) = told(3, 5);
        let one = |(width, coloured)| {
            let paint = Paint { coloured };
            let told = lines.iter().flat_map(|line| line.rendered(width, paint));
            let closing = story.closing(ALL_ANSWERED, true, width, paint);
            let text = told.chain(closing).collect::<Vec<_>>().join("\n").replace('\x1b', "␛");
            format!("=== {width} columns, {}\n{text}\n", if coloured { "coloured" } else { "plain" })
        };
        let all = [(80, false), (120, false), (80, true), (120, true)].map(one).join("\n");
        insta::assert_snapshot!("demo", all);
    }

    #[test]
    fn the_sum_claims_what_was_seen_and_nothing_else() {
        let (story, _) = told(3, 5);
        let sum = story.sum(ALL_ANSWERED);
        for part in ["0.00 s later the target was out", "i-2 served 12.0 s after", "108.0 s before", "all 3 requests"] {
            assert!(sum.contains(part), "{part:?} in {sum}");
        }
        let nothing = Story::new(glimpse("healthy", None)).sum(RequestCount { sent: 2, answered: 0, lost: 1 });
        assert_eq!(nothing, "of 2 requests 1 were lost and 1 not answered.");
    }

    #[test]
    fn a_lost_request_or_a_hasty_word_proves_nothing() {
        let (story, _) = told(3, 5);
        assert!(!story.is_proved(RequestCount { sent: 3, answered: 2, lost: 1 }));
        assert!(!story.is_proved(RequestCount { sent: 3, answered: 2, lost: 0 }));
        let (hasty, _) = told(5, 3);
        assert!(!hasty.is_proved(ALL_ANSWERED) && hasty.sum(ALL_ANSWERED).contains("while a request was open"));
    }

    #[test]
    fn a_successor_is_requested_when_the_call_goes_out() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let call = |action: &str| Request {
            at: start,
            since_start: Duration::ZERO,
            answered_since_start: None,
            service: "autoscaling".to_owned(),
            action: action.to_owned(),
            parameters: Default::default(),
            headers: Default::default(),
            connection: 0,
            status: None,
            body: None,
        };
        let mut story = Story::new(glimpse("healthy", None));
        story.put_up(start, "12:00:00Z");
        for (when, action) in [(1, "DescribeInstances"), (2, "LaunchInstances"), (9, "DetachInstances")] {
            story.hear_request(at(when), &call(action), RequestMoment::Arrived);
        }
        story.hear_log(at(5), &log("successor-requested", "group web launches a successor: i-2"));
        assert_eq!(story.facts.asked, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_no_json_is_told_as_it_is() {
        let mut story = Story::default();
        let lines = story.hear_log(Instant::now(), "spot-relay: failed to start");
        assert_eq!(lines[0].rendered(80, PLAIN), ["  daemon    spot-relay: failed to start"]);
        assert_eq!(story.last_log_lines().collect::<Vec<_>>(), ["spot-relay: failed to start"]);
    }
}
