//! The page of `spot-relay status`, for people: pure, from the report to lines of this width.

use std::time::Duration;

use jiff::Timestamp;

use super::report::{ReportedHandover, ReportedMilestone, ReportedRegistration, StatusProblem, StatusReport};
use crate::cli::chart::{self, Bar, Budget};
use crate::cli::screen::{Paint, Tone, wrap};
use crate::core::duty::DutyReport;
use crate::core::incident::Closed;
use crate::core::model::{LifeCycle, MilestoneKind, Signal, ports_in_words};

/// The width of the column on the left.
const LABEL: usize = 13;
const MARGIN: usize = 2;

/// The lines, none wider than `width` but for a long word.
pub(super) fn lines(report: &StatusReport, paint: Paint, width: usize) -> Vec<String> {
    StatusPage { paint, width, has_rows: true, has_chart: true }.lines(report)
}

/// The lines for a terminal of this height. During a handover the daemon's rows are left out first, then the chart,
/// never the duties. Otherwise the chart of the last handover is left out.
pub(super) fn lines_within(report: &StatusReport, paint: Paint, width: usize, height: usize) -> Vec<String> {
    let goes_on = ["handing-over", "handed-over"].contains(&report.state);
    let smaller = [(!goes_on, goes_on), (!goes_on, false)].into_iter().map(|(has_rows, has_chart)| {
        let lines = StatusPage { paint, width, has_rows, has_chart }.lines(report);
        lines.into_iter().filter(|line| !line.is_empty()).collect()
    });
    let all: Vec<Vec<String>> = std::iter::once(lines(report, paint, width)).chain(smaller).collect();
    let smallest = all.last().cloned().unwrap_or_default();
    all.into_iter().find(|lines| lines.len() <= height).unwrap_or(smallest)
}

/// One finished handover.
pub(super) fn handover(handover: &ReportedHandover, paint: Paint, width: usize) -> Vec<String> {
    StatusPage { paint, width, has_rows: true, has_chart: true }.handover(handover, false)
}

struct StatusPage {
    paint: Paint,
    width: usize,
    /// True if the page begins with the rows of the daemon and its instance.
    has_rows: bool,
    has_chart: bool,
}

impl StatusPage {
    fn lines(&self, report: &StatusReport) -> Vec<String> {
        let mut lines = self.headline(report);
        lines.extend(report.problems.iter().flat_map(|problem| self.problem(problem)));
        let rows = if self.has_rows { rows(report) } else { Vec::new() };
        if !rows.is_empty() {
            lines.push(String::new());
        }
        lines.extend(rows.iter().flat_map(|(label, text)| self.row(label, text, Tone::Plain)));
        if let Some(handover) = &report.handover {
            lines.push(String::new());
            let goes_on = report.state == "handing-over";
            let title = if goes_on { "The handover" } else { "The last handover" };
            lines.push(self.paint.with(Tone::Strong, title));
            lines.push(String::new());
            if report.instance.is_none() {
                lines.extend(self.row("instance", &handover.instance_id, Tone::Plain));
            }
            lines.extend(self.handover(handover, goes_on));
        }
        lines
    }

    fn headline(&self, report: &StatusReport) -> Vec<String> {
        let (tone, says) = match report.state {
            "watching" if report.lacks_credentials_alone() => (Tone::Bad, "is watching, and cannot call AWS"),
            "watching" if !report.problems.is_empty() => (Tone::Bad, "is running, and sees nothing"),
            "watching" => (Tone::Good, "is watching"),
            "handing-over" => (Tone::Alarm, "is handing over"),
            "handed-over" => (Tone::Alarm, "has handed over, and waits for the end of this instance"),
            "arriving" => (Tone::Alarm, "is bringing this instance into service"),
            "stays-out" => (Tone::Alarm, "is watching; this instance stays out of its target groups"),
            "terminating" => (Tone::Alarm, "has had this instance terminated"),
            "silent" => (Tone::Bad, "hangs"),
            "untold" => (Tone::Bad, "runs, and does not tell what it does"),
            _ if report.dry_runs.is_empty() => (Tone::Bad, "is not running"),
            _ => (Tone::Bad, "is not running; a dry run watches"),
        };
        let version = report.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let text = format!("spot-relay{version} {says}");
        wrap(&text, self.width).iter().map(|line| self.paint.with(tone, line)).collect()
    }

    fn problem(&self, problem: &StatusProblem) -> Vec<String> {
        let what = wrap(&problem.what, self.width);
        let mut lines: Vec<String> = what.iter().map(|line| self.paint.with(Tone::Bad, line)).collect();
        lines.extend(problem.remedy.iter().flat_map(|remedy| self.hang("  - ", remedy, Tone::Plain)));
        lines
    }

    fn row(&self, label: &str, text: &str, tone: Tone) -> Vec<String> {
        self.hang(&format!("{:MARGIN$}{label:LABEL$}", ""), text, tone)
    }

