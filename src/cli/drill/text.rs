//! The text before a drill and after it. Pure: facts in, lines out.

use std::time::Duration;

use crate::cli::screen::{Paint, Tone, wrap};
use crate::cli::status;
use crate::core::drill::{DrillCall, Survey};
use crate::core::incident::Closed;
use crate::core::model::Signal;
use crate::daemon::DaemonEnd;

/// The steps, the costs, and the reasons against a drill.
pub(super) fn plan(survey: &Survey, within: Duration, paint: Paint, width: usize) -> Vec<String> {
    let identity = &survey.identity;
    let title =
        format!("A drill of {}: a real handover, within {} s, and back", identity.instance_id, within.as_secs());
    let mut lines = vec![paint.with(Tone::Strong, &title), String::new()];
    for (number, step) in (1..).zip(survey.steps()) {
        lines.extend(item(&format!("{number}."), &step, Tone::Plain, paint, width));
    }
    let mut section = |title: &str, tone: Tone, texts: Vec<String>| {
        if texts.is_empty() {
            return;
        }
        lines.extend([String::new(), paint.with(Tone::Strong, title)]);
        for text in texts {
            lines.extend(item("-", &text, tone, paint, width));
        }
    };
    section("What it costs", Tone::Plain, survey.costs());
    let others = survey.others.iter().map(|it| match it.healthy {
        1 => format!("{}: 1 other healthy target", it.name),
        healthy => format!("{}: {healthy} other healthy targets", it.name),
    });
    section("Who serves meanwhile", Tone::Plain, others.collect());
    section("Mind", Tone::Alarm, survey.remarks());
    section("What speaks against it", Tone::Bad, survey.obstacles().into_iter().chain(survey.objections()).collect());
    lines.push(String::new());
    let rules = "Ctrl-C puts back what was done. A real notice that comes in the middle is handed over in earnest.";
    lines.extend(wrap(rules, width));
    lines.push(String::new());
    lines
}

fn item(mark: &str, text: &str, tone: Tone, paint: Paint, width: usize) -> Vec<String> {
    let parts = wrap(text, width.saturating_sub(5)).into_iter().enumerate();
    let line = |(number, part): (usize, String)| {
        format!("  {:3}{}", if number == 0 { mark } else { "" }, paint.with(tone, &part))
    };
    parts.map(line).collect()
}

/// Every call that changes something, in order.
pub(super) fn calls(calls: &[DrillCall], paint: Paint, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (comes_back, title) in [(false, "Calls that hand over"), (true, "Calls that put back")] {
        lines.push(paint.with(Tone::Strong, title));
        for call in calls.iter().filter(|call| call.comes_back == comes_back) {
            let on = wrap(&call.on, width.saturating_sub(6)).into_iter().map(|line| format!("      {line}"));
            lines.push(format!("  {}", paint.with(Tone::Call, call.action)));
            lines.extend(on);
        }
        lines.push(String::new());
    }
    let note = "Calls that only look are left out. A call that fails is tried again, with pauses, until the deadline.";
    lines.extend(wrap(note, width).iter().map(|line| paint.with(Tone::Faint, line)));
    lines
}

/// Tells whether the handover was complete and this instance is back everywhere.
pub(super) fn is_complete(ended: &DaemonEnd) -> bool {
    let record = ended.record.as_ref().filter(|record| record.signal == Signal::Drill);
    let is_complete = record.is_some_and(|record| record.closed() == Some(Closed::Reinstated) && record.is_complete());
    is_complete && ended.is_wholly_back
}

pub(super) fn end(ended: &DaemonEnd, paint: Paint, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let Some(record) = ended.record.as_ref().filter(|record| record.signal == Signal::Drill) else {
        lines.extend(wrap("The drill did not take place. Start the daemon again: systemctl start spot-relay", width));
        return lines;
    };
    lines.extend(status::handover(record, paint, width));
    lines.push(String::new());
    let (tone, sum) = match (is_complete(ended), record.closed()) {
        (true, _) => (Tone::Good, "The drill was complete: handed over, and everything is put back."),
        (false, None) => (Tone::Bad, "The drill has ended in the middle: not everything is put back yet."),
        (false, Some(_)) if !ended.is_wholly_back => {
            (Tone::Bad, "The drill was NOT complete: this instance could not be put back everywhere, as said above.")
        }
        (false, Some(_)) if !record.was_seen_through() => {
            (Tone::Bad, "The drill was called off: what was done is put back.")
        }
        (false, Some(_)) => (Tone::Bad, "The drill was NOT complete: handed over in part; everything is put back."),
    };
    lines.extend(wrap(sum, width).iter().map(|line| paint.with(tone, line)));
    let successor = record.milestones.iter().rev().find_map(|milestone| milestone.successor_id.as_ref());
    if let Some(successor) = successor {
        let text = format!("Successor {successor} runs on and is paid for: see above how to take it back.");
        lines.extend(wrap(&text, width));
    }
    lines.extend(wrap("Start the daemon again: systemctl start spot-relay", width));
    lines
}
