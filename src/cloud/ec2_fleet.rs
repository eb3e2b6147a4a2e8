//! EC2 Fleet: the fleet that owns this instance, its members, and its target capacity.
//!
//! What is written is the caller's: AWS has no compare-and-set. Invariant: nothing is sent but what the caller wants changed.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::modify_fleet::builders::ModifyFleetFluentBuilder;
use aws_sdk_ec2::types::{
    ActiveInstance, FleetData, FleetExcessCapacityTerminationPolicy, TargetCapacitySpecificationRequest,
    TargetCapacityUnitType,
};
use jiff::Timestamp;

use super::caller::{Caller, timestamp, would_be_done};
use super::instances::{FILTER_VALUES_A_CALL, Instances, one_of, spot_requests, tags};
use super::launch_configuration;
use crate::core::model::{
    CapacityUnit, ExcessCapacity, Fleet, FleetCapacity, FleetChange, FleetMember, FleetState, FleetType, Instance,
    InstanceId,
};
use crate::core::retry::{Failure, FailureKind};

#[derive(Clone, Debug)]
pub struct Ec2Fleet {
    client: Client,
    pub(super) caller: Caller,
}

impl Ec2Fleet {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// DescribeFleets of one; `None` if there is no such fleet.
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

    /// DescribeFleetInstances, joined with what EC2 and the Spot requests say of each. AWS refuses it for a fleet of type
    /// `instant`. Each call has `limit`.
    pub async fn fleet_members(&self, id: &str) -> Result<FleetMembers, Failure> {
        members(&self.client, &self.caller, &self.active_instances(id).await?).await
    }

    async fn active_instances(&self, id: &str) -> Result<Vec<ActiveInstance>, Failure> {
        let asked = self.client.describe_fleet_instances().fleet_id(id);
        let page = |token| asked.clone().set_next_token(token).send();
        self.caller.pages(page, |answer| (answer.active_instances, answer.next_token)).await
    }

    /// DescribeFleetInstances for the types of the members.
    pub async fn member_types(&self, id: &str) -> Result<BTreeSet<String>, Failure> {
        Ok(types(&self.active_instances(id).await?))
    }

    pub async fn modify_fleet(&self, id: &str, change: FleetChange) -> Result<(), Failure> {
        self.caller.call(self.modifying_fleet(id, change).send()).await.map(drop)
    }