    /// Wraps the text: the first line after `lead`, the others below its beginning.
    fn hang(&self, lead: &str, text: &str, tone: Tone) -> Vec<String> {
        let indent = lead.chars().count();
        let lines = wrap(text, self.width.saturating_sub(indent)).into_iter().enumerate();
        let before = |number| if number == 0 { self.paint.with(Tone::Faint, lead) } else { " ".repeat(indent) };
        lines.map(|(number, line)| format!("{}{}", before(number), self.paint.with(tone, &line))).collect()
    }

    fn handover(&self, handover: &ReportedHandover, goes_on: bool) -> Vec<String> {
        let mut lines = self.row("signal", &signal(handover), Tone::Plain);
        lines.extend(self.row("begun", &time(handover.begun_at), Tone::Plain));
        let (tone, text) = outcome(handover, goes_on);
        lines.extend(self.row("outcome", &text, tone));
        let chart = chart::lines(&bars(handover, goes_on), budget(handover), self.width, self.paint);
        if !chart.is_empty() && self.has_chart {
            lines.push(String::new());
            lines.extend(chart);
        }
        if !handover.duties.is_empty() {
            lines.push(String::new());
        }
        lines.extend(handover.duties.iter().flat_map(|duty| self.duty(duty, goes_on)));
        let after: Vec<&ReportedMilestone> = handover.milestones.iter().skip_while(|it| !is_end(it)).skip(1).collect();
        if !after.is_empty() {
            lines.push(String::new());
        }
        for step in after {
            let time = step.at.map_or_else(|| "later".to_owned(), |at| at.strftime("%H:%M:%S").to_string());
            lines.extend(self.row(&time, &step.message, Tone::Plain));
        }
        lines
    }

    fn duty(&self, duty: &DutyReport, goes_on: bool) -> Vec<String> {
        let (tone, word) = match duty.done {
            true => (Tone::Good, "done"),
            false if goes_on => (Tone::Alarm, "open"),
            false if duty.aside => (Tone::Alarm, "not done"),
            false => (Tone::Bad, "not done"),
        };
        self.row(word, &duty.in_words(), if duty.done { Tone::Plain } else { tone })
    }
}

fn rows(report: &StatusReport) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let (Some(pid), Some(since)) = (report.pid, report.since) {
        let lasted = report.running_seconds.map(|seconds| format!(", for {}", lasting(seconds))).unwrap_or_default();
        rows.push(("process", format!("{pid}{lasted} (since {})", time(since))));
    }
    if let Some(pid) = report.dry_runs.first().filter(|_| report.running) {
        rows.push(("dry run", format!("{pid} watches beside it, and writes nothing")));
    }
    if let Some(ended) = report.ended {
        rows.push(("stopped", time(ended)));
    }
    if let Some(age) = report.age_seconds.filter(|_| report.state == "silent") {
        rows.push(("last status", format!("{} ago", lasting(age))));
    }
    if let Some(instance) = &report.instance {
        let life_cycle = if instance.life_cycle == LifeCycle::Spot { "spot" } else { "on demand" };
        let (kind, zone) = (&instance.instance_type, &instance.availability_zone);
        rows.push(("instance", format!("{} ({kind}, {zone}, {life_cycle})", instance.instance_id)));
    }
    if let Some(metadata) = report.metadata.as_ref().filter(|_| report.state != "not-running") {
        let interval = lasting_exactly(metadata.interval_seconds);
        let age = metadata.age_seconds.map(|age| format!("last good look at most {} ago", lasting(age)));
        let age = age.unwrap_or_else(|| "no good look yet".to_owned());
        rows.push(("metadata", format!("{age}, one every {interval}")));
        if let Some(since) = metadata.trouble_since {
            rows.push(("silent since", time(since)));
        }
    }
    if let Some(says) = report.says.as_ref().filter(|_| !["watching", "not-running"].contains(&report.state)) {
        rows.push(("says", says.clone()));
    }
    let is_in_service = ["watching", "arriving"].contains(&report.state);
    if let Some(text) = report.on_a_notice.as_ref().filter(|_| is_in_service) {
        rows.push(("on a notice", text.clone()));
    }
    let places = report.registrations.as_deref().filter(|_| is_in_service).unwrap_or_default();
    rows.extend(
        places.iter().enumerate().map(|(n, place)| (if n == 0 { "registered" } else { "" }, registered(place))),
    );
    rows
}

/// A registration, such as "web: ports 80, 81, deregistration delay 300 s".
fn registered(place: &ReportedRegistration) -> String {
    let delay = lasting_exactly(place.deregistration_delay_seconds);
    let network = if place.network_load_balancer { ", behind a Network Load Balancer" } else { "" };
    format!("{}: {}, deregistration delay {delay}{network}", place.name, ports_in_words(&place.ports))
}

