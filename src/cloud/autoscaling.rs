//! Auto Scaling: the group that owns this instance, and how it is told to launch another.
//!
//! It returns failures as AWS gave them. The caller knows that "not part of the group" means *done*.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{self, CapacityDistributionStrategy, LaunchInstancesError};

use super::caller::Caller;
use crate::core::call::HookResult;
use crate::core::model::{
    AutoScalingGroup, GroupMember, GroupState, InstanceId, LaunchTemplate, Launched, LifecycleHook, TargetGroupArn,
};
use crate::core::retry::Failure;

/// The heartbeat timeout that AWS gives a hook by default.
const DEFAULT_HEARTBEAT_TIMEOUT: i32 = 3600;
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";
const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";

#[derive(Clone, Debug)]
pub struct AutoScaling {
    client: Client,
    pub(super) caller: Caller,
}

/// Settings of a group that may be in the way of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupTraits {
    pub suspended_processes: Vec<String>,
    /// The group launches in the zone with the fewest members, or not at all.
    pub balanced_only: bool,
}

impl GroupTraits {
    pub fn suspends(&self, process: &str) -> bool {
        self.suspended_processes.iter().any(|name| name == process)
    }
}

/// The lifecycle action of one instance that waits at one hook.
#[derive(Clone, Copy, Debug)]
pub struct LifecycleAction<'a> {
    pub group: &'a str,
    pub hook: &'a str,
    pub instance_id: &'a InstanceId,
}

impl AutoScaling {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// The group without its hooks, by DescribeAutoScalingGroups alone; `None` if there is no such group.
    pub async fn group_without_hooks(&self, name: &str) -> Result<Option<AutoScalingGroup>, Failure> {
        let described = self.describe_auto_scaling_groups(name).await?;
        Ok(described.map(|described| group(name, &described)))
    }

    /// Reads the lifecycle hooks with DescribeLifecycleHooks and adds them to the group.
    pub async fn add_hooks(&self, group: &mut AutoScalingGroup) -> Result<(), Failure> {
        let hooks = self.describe_lifecycle_hooks(&group.name).await?;
        (group.termination_hooks, group.launch_hooks) = (hooks_of(&hooks, TERMINATING), hooks_of(&hooks, LAUNCHING));
        Ok(())
    }

    /// The termination hooks of the group.
    pub async fn termination_hooks(&self, group: &str) -> Result<Vec<LifecycleHook>, Failure> {
        Ok(hooks_of(&self.describe_lifecycle_hooks(group).await?, TERMINATING))
    }

    async fn describe_lifecycle_hooks(&self, group: &str) -> Result<Vec<types::LifecycleHook>, Failure> {
        let call = self.client.describe_lifecycle_hooks().auto_scaling_group_name(group).send();
        Ok(self.caller.call(call).await?.lifecycle_hooks.unwrap_or_default())
    }

    /// Reads the settings that may prevent a launch; `None` if there is no such group.
    pub async fn group_traits(&self, name: &str) -> Result<Option<GroupTraits>, Failure> {
        let described = self.describe_auto_scaling_groups(name).await?;
        Ok(described.map(|described| {
            let processes = described.suspended_processes().iter().filter_map(|process| process.process_name());
            let distribution = described.availability_zone_distribution();
            let strategy = distribution.and_then(|distribution| distribution.capacity_distribution_strategy());
            GroupTraits {
                suspended_processes: processes.map(str::to_owned).collect(),
                balanced_only: strategy == Some(&CapacityDistributionStrategy::BalancedOnly),
            }
        }))
    }

    /// The group as it is now, in one call; `None` if there is no such group.
    pub async fn group_state(&self, name: &str) -> Result<Option<GroupState>, Failure> {
        let described = self.describe_auto_scaling_groups(name).await?;
        Ok(described.map(|described| GroupState {
            members: members(&described),
            desired_capacity: described.desired_capacity().unwrap_or_default(),
            min_size: described.min_size().unwrap_or_default(),
            max_size: described.max_size().unwrap_or_default(),
            capacity_rebalance: described.capacity_rebalance().unwrap_or_default(),
            target_groups: traffic_sources(&described).0,
        }))
    }

    /// Makes a running instance without a group a member. The desired capacity grows by one, and the group registers
    /// the instance in its target groups.
    pub async fn attach_instances(&self, group: &str, instance_id: &InstanceId) -> Result<(), Failure> {
        let call = self.client.attach_instances().auto_scaling_group_name(group).instance_ids(instance_id.as_str());
        self.caller.accepted(call.send()).await
    }

