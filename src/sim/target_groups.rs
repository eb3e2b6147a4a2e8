//! Target groups: registrations, their health as it changes with time, draining for the whole deregistration delay.
//!
//! A target is an id *and* a port: deregistering another port than the registered one succeeds and does nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::instances::State;
use super::reported_health::Reported;
use super::settings::{HealthSource, LoadBalancerType, TargetGroupSettings, TargetType};
use super::world::{Event, World};

#[derive(Clone, Debug)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) kind: TargetType,
    pub(crate) protocol: String,
    pub(crate) protocol_version: String,
    pub(crate) port: u16,
    pub(crate) vpc: String,
    pub(crate) load_balancer: Option<LoadBalancer>,
    pub(crate) health: HealthSource,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) targets: Vec<Target>,
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct LoadBalancer {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Those that it is enabled for; empty: all.
    pub(crate) zones: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) port: u16,
    /// Shown for ip targets, and what a deregistration must not contradict.
    pub(crate) zone: Option<String>,
    pub(crate) registered: Instant,
    pub(crate) draining_until: Option<Instant>,
    /// An instance of another VPC, which may have the address of one of ours.
    pub(crate) is_stranger: bool,
    /// The last report since the registration; none yet: `initial`. Only [`HealthSource::Reported`] reads it.
    pub(crate) reported: Option<Reported>,
}

/// The targets that a call names: without a port the group's own is meant.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) port: Option<u16>,
    pub(crate) zone: Option<String>,
}

