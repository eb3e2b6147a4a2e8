//! EC2 Fleet: the fleet that owns this instance, its members, and its target capacity.
//!
//! Which number is written is the caller's: AWS has no compare-and-set. Invariant: a change never makes the fleet
//! terminate an instance.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::modify_fleet::builders::ModifyFleetFluentBuilder;
use aws_sdk_ec2::types::{
    ActiveInstance, Filter, FleetData, FleetExcessCapacityTerminationPolicy, TargetCapacitySpecificationRequest,
};
use jiff::Timestamp;

use super::instances::tags;
use super::{Caller, MOST_PAGES, launch_configuration, next, timestamp, would_be_done};
use crate::core::model::{Fleet, FleetCapacity, FleetMember, FleetType, InstanceId};
use crate::core::retry::{Failure, FailureKind};

#[derive(Clone, Debug)]
pub struct Ec2Fleet {
    client: Client,
    caller: Caller,
}

impl Ec2Fleet {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// DescribeFleets of one; `None` if there is no such fleet.
    pub async fn describe_fleet(&self, id: &str, limit: Duration) -> Result<Option<Fleet>, Failure> {
        let call = self.client.describe_fleets().fleet_ids(id);
        let answer = match self.caller.call(limit, call.send()).await {
            Err(failure) if failure.has_code(&["InvalidFleetId.NotFound", "InvalidFleetId.Malformed"]) => {
                return Ok(None);
            }
            answer => answer?,
        };
        answer
            .fleets()
            .iter()
            .find(|fleet| fleet.fleet_id() == Some(id))
            .map(|described| fleet(id, described))
            .transpose()
    }

    /// DescribeFleetInstances, joined with the account's Spot requests under notice. AWS refuses it for a fleet of type
    /// `instant`.
    pub async fn fleet_members(&self, id: &str, limit: Duration) -> Result<Vec<FleetMember>, Failure> {
        let (mut instances, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.client.describe_fleet_instances().fleet_id(id).set_next_token(token);
            let answer = self.caller.call(limit, call.send()).await?;
            token = next(answer.next_token());
            instances.extend(answer.active_instances.unwrap_or_default());
            if token.is_none() {
                break;
            }
        }
        let under_notice = instances_under_notice(&self.client, &self.caller, limit).await?;
        Ok(members(&instances, &under_notice))
    }

    /// The total, and its Spot part where the fleet's request names one (the rest is on demand). Nothing is terminated.
    pub async fn modify_fleet(&self, id: &str, total: i32, spot: Option<i32>, limit: Duration) -> Result<(), Failure> {
        self.caller.call(limit, self.modifying_fleet(id, total, spot).send()).await.map(drop)
    }

    /// Whether that would be allowed.
    pub async fn modify_fleet_dry_run(
        &self,
        id: &str,
        total: i32,
        spot: Option<i32>,
        limit: Duration,
    ) -> Result<(), Failure> {
        would_be_done(self.caller.call(limit, self.modifying_fleet(id, total, spot).dry_run(true).send()).await)
    }

    fn modifying_fleet(&self, id: &str, total: i32, spot: Option<i32>) -> ModifyFleetFluentBuilder {
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(total)
            .set_spot_target_capacity(spot)
            .set_on_demand_target_capacity(spot.map(|spot| total.saturating_sub(spot)))
            .build();
        let call = self.client.modify_fleet().fleet_id(id).target_capacity_specification(capacity);
        call.excess_capacity_termination_policy(FleetExcessCapacityTerminationPolicy::NoTermination)
    }
}

/// The account's instances whose Spot request says that they are about to be interrupted, and since when.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html>
pub(super) async fn instances_under_notice(
    client: &Client,
    caller: &Caller,
    limit: Duration,
) -> Result<BTreeMap<String, Option<Timestamp>>, Failure> {
    let filter =
        Filter::builder().name("status-code").values("marked-for-termination").values("marked-for-stop").build();
    let (mut under_notice, mut token) = (BTreeMap::new(), None);
    for _ in 0..MOST_PAGES {
        let call = client.describe_spot_instance_requests().filters(filter.clone()).set_next_token(token);
        let answer = caller.call(limit, call.send()).await?;
        token = next(answer.next_token());
        let requests = answer.spot_instance_requests.unwrap_or_default();
        under_notice.extend(requests.into_iter().filter_map(|request| {
            let since = request.status.and_then(|status| status.update_time).and_then(|time| timestamp(&time));
            Some((request.instance_id?, since))
        }));
        if token.is_none() {
            break;
        }
    }
    Ok(under_notice)
}

pub(super) fn members(
    instances: &[ActiveInstance],
    under_notice: &BTreeMap<String, Option<Timestamp>>,
) -> Vec<FleetMember> {
    let member = |instance: &ActiveInstance| {
        let instance_id = instance.instance_id()?;
        Some(FleetMember {
            instance_id: InstanceId::new(instance_id),
            instance_type: instance.instance_type().unwrap_or_default().to_owned(),
            under_notice: under_notice.contains_key(instance_id),
            noticed_at: under_notice.get(instance_id).copied().flatten(),
        })
    };
    instances.iter().filter_map(member).collect()
}

/// `type` of a fleet's request. `maintain` is what AWS makes where none was asked for.
pub(super) fn request_type(id: &str, name: Option<&str>) -> Result<FleetType, Failure> {
    match name {
        None | Some("maintain") => Ok(FleetType::Maintain),
        Some("request") => Ok(FleetType::Request),
        Some("instant") => Ok(FleetType::Instant),
        Some(other) => Err(Failure {
            kind: FailureKind::Rejected,
            code: None,
            message: format!("{id} is of type {other}, which is not known here"),
        }),
    }
}

/// In whole units: a part of one is not reached.
pub(super) fn whole(fulfilled: Option<f64>) -> i32 {
    fulfilled.unwrap_or_default().floor() as i32
}

fn fleet(id: &str, described: &FleetData) -> Result<Fleet, Failure> {
    let target = described.target_capacity_specification();
    let strategies = described.spot_options().and_then(|options| options.maintenance_strategies());
    let strategy = strategies.and_then(|strategies| strategies.capacity_rebalance()?.replacement_strategy());
    let configurations = described.launch_template_configs().iter();
    Ok(Fleet {
        id: id.to_owned(),
        request_type: request_type(id, described.r#type().map(|name| name.as_str()))?,
        replacement_strategy: strategy.map(|strategy| strategy.as_str().to_owned()),
        capacity: FleetCapacity {
            total: target.and_then(|target| target.total_target_capacity()).unwrap_or_default(),
            spot: target.and_then(|target| target.spot_target_capacity()),
            fulfilled: whole(described.fulfilled_capacity()),
        },
        launch_configurations: configurations.filter_map(launch_configuration::of_ec2_fleet).collect(),
        target_groups: Vec::new(),
        tags: tags(described.tags()),
    })
}
