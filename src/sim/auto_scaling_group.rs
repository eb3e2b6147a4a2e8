//! One Auto Scaling group with its members.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::instance::Keeper;
use super::launch_template::TemplateReference;
use super::settings::LifeCycle;

#[derive(Clone, Debug)]
pub(crate) struct AutoScalingGroup {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) desired: u32,
    pub(crate) subnets: Vec<String>,
    pub(crate) target_groups: Vec<String>,
    pub(crate) capacity_rebalance: bool,
    pub(crate) health_check_type: String,
    pub(crate) template: TemplateReference,
    /// The instance types of a mixed instances policy; empty without one.
    pub(crate) mixed_types: Vec<String>,
    /// `OnDemandPercentageAboveBaseCapacity` of a mixed instances policy.
    pub(crate) on_demand_percentage: u32,
    pub(crate) instance_type: String,
    pub(crate) life_cycle: LifeCycle,
    pub(crate) hooks: Vec<LifecycleHook>,
    pub(crate) members: Vec<Member>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created: Instant,
    /// The units of each member in the sizes that AWS shows. The sizes here count instances.
    pub(crate) weight: Option<u32>,
    /// Launches that are decided but not made yet.
    pub(crate) launching: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct LifecycleHook {
    pub(crate) name: String,
    pub(crate) transition: String,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) default_result: String,
}

impl AutoScalingGroup {
    pub(crate) fn member(&self, instance: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.instance == instance)
    }

    pub(crate) fn member_mut(&mut self, instance: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.instance == instance)
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_active())
    }

    /// A size as AWS shows it.
    pub(crate) fn units(&self, instances: u32) -> u32 {
        instances * self.weight.unwrap_or(1)
    }

    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::AutoScalingGroup(self.name.clone())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance: String,
    pub(crate) state: &'static str,
    /// The lifecycle actions that are not complete yet, one a hook.
    pub(crate) actions: Vec<LifecycleAction>,
    /// The warm pool state to which it returns.
    pub(crate) pool: &'static str,
    pub(crate) is_protected: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct LifecycleAction {
    pub(crate) hook: String,
    pub(crate) token: String,
    pub(crate) serial: u64,
}

impl Member {
    pub(crate) fn new(instance: &str, state: &'static str) -> Member {
        Member {
            instance: instance.to_owned(),
            state,
            actions: Vec::new(),
            pool: "Warmed:Running",
            is_protected: false,
        }
    }

    /// Tells whether the desired capacity counts it: it is on its way into service, or there.
    pub(crate) fn is_active(&self) -> bool {
        self.state == "InService" || self.state.starts_with("Pending")
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.state.trim_start_matches("Warmed:").starts_with("Terminating")
    }

    /// The value of `autoscaling/target-lifecycle-state` for this instance.
    pub(crate) fn target_state(&self) -> &'static str {
        match self.state {
            state if state.starts_with("Pending") => "InService",
            "Warmed:Pending" => self.pool,
            state => state,
        }
    }
}

impl AutoScalingGroup {
    pub(crate) fn hooks_of(&self, transition: &str) -> Vec<LifecycleHook> {
        self.hooks.iter().filter(|hook| hook.transition == transition).cloned().collect()
    }
}