    /// Tells whether that would be allowed.
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

/// The members of a fleet, as far as AWS tells of them.
pub struct FleetMembers {
    pub members: Vec<FleetMember>,
    /// Why their Spot requests say nothing, so that no member shows that AWS takes it.
    pub without_requests: Option<Failure>,
}

impl FleetMembers {
    /// # Errors
    /// Their Spot requests could not be read.
    pub fn with_requests(self) -> Result<Vec<FleetMember>, Failure> {
        self.without_requests.map_or(Ok(self.members), Err)
    }
}

pub(super) fn types(active: &[ActiveInstance]) -> BTreeSet<String> {
    active.iter().filter_map(|instance| instance.instance_type()).map(str::to_owned).collect()
}

/// The members with what EC2 and their Spot requests say of them.
pub(super) async fn members(
    client: &Client,
    caller: &Caller,
    active: &[ActiveInstance],
) -> Result<FleetMembers, Failure> {
    let ids: Vec<InstanceId> =
        active.iter().filter_map(|instance| instance.instance_id()).map(InstanceId::new).collect();
    let described = Instances::new(client.clone(), caller.clone()).describe_instances(&ids).await;
    let described = match described {
        Err(failure) if failure.has_code(&["InvalidInstanceID.NotFound"]) => Vec::new(),
        described => described?,
    };
    let mut described: BTreeMap<InstanceId, Instance> =
        described.into_iter().map(|instance| (instance.instance_id.clone(), instance)).collect();
    let (taken, without_requests) = match taken_instances(client, caller, &ids).await {
        Ok(taken) => (taken, None),
        Err(failure) => (BTreeMap::new(), Some(failure)),
    };
    // A list that changes between two pages may name a member twice.
    let mut listed = BTreeSet::new();
    let member = |instance: &ActiveInstance| {
        let instance_id = InstanceId::new(instance.instance_id()?);
        listed.insert(instance_id.clone()).then(|| FleetMember {
            instance_type: instance.instance_type().unwrap_or_default().to_owned(),
            instance: described.remove(&instance_id),
            memory_mib: None,
            taken_since: taken.get(&instance_id).copied(),
            instance_id,
        })
    };
    Ok(FleetMembers { members: active.iter().filter_map(member).collect(), without_requests })
}

/// The instances among these whose Spot request says that AWS takes them, and since when.
async fn taken_instances(
    client: &Client,
    caller: &Caller,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, Timestamp>, Failure> {
    let mut taken = BTreeMap::new();
    for ids in ids.chunks(FILTER_VALUES_A_CALL) {
        let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
        let requests = spot_requests(client, caller, one_of("instance-id", &ids));
        taken.extend(requests.await?.iter().filter_map(|request| {
            let status = request.status().filter(|status| status.code().is_some_and(says_taken))?;
            // AWS dates every status; one without a date is taken for new.
            let since = status.update_time().and_then(timestamp).unwrap_or_else(|| caller.clock.now());
            Some((InstanceId::new(request.instance_id()?), since))
        }));
    }
    Ok(taken)
}

/// Tells whether a Spot request of this status belongs to an instance that AWS takes. With the behaviour `terminate` the request
/// has its last status at the notice already, while the instance runs on for two minutes.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html>
fn says_taken(code: &str) -> bool {
    const LAST: [&str; 3] = [
        "instance-terminated-no-capacity",
        "instance-terminated-by-price",
        "instance-terminated-capacity-oversubscribed",
    ];
    LAST.contains(&code) || code.starts_with("marked-for-") || code.ends_with("-by-experiment")
}

/// `type` of a fleet's request. `maintain` is what AWS makes where none was asked for.
pub(super) fn request_type(id: &str, name: Option<&str>) -> Result<FleetType, Failure> {
    match name {
        None | Some("maintain") => Ok(FleetType::Maintain),
        Some("request") => Ok(FleetType::Request),
        Some("instant") => Ok(FleetType::Instant),
        Some(other) => {
            Err(Failure::of(FailureKind::Rejected, format!("{id} is of type {other}, which is not known here")))
        }
    }
}

/// `FleetState` and `SpotFleetRequestState` have the same words but for the end. A fleet that maintains its capacity until a time
/// that has passed launches no more than one that was deleted.
pub(super) fn state(
    name: Option<&str>,
    type_: FleetType,
    valid_until: Option<&aws_smithy_types::DateTime>,
    now: Timestamp,
) -> FleetState {
    let ended_at = valid_until.and_then(timestamp).filter(|until| type_ == FleetType::Maintain && *until <= now);
    match name {
        Some("modifying") => FleetState::Modifying,
        Some(ended) if ["deleted", "cancelled", "failed"].iter().any(|word| ended.starts_with(word)) => {
            FleetState::Ended(ended.to_owned())
        }
        _ => {
            ended_at.map_or(FleetState::Active, |until| FleetState::Ended(format!("past its end (ValidUntil {until})")))
        }
    }
}

/// `TargetCapacityUnitType`.
pub(super) fn unit(name: Option<&TargetCapacityUnitType>) -> CapacityUnit {
    match name {
        Some(TargetCapacityUnitType::Vcpu) => CapacityUnit::Vcpus,
        Some(TargetCapacityUnitType::MemoryMib) => CapacityUnit::MemoryMib,
        _ => CapacityUnit::Instances,
    }
}

/// Instances are what AWS counts where no unit is named.
fn unit_type(unit: CapacityUnit) -> Option<TargetCapacityUnitType> {
    match unit {
        CapacityUnit::Instances => None,
        CapacityUnit::Vcpus => Some(TargetCapacityUnitType::Vcpu),
        CapacityUnit::MemoryMib => Some(TargetCapacityUnitType::MemoryMib),
    }
}

/// Rounds down to whole units: a part of one does not count.
pub(super) fn whole(fulfilled: Option<f64>) -> i32 {
    fulfilled.unwrap_or_default().floor() as i32
}

fn fleet(id: &str, described: &FleetData, now: Timestamp) -> Result<Fleet, Failure> {
    let target = described.target_capacity_specification();
    let strategies = described.spot_options().and_then(|options| options.maintenance_strategies());
    let strategy = strategies.and_then(|strategies| strategies.capacity_rebalance()?.replacement_strategy());
    let configurations = described.launch_template_configs().iter();
    let total = target.and_then(|target| target.total_target_capacity()).unwrap_or_default();
    let spot = target.and_then(|target| target.spot_target_capacity());
    let on_demand = target.and_then(|target| target.on_demand_target_capacity());
    let request_type = request_type(id, described.r#type().map(|name| name.as_str()))?;
    let name = described.fleet_state().map(|state| state.as_str());
    Ok(Fleet {
        id: id.to_owned(),
        state: state(name, request_type, described.valid_until(), now),
        request_type,
        replacement_strategy: strategy.map(|strategy| strategy.as_str().to_owned()),
        capacity: FleetCapacity {
            total,
            spot: FleetCapacity::spot_part(total, spot, on_demand),
            fulfilled: whole(described.fulfilled_capacity()),
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

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::TargetCapacitySpecification;

    use super::*;

    #[test]
    fn a_request_says_taken_from_the_notice_on_and_in_no_status_of_an_instance_that_stays() {
        for code in [
            "instance-terminated-no-capacity",
            "instance-terminated-by-price",
            "instance-terminated-capacity-oversubscribed",
            "instance-terminated-by-experiment",
            "instance-stopped-by-experiment",
            "marked-for-termination",
            "marked-for-termination-by-experiment",
            "marked-for-stop",
            "marked-for-stop-by-experiment",
        ] {
            assert!(says_taken(code), "{code}");
        }
        // Ended by a person, by the fleet or with its request; not ended; or stopped, so that no notice stands.
        for code in [
            "fulfilled",
            "request-canceled-and-instance-running",
            "instance-terminated-by-user",
            "instance-terminated-by-service",
            "instance-terminated-by-schedule",
            "instance-terminated-launch-group-constraint",
            "instance-stopped-by-price",
            "instance-stopped-by-user",
            "instance-stopped-no-capacity",
            "instance-stopped-capacity-oversubscribed",
            "pending-evaluation",
            "capacity-not-available",
            "schedule-expired",
        ] {
            assert!(!says_taken(code), "{code}");
        }
    }

    #[test]
    fn a_change_names_the_unit_that_the_fleet_counts_in_and_none_for_instances() {
        for name in [TargetCapacityUnitType::Vcpu, TargetCapacityUnitType::MemoryMib] {
            let specification = TargetCapacitySpecification::builder().total_target_capacity(8);
            let specification = specification.target_capacity_unit_type(name.clone()).build();
            let described = FleetData::builder().target_capacity_specification(specification).build();
            let change = fleet("fleet-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet").with_total(10, None);
            assert_eq!(unit_type(change.unit), Some(name));
        }
        let described = FleetData::builder().build();
        let change = fleet("fleet-1", &described, Timestamp::UNIX_EPOCH).expect("a fleet").with_total(10, None);
        assert_eq!(unit_type(change.unit), None);
    }
}
