//! The sentences at a handover's beginning and end.

use std::time::Duration;

use super::manner::{Manner, OnNotice};
use crate::core::config::When;
use crate::core::incident::{Earlier, Incident, Takes};
use crate::core::model::{Action, BootInstant, InstanceId, Registration, Signal};
use crate::core::plan::{FleetRequest, GroupRequest, Plan};

/// A sentence such as "AWS will terminate this instance in 120.0 s; now: leave web; detach from group shop, which ...".
/// `manner` says, too, whether there is time to serve on.
pub(super) fn begun(
    incident: &Incident,
    registrations: Option<&[Registration]>,
    plan: Option<&Plan>,
    manner: (Manner, bool),
    now: BootInstant,
) -> String {
    let again = if incident.start.earlier == Earlier::Restart { ", seen again after a restart" } else { "" };
    let groups = left(registrations);
    let first = plan.map_or_else(|| "find out who launches a successor".to_owned(), Plan::successor_first);
    let hooks = plan.is_none_or(|plan| !plan.termination_hooks().is_empty());
    let serves_on = manner == (Manner::ServeOn, true);
    let asks = match (plan, manner) {
        (Some(plan), (Manner::Open | Manner::AtOnce, _)) => plan.to_string(),
        _ => first.clone(),
    };
    let left = seconds(incident.deadline.since(now));
    let action = incident.id.action.unwrap_or(Action::Terminate);
    let done = done_already(incident);
    match (incident.signal, action) {
        (Signal::RebalanceRecommendation, _) => format!(
            "AWS recommends to rebalance: this instance is at a higher risk{again}; first {first}; \
             once the successor is healthy, {groups}"
        ),
        (Signal::LifecycleState, _) => {
            let then = if hooks { ", then complete its termination hooks" } else { "" };
            let does = if incident.group_takes == Some(Takes::IntoPool) {
                "takes this instance back into its warm pool"
            } else {
                "terminates this instance"
            };
            format!("the Auto Scaling group {does}{again}; now: {groups}{then}")
        }
        (Signal::ScheduledEvent, _) => {
            let event = incident.event.as_deref().unwrap_or("a scheduled event");
            format!("{event}: handing over within {left}{again}; first {first}; once that is healthy, {groups}")
        }
        (Signal::Drill, _) => {
            let does = drilled(plan, serves_on, &groups, asks);
            format!("a drill: handing over within {left} as if AWS took this instance{again}; {does}")
        }
        (Signal::Notice, action) if !done.is_empty() => {
            format!("AWS will {action} this instance in {left}{again}, which {done}")
        }
        (Signal::Notice, Action::Hibernate) => {
            format!("AWS hibernates this instance, which may stand still at any moment{again}; now: {groups}; {asks}")
        }
        (Signal::Notice, action) if serves_on => {
            format!(
                "AWS will {action} this instance in {left}{again}; serving on; first {first}; once the successor is healthy, \
                 and early enough to drain, {groups}"
            )
        }
        (Signal::Notice, action) => {
            format!("AWS will {action} this instance in {left}{again}; now: {groups}; {asks}")
        }
    }
}

/// Tells, as a part of a sentence, what an earlier process or an earlier signal has done; empty if that is nothing.
fn done_already(incident: &Incident) -> &'static str {
    match () {
        () if incident.start.handed_over.is_some() => {
            "has handed over already; only what has changed since is done again"
        }
        () if incident.has_left() => "leaves already; only what is not done yet is done",
        () => "",
    }
}

/// A part of a sentence: the target groups that this instance leaves. `None` if nobody knows them yet.
fn left(registrations: Option<&[Registration]>) -> String {
    match registrations {
        None => "leave the target groups once they are found".to_owned(),
        Some([]) => "this instance is in no target group".to_owned(),
        Some(registrations) => format!("leave {}", join(registrations.iter().map(|it| it.name().to_owned()))),
    }
}

/// A part of a sentence: what is done in a drill. `in_words` is the plan, or what stands in for it.
fn drilled(plan: Option<&Plan>, serves_on: bool, groups: &str, in_words: String) -> String {
    match plan.map(|plan| plan.clone().for_drill()) {
        Some(drilled) if serves_on && drilled.has_successor() => {
            format!("serving on; first {}; once the successor is healthy, {groups}", drilled.successor_first())
        }
        _ => format!("now: {groups}; {}", plan.map_or(in_words, in_drill)),
    }
}

/// A part of a sentence: how the owner is asked at a notice.
pub(crate) fn asked_at_a_notice(plan: &Plan, when: When) -> String {
    asked(plan, when, plan.to_string())
}

/// A part of a sentence: how the owner is asked in a drill.
pub(crate) fn asked_in_a_drill(plan: &Plan, when: When) -> String {
    asked(&plan.clone().for_drill(), when, in_drill(plan))
}

fn asked(plan: &Plan, when: When, at_once: String) -> String {
    match OnNotice::of(when, Some(plan)) {
        OnNotice::ServeOnIfAllowed => format!(
            "{} (LaunchInstances) and serve on until it is healthy, or, if AWS refuses that, leave at once and {at_once}",
            plan.successor_first()
        ),
        OnNotice::ServeOn | OnNotice::AtOnce { .. } => at_once,
    }
}

/// A part of a sentence: what a drill does where a notice would do what the plan says.
fn in_drill(plan: &Plan) -> String {
    match plan {
        Plan::Group { group, how: GroupRequest::Terminate } => format!(
            "detach from group {}, which launches the successor (a notice would terminate this instance in it and complete \
             its termination hook)",
            group.name
        ),
        Plan::Group { how: GroupRequest::Observe, .. } | Plan::Fleet { how: FleetRequest::Observe, .. } => {
            format!("no successor: {} launches by itself, at a real signal only", plan.owner())
        }
        plan => plan.to_string(),
    }
}

/// A text such as "1.4 s".
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(super) fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// A text such as "successor i-1 is" or "successors i-1, i-2 and 3 more are".
pub(super) fn successors(ids: &[InstanceId]) -> String {
    match ids {
        [one] => format!("successor {one} is"),
        [one, two] => format!("successors {one} and {two} are"),
        [one, two, rest @ ..] => format!("successors {one}, {two} and {} more are", rest.len()),
        [] => "no successor is".to_owned(),
    }
}
