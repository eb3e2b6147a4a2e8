//! The life of one member of an Auto Scaling group: lifecycle hooks, Standby, the warm pool, and the drain before a
//! termination hook opens.
//!
//! A leaving member with a load balancer stays `Terminating` (or `Warmed:Pending`) for the deregistration delay. Only
//! then its hooks open. Before and afterwards there is no lifecycle action to complete.

use std::time::Duration;

use super::auto_scaling_group::{LifecycleAction, LifecycleHook};
use super::world::{World, WorldEvent};

pub(crate) const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
pub(crate) const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// The lifecycle states that a control or the settings can give a member.
const STATES: [&str; 10] = [
    "Pending",
    "Pending:Wait",
    "Pending:Proceed",
    "InService",
    "Standby",
    "Warmed:Pending",
    "Warmed:Stopped",
    "Warmed:Running",
    "Warmed:Hibernated",
    "Warmed:Terminated",
];

pub(crate) fn known_state(name: &str) -> Option<&'static str> {
    STATES.into_iter().find(|state| *state == name)
}

impl World {
    /// The time that the group waits for the load balancer before it continues with a member.
    fn drains_for(&self, name: &str, id: &str) -> Duration {
        let Some(group) = self.group(name) else { return Duration::ZERO };
        let is_there = |arn: &&String| !self.registrations(arn, id).is_empty();
        let delays = group.target_groups.iter().filter(is_there).map(|arn| self.draining_of(arn));
        delays.max().unwrap_or_default()
    }

    /// Begins to terminate a member: it is deregistered at once, drains, waits for its hooks, and is shut down.
    pub(crate) fn terminate_member(&mut self, name: &str, id: &str) {
        let Some(member) = self.group(name).and_then(|group| group.member(id)).filter(|one| !one.is_terminating())
        else {
            return;
        };
        let warm = member.state.starts_with("Warmed:");
        let (state, target) =
            if warm { ("Warmed:Terminating", "Warmed:Terminated") } else { ("Terminating", "Terminated") };
        self.member_leaves(name, id, state, target);
    }

    /// Takes a member out of service, back into the warm pool.
    pub(crate) fn return_to_pool(&mut self, name: &str, id: &str, pool: &'static str) {
        if let Some(member) = self.group_mut(name).and_then(|group| group.member_mut(id)) {
            member.pool = pool;
        }
        self.member_leaves(name, id, "Warmed:Pending", pool);
    }

    fn member_leaves(&mut self, name: &str, id: &str, state: &'static str, target: &str) {
        let drains_for = self.drains_for(name, id);
        let Some(group) = self.group_mut(name) else { return };
        let target_groups = group.target_groups.clone();
        let Some(member) = group.member_mut(id) else { return };
        member.state = state;
        member.actions.clear();
        self.deregister_instance(&target_groups, id);
        self.set_target_lifecycle_state(id, target);
        if drains_for.is_zero() {
            self.member_drained(id);
        } else {
            self.after(drains_for, WorldEvent::MemberDrained(id.to_owned()));
        }
        self.recount_group(name);
    }

    /// Opens the termination hooks after the drain.
    pub(crate) fn member_drained(&mut self, id: &str) {
        let Some(state) = self.group_of(id).and_then(|group| group.member(id)).map(|member| member.state) else {
            return;
        };
        let waits = match state {
            "Terminating" => "Terminating:Wait",
            "Warmed:Terminating" => "Warmed:Terminating:Wait",
            "Warmed:Pending" => "Warmed:Pending:Wait",
            _ => return,
        };
        self.open_hooks(id, TERMINATING, waits);
    }

    /// Waits at each hook of the transition; without a hook the member continues at once.
    pub(crate) fn open_hooks(&mut self, id: &str, transition: &str, waits: &'static str) {
        let Some(group) = self.group_of(id) else { return };
        let (name, hooks) = (group.name.clone(), group.hooks_of(transition));
        if hooks.is_empty() {
            return self.member_proceeds(id);
        }
        let mut actions = Vec::new();
        for hook in hooks {
            let (serial, token) = (self.serial(), self.uuid());
            self.after(hook.heartbeat_timeout, WorldEvent::HookTimedOut { instance: id.to_owned(), serial });
            actions.push(LifecycleAction { hook: hook.name, token, serial });
        }
        if let Some(member) = self.group_mut(&name).and_then(|group| group.member_mut(id)) {
            member.state = waits;
            member.actions = actions;
        }
    }

    /// Continues after the hooks, or without any.
    fn member_proceeds(&mut self, id: &str) {
        let Some(name) = self.group_of(id).map(|group| group.name.clone()) else { return };
        let Some(member) = self.group_mut(&name).and_then(|group| group.member_mut(id)) else { return };
        let waited = member.state.ends_with(":Wait");
        member.actions.clear();
        if member.is_terminating() {
            if waited {
                member.state = if member.state.starts_with("Warmed:") {
                    "Warmed:Terminating:Proceed"
                } else {
                    "Terminating:Proceed"
                };
            }
            self.after(self.settings.timings.terminates_after, WorldEvent::Terminated(id.to_owned()));
        } else if member.state.starts_with("Warmed:") {
            member.state = member.pool;
        } else {
            self.put_into_service(&name, id);
        }
    }

