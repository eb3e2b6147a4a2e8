//! The moment at which this instance would leave its target groups on a notice, and the way to serve longer.

use std::time::Duration;

use super::finding::Finding;
use crate::core::config::{Config, When};
use crate::core::handover::{OnNotice, time_to_drain};
use crate::core::model::Registration;
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::Plan;

pub(super) fn look(config: &Config, plan: &Plan, registrations: &[Registration]) -> Vec<Finding> {
    let on_notice = OnNotice::of(config.leave.when, Some(plan));
    let mut findings = vec![when(config, plan, on_notice)];
    if !matches!(on_notice, OnNotice::AtOnce { .. }) && !registrations.is_empty() {
        findings.push(serving_time(config, registrations));
    }
    findings
}

fn when(config: &Config, plan: &Plan, on_notice: OnNotice) -> Finding {
    let auto_would = OnNotice::of(When::Auto, Some(plan));
    let found = match on_notice {
        OnNotice::ServeOn => {
            "on a notice this instance serves on until its successor is healthy, because the successor comes without \
             taking this instance out"
                .to_owned()
        }
        OnNotice::ServeOnIfAllowed if config.leave.when == When::SuccessorHealthy => format!(
            "on a notice this instance serves on until its successor is healthy, if group {} launches one more first \
             (LaunchInstances); otherwise it leaves at once if another target serves",
            plan.owner()
        ),
        OnNotice::ServeOnIfAllowed => format!(
            "on a notice group {} is asked to launch one more first (LaunchInstances), which the policy of this configuration does \
             not grant: then this instance leaves at once if another target serves; to serve on until its successor is healthy, set \
             [leave] when = \"successor-healthy\" and print the policy again",
            plan.owner()
        ),
        OnNotice::AtOnce { why } if matches!(auto_would, OnNotice::AtOnce { .. }) => {
            format!("on a notice this instance leaves at once if another target serves, because {why}")
        }
        OnNotice::AtOnce { why } => format!(
            "on a notice this instance leaves at once if another target serves, because {why}; with \"auto\" it serves on until its successor is \
             healthy, where the owner can launch one first"
        ),
    };
    Finding::ok("leave", found)
}

/// Reports the time to serve on after a notice, and how much a shorter deregistration delay would add.
fn serving_time(config: &Config, registrations: &[Registration]) -> Finding {
    let leave = &config.leave;
    let longest = registrations.iter().max_by_key(|registration| registration.deregistration_delay);
    let delay = longest.map(|registration| registration.deregistration_delay).unwrap_or_default();
    let drain = time_to_drain(leave, delay);
    let serves = TWO_MINUTES.saturating_sub(drain + leave.reserve);
    let gain = drain.saturating_sub(time_to_drain(leave, Duration::ZERO));
    let found = format!(
        "of the two minutes {} s are for serving on, {} s for open requests to end, and {} s are the reserve",
        serves.as_secs(),
        drain.as_secs(),
        leave.reserve.as_secs()
    );
    match longest.filter(|_| !gain.is_zero()) {
        None => Finding::ok("serving-time", found),
        Some(longest) => Finding::ok(
            "serving-time",
            format!(
                "{found}; if every request is answered within {0} s, set the deregistration delay of {1} (now {2} s) to {0} s: \
                 this instance then serves on for {3} s longer",
                (drain - gain).as_secs(),
                longest.name(),
                delay.as_secs(),
                gain.as_secs()
            ),
        ),
    }
}