    /// Detaches the instance. Without `decrement` the group launches another at once. The group deregisters the
    /// instance from its target groups, and runs no lifecycle hook.
    pub async fn detach_instances(
        &self,
        group: &str,
        instance_id: &InstanceId,
        decrement: bool,
    ) -> Result<(), Failure> {
        let call = self.client.detach_instances().auto_scaling_group_name(group).instance_ids(instance_id.as_str());
        let call = call.should_decrement_desired_capacity(decrement);
        self.caller.accepted(call.send()).await
    }

    /// Runs the termination hooks; without `decrement` the group launches another.
    pub async fn terminate_instance_in_auto_scaling_group(
        &self,
        instance_id: &InstanceId,
        decrement: bool,
    ) -> Result<(), Failure> {
        let call = self.client.terminate_instance_in_auto_scaling_group().instance_id(instance_id.as_str());
        let call = call.should_decrement_desired_capacity(decrement);
        self.caller.accepted(call.send()).await
    }

    /// Adds this capacity to the group now. AWS answers after EC2 has launched (seconds), with instance ids or errors.
    /// For a group with several zones AWS wants one of them.
    pub async fn launch_instances(
        &self,
        group: &str,
        client_token: &str,
        capacity: i32,
        zone: Option<String>,
    ) -> Result<Launched, Failure> {
        let call = self.client.launch_instances().auto_scaling_group_name(group).client_token(client_token);
        let call = call.requested_capacity(capacity).set_availability_zones(zone.map(|zone| vec![zone]));
        let answer = self.caller.call(call.send()).await?;
        let instances = answer.instances().iter().flat_map(|launched| launched.instance_ids()).map(InstanceId::new);
        Ok(Launched::new(instances, answer.errors().iter().map(launch_error)))
    }

    /// Lets the group continue after the hook. With `Abandon` at a launching hook the group replaces the member.
    pub async fn complete_lifecycle_action(
        &self,
        action: LifecycleAction<'_>,
        result: HookResult,
    ) -> Result<(), Failure> {
        let call = self.client.complete_lifecycle_action().auto_scaling_group_name(action.group);
        let call = call.lifecycle_hook_name(action.hook).instance_id(action.instance_id.as_str());
        self.caller.accepted(call.lifecycle_action_result(result.as_str()).send()).await
    }

    /// Starts the hook's heartbeat timeout again.
    pub async fn record_lifecycle_action_heartbeat(&self, action: LifecycleAction<'_>) -> Result<(), Failure> {
        let call = self.client.record_lifecycle_action_heartbeat().auto_scaling_group_name(action.group);
        let call = call.lifecycle_hook_name(action.hook).instance_id(action.instance_id.as_str());
        self.caller.accepted(call.send()).await
    }

    /// The launch templates of a group; empty where it has a launch configuration.
    pub async fn launch_templates(&self, name: &str) -> Result<Vec<LaunchTemplate>, Failure> {
        let Some(described) = self.describe_auto_scaling_groups(name).await? else { return Ok(Vec::new()) };
        let mixed = described.mixed_instances_policy().and_then(|policy| policy.launch_template());
        let overrides = mixed.into_iter().flat_map(|mixed| mixed.overrides());
        let specifications = described
            .launch_template()
            .into_iter()
            .chain(mixed.and_then(|mixed| mixed.launch_template_specification()))
            .chain(overrides.filter_map(|wanted| wanted.launch_template_specification()));
        let template = |one: &types::LaunchTemplateSpecification| {
            let id_or_name = one.launch_template_id().or(one.launch_template_name())?.to_owned();
            Some(LaunchTemplate {
                id_or_name,
                version: one.version().unwrap_or(LaunchTemplate::DEFAULT_VERSION).to_owned(),
            })
        };
        Ok(specifications.filter_map(template).collect())
    }

    async fn describe_auto_scaling_groups(&self, name: &str) -> Result<Option<types::AutoScalingGroup>, Failure> {
        let asked = self.client.describe_auto_scaling_groups().auto_scaling_group_names(name);
        let page = |token| asked.clone().set_next_token(token).send();
        let groups = self.caller.pages(page, |answer| (answer.auto_scaling_groups, answer.next_token));
        let is_it = |group: &types::AutoScalingGroup| group.auto_scaling_group_name().is_none_or(|it| it == name);
        Ok(groups.await?.into_iter().find(is_it))
    }
}

fn hooks_of(hooks: &[types::LifecycleHook], transition: &str) -> Vec<LifecycleHook> {
    hooks.iter().filter_map(|hook| lifecycle_hook(hook, transition)).collect()
}

