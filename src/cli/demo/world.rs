//! The demo's simulated world: its settings, and snapshots of it.
//!
//! A [`Glimpse`] is the simulator's state, not what the daemon believes; [`changes`] lists the differences of two.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use crate::sim;

/// The daemon's jitter before its first look-ups depends on this id, so it is one with almost no jitter.
pub(super) const INSTANCE_ID: &str = "i-0ad06dfca4db2f1e4";
pub(super) const TARGET_GROUP: &str = "web";

/// The kind of owner that launched the demo's instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DemoOwner {
    AutoScalingGroup,
    Ec2Fleet,
    SpotFleet,
    LaunchTemplate,
}

/// Three instances behind one load balancer, including ours, whose web service listens on `port`.
pub(super) fn settings(owner: DemoOwner, fast: bool, port: u16) -> sim::Settings {
    let owner = match owner {
        DemoOwner::AutoScalingGroup => sim::Owner::auto_scaling_group(),
        DemoOwner::Ec2Fleet => sim::Owner::ec2_fleet(sim::FleetType::Maintain),
        DemoOwner::SpotFleet => sim::Owner::spot_fleet(sim::FleetType::Maintain),
        DemoOwner::LaunchTemplate => sim::Owner::LaunchTemplate,
    };
    let target_group =
        sim::TargetGroupSettings { port, ports: vec![port], ..sim::TargetGroupSettings::named(TARGET_GROUP) };
    let mut settings = sim::Settings {
        instance_id: Some(INSTANCE_ID.to_owned()),
        owner,
        target_groups: vec![target_group],
        ..sim::Settings::default()
    };
    if fast {
        let timings = &mut settings.timings;
        timings.owner_reacts_after = Duration::from_millis(100);
        timings.launch_after = Duration::from_millis(200);
        timings.launch_instances_takes = Duration::from_millis(200);
        timings.running_after = Duration::from_millis(500);
        timings.healthy_after = Duration::from_millis(700);
    }
    settings
}

/// The owner in words.
pub(super) fn owner_in_words(owner: DemoOwner) -> &'static str {
    match owner {
        DemoOwner::AutoScalingGroup => "an Auto Scaling group",
        DemoOwner::Ec2Fleet => "an EC2 Fleet of type maintain",
        DemoOwner::SpotFleet => "a Spot Fleet of type maintain",
        DemoOwner::LaunchTemplate => "nothing but a launch template",
    }
}

/// The world at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Glimpse {
    /// Our instance's state, and its target's.
    pub(super) instance: Option<String>,
    pub(super) target: Option<String>,
    /// Every instance launched since the start.
    pub(super) successors: Vec<SuccessorGlimpse>,
    /// The owner's target or desired capacity.
    pub(super) capacity: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SuccessorGlimpse {
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) state: String,
    pub(super) target: Option<String>,
}

impl Glimpse {
    /// Reads the simulator's snapshot.
    pub(super) fn of(snapshot: &Value) -> Glimpse {
        let ours = text(snapshot, "/ours");
        let targets = list(snapshot, "/target_groups/0/targets");
        let target = |id: &str| targets.iter().find(|target| text(target, "/id") == id).map(|it| text(it, "/state"));
        let instances = list(snapshot, "/instances");
        let launched = instances.iter().filter(|one| one.pointer("/first").and_then(Value::as_bool) == Some(false));
        let successors = launched.map(|one| {
            let id = text(one, "/id");
            SuccessorGlimpse { target: target(&id), zone: text(one, "/zone"), state: text(one, "/state"), id }
        });
        let capacity = snapshot.pointer("/groups/0/desired").or_else(|| snapshot.pointer("/fleets/0/target"));
        Glimpse {
            instance: instances.iter().find(|one| text(one, "/id") == ours).map(|one| text(one, "/state")),
            target: target(&ours),
            successors: successors.collect(),
            capacity: capacity.and_then(Value::as_u64),
        }
    }

    pub(super) fn in_service(&self) -> bool {
        self.target.as_deref() == Some("healthy")
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A difference between two glimpses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Instance(String),
    Target(String),
    Capacity(u64, u64),
    /// A successor's state.
    SuccessorGlimpse(SuccessorGlimpse),
    /// The state of a successor's target.
    SuccessorTarget(SuccessorGlimpse),
}

pub(super) fn changes(before: &Glimpse, after: &Glimpse) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = || "gone".to_owned();
    if before.target != after.target {
        changes.push(Change::Target(after.target.clone().unwrap_or_else(gone)));
    }
    if before.instance != after.instance {
        changes.push(Change::Instance(after.instance.clone().unwrap_or_else(gone)));
    }
    if let (Some(before), Some(after)) = (before.capacity, after.capacity)
        && before != after
    {
        changes.push(Change::Capacity(before, after));
    }
    for now in &after.successors {
        let then = before.successors.iter().find(|then| then.id == now.id);
        if then.is_none_or(|then| then.state != now.state) {
            changes.push(Change::SuccessorGlimpse(now.clone()));
        }
        if then.map_or(now.target.is_some(), |then| then.target != now.target) {
            changes.push(Change::SuccessorTarget(now.clone()));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::retry;

    #[test]
    fn the_instance_has_next_to_no_start_jitter() {
        assert!(retry::fraction(retry::seed(&format!("look-ups of {INSTANCE_ID}"))) < 0.001);
    }

    #[test]
    fn a_snapshot_is_read_and_what_changed_is_told() {
        let target = |id: &str, state: &str| serde_json::json!({"id": id, "state": state});
        let instance = |id: &str, state: &str, first: bool| serde_json::json!({"id": id, "state": state, "zone": "z", "first": first});
        let snapshot = |targets: Vec<Value>, instances: Vec<Value>, desired: u64| {
            let groups = serde_json::json!([{"desired": desired}]);
            Glimpse::of(&serde_json::json!({
                "ours": "i-1", "instances": instances, "target_groups": [{"targets": targets}], "groups": groups
            }))
        };
        let before = snapshot(vec![target("i-1", "healthy")], vec![instance("i-1", "running", true)], 3);
        assert!(before.in_service() && before.capacity == Some(3));
        assert!(changes(&before, &before).is_empty());
        let after = snapshot(
            vec![target("i-1", "draining"), target("i-2", "initial")],
            vec![instance("i-1", "running", true), instance("i-2", "running", false)],
            4,
        );
        let successor = after.successors[0].clone();
        let expected = [
            Change::Target("draining".to_owned()),
            Change::Capacity(3, 4),
            Change::SuccessorGlimpse(successor.clone()),
            Change::SuccessorTarget(successor),
        ];
        assert_eq!(changes(&before, &after), expected);
    }
}
