//! EC2 Fleet: the fleet that owns this instance, its members, and its target capacity.
//!
//! AWS has no compare-and-set: the caller decides what to write. Invariant: a request holds only what is to change.

use std::collections::BTreeMap;

use aws_sdk_ec2::operation::modify_fleet::builders::ModifyFleetFluentBuilder;
use aws_sdk_ec2::types::{
    ActiveInstance, FleetData, FleetExcessCapacityTerminationPolicy, TargetCapacitySpecificationRequest,
    TargetCapacityUnitType,
};
use jiff::Timestamp;

use super::caller::would_be_done;
use super::ec2::Ec2;
use super::fleets::{request_type, state, total, unit, whole};
use super::instances::tags;
use super::launch_configuration;
use crate::core::model::{CapacityUnit, ExcessCapacity, Fleet, FleetCapacity, FleetChange};
use crate::core::retry::Failure;

impl Ec2 {
    /// Calls DescribeFleets for one fleet; `None` if there is no such fleet.
    pub async fn describe_fleet(&self, id: &str) -> Result<Option<Fleet>, Failure> {
        let asked = self.client.describe_fleets().fleet_ids(id);
        let page = |token| asked.clone().set_next_token(token).send();
        let fleets = self.caller.pages(page, |answer| (answer.fleets, answer.next_token));
        let fleets = match fleets.await {
            Err(failure) if failure.has_code(&["InvalidFleetId.NotFound", "InvalidFleetId.Malformed"]) => {
                return Ok(None);
            }
            fleets => fleets?,
        };
        let described = fleets.iter().find(|fleet| fleet.fleet_id() == Some(id));
        described.map(|described| fleet(id, described, self.caller.clock.now())).transpose()
    }

    pub(super) async fn describe_fleet_instances(&self, id: &str) -> Result<Vec<ActiveInstance>, Failure> {
        let asked = self.client.describe_fleet_instances().fleet_id(id);
        let page = |token| asked.clone().set_next_token(token).send();
        self.caller.pages(page, |answer| (answer.active_instances, answer.next_token)).await
    }

    pub async fn modify_fleet(&self, id: &str, change: FleetChange) -> Result<(), Failure> {
        self.caller.accepted(self.modifying_fleet(id, change).send()).await
    }

    /// Tells whether IAM allows ModifyFleet with this change (DryRun).
    pub async fn modify_fleet_dry_run(&self, id: &str, change: FleetChange) -> Result<(), Failure> {
        would_be_done(self.caller.call(self.modifying_fleet(id, change).dry_run(true).send()).await)
    }

    fn modifying_fleet(&self, id: &str, change: FleetChange) -> ModifyFleetFluentBuilder {
        let FleetChange { total, spot, excess, unit } = change;
        let capacity = total.map(|total| {
            TargetCapacitySpecificationRequest::builder()
                .total_target_capacity(total)
                .set_target_capacity_unit_type(unit_type(unit))
                .set_spot_target_capacity(spot)
                .set_on_demand_target_capacity(spot.map(|spot| total.saturating_sub(spot)))
                .build()
        });
        let excess = excess.map(|excess| match excess {
            ExcessCapacity::Terminates => FleetExcessCapacityTerminationPolicy::Termination,
            ExcessCapacity::Stays => FleetExcessCapacityTerminationPolicy::NoTermination,
        });
        let call = self.client.modify_fleet().fleet_id(id).set_target_capacity_specification(capacity);
        call.set_excess_capacity_termination_policy(excess)
    }
}

fn fleet(id: &str, described: &FleetData, now: Timestamp) -> Result<Fleet, Failure> {
    let target = described.target_capacity_specification();
    let strategies = described.spot_options().and_then(|options| options.maintenance_strategies());
    let strategy = strategies.and_then(|strategies| strategies.capacity_rebalance()?.replacement_strategy());
    let configurations = described.launch_template_configs().iter();
    let request_type = request_type(id, described.r#type().map(|name| name.as_str()))?;
    let total = total(id, request_type, target.and_then(|target| target.total_target_capacity()))?;
    let spot = target.and_then(|target| target.spot_target_capacity());
    let on_demand = target.and_then(|target| target.on_demand_target_capacity());
    let name = described.fleet_state().map(|state| state.as_str());
    Ok(Fleet {
        id: id.to_owned(),
        state: state(name, request_type, described.valid_until(), now),
        request_type,
        replacement_strategy: strategy.map(|strategy| strategy.as_str().to_owned()),
        capacity: FleetCapacity {
            total,
            spot: FleetCapacity::spot_part(total, spot, on_demand),
            fulfilled: whole(described.fulfilled_capacity(), total),
        },
        excess: match described.excess_capacity_termination_policy() {
            Some(FleetExcessCapacityTerminationPolicy::NoTermination) => ExcessCapacity::Stays,
            _ => ExcessCapacity::Terminates,
        },
        launch_configurations: configurations.filter_map(launch_configuration::of_ec2_fleet).collect(),
        unit: unit(target.and_then(|target| target.target_capacity_unit_type())),
        specification_weights: BTreeMap::new(),
        target_groups: Vec::new(),
        tags: tags(described.tags()),
    })
}

/// The unit as AWS spells it. Without one AWS counts instances.
fn unit_type(unit: CapacityUnit) -> Option<TargetCapacityUnitType> {
    match unit {
        CapacityUnit::Instances => None,
        CapacityUnit::Vcpus => Some(TargetCapacityUnitType::Vcpu),
        CapacityUnit::MemoryMib => Some(TargetCapacityUnitType::MemoryMib),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::TargetCapacitySpecification;

    use super::*;

    #[test]
    fn a_change_names_the_unit_that_the_fleet_counts_in_and_none_for_instances() {
        for name in [TargetCapacityUnitType::Vcpu, TargetCapacityUnitType::MemoryMib] {
            let specification = TargetCapacitySpecification::builder().total_target_capacity(8);
            let specification = specification.target_capacity_unit_type(name.clone()).build();
            let described = FleetData::builder().target_capacity_specification(specification).build();
            let change = fleet("fleet-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet").with_total(10, None);
            assert_eq!(unit_type(change.unit), Some(name));
        }
        let specification = TargetCapacitySpecification::builder().total_target_capacity(8).build();
        let described = FleetData::builder().target_capacity_specification(specification).build();
        let change = fleet("fleet-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet").with_total(10, None);
        assert_eq!(unit_type(change.unit), None);
    }

    #[test]
    fn a_number_that_aws_leaves_out_is_not_zero() {
        let described = FleetData::builder();
        fleet("fleet-1", &described.clone().build(), Timestamp::UNIX_EPOCH).expect_err("a fleet without a target");
        let specification = TargetCapacitySpecification::builder().total_target_capacity(8).build();
        let described = described.target_capacity_specification(specification).build();
        let told = fleet("fleet-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet");
        assert_eq!((told.capacity.total, told.capacity.fulfilled), (8, 8));
    }
}
