//! One target group with its targets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::settings::{HealthSource, LoadBalancerType, TargetGroupSettings, TargetType};

#[derive(Clone, Debug)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) kind: TargetType,
    /// It holds IPv6 addresses only.
    pub(crate) ipv6: bool,
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
    /// The zones for which it is enabled; empty for all.
    pub(crate) zones: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) port: u16,
    /// The zone, which AWS shows for ip targets. A deregistration must not name another.
    pub(crate) zone: Option<String>,
    pub(crate) registered: Instant,
    pub(crate) draining_until: Option<Instant>,
    /// An instance of another VPC, whose address may equal one of ours.
    pub(crate) is_stranger: bool,
    /// The last report since the registration; `None` means `initial`. Only [`HealthSource::Reported`] uses it.
    pub(crate) reported: Option<Reported>,
}

/// A target that a call names; without a port it means the group's own port.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) port: Option<u16>,
    pub(crate) zone: Option<String>,
}

/// The state, reason and description in DescribeTargetHealth.
pub(crate) type Health = (&'static str, Option<&'static str>, Option<&'static str>);

pub(crate) const NOT_REGISTERED: Health =
    ("unused", Some("Target.NotRegistered"), Some("Target is not registered to the target group"));

pub(crate) const INITIAL: Health =
    ("initial", Some("Elb.RegistrationInProgress"), Some("Target registration is in progress"));

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
            ipv6: settings.ipv6,
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

    /// Adds these addresses of strangers, on the group's own port.
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

    pub(crate) fn deregistration_delay(&self) -> Duration {
        let seconds = self.attributes.get(DELAY).and_then(|text| text.parse().ok());
        Duration::try_from_secs_f64(seconds.unwrap_or(300.0)).unwrap_or_default()
    }

    /// Tells whether a draining address returns only after the deregistration delay, as with Application Load
    /// Balancers.
    pub(crate) fn drains_to_the_end(&self) -> bool {
        let is_application = self.load_balancer.as_ref().is_some_and(|one| one.kind == "application");
        self.kind == TargetType::Ip && is_application
    }

    pub(crate) fn drains(&self, named: &Named) -> bool {
        let port = named.port.unwrap_or(self.port);
        self.targets.iter().any(|target| target.is(named, port) && target.draining_until.is_some())
    }

    pub(crate) fn find(&mut self, named: &Named) -> Option<&mut Target> {
        let port = named.port.unwrap_or(self.port);
        self.targets.iter_mut().find(|target| target.is(named, port))
    }
}

impl Target {
    pub(crate) fn is(&self, named: &Named, port: u16) -> bool {
        let zone = named.zone.is_none() && self.zone.as_deref() != Some("all") || named.zone == self.zone;
        self.id == named.id && self.port == port && zone
    }
}

/// The result of a load balancer's health checks of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reported {
    Healthy,
    Unhealthy,
}

impl Reported {
    pub(crate) fn health(self) -> Health {
        match self {
            Reported::Healthy => ("healthy", None, None),
            Reported::Unhealthy => ("unhealthy", Some("Target.Timeout"), Some("Request timed out")),
        }
    }
}
