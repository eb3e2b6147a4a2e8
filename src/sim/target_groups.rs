//! Target groups: registrations, their health over time, and draining for the whole deregistration delay.
//!
//! A target is an id *and* a port: deregistering another port succeeds and does nothing.

use std::time::Duration;

use super::instance::{Instance, InstanceState};
use super::settings::{HealthSource, TargetType};
use super::target_group::{Health, INITIAL, NOT_REGISTERED, Named, Reported, Target, TargetGroup};
use super::world::{World, WorldEvent};

impl World {
    pub(crate) fn target_group(&self, arn: &str) -> Option<&TargetGroup> {
        self.target_groups.iter().find(|group| group.arn == arn)
    }

    pub(crate) fn target_group_mut(&mut self, arn: &str) -> Option<&mut TargetGroup> {
        self.target_groups.iter_mut().find(|group| group.arn == arn)
    }

    /// Registers a target. A new one begins `initial`. A draining one returns, but not an address behind an Application
    /// Load Balancer. A registered one does not change.
    pub(crate) fn register_target(&mut self, arn: &str, named: &Named) {
        let now = self.now;
        let drains_to_the_end = self.target_group(arn).is_some_and(TargetGroup::drains_to_the_end);
        let zone = self.target_group(arn).and_then(|group| self.zone_shown(group, named));
        let Some(group) = self.target_group_mut(arn) else { return };
        if let Some(target) = group.find(named) {
            if !drains_to_the_end && target.draining_until.take().is_some() {
                target.registered = now;
                target.reported = None;
            }
            return;
        }
        let port = named.port.unwrap_or(group.port);
        let id = named.id.clone();
        let (draining_until, is_stranger, reported) = (None, false, None);
        group.targets.push(Target { id, port, zone, registered: now, draining_until, is_stranger, reported });
    }

    /// Begins to drain the target with this id and port. If there is none, this does nothing and also succeeds.
    pub(crate) fn deregister_target(&mut self, arn: &str, named: &Named) {
        let now = self.now;
        let draining = self.draining_of(arn);
        let Some(group) = self.target_group_mut(arn) else { return };
        let Some(target) = group.find(named) else { return };
        let until = *target.draining_until.get_or_insert(now + draining);
        let instance = target.id.clone();
        self.at(until + self.settings.timings.owner_reacts_after, WorldEvent::HealthChecked(instance));
        self.forget_drained_targets();
    }

    /// The time that a target of this group drains; zero without a load balancer.
    pub(crate) fn draining_of(&self, arn: &str) -> Duration {
        let group = self.target_group(arn).filter(|group| group.load_balancer.is_some());
        group.map_or(Duration::ZERO, |group| self.settings.timings.draining_for.unwrap_or(group.deregistration_delay()))
    }

    /// The targets of an instance in one group, by its id or address, on all ports.
    pub(crate) fn registrations(&self, arn: &str, instance: &str) -> Vec<Named> {
        let described = self.instance(instance);
        let targets = self.target_group(arn).map(|group| group.targets.as_slice()).unwrap_or_default();
        let ours = |target: &&Target| target.id == instance || described.is_some_and(|one| one.has_address(&target.id));
        let own = targets.iter().filter(|target| !target.is_stranger).filter(ours);
        own.map(|one| Named { id: one.id.clone(), port: Some(one.port), zone: one.zone.clone() }).collect()
    }

    /// Registers an instance as its owner does, on the group's own port. An owner cannot register in an ip group.
    pub(crate) fn register_instance(&mut self, arns: &[String], instance: &str) {
        for arn in arns {
            if self.target_group(arn).is_some_and(|group| group.kind == TargetType::Instance) {
                self.register_target(arn, &Named { id: instance.to_owned(), port: None, zone: None });
            }
        }
    }

    pub(crate) fn deregister_instance(&mut self, arns: &[String], instance: &str) {
        for arn in arns {
            for named in self.registrations(arn, instance) {
                self.deregister_target(arn, &named);
            }
        }
    }

    pub(crate) fn forget_drained_targets(&mut self) {
        let now = self.now;
        for group in &mut self.target_groups {
            group.targets.retain(|target| target.draining_until.is_none_or(|until| until > now));
        }
    }

    /// Removes terminated instances from `instance` groups. A registered address stays, and fails its health checks.
    pub(crate) fn forget_terminated_targets(&mut self) {
        let gone = self.instances.iter().filter(|one| one.state == InstanceState::Terminated);
        let gone: Vec<String> = gone.map(|one| one.id.clone()).collect();
        for group in &mut self.target_groups {
            group.targets.retain(|target| !gone.contains(&target.id));
        }
    }

    pub(crate) fn health(&self, group: &TargetGroup, target: &Target) -> Health {
        let is_target = |one: &&Instance| target.id == one.id || one.has_address(&target.id);
        let instance = self.instances.iter().rev().find(is_target);
        let state = instance.map(|one| one.state);
        if target.draining_until.is_some() {
            return ("draining", Some("Target.DeregistrationInProgress"), Some("Target deregistration is in progress"));
        }
        if group.load_balancer.is_none() {
            let why = "Target group is not configured to receive traffic from the load balancer";
            return ("unused", Some("Target.NotInUse"), Some(why));
        }
        if !self.is_in_served_zone(group, target) {
            let why = "Target is in an Availability Zone that is not enabled for the load balancer";
            return ("unused", Some("Target.NotInUse"), Some(why));
        }
        if target.is_stranger {
            return ("healthy", None, None);
        }
        match (group.kind, state) {
            (_, Some(InstanceState::Running)) => {}
            (TargetType::Instance, _) => {
                return ("unused", Some("Target.InvalidState"), Some("Target is not in the running state"));
            }
            (TargetType::Ip, _) => return ("unhealthy", Some("Target.Timeout"), Some("Request timed out")),
        }
        let timed =
            || (self.now >= target.registered + self.settings.timings.healthy_after).then_some(Reported::Healthy);
        let probed = match group.health {
            HealthSource::Timed => timed(),
            HealthSource::Reported => target.reported,
        };
        probed.map_or(INITIAL, Reported::health)
    }

    /// The health of the target that a call names.
    pub(crate) fn named_health(&self, group: &TargetGroup, named: &Named) -> Health {
        let port = named.port.unwrap_or(group.port);
        let target = group.targets.iter().find(|target| target.is(named, port));
        target.map_or(NOT_REGISTERED, |target| self.health(group, target))
    }
}
