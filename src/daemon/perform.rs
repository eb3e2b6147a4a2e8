//! Performs the calls of the core: each variant of [`Call`] is one exchange with one outside party, or a look-up.

use std::time::Duration;

use tracing::{info, warn};

use super::fleets::{fleet_members, put_capacity_back};
use super::parties::Parties;
use super::{look_up, registrations};
use crate::cloud::Aws;
use crate::cloud::autoscaling::LifecycleAction;
use crate::cloud::client;
use crate::cloud::fleets::FleetMembers;
use crate::core::call::{Answer, Call, HookKind};
use crate::core::config::{Config, TargetGroups};
use crate::core::model::{FleetChange, Identity, TargetGroupArn};
use crate::core::plan::{FLEET_TAG, FleetKind, PREDECESSOR_TAG, SPOT_FLEET_TAG};
use crate::core::retry::Failure;
use crate::host::connections;
use crate::host::hooks::{self, HookRun};
use crate::host::readiness;

/// Performs one call and never outlives `limit`. `environment` is for a command of the user's, which has its own way of
/// ending in time.
pub(super) async fn perform(asked: Parties, call: Call, environment: Vec<(String, String)>, limit: Duration) -> Answer {
    if let Call::RunHook { hook, .. } = call {
        return run_hook(&asked.config, hook, environment, limit).await;
    }
    match tokio::time::timeout(limit, exchange(&asked, call, limit)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => Answer::Failed(failure),
        Err(_) => Answer::Failed(Failure::unanswered(format!("no answer within {:.1} s", limit.as_secs_f64()))),
    }
}

async fn exchange(asked: &Parties, call: Call, limit: Duration) -> Result<Answer, Failure> {
    let Parties { aws, identity, .. } = asked;
    let accepted = |()| Answer::Accepted;
    // A look-up makes several calls, and each of them has the usual limit.
    let (look_ups, aws) = (aws, &aws.within(limit));
    match call {
        Call::FindRegistrations { among, may_have_left } => find_registrations(asked, among, may_have_left).await,
        Call::FindPlan => {
            let planned = look_up::find_plan(asked).await;
            planned.at_a_notice().map(|plan| Answer::Plan(Box::new(plan)))
        }
        Call::FindGroup => look_up::find_group(asked).await.map(|plan| Answer::Plan(Box::new(plan))),
        Call::DeregisterTargets { target_group, targets, zone } => {
            aws.elb.deregister_targets(&target_group, &targets, &zone).await.map(accepted)
        }
        Call::RegisterTargets { target_group, targets, zone } => {
            aws.elb.register_targets(&target_group, &targets, &zone).await.map(accepted)
        }
        Call::DescribeTargetHealth { target_group, targets, zone } => {
            aws.elb.describe_target_health(&target_group, &targets, &zone).await.map(Answer::Health)
        }
        Call::LookAtConnections { ports, quiet_for } => connections::connections(ports, quiet_for)
            .await
            .map(Answer::Connections)
            .map_err(|error| Failure::unanswered(format!("the kernel did not tell of connections: {error}"))),
        Call::DetachInstances { .. }
        | Call::TerminateInstanceInAutoScalingGroup { .. }
        | Call::LaunchInstances { .. }
        | Call::CompleteLifecycleAction { .. }
        | Call::RecordLifecycleActionHeartbeat { .. }
        | Call::DescribeAutoScalingGroup { .. }
        | Call::DescribeGroupSettings { .. }
        | Call::AttachInstances { .. } => with_group(aws, identity, call).await,
        Call::DescribeFleet { .. }
        | Call::DescribeFleetMembers { .. }
        | Call::DescribeInstancesOfFleet { .. }
        | Call::ModifyFleet { .. } => with_fleet(aws, look_ups, call).await,
        Call::TagFleet { .. }
        | Call::UntagFleet { .. }
        | Call::CreateFleet { .. }
        | Call::RunInstances { .. }
        | Call::DescribeInstances { .. }
        | Call::DescribeInstancesByAddress { .. }
        | Call::DescribeSuccessorsByTag(_)
        | Call::TagInstance { .. }
        | Call::UntagInstance { .. }
        | Call::TerminateInstances => with_ec2(aws, identity, call).await,
        Call::LookAtReadiness(readiness) => readiness::is_ready(&readiness, client::for_questions).await.map(accepted),
        Call::FindTargetGroups => find_target_groups(asked).await,
        Call::PutCapacityBack { kind, fleet_id } => put_capacity_back(look_ups, identity, kind, &fleet_id).await,
        Call::RunHook { .. } => Err(Failure::unanswered("a command is no exchange")),
    }
}

