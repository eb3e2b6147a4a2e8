//! The fleet that owns this instance, EC2 Fleet or Spot Fleet: the parts that both services nearly share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use aws_sdk_ec2::types::{ActiveInstance, TargetCapacityUnitType};
use jiff::Timestamp;

use super::caller::timestamp;
use super::ec2::Ec2;
use super::instances::{FILTER_VALUES_A_CALL, one_of};
use crate::core::model::{
    CapacityUnit, Fleet, FleetChange, FleetKind, FleetMember, FleetState, FleetType, Instance, InstanceId,
};
use crate::core::retry::{Failure, FailureKind};

/// The members of a fleet that AWS lists.
pub struct FleetMembers {
    pub members: Vec<FleetMember>,
    /// The reason why their Spot requests could not be read. Then no member shows that AWS takes it.
    pub without_requests: Option<Failure>,
}

impl FleetMembers {
    /// # Errors
    /// The Spot requests could not be read.
    pub fn with_requests(self) -> Result<Vec<FleetMember>, Failure> {
        self.without_requests.map_or(Ok(self.members), Err)
    }
}

impl Ec2 {
    /// Describes the fleet; `None` if there is none of this id.
    pub async fn fleet(&self, kind: FleetKind, id: &str) -> Result<Option<Fleet>, Failure> {
        match kind {
            FleetKind::Ec2 => self.describe_fleet(id).await,
            FleetKind::Spot => self.describe_spot_fleet_request(id).await,
        }
    }

    pub async fn change_fleet(&self, kind: FleetKind, id: &str, change: FleetChange) -> Result<(), Failure> {
        match kind {
            FleetKind::Ec2 => self.modify_fleet(id, change).await,
            FleetKind::Spot => self.modify_spot_fleet_request(id, change).await,
        }
    }

    /// The members, with data from EC2 and their Spot requests. AWS rejects this for an EC2 Fleet of type `instant`.
    pub async fn fleet_members(&self, kind: FleetKind, id: &str) -> Result<FleetMembers, Failure> {
        self.members(&self.active_instances(kind, id).await?).await
    }

    /// The instance types of the members.
    pub async fn member_types(&self, kind: FleetKind, id: &str) -> Result<BTreeSet<String>, Failure> {
        let active = self.active_instances(kind, id).await?;
        Ok(active.iter().filter_map(|instance| instance.instance_type()).map(str::to_owned).collect())
    }

    async fn active_instances(&self, kind: FleetKind, id: &str) -> Result<Vec<ActiveInstance>, Failure> {
        match kind {
            FleetKind::Ec2 => self.describe_fleet_instances(id).await,
            FleetKind::Spot => self.describe_spot_fleet_instances(id).await,
        }
    }

    /// Adds data from EC2 and the Spot requests to the active instances.
    async fn members(&self, active: &[ActiveInstance]) -> Result<FleetMembers, Failure> {
        let ids: Vec<InstanceId> =
            active.iter().filter_map(|instance| instance.instance_id()).map(InstanceId::new).collect();
        let described = self.describe_instances(&ids).await;
        let described = match described {
            Err(failure) if failure.has_code(&["InvalidInstanceID.NotFound"]) => Vec::new(),
            described => described?,
        };
        let mut described: BTreeMap<InstanceId, Instance> =
            described.into_iter().map(|instance| (instance.instance_id.clone(), instance)).collect();
        let (taken, without_requests) = match self.taken_instances(&ids).await {
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

    /// The instances whose Spot request says that AWS takes them, and since when.
    async fn taken_instances(&self, ids: &[InstanceId]) -> Result<BTreeMap<InstanceId, Timestamp>, Failure> {
        let mut taken = BTreeMap::new();
        for ids in ids.chunks(FILTER_VALUES_A_CALL) {
            let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
            let requests = self.describe_spot_instance_requests(one_of("instance-id", &ids));
            taken.extend(requests.await?.iter().filter_map(|request| {
                let status = request.status().filter(|status| status.code().is_some_and(says_taken))?;
                let id = InstanceId::new(request.instance_id()?);
                let since = status.update_time().and_then(timestamp).unwrap_or_else(|| self.first_seen_taken(&id));
                Some((id, since))
            }));
        }
        Ok(taken)
    }

    /// AWS dates every status. A status without a date counts as new when it is first seen.
    fn first_seen_taken(&self, id: &InstanceId) -> Timestamp {
        let mut seen = self.taken_undated.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(id.clone()).or_insert_with(|| self.caller.clock.now())
    }
}

/// Tells whether AWS takes the instance of a Spot request with this status. With the behaviour `terminate` the request
/// has its last status already at the notice, while the instance runs for two more minutes.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html>
fn says_taken(code: &str) -> bool {
    const LAST: [&str; 3] = [
        "instance-terminated-no-capacity",
        "instance-terminated-by-price",
        "instance-terminated-capacity-oversubscribed",
    ];
    LAST.contains(&code) || code.starts_with("marked-for-") || code.ends_with("-by-experiment")
}

/// The `type` of a fleet's request. AWS's default is `maintain`.
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

/// The target capacity. A `maintain` fleet whose target AWS leaves out can neither be raised nor counted.
pub(super) fn total(id: &str, request_type: FleetType, told: Option<i32>) -> Result<i32, Failure> {
    match told {
        None if request_type == FleetType::Maintain => {
            Err(Failure::of(FailureKind::Fault, format!("AWS does not tell the target capacity of {id}")))
        }
        told => Ok(told.unwrap_or_default()),
    }
}

/// Reads `FleetState` or `SpotFleetRequestState`, whose words differ only for ended fleets. A `maintain` fleet past its
/// `ValidUntil` launches nothing, like a deleted one.
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

/// Reads `TargetCapacityUnitType`.
pub(super) fn unit(name: Option<&TargetCapacityUnitType>) -> CapacityUnit {
    match name {
        Some(TargetCapacityUnitType::Vcpu) => CapacityUnit::Vcpus,
        Some(TargetCapacityUnitType::MemoryMib) => CapacityUnit::MemoryMib,
        _ => CapacityUnit::Instances,
    }
}

/// Rounds down to whole units. A fleet that does not tell what it has is not taken for one that lacks everything.
pub(super) fn whole(fulfilled: Option<f64>, total: i32) -> i32 {
    fulfilled.map_or(total, |fulfilled| fulfilled.floor() as i32)
}

#[cfg(test)]
mod tests {
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
}
