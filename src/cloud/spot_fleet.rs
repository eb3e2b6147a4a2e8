//! Spot Fleet: the request that owns this instance, its members, and its target capacity.
//!
//! As with EC2 Fleet, the caller decides what to write, and a request holds only what is to change.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{
    ActiveInstance, ExcessCapacityTerminationPolicy, SpotFleetRequestConfig, SpotFleetRequestConfigData,
};
use jiff::Timestamp;

use super::ec2::Ec2;
use super::fleets::{request_type, state, total, unit, whole};
use super::instances::tags;
use super::launch_configuration;
use crate::core::model::{ExcessCapacity, Fleet, FleetCapacity, FleetChange, TargetGroupArn};
use crate::core::retry::Failure;

impl Ec2 {
    /// Calls DescribeSpotFleetRequests for one request; `None` if there is no such request.
    pub async fn describe_spot_fleet_request(&self, id: &str) -> Result<Option<Fleet>, Failure> {
        let asked = self.client.describe_spot_fleet_requests().spot_fleet_request_ids(id);
        let page = |token| asked.clone().set_next_token(token).send();
        let configs = self.caller.pages(page, |answer| (answer.spot_fleet_request_configs, answer.next_token));
        let missing = ["InvalidSpotFleetRequestId.NotFound", "InvalidSpotFleetRequestId.Malformed"];
        let configs = match configs.await {
            Err(failure) if failure.has_code(&missing) => return Ok(None),
            configs => configs?,
        };
        let described = configs.iter().find(|config| config.spot_fleet_request_id() == Some(id));
        described.map(|described| fleet(id, described, self.caller.clock.now())).transpose()
    }

    pub(super) async fn describe_spot_fleet_instances(&self, id: &str) -> Result<Vec<ActiveInstance>, Failure> {
        let asked = self.client.describe_spot_fleet_instances().spot_fleet_request_id(id);
        let page = |token| asked.clone().set_next_token(token).send();
        self.caller.pages(page, |answer| (answer.active_instances, answer.next_token)).await
    }

    pub async fn modify_spot_fleet_request(&self, id: &str, change: FleetChange) -> Result<(), Failure> {
        let FleetChange { total, spot, excess, .. } = change;
        let on_demand = total.zip(spot).map(|(total, spot)| total.saturating_sub(spot));
        let excess = excess.map(|excess| match excess {
            ExcessCapacity::Terminates => ExcessCapacityTerminationPolicy::Default,
            ExcessCapacity::Stays => ExcessCapacityTerminationPolicy::NoTermination,
        });
        let call = self.client.modify_spot_fleet_request().spot_fleet_request_id(id).set_target_capacity(total);
        let call = call.set_on_demand_target_capacity(on_demand).set_excess_capacity_termination_policy(excess);
        self.caller.accepted(call.send()).await
    }
}