async fn find_registrations(
    asked: &Parties,
    among: Option<Vec<TargetGroupArn>>,
    may_have_left: bool,
) -> Result<Answer, Failure> {
    let mut found = registrations::find_registrations(asked, among.clone(), &[]).await?;
    let mut untold = found.unclear.iter().find_map(|(_, reason)| reason.to_ask_again());
    if may_have_left && let Err(failure) = registrations::add_left(asked, among, &mut found).await {
        untold = Some(failure);
    }
    let unclear = found.unclear_groups();
    // Nothing waits for their deregistration delays: the default stands for them.
    Ok(Answer::Registrations {
        found: found.registrations,
        unclear,
        missing: found.missing,
        untold: untold.map(Box::new),
    })
}

async fn run_hook(config: &Config, kind: HookKind, environment: Vec<(String, String)>, limit: Duration) -> Answer {
    let command = match kind {
        HookKind::Notice => config.hooks.notice.clone(),
        HookKind::Drained => config.hooks.drained.clone(),
    };
    info!(hook = kind.as_str(), "hook {} starts: {}", kind.as_str(), command.join(" "));
    let ended = hooks::run(HookRun { name: kind.as_str(), command, environment, limit }).await;
    match ended.is_success() {
        true => info!(hook = kind.as_str(), "hook {} {ended}", kind.as_str()),
        false => warn!(hook = kind.as_str(), "hook {} {ended}; everything else goes on", kind.as_str()),
    }
    Answer::Hook { succeeded: ended.is_success(), how: ended.to_string() }
}

/// Finds the target groups that the configuration lists.
async fn find_target_groups(asked: &Parties) -> Result<Answer, Failure> {
    let listed = match &asked.config.target_groups {
        TargetGroups::Listed(listed) => listed.as_slice(),
        TargetGroups::Discover => &[],
    };
    let (wanted, missing) = asked.aws.elb.registrations_to_make(&asked.identity, listed).await?;
    Ok(Answer::TargetGroups { wanted, missing })
}

async fn with_ec2(aws: &Aws, identity: &Identity, call: Call) -> Result<Answer, Failure> {
    let (ec2, us) = (&aws.ec2, &identity.instance_id);
    let accepted = |()| Answer::Accepted;
    match call {
        Call::TagFleet { fleet_id, key, value } => ec2.create_tags(&fleet_id, &[(&key, &value)]).await.map(accepted),
        Call::UntagFleet { fleet_id, key } => ec2.delete_tags(&fleet_id, &[&key]).await.map(accepted),
        Call::CreateFleet { client_token, fleet } => {
            ec2.create_fleet(&fleet, &client_token).await.map(Answer::Launched)
        }
        Call::RunInstances { client_token, launch } => {
            ec2.run_instances(&launch, &client_token).await.map(Answer::Launched)
        }
        Call::DescribeInstances { instance_ids } => ec2.describe_instances(&instance_ids).await.map(Answer::Instances),
        Call::DescribeInstancesByAddress { addresses } => {
            let vpc_id = match &identity.vpc_id {
                Some(vpc_id) => vpc_id.clone(),
                // EC2 is asked only if the metadata does not tell the VPC.
                None => ec2.place_of(us).await?.map(|(vpc_id, _)| vpc_id).unwrap_or_default(),
            };
            ec2.describe_instances_by_address(&vpc_id, &addresses).await.map(Answer::Instances)
        }
        Call::DescribeSuccessorsByTag(predecessor) => {
            let found = ec2.describe_instances_by_tag(PREDECESSOR_TAG, predecessor.as_str()).await;
            found.map(Answer::Instances)
        }
        Call::TagInstance { key, value } => ec2.create_tags(us.as_str(), &[(&key, &value)]).await.map(accepted),
        Call::UntagInstance { key } => ec2.delete_tags(us.as_str(), &[&key]).await.map(accepted),
        Call::TerminateInstances => ec2.terminate_instances(us).await.map(accepted),
        other => Err(Failure::unanswered(format!("{other} is no call to EC2"))),
    }
}