fn signal(handover: &ReportedHandover) -> String {
    let what = match handover.signal {
        Signal::Notice => "Spot interruption notice",
        Signal::RebalanceRecommendation => "rebalance recommendation",
        Signal::LifecycleState => "terminated by its Auto Scaling group",
        Signal::ScheduledEvent => "scheduled event",
        Signal::Drill => "a drill",
    };
    let action = handover.action.filter(|_| handover.signal != Signal::LifecycleState);
    let action = action.map(|action| format!(" ({action})")).unwrap_or_default();
    format!("{what}{action}")
}

fn outcome(handover: &ReportedHandover, goes_on: bool) -> (Tone, String) {
    let took = handover.seconds.map(|seconds| format!(" in {seconds:.1} s")).unwrap_or_default();
    let left =
        |word: &str| handover.seconds_to_deadline.map(|left| format!("{word}{left:.1} s left")).unwrap_or_default();
    match handover.outcome {
        None if goes_on => {
            let since = handover.seconds.map(|seconds| format!(" for {seconds:.1} s")).unwrap_or_default();
            (Tone::Alarm, format!("goes on{since}{}", left(", ")))
        }
        None => (Tone::Bad, "not known: the daemon ended in the middle of it".to_owned()),
        Some("complete") => (Tone::Good, format!("complete{took}{}", left(", with "))),
        Some(_) if handover.closed == Some(Closed::Stayed) => {
            (Tone::Alarm, "this instance stayed in service".to_owned())
        }
        Some(_) if handover.duties.is_empty() => (Tone::Alarm, "called off before its end".to_owned()),
        Some(_) => (Tone::Bad, format!("in part{took}{}", left(", with "))),
    }
}

fn budget(handover: &ReportedHandover) -> Option<Budget> {
    let whole = handover.seconds? + handover.seconds_to_deadline?;
    Some(Budget { label: "left to the deadline", whole: Duration::try_from_secs_f64(whole).ok()? })
}

/// A bar for each milestone up to the end, and a bar for a running handover.
fn bars(handover: &ReportedHandover, goes_on: bool) -> Vec<Bar> {
    let steps = &handover.milestones;
    let end = steps.iter().position(is_end).map_or(steps.len(), |end| end + 1);
    let steps: Vec<&ReportedMilestone> = steps.iter().take(end).filter(|step| step.seconds.is_some()).collect();
    let mut groups: Vec<&str> = steps.iter().filter_map(|step| step.target_group.as_deref()).collect();
    groups.sort_unstable();
    groups.dedup();
    let bar = |label: String, from: f64, until: f64, tone| Bar { label, from: span(from), until: span(until), tone };
    let mut bars: Vec<Bar> = steps
        .iter()
        .map(|step| {
            let group = step.target_group.as_deref().filter(|_| groups.len() > 1).map(name);
            let label = step.milestone.as_str().replace('-', " ");
            let label = group.map(|group| format!("{label}: {group}")).unwrap_or(label);
            bar(label, begin(step, &steps), step.seconds.unwrap_or_default(), tone(step.milestone))
        })
        .collect();
    if let Some(seconds) = handover.seconds.filter(|_| goes_on) {
        bars.push(bar("so far".to_owned(), 0.0, seconds, Tone::Faint));
    }
    bars
}

/// The beginning of the duty that this milestone ends: the milestone before it, of the same target group if it has one.
fn begin(step: &ReportedMilestone, steps: &[&ReportedMilestone]) -> f64 {
    use MilestoneKind as Kind;
    let before: &[Kind] = match step.milestone {
        Kind::Left => &[Kind::Deregistered],
        Kind::Quiet => &[Kind::Deregistered],
        Kind::SuccessorRunning => &[Kind::SuccessorRequested],
        Kind::SuccessorRegistered => &[Kind::SuccessorRunning, Kind::SuccessorRequested],
        Kind::SuccessorHealthy => &[Kind::SuccessorRegistered, Kind::SuccessorRunning, Kind::SuccessorRequested],
        _ => &[],
    };
    let is_same = |other: &ReportedMilestone| match (&step.target_group, &other.target_group) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    };
    let last = |kind: Kind| {
        let of_kind = steps.iter().filter(|other| other.milestone == kind && is_same(other));
        of_kind.filter_map(|other| other.seconds).reduce(f64::max)
    };
    before.iter().find_map(|kind| last(*kind)).unwrap_or(0.0)
}

fn is_end(step: &ReportedMilestone) -> bool {
    step.milestone == MilestoneKind::HandedOver
}

fn tone(milestone: MilestoneKind) -> Tone {
    match milestone {
        MilestoneKind::Recommended | MilestoneKind::Noticed => Tone::Alarm,
        MilestoneKind::Deregistered | MilestoneKind::Left | MilestoneKind::Quiet => Tone::Good,
        MilestoneKind::HandedOver => Tone::Strong,
        _ => Tone::Call,
    }
}

fn name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A duration as a person says it: `4 s`, `3 min`, `2 h 5 min`, `8 d 2 h`.
fn lasting(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A duration without rounding, such as `1 s` or `0.2 s`.
fn lasting_exactly(seconds: f64) -> String {
    format!("{seconds} s")
}