/// State, reason and description as DescribeTargetHealth shows them.
pub(crate) type Health = (&'static str, Option<&'static str>, Option<&'static str>);

pub(crate) const NOT_REGISTERED: Health =
    ("unused", Some("Target.NotRegistered"), Some("Target is not registered to the target group"));

const INITIAL: Health = ("initial", Some("Elb.RegistrationInProgress"), Some("Target registration is in progress"));

const DELAY: &str = "deregistration_delay.timeout_seconds";

impl TargetGroup {
    pub(crate) fn new(settings: &TargetGroupSettings, arn_prefix: &str, vpc: &str, id: &str) -> TargetGroup {
        let name = &settings.name;
        let (path, kind) = match settings.load_balancer {
            LoadBalancerType::Application => ("app", "application"),
            LoadBalancerType::Network => ("net", "network"),
            LoadBalancerType::None => ("", ""),
        };
        let load_balancer = (!path.is_empty()).then(|| LoadBalancer {
            arn: format!("{arn_prefix}:loadbalancer/{path}/{name}/{id}"),
            name: name.clone(),
            kind,
            zones: settings.load_balancer_zones.clone(),
        });
        let delay = settings.deregistration_delay.as_secs_f64().to_string();
        let attributes =
            [(DELAY, delay.as_str()), ("stickiness.enabled", "false"), ("slow_start.duration_seconds", "0")];
        TargetGroup {
            arn: format!("{arn_prefix}:targetgroup/{name}/{id}"),
            name: name.clone(),
            kind: settings.kind,
            protocol: settings.protocol.clone(),
            protocol_version: settings.protocol_version.clone(),
            port: settings.port,
            vpc: settings.vpc.clone().unwrap_or_else(|| vpc.to_owned()),
            load_balancer,
            health: settings.health,
            attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            targets: Vec::new(),
            tags: BTreeMap::new(),
        }
    }

    /// With these addresses of another VPC's instances on its own port.
    pub(crate) fn with_strangers(mut self, addresses: &[String], zone: String, now: Instant) -> TargetGroup {
        let port = self.port;
        let stranger = |id: &String| Target {
            id: id.clone(),
            port,
            zone: Some(zone.clone()),
            registered: now,
            draining_until: None,
            is_stranger: true,
            reported: None,
        };
        self.targets.extend(addresses.iter().map(stranger));
        self
    }

    fn deregistration_delay(&self) -> Duration {
        let seconds = self.attributes.get(DELAY).and_then(|text| text.parse().ok());
        Duration::try_from_secs_f64(seconds.unwrap_or(300.0)).unwrap_or_default()
    }

    /// An Application Load Balancer takes a draining address back only after the deregistration delay.
    pub(crate) fn drains_to_the_end(&self) -> bool {
        let is_application = self.load_balancer.as_ref().is_some_and(|one| one.kind == "application");
        self.kind == TargetType::Ip && is_application
    }

    pub(crate) fn drains(&self, named: &Named) -> bool {
        let port = named.port.unwrap_or(self.port);
        self.targets.iter().any(|target| target.is(named, port) && target.draining_until.is_some())
    }

    fn find(&mut self, named: &Named) -> Option<&mut Target> {
        let port = named.port.unwrap_or(self.port);
        self.targets.iter_mut().find(|target| target.is(named, port))
    }
}

impl Target {
    fn is(&self, named: &Named, port: u16) -> bool {
        let zone = named.zone.is_none() && self.zone.as_deref() != Some("all") || named.zone == self.zone;
        self.id == named.id && self.port == port && zone
    }
}

impl World {
    pub(crate) fn target_group(&self, arn: &str) -> Option<&TargetGroup> {
        self.target_groups.iter().find(|group| group.arn == arn)
    }

    pub(crate) fn target_group_mut(&mut self, arn: &str) -> Option<&mut TargetGroup> {
        self.target_groups.iter_mut().find(|group| group.arn == arn)
    }

    /// A new target begins `initial`; one that drains comes back, but for an address behind an Application Load Balancer; one
    /// that is there stays as it is.
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

    /// Begins to drain the target with this id and port; without one nothing happens, and that is success too.
    pub(crate) fn deregister_target(&mut self, arn: &str, named: &Named) {
        let now = self.now;
        let draining = self.draining_of(arn);
        let Some(group) = self.target_group_mut(arn) else { return };
        let Some(target) = group.find(named) else { return };
        let until = *target.draining_until.get_or_insert(now + draining);
        let instance = target.id.clone();
        self.at(until + self.settings.timings.owner_reacts_after, Event::HealthChecked(instance));
        self.forget_drained_targets();
    }

    /// How long a target of this group drains. A group in no load balancer has nothing to drain.
    pub(crate) fn draining_of(&self, arn: &str) -> Duration {
        let group = self.target_group(arn).filter(|group| group.load_balancer.is_some());
        group.map_or(Duration::ZERO, |group| self.settings.timings.draining_for.unwrap_or(group.deregistration_delay()))
    }

    /// The targets of an instance in one group: its id or its address, under whatever ports.
    pub(crate) fn registrations(&self, arn: &str, instance: &str) -> Vec<Named> {
        let address = self.instance(instance).map(|one| one.private_ip.as_str());
        let targets = self.target_group(arn).map(|group| group.targets.as_slice()).unwrap_or_default();
        let ours = |target: &&Target| target.id == instance || Some(target.id.as_str()) == address;
        let own = targets.iter().filter(|target| !target.is_stranger).filter(ours);
        own.map(|one| Named { id: one.id.clone(), port: Some(one.port), zone: one.zone.clone() }).collect()
    }

    /// As an owner does it, by the group's own port; an owner cannot fill an ip group.
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

    /// A terminated instance leaves its `instance` groups; an address stays where it is registered, and fails its
    /// checks.
    pub(crate) fn forget_terminated_targets(&mut self) {
        let gone = self.instances.iter().filter(|one| one.state == State::Terminated);
        let gone: Vec<String> = gone.map(|one| one.id.clone()).collect();
        for group in &mut self.target_groups {
            group.targets.retain(|target| !gone.contains(&target.id));
        }
    }

    pub(crate) fn health(&self, group: &TargetGroup, target: &Target) -> Health {
        let is_target = |id: &str, address: &str| target.id == id || target.id == address;
        let instance = self.instances.iter().rev().find(|one| is_target(&one.id, &one.private_ip));
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
            (_, Some(State::Running)) => {}
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

    /// A target that [`TargetGroup::find`] finds, with its health.
    pub(crate) fn named_health(&self, group: &TargetGroup, named: &Named) -> Health {
        let port = named.port.unwrap_or(group.port);
        let target = group.targets.iter().find(|target| target.is(named, port));
        target.map_or(NOT_REGISTERED, |target| self.health(group, target))
    }
}