    pub(crate) fn put_into_service(&mut self, name: &str, id: &str) {
        let Some(group) = self.group_mut(name) else { return };
        let Some(member) = group.member_mut(id) else { return };
        member.state = "InService";
        let target_groups = group.target_groups.clone();
        self.register_instance(&target_groups, id);
        self.set_target_lifecycle_state(id, "InService");
    }

    /// Opens the launch hooks when a new member runs.
    pub(crate) fn member_runs(&mut self, name: &str, id: &str) {
        let pending = self.group(name).and_then(|group| group.member(id)).is_some_and(|one| one.state == "Pending");
        if pending {
            self.open_hooks(id, LAUNCHING, "Pending:Wait");
        }
    }

    pub(crate) fn hook_timed_out(&mut self, id: &str, serial: u64) {
        let Some(group) = self.group_of(id) else { return };
        let action = group.member(id).and_then(|member| member.actions.iter().find(|action| action.serial == serial));
        let Some(hook) = action.and_then(|action| group.hooks.iter().find(|hook| hook.name == action.hook)).cloned()
        else {
            return;
        };
        self.complete_action(id, &hook.name, &hook.default_result);
    }

    /// Completes an action. The member continues once every hook has its `CONTINUE`. `ABANDON` skips the other hooks: a
    /// new member is replaced; a terminating one is retained if the group's lifecycle policy says so.
    pub(crate) fn complete_action(&mut self, id: &str, hook: &str, result: &str) {
        let Some(name) = self.group_of(id).map(|group| group.name.clone()) else { return };
        let retains = self.settings.retains_abandoned;
        let Some(member) = self.group_mut(&name).and_then(|group| group.member_mut(id)) else { return };
        member.actions.retain(|action| action.hook != hook);
        if result == "ABANDON" && member.state == "Pending:Wait" {
            member.actions.clear();
            member.state = "Terminating";
            self.set_target_lifecycle_state(id, "Terminated");
            self.after(self.settings.timings.terminates_after, WorldEvent::Terminated(id.to_owned()));
            return self.recount_group(&name);
        }
        if result == "ABANDON" && member.is_terminating() && retains {
            member.actions.clear();
            member.state = "Terminating:Retained";
            return;
        }
        if result == "ABANDON" || member.actions.is_empty() {
            self.member_proceeds(id);
        }
    }

    /// Restarts the hook's heartbeat timeout.
    pub(crate) fn heartbeat(&mut self, id: &str, hook: &LifecycleHook) {
        let serial = self.serial();
        let Some(name) = self.group_of(id).map(|group| group.name.clone()) else { return };
        let Some(member) = self.group_mut(&name).and_then(|group| group.member_mut(id)) else { return };
        if let Some(action) = member.actions.iter_mut().find(|action| action.hook == hook.name) {
            action.serial = serial;
        }
        self.after(hook.heartbeat_timeout, WorldEvent::HookTimedOut { instance: id.to_owned(), serial });
    }

    /// Takes a member out of service and out of the target groups. The desired capacity no longer counts it.
    pub(crate) fn enter_standby(&mut self, name: &str, id: &str, decrement: bool) {
        let Some(group) = self.group_mut(name) else { return };
        if decrement {
            group.desired = group.desired.saturating_sub(1);
        }
        let target_groups = group.target_groups.clone();
        if let Some(member) = group.member_mut(id) {
            member.state = "Standby";
        }
        self.deregister_instance(&target_groups, id);
        self.set_target_lifecycle_state(id, "Standby");
        self.recount_group(name);
    }

    /// Puts a member into service again, and raises the desired capacity.
    pub(crate) fn exit_standby(&mut self, name: &str, id: &str) {
        if let Some(group) = self.group_mut(name) {
            group.desired += 1;
        }
        self.put_into_service(name, id);
    }

    /// Moves a member as a scaling group does: into service, into or out of the warm pool, or to its end.
    pub(crate) fn move_member(&mut self, id: &str, to: &str) {
        let Some(name) = self.group_of(id).map(|group| group.name.clone()) else { return };
        match known_state(to) {
            Some("InService") => self.put_into_service(&name, id),
            Some("Warmed:Terminated") => self.terminate_member(&name, id),
            Some("Standby") => self.enter_standby(&name, id, true),
            Some(pool) if pool.starts_with("Warmed:") => self.return_to_pool(&name, id, pool),
            _ => {}
        }
    }

    pub(crate) fn set_target_lifecycle_state(&mut self, id: &str, state: &str) {
        if let Some(instance) = self.instance_mut(id) {
            instance.target_lifecycle_state = Some(state.to_owned());
        }
    }
}