fn fleet(id: &str, described: &SpotFleetRequestConfig, now: Timestamp) -> Result<Fleet, Failure> {
    let none = SpotFleetRequestConfigData::builder().build();
    let config = described.spot_fleet_request_config().unwrap_or(&none);
    let strategies = config.spot_maintenance_strategies();
    let strategy = strategies.and_then(|strategies| strategies.capacity_rebalance()?.replacement_strategy());
    let on_demand = config.on_demand_target_capacity().filter(|on_demand| *on_demand > 0);
    let request_type = request_type(id, config.r#type().map(|name| name.as_str()))?;
    let total = total(id, request_type, config.target_capacity())?;
    let name = described.spot_fleet_request_state().map(|state| state.as_str());
    Ok(Fleet {
        id: id.to_owned(),
        state: state(name, request_type, config.valid_until(), now),
        request_type,
        replacement_strategy: strategy.map(|strategy| strategy.as_str().to_owned()),
        capacity: FleetCapacity {
            total,
            spot: on_demand.map(|on_demand| total.saturating_sub(on_demand)),
            fulfilled: whole(config.fulfilled_capacity(), total),
        },
        excess: match config.excess_capacity_termination_policy() {
            Some(ExcessCapacityTerminationPolicy::NoTermination) => ExcessCapacity::Stays,
            _ => ExcessCapacity::Terminates,
        },
        launch_configurations: config
            .launch_template_configs()
            .iter()
            .filter_map(launch_configuration::of_spot_fleet)
            .collect(),
        unit: unit(config.target_capacity_unit_type()),
        specification_weights: specification_weights(config),
        target_groups: target_groups(config),
        tags: tags(described.tags()),
    })
}

/// The weights by type. Of several weights the highest counts: too small a raise would launch too few.
fn specification_weights(config: &SpotFleetRequestConfigData) -> BTreeMap<String, u32> {
    let mut weights: BTreeMap<String, u32> = BTreeMap::new();
    for specification in config.launch_specifications() {
        let (Some(name), Some(weight)) = (specification.instance_type(), specification.weighted_capacity()) else {
            continue;
        };
        let highest = weights.entry(name.as_str().to_owned()).or_default();
        *highest = launch_configuration::hundredths(weight).max(*highest);
    }
    weights
}

fn target_groups(config: &SpotFleetRequestConfigData) -> Vec<TargetGroupArn> {
    let groups = config.load_balancers_config().and_then(|balancers| balancers.target_groups_config());
    let groups = groups.map(|groups| groups.target_groups()).unwrap_or_default();
    groups.iter().filter_map(|group| group.arn()).map(TargetGroupArn::new).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{FleetType as AwsFleetType, InstanceType, SpotFleetLaunchSpecification};

    use super::*;
    use crate::core::model::FleetState;
    use crate::core::plan::weight_hundredths;

    fn specification(instance_type: &str, weight: f64) -> SpotFleetLaunchSpecification {
        let specification = SpotFleetLaunchSpecification::builder().instance_type(InstanceType::from(instance_type));
        specification.weighted_capacity(weight).build()
    }

    #[test]
    fn launch_specifications_tell_the_weights_and_nobody_else_can_launch_from_them() {
        let of = |type_: AwsFleetType| {
            let config = SpotFleetRequestConfigData::builder().iam_fleet_role("role").target_capacity(8).r#type(type_);
            let specifications = [("m5.large", 2.0), ("m5.large", 2.5), ("m5.xlarge", 4.0)];
            let specifications = specifications.map(|(name, weight)| specification(name, weight)).to_vec();
            let config = config.set_launch_specifications(Some(specifications)).build();
            let described = SpotFleetRequestConfig::builder().spot_fleet_request_config(config).build();
            fleet("sfr-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet")
        };
        let maintained = of(AwsFleetType::Maintain);
        let weights = ["m5.large", "m5.xlarge", "c5.large"].map(|name| weight_hundredths(&maintained, name));
        assert_eq!(weights, [250, 400, 100]);
        assert_eq!(maintained.cannot_be_launched_from(), None);
        let why = of(AwsFleetType::Request).cannot_be_launched_from().expect("a reason");
        assert!(why.contains("launch specifications") && why.contains("[successor]"), "{why}");
    }

    #[test]
    fn a_fleet_whose_end_has_passed_launches_nothing_any_more() {
        let of = |type_: AwsFleetType, valid_until: i64| {
            let config = SpotFleetRequestConfigData::builder().iam_fleet_role("role").target_capacity(8).r#type(type_);
            let config = config.valid_until(aws_smithy_types::DateTime::from_secs(1_800_000_000 + valid_until)).build();
            let described = SpotFleetRequestConfig::builder().spot_fleet_request_config(config).build();
            let now = Timestamp::from_second(1_800_000_000).expect("a time");
            fleet("sfr-1", &described, now).expect("a fleet").state
        };
        assert_eq!(of(AwsFleetType::Maintain, 1), FleetState::Active);
        assert_eq!(of(AwsFleetType::Request, -1), FleetState::Active, "its template can be launched from as ever");
        let FleetState::Ended(how) = of(AwsFleetType::Maintain, -1) else { panic!("it is over") };
        assert!(how.starts_with("past its end (ValidUntil 2027-"), "{how}");
    }
}
