//! The whole world as JSON, for tests and for the demo.

use serde_json::{Value, json};

use super::auto_scaling_group::AutoScalingGroup;
use super::fleet::Fleet;
use super::instance::{Instance, Keeper};
use super::target_group::TargetGroup;
use super::world::World;

impl World {
    pub(crate) fn snapshot(&self) -> Value {
        json!({
            "ours": self.ours,
            "instances": self.instances.iter().map(|one| self.instance_json(one)).collect::<Value>(),
            "target_groups": self.target_groups.iter().map(|one| self.target_group_json(one)).collect::<Value>(),
            "groups": self.auto_scaling_groups.iter().map(group_json).collect::<Value>(),
            "fleets": self.fleets.iter().map(|one| self.fleet_json(one)).collect::<Value>(),
            "spot_requests": self.instances.iter().filter_map(spot_json).collect::<Value>(),
            "launch_templates": self.launch_templates.iter().map(|one| {
                json!({"id": one.id, "name": one.name, "versions": one.versions.len()})
            }).collect::<Value>(),
            "subnets": self.subnets.iter().map(|one| json!({"id": one.id, "zone": one.zone})).collect::<Value>(),
        })
    }

    fn instance_json(&self, one: &Instance) -> Value {
        let owner = match &one.keeper {
            Some(Keeper::AutoScalingGroup(name)) => json!({"group": name}),
            Some(Keeper::Fleet(id)) => json!({"fleet": id}),
            None => Value::Null,
        };
        json!({
            "id": one.id,
            "state": one.state.name(),
            "type": one.place.instance_type,
            "zone": one.place.zone,
            "subnet": one.place.subnet,
            "life_cycle": one.place.life_cycle.as_str(),
            "private_ip": one.private_ip,
            "tags": one.tags,
            "owner": owner,
            "first": one.first,
            "launched_seconds": one.launched.saturating_duration_since(self.clock.started()).as_secs_f64(),
            "notice": one.notice.as_ref().map(|notice| json!({"action": notice.action, "time": notice.time})),
            "rebalance": one.rebalance,
            "target_lifecycle_state": one.target_lifecycle_state,
        })
    }

    fn target_group_json(&self, group: &TargetGroup) -> Value {
        let targets = group.targets.iter().map(|target| {
            let (state, reason, _) = self.health(group, target);
            json!({"id": target.id, "port": target.port, "zone": target.zone, "state": state, "reason": reason})
        });
        json!({
            "name": group.name,
            "arn": group.arn,
            "type": group.kind.as_str(),
            "port": group.port,
            "attributes": group.attributes,
            "targets": targets.collect::<Value>(),
        })
    }

    fn fleet_json(&self, fleet: &Fleet) -> Value {
        json!({
            "id": fleet.id,
            "type": fleet.type_.as_str(),
            "state": fleet.state,
            "target": fleet.target,
            "fulfilled": self.fulfilled(fleet, None) as u64,
            "launching": fleet.launching,
            "tags": fleet.tags,
            "client_token": fleet.client_token,
            "members": self.fleet_members(fleet).map(|one| one.id.clone()).collect::<Vec<_>>(),
        })
    }
}

fn group_json(group: &AutoScalingGroup) -> Value {
    let members = group.members.iter().map(|one| json!({"id": one.instance, "state": one.state}));
    json!({
        "name": group.name,
        "min": group.min,
        "max": group.max,
        "desired": group.desired,
        "launching": group.launching,
        "members": members.collect::<Value>(),
    })
}

fn spot_json(instance: &Instance) -> Option<Value> {
    let spot = instance.spot.as_ref()?;
    Some(json!({"id": spot.id, "instance": instance.id, "state": spot.state, "status": spot.status}))
}
