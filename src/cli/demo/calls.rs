//! A request to AWS in a few words, for the timeline: the API's action and its subject.

use std::collections::BTreeMap;

type Parameters = BTreeMap<String, String>;

/// The call in a few words, such as `DeregisterTargets i-0abc:8080 from web`.
pub(super) fn words(action: &str, parameters: &Parameters) -> String {
    let subject = subject(action, parameters);
    if subject.is_empty() { action.to_owned() } else { format!("{action} {subject}") }
}

/// Tells whether the call only reads.
pub(super) fn is_read(action: &str) -> bool {
    action.starts_with("Describe")
}

/// Tells whether the call makes the owner or AWS launch a successor.
pub(super) fn asks_for_a_successor(action: &str) -> bool {
    [
        "LaunchInstances",
        "DetachInstances",
        "TerminateInstanceInAutoScalingGroup",
        "ModifyFleet",
        "ModifySpotFleetRequest",
        "CreateFleet",
        "RunInstances",
    ]
    .contains(&action)
}

fn subject(action: &str, parameters: &Parameters) -> String {
    let get = |key: &str| parameters.get(key).map(String::as_str);
    let first = |keys: &[&str]| keys.iter().find_map(|key| get(key));
    let fleet = first(&["FleetId", "FleetId.1", "SpotFleetRequestId", "SpotFleetRequestId.1"]);
    let capacity = first(&["TargetCapacitySpecification.TotalTargetCapacity", "TargetCapacity"]);
    let group = first(&["AutoScalingGroupName", "AutoScalingGroupNames.member.1"]);
    match action {
        "DeregisterTargets" => format!("{} from {}", targets(parameters), target_group(parameters)),
        "RegisterTargets" => format!("{} in {}", targets(parameters), target_group(parameters)),
        "DescribeTargetHealth" => format!("of {}", target_group(parameters)),
        "DetachInstances" => {
            format!("{} from group {}", get("InstanceIds.member.1").unwrap_or(""), group.unwrap_or(""))
        }
        "DescribeAutoScalingGroups" => group.unwrap_or("").to_owned(),
        "ModifyFleet" | "ModifySpotFleetRequest" => {
            format!("{}: capacity {}", fleet.unwrap_or(""), capacity.unwrap_or("?"))
        }
        "CreateFleet" => launch(parameters),
        "CreateTags" => {
            let tag = (get("Tag.1.Key").unwrap_or(""), get("Tag.1.Value").unwrap_or(""));
            format!("{}: {}={}", get("ResourceId.1").unwrap_or(""), tag.0, tag.1)
        }
        "DeleteTags" => format!("{}: {}", get("ResourceId.1").unwrap_or(""), get("Tag.1.Key").unwrap_or("")),
        "DescribeInstances" | "DescribeSpotInstanceRequests" => {
            let (named, filter) = (numbered(parameters, "InstanceId."), get("Filter.1.Name").unwrap_or(""));
            let ids = if filter == "instance-id" { numbered(parameters, "Filter.1.Value.") } else { named };
            match ids.as_slice() {
                [] => format!("by {filter}"),
                [one] => one.clone(),
                several => format!("({} instances)", several.len()),
            }
        }
        _ => fleet.or(group).or_else(|| first(&["LaunchTemplateId"])).unwrap_or("").to_owned(),
    }
}

/// The targets, such as `i-0abc:8080, i-0abc:8081`.
fn targets(parameters: &Parameters) -> String {
    let one = |number: usize| {
        let id = parameters.get(&format!("Targets.member.{number}.Id"))?;
        let port = parameters.get(&format!("Targets.member.{number}.Port"));
        Some(port.map_or_else(|| id.clone(), |port| format!("{id}:{port}")))
    };
    (1..).map_while(one).collect::<Vec<_>>().join(", ")
}

/// The name in `arn:...:targetgroup/NAME/HASH`.
fn target_group(parameters: &Parameters) -> &str {
    parameters.get("TargetGroupArn").and_then(|arn| arn.split('/').nth(1)).unwrap_or("")
}

fn launch(parameters: &Parameters) -> String {
    let template = "LaunchTemplateConfigs.1.LaunchTemplateSpecification";
    let template = parameters
        .get(&format!("{template}.LaunchTemplateId"))
        .or_else(|| parameters.get(&format!("{template}.LaunchTemplateName")))
        .map_or("?", String::as_str);
    let kind = parameters.get("Type").map_or("", String::as_str);
    let count = parameters.get("TargetCapacitySpecification.TotalTargetCapacity").map_or("?", String::as_str);
    format!("of type {kind}, capacity {count}, from {template}")
}

fn numbered(parameters: &Parameters, prefix: &str) -> Vec<String> {
    (1..).map_while(|number| parameters.get(&format!("{prefix}{number}")).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(action: &str, parameters: &[(&str, &str)], expected: &str) {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(words(action, &parameters), expected);
    }

    #[test]
    fn a_call_says_on_what() {
        let arn = ("TargetGroupArn", "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1715609f7c746c69");
        let target = [arn, ("Targets.member.1.Id", "i-0"), ("Targets.member.1.Port", "80")];
        check("DeregisterTargets", &target, "DeregisterTargets i-0:80 from web");
        check("RegisterTargets", &target, "RegisterTargets i-0:80 in web");
        check("DescribeTargetHealth", &[arn], "DescribeTargetHealth of web");
        let detach = [("AutoScalingGroupName", "web"), ("InstanceIds.member.1", "i-0")];
        check("DetachInstances", &detach, "DetachInstances i-0 from group web");
        check(
            "DescribeInstances",
            &[("InstanceId.1", "i-0"), ("InstanceId.2", "i-1")],
            "DescribeInstances (2 instances)",
        );
        let filtered = [("Filter.1.Name", "instance-id"), ("Filter.1.Value.1", "i-0"), ("Filter.1.Value.2", "i-1")];
        check("DescribeSpotInstanceRequests", &filtered, "DescribeSpotInstanceRequests (2 instances)");
        check("DescribeInstances", &filtered, "DescribeInstances (2 instances)");
        let by_tag = [("Filter.1.Name", "tag:aws:ec2launchtemplate:id"), ("Filter.1.Value.1", "lt-1")];
        check("DescribeInstances", &by_tag, "DescribeInstances by tag:aws:ec2launchtemplate:id");
    }

    #[test]
    fn a_fleet_is_named_with_its_capacity() {
        let ec2 = [("FleetId", "fleet-1"), ("TargetCapacitySpecification.TotalTargetCapacity", "4")];
        check("ModifyFleet", &ec2, "ModifyFleet fleet-1: capacity 4");
        let spot = [("SpotFleetRequestId", "sfr-1"), ("TargetCapacity", "4")];
        check("ModifySpotFleetRequest", &spot, "ModifySpotFleetRequest sfr-1: capacity 4");
        check("DescribeFleets", &[("FleetId.1", "fleet-1")], "DescribeFleets fleet-1");
    }

    #[test]
    fn an_action_unknown_here_stands_alone() {
        check("DescribeTargetGroups", &[("PageSize", "400")], "DescribeTargetGroups");
    }
}
