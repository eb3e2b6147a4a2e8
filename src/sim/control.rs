//! A listener for suites in other languages and for benchmarks: shows the world and changes it, in JSON.
//!
//! `GET /world`, `GET /requests`; `POST /notice`, `/withdraw`, `/rebalance`, `/lifecycle-state`, `/member`,
//! `/target-health`, `/scheduled-events`, `/no-capacity`, `/fault`, `/clear-faults`, `/credentials/expire`. Each
//! documents its body below.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::Fault;
use super::reply::Reply;
use super::requests::{Request, Wire};
use super::settings::Pool;
use super::simulation::{Inner, Sim};
use super::target_group::Reported;

pub(crate) fn answer(inner: &Arc<Inner>, wire: &Wire) -> Reply {
    let sim = Sim(Arc::clone(inner));
    let body: Value = match wire.body.trim() {
        "" => json!({}),
        text => match serde_json::from_str(text) {
            Ok(body) => body,
            Err(error) => return wrong(&error),
        },
    };
    match (wire.method.as_str(), wire.path.as_str()) {
        ("GET", "/world") => right(&sim.snapshot()),
        ("GET", "/requests") => right(&sim.requests().iter().map(Request::to_json).collect()),
        ("POST", path) => match change(&sim, path, &body) {
            Ok(true) => right(&json!({})),
            Ok(false) => Reply::new(404, "text/plain", "no such control\n"),
            Err(error) => wrong(&error),
        },
        _ => Reply::new(404, "text/plain", "no such control\n"),
    }
}

/// The body of `/target-health`.
#[derive(Deserialize)]
struct TargetHealthReport {
    target: String,
    port: u16,
    state: Reported,
}

fn right(value: &Value) -> Reply {
    Reply::new(200, "application/json", value.to_string())
}

fn wrong(error: &serde_json::Error) -> Reply {
    Reply::new(400, "text/plain", format!("{error}\n"))
}

/// Performs a control; false if there is none. Without `instance` it means ours.
fn change(sim: &Sim, path: &str, body: &Value) -> Result<bool, serde_json::Error> {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let own = sim.instance_id();
    let instance = text("instance").unwrap_or(&own);
    match path {
        // {"action": "terminate", "seconds": 120} or {"action", "time": verbatim}
        "/notice" => {
            let action = text("action").unwrap_or("terminate");
            let seconds = body.get("seconds").and_then(Value::as_f64).unwrap_or(120.0);
            match text("time") {
                Some(time) => sim.notice_at(action, time),
                None => sim.notice_for(instance, action, Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            }
        }
        // {"removed": true} also removes the notice from the metadata
        "/withdraw" if body.get("removed") == Some(&Value::Bool(true)) => sim.remove_notice(),
        "/withdraw" => sim.withdraw_notice_for(instance),
        "/rebalance" => sim.rebalance_for(instance),
        // {"state": "Terminated"}
        "/lifecycle-state" => sim.lifecycle_state(text("state").unwrap_or_default()),
        // {"to": "Warmed:Running"}: the group moves our instance
        "/member" => sim.group_moves(text("to").unwrap_or_default()),
        // the list itself
        "/scheduled-events" => sim.scheduled_events(&body.to_string()),
        // a list of pools
        "/no-capacity" => sim.no_capacity(serde_json::from_value::<Vec<Pool>>(body.clone())?),
        // {"target": "i-...", "port": 80, "state": "healthy"}, of a group whose health is "reported"
        "/target-health" => {
            let TargetHealthReport { target, port, state } = serde_json::from_value(body.clone())?;
            sim.report_target_health(&target, port, state);
        }
        "/fault" => sim.fault(serde_json::from_value::<Fault>(body.clone())?),
        "/clear-faults" => sim.clear_faults(),
        // {"access_key": "AKIA..."}; without it all keys so far
        "/credentials/expire" => sim.expire_credentials(text("access_key")),
        _ => return Ok(false),
    }
    Ok(true)
}