async fn with_group(aws: &Aws, identity: &Identity, call: Call) -> Result<Answer, Failure> {
    let (groups, us) = (&aws.autoscaling, &identity.instance_id);
    let accepted = |()| Answer::Accepted;
    match call {
        Call::DetachInstances { group, decrement } => {
            groups.detach_instances(&group, us, decrement).await.map(accepted)
        }
        Call::TerminateInstanceInAutoScalingGroup { decrement } => {
            groups.terminate_instance_in_auto_scaling_group(us, decrement).await.map(accepted)
        }
        Call::LaunchInstances { group, client_token, capacity, availability_zone } => {
            let launched = groups.launch_instances(&group, &client_token, capacity, availability_zone);
            launched.await.map(Answer::Launched)
        }
        Call::CompleteLifecycleAction { group, hook, result } => {
            let action = LifecycleAction { group: &group, hook: &hook, instance_id: us };
            groups.complete_lifecycle_action(action, result).await.map(accepted)
        }
        Call::RecordLifecycleActionHeartbeat { group, hook } => {
            let action = LifecycleAction { group: &group, hook: &hook, instance_id: us };
            groups.record_lifecycle_action_heartbeat(action).await.map(accepted)
        }
        Call::DescribeAutoScalingGroup { group } => groups.group_state(&group).await.map(Answer::GroupState),
        Call::DescribeGroupSettings { group, asks_hooks } => {
            let hooks = async { if asks_hooks { groups.termination_hooks(&group).await.ok() } else { None } };
            let (current, termination_hooks) = tokio::join!(groups.group_state(&group), hooks);
            Ok(Answer::GroupSettings { current: current?, termination_hooks })
        }
        Call::AttachInstances { group } => groups.attach_instances(&group, us).await.map(accepted),
        other => Err(Failure::unanswered(format!("{other} is no call to an Auto Scaling group"))),
    }
}

async fn with_fleet(aws: &Aws, look_ups: &Aws, call: Call) -> Result<Answer, Failure> {
    match call {
        Call::DescribeFleet { kind, fleet_id } => {
            aws.ec2.fleet(kind, &fleet_id).await.map(|fleet| Answer::Fleet(fleet.map(Box::new)))
        }
        Call::DescribeFleetMembers { kind, fleet_id, unit } => {
            let FleetMembers { members, without_requests } = fleet_members(look_ups, kind, &fleet_id, unit).await?;
            Ok(match without_requests {
                None => Answer::FleetMembers(members),
                Some(failure) => Answer::FleetMembersByMarks { members, failure },
            })
        }
        Call::DescribeInstancesOfFleet { kind, fleet_id } => {
            let key = match kind {
                FleetKind::Ec2 => FLEET_TAG,
                FleetKind::Spot => SPOT_FLEET_TAG,
            };
            aws.ec2.describe_instances_by_tag(key, &fleet_id).await.map(Answer::Instances)
        }
        Call::ModifyFleet { kind, fleet_id, total, spot, unit, excess } => {
            let change = FleetChange { total: Some(total), spot, unit, excess };
            aws.ec2.change_fleet(kind, &fleet_id, change).await.map(|()| Answer::Accepted)
        }
        other => Err(Failure::unanswered(format!("{other} is no call to a fleet"))),
    }
}