/// Reads the group. The hooks are empty: [`AutoScaling::add_hooks`] reads them.
fn group(name: &str, described: &types::AutoScalingGroup) -> AutoScalingGroup {
    let (target_groups, other_traffic_sources) = traffic_sources(described);
    let subnets = described.vpc_zone_identifier().unwrap_or_default().split(',').map(str::trim);
    AutoScalingGroup {
        name: name.to_owned(),
        arn: described.auto_scaling_group_arn().unwrap_or_default().to_owned(),
        capacity_rebalance: described.capacity_rebalance().unwrap_or_default(),
        termination_hooks: Vec::new(),
        launch_hooks: Vec::new(),
        target_groups,
        other_traffic_sources,
        members: members(described),
        min_size: described.min_size().unwrap_or_default(),
        max_size: described.max_size().unwrap_or_default(),
        desired_capacity: described.desired_capacity().unwrap_or_default(),
        health_check_type: described.health_check_type().unwrap_or_default().to_owned(),
        availability_zones: described.availability_zones().to_vec(),
        subnets: subnets.filter(|subnet| !subnet.is_empty()).map(str::to_owned).collect(),
        mixes_spot_and_on_demand: described.mixed_instances_policy().is_some_and(mixes_spot_and_on_demand),
        has_launch_configuration: described.launch_configuration_name().is_some_and(|name| !name.is_empty()),
    }
}

/// Tells whether the policy is neither wholly Spot nor wholly on demand. AWS's defaults are no base and 100 %.
fn mixes_spot_and_on_demand(policy: &types::MixedInstancesPolicy) -> bool {
    let distribution = policy.instances_distribution();
    let base = distribution.and_then(|it| it.on_demand_base_capacity()).unwrap_or_default();
    let above = distribution.and_then(|it| it.on_demand_percentage_above_base_capacity()).unwrap_or(100);
    above < 100 && (above > 0 || base > 0)
}

/// The target groups and the other traffic sources. AWS lists a source by its kind, in `TrafficSources`, or in both.
fn traffic_sources(described: &types::AutoScalingGroup) -> (Vec<TargetGroupArn>, Vec<String>) {
    let listed = described.target_group_arns().iter().chain(described.load_balancer_names()).map(String::as_str);
    let sources = described.traffic_sources().iter().filter_map(|source| source.identifier());
    let all: BTreeSet<&str> = listed.chain(sources).filter(|identifier| !identifier.is_empty()).collect();
    let (groups, others): (Vec<TargetGroupArn>, Vec<TargetGroupArn>) =
        all.into_iter().map(TargetGroupArn::new).partition(TargetGroupArn::is_of_elb);
    (groups, others.iter().map(ToString::to_string).collect())
}

fn members(described: &types::AutoScalingGroup) -> Vec<GroupMember> {
    let protects_new = described.new_instances_protected_from_scale_in().unwrap_or_default();
    let member = |instance: &types::Instance| {
        Some(GroupMember {
            instance_id: InstanceId::new(instance.instance_id()?),
            availability_zone: instance.availability_zone().unwrap_or_default().to_owned(),
            lifecycle_state: lifecycle_state(instance).to_owned(),
            weight: instance.weighted_capacity().and_then(|weight| weight.parse().ok()),
            loses_protection: instance.protected_from_scale_in().unwrap_or_default() && !protects_new,
        })
    };
    described.instances().iter().filter_map(member).collect()
}

/// AWS tells the state of every member. One without a state is taken for one in service: AWS refuses a call that comes
/// too early.
fn lifecycle_state(instance: &types::Instance) -> &str {
    /// The SDK's word for a missing value that AWS's model requires.
    const MISSING: &str = "no value was set";
    let told = instance.lifecycle_state().map(|state| state.as_str());
    told.filter(|state| !state.is_empty() && *state != MISSING).unwrap_or("InService")
}

fn lifecycle_hook(hook: &types::LifecycleHook, transition: &str) -> Option<LifecycleHook> {
    let seconds = hook.heartbeat_timeout().unwrap_or(DEFAULT_HEARTBEAT_TIMEOUT);
    hook.lifecycle_transition().filter(|name| *name == transition)?;
    Some(LifecycleHook {
        name: hook.lifecycle_hook_name()?.to_owned(),
        heartbeat_timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    })
}

fn launch_error(error: &LaunchInstancesError) -> String {
    format!("{}: {}", error.error_code().unwrap_or("unknown"), error.error_message().unwrap_or_default())
}
