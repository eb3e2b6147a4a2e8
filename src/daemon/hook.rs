//! The environment of a user's command: everything that is known.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::handover::Handover;
use crate::core::model::Identity;

/// The variables of the contract. What is not known, or does not apply, is empty.
pub(super) fn environment(identity: &Identity, handover: &Handover, left: Duration) -> Vec<(String, String)> {
    let incident = handover.incident();
    let plan = incident.plan.as_ref();
    let text = |value: Option<String>| value.unwrap_or_default();
    let groups = incident
        .registrations
        .all()
        .unwrap_or_default()
        .iter()
        .map(|registration| registration.target_group.to_string());
    let groups: Vec<String> = groups.collect();
    let deadline = incident.deadline_by_aws().map(|deadline: Timestamp| deadline.to_string());
    let is_done =
        handover.reports().iter().all(|report| report.done || report.aside || report.duty.starts_with("hook "));
    let variables = [
        ("SIGNAL", incident.signal.as_str().to_owned()),
        ("ACTION", text(incident.id.action.map(|action| action.to_string()))),
        ("SECONDS_LEFT", text(deadline.as_ref().map(|_| left.as_secs().to_string()))),
        ("DEADLINE", text(deadline)),
        ("INSTANCE_ID", identity.instance_id.to_string()),
        ("INSTANCE_TYPE", identity.instance_type.clone()),
        ("AVAILABILITY_ZONE", identity.availability_zone.clone()),
        ("REGION", identity.region.clone()),
        ("OWNER", text(plan.map(|plan| plan.owner_kind().to_owned()))),
        ("OWNER_ID", text(plan.and_then(|plan| plan.owner_id().map(str::to_owned)))),
        ("TARGET_GROUPS", groups.join(" ")),
        ("SUCCESSOR_ID", text(handover.successor_id().map(|id| id.to_string()))),
        ("OUTCOME", if is_done { "complete" } else { "partial" }.to_owned()),
    ];
    variables.into_iter().map(|(name, value)| (format!("SPOT_RELAY_{name}"), without_nul(value))).collect()
}

/// Removes NUL from an id or a tag, whoever wrote it: no command can be started with one in its environment.
fn without_nul(value: String) -> String {
    if value.contains('\0') { value.replace('\0', "") } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_others_starts_a_command_all_the_same() {
        assert_eq!(without_nul("lt-\0one".to_owned()), "lt-one");
        let value = without_nul("\0".to_owned());
        assert!(std::process::Command::new("/bin/true").env("SPOT_RELAY_OWNER_ID", value).status().is_ok());
    }
}
