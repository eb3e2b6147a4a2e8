//! Target groups as AWS shows them: targets, the registrations of this instance, and the health of a target.
//!
//! Invariant: id and port identify a target. Its zone belongs to AWS, and is only sent along (see [`TargetZone`]).

use ::core::net::Ipv6Addr;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Identity, TargetGroupArn};
use crate::core::retry::Failure;

/// The name for every zone of a load balancer: RegisterTargets wants it for an address outside the group's VPC.
pub const ALL_ZONES: &str = "all";

/// One target as ELBv2 names it. `id` is an instance id or, in an `ip` group, a private address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub id: String,
    pub port: u16,
}

impl Target {
    pub fn has_id(&self, id: &str) -> bool {
        is_same_id(&self.id, id)
    }

    pub fn is_same(&self, other: &Target) -> bool {
        self.port == other.port && self.has_id(&other.id)
    }
}

/// Tells whether both are the same instance id or the same address: one IPv6 address has several spellings.
pub fn is_same_id(one: &str, other: &str) -> bool {
    let address = |id: &str| id.parse::<Ipv6Addr>().ok();
    one == other || address(one).is_some_and(|one| address(other) == Some(one))
}

/// The Availability Zone that a call names beside a target (docs/aws.md 3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetZone {
    /// No zone is sent: AWS knows the zone of an instance, and of an address inside the group's VPC. It refuses
    /// another.
    #[default]
    Implied,
    /// The address lies outside the group's VPC: AWS wants [`ALL_ZONES`], or the zone with which it was registered.
    Named(String),
}

impl TargetZone {
    /// The zone for a target of a group in another VPC than ours. `shown` is what DescribeTargetHealth shows of it.
    pub fn outside(shown: Option<&str>) -> TargetZone {
        TargetZone::Named(shown.unwrap_or(ALL_ZONES).to_owned())
    }

    /// The text for the call's `AvailabilityZone`.
    pub fn to_send(&self) -> Option<&str> {
        match self {
            TargetZone::Implied => None,
            TargetZone::Named(zone) => Some(zone),
        }
    }

    fn other_way(&self) -> TargetZone {
        match self {
            TargetZone::Implied => TargetZone::Named(ALL_ZONES.to_owned()),
            TargetZone::Named(_) => TargetZone::Implied,
        }
    }
}

/// The way in which the zone is sent in one group; if AWS refuses it, the other way is tried once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneChoice {
    zone: TargetZone,
    refusals: u32,
}

impl ZoneChoice {
    pub fn new(zone: TargetZone) -> ZoneChoice {
        ZoneChoice { zone, refusals: 0 }
    }

    pub fn zone(&self) -> &TargetZone {
        &self.zone
    }

    /// Takes a failed call. Returns true if AWS refuses the zone and the other way is to be tried at once. After the
    /// second refusal the first way stands again, and the call is tried again as after any failure.
    pub fn turns_after(&mut self, failure: &Failure) -> bool {
        if !is_about_the_zone(failure) {
            return false;
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals <= 2 {
            self.zone = self.zone.other_way();
        }
        self.refusals == 1
    }
}

/// Tells whether AWS refuses the zone: its messages name the zone or the VPC, in different words.
fn is_about_the_zone(failure: &Failure) -> bool {
    let message = failure.message.to_ascii_lowercase();
    failure.has_code(&["ValidationError", "InvalidTarget"]) && (message.contains("zone") || message.contains("vpc"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetType {
    Instance,
    Ip,
}

/// The reason why spot-relay registers nobody in a group that [`Registration::needs_server_id`].
pub const WANTS_SERVER_ID: &str =
    "not registered: AWS wants a QuicServerId there, which spot-relay does not know; register it yourself";

/// The ports of this instance in a group that are left and put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// All ports, also one that is registered later.
    #[default]
    Every,
    /// The ports that the configuration lists; the others are somebody else's.
    Listed,
}

/// This instance as targets of one target group: every port of it. The unit that is deregistered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub target_group: TargetGroupArn,
    pub target_type: TargetType,
    /// The targets, at least one; each has this instance's id or address.
    pub targets: Vec<Target>,
    #[serde(default)]
    pub covers: Ports,
    /// The group's own port, on which an owner registers its instances; unknown in a record of an earlier version.
    #[serde(default)]
    pub group_port: Option<u16>,
    /// The zone of these targets, and of the successor's, which has another address in the same VPC.
    #[serde(default)]
    pub zone: TargetZone,
    pub deregistration_delay: Duration,
    /// True if a Network Load Balancer serves the group (protocol TCP, UDP, TLS and the like).
    pub network: bool,
    /// Tells whether the load balancer speaks HTTP/2 or gRPC to the targets: many requests share a connection.
    #[serde(default)]
    pub multiplexed: bool,
    /// Tells whether the load balancer speaks TLS to the targets (protocol HTTPS or TLS).
    #[serde(default)]
    pub tls: bool,
    /// True for the protocols QUIC and TCP_QUIC: RegisterTargets wants a `QuicServerId`, which only its owner knows.
    #[serde(default)]
    pub needs_server_id: bool,
    /// The ARNs of the load balancers that use the group (`LoadBalancerArns`).
    #[serde(default)]
    pub load_balancers: Vec<String>,
}

impl Registration {
    /// A registration in a group with AWS's defaults, behind no load balancer.
    pub fn new(target_group: TargetGroupArn, target_type: TargetType, targets: Vec<Target>) -> Registration {
        Registration {
            target_group,
            target_type,
            targets,
            covers: Ports::default(),
            group_port: None,
            zone: TargetZone::default(),
            deregistration_delay: DEFAULT_DEREGISTRATION_DELAY,
            network: false,
            multiplexed: false,
            tls: false,
            needs_server_id: false,
            load_balancers: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        self.target_group.name()
    }

    /// The ports on which the load balancer reaches this instance.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.targets.iter().map(|target| target.port).collect()
    }

    /// The ports for a person: see [`ports_in_words`].
    pub fn ports_in_words(&self) -> String {
        ports_in_words(&self.ports())
    }

    /// Targets on the same ports for another instance: `id` is its instance id or, in an `ip` group, its address.
    pub fn targets_of(&self, id: &str) -> Vec<Target> {
        self.ports().into_iter().map(|port| Target { id: id.to_owned(), port }).collect()
    }

    /// True if a load balancer sends requests to the target, or no load balancer uses the group.
    pub fn is_served(&self, row: &TargetHealth) -> bool {
        row.state == TargetState::Healthy || (row.is_not_in_use() && self.load_balancers.is_empty())
    }

    /// True if load balancers use the group, and none is enabled for the target's zone: it serves nothing, ever.
    pub fn is_unserved(&self, row: &TargetHealth) -> bool {
        row.is_not_in_use() && !self.load_balancers.is_empty()
    }

    /// The rows of this instance, by its name or as it is registered here, and the rows of others.
    pub fn divide<'a>(
        &self,
        identity: &Identity,
        rows: &'a [TargetHealth],
    ) -> (Vec<&'a TargetHealth>, Vec<&'a TargetHealth>) {
        let is_ours = |id: &str| identity.is_target(self.target_type, id) || self.holds(id);
        rows.iter().partition(|row| is_ours(&row.target.id))
    }

    /// The standing of these targets of one instance in the group, by what DescribeTargetHealth shows.
    pub fn standing(&self, targets: &[Target], rows: &[TargetHealth]) -> TargetStanding {
        let shows = |target: &Target, is: &dyn Fn(&TargetHealth) -> bool| {
            rows.iter().any(|row| row.target.is_same(target) && is(row))
        };
        let wanting = targets.iter().filter(|target| !shows(target, &TargetHealth::is_there));
        let wanting: BTreeSet<u16> = wanting.map(|target| target.port).collect();
        let all = |is: &dyn Fn(&TargetHealth) -> bool| targets.iter().all(|target| shows(target, is));
        match () {
            () if !wanting.is_empty() => TargetStanding::Wanting {
                ports: wanting,
                drains: targets.iter().any(|it| shows(it, &TargetHealth::drains)),
            },
            () if all(&|row| self.is_served(row)) => TargetStanding::Serves,
            () if all(&|row| self.is_served(row) || self.is_unserved(row)) => TargetStanding::Unserved,
            () => TargetStanding::Registered,
        }
    }

    /// True if one of these targets has that id.
    pub fn holds(&self, id: &str) -> bool {
        self.targets.iter().any(|target| target.has_id(id))
    }

    /// True if the group holds IPv6 addresses (its `IpAddressType` is `ipv6`).
    pub fn holds_ipv6(&self) -> bool {
        let is_ipv6 = |target: &Target| target.id.contains(':');
        self.target_type == TargetType::Ip && self.targets.first().is_some_and(is_ipv6)
    }

    /// True if AWS takes a draining target of this group back only after the deregistration delay: an address behind an
    /// Application Load Balancer.
    pub fn drains_to_the_end(&self) -> bool {
        self.target_type == TargetType::Ip && !self.network
    }
}

/// The standing of one instance's targets in their group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStanding {
    /// The instance is not registered on these ports, or drains there.
    Wanting { ports: BTreeSet<u16>, drains: bool },
    /// The instance is registered on every port, but not yet served on each.
    Registered,
    /// The instance is registered on every port, in a zone that is enabled for no load balancer of the group.
    Unserved,
    /// The instance gets requests on every port, if the group gets any.
    Serves,
}

/// The delay of a target group unless it was changed (its attribute `deregistration_delay.timeout_seconds`).
pub const DEFAULT_DEREGISTRATION_DELAY: Duration = Duration::from_secs(300);

/// `TargetHealth.State`; AWS adds new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetState {
    Initial,
    Healthy,
    Unhealthy,
    UnhealthyDraining,
    Draining,
    Unused,
    Unavailable,
    Other(String),
}

/// Shows AWS's spelling.
impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetState::Initial => "initial",
            TargetState::Healthy => "healthy",
            TargetState::Unhealthy => "unhealthy",
            TargetState::UnhealthyDraining => "unhealthy.draining",
            TargetState::Draining => "draining",
            TargetState::Unused => "unused",
            TargetState::Unavailable => "unavailable",
            TargetState::Other(other) => other,
        })
    }
}

/// One row of DescribeTargetHealth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    pub target: Target,
    pub state: TargetState,
    /// `Target.NotRegistered`, `Target.NotInUse`, ...; for a healthy target the zonal shift that is active for it.
    pub reason: Option<String>,
}

/// `AdministrativeOverride.State` of a target to which the load balancer, or its DNS, sends nothing (docs/aws.md 3).
pub const ZONAL_SHIFTS: [&str; 2] = ["zonal_shift_active", "zonal_shift_delegated_to_dns"];

impl TargetHealth {
    /// True if the load balancer sends the target no new requests, or is about to stop.
    pub fn has_left(&self) -> bool {
        self.drains() || self.state == TargetState::Unused
    }

    /// Tells whether the target is healthy, and not shifted away with its zone.
    pub fn gets_requests(&self) -> bool {
        self.state == TargetState::Healthy && !ZONAL_SHIFTS.iter().any(|shift| self.has_reason(shift))
    }

    pub fn drains(&self) -> bool {
        matches!(self.state, TargetState::Draining | TargetState::UnhealthyDraining)
    }

    /// False for a target that was asked for by name and is not in the group: AWS shows a row for it all the same.
    pub fn is_registered(&self) -> bool {
        !(self.state == TargetState::Unused && self.has_reason("Target.NotRegistered"))
    }

    /// Tells whether the target is registered and gets no requests. No load balancer uses the group, or none that does
    /// is enabled for the target's zone. [`Registration::is_unserved`] tells the two apart.
    fn is_not_in_use(&self) -> bool {
        self.state == TargetState::Unused && self.has_reason("Target.NotInUse")
    }

    /// Tells whether the load balancer knows the target and is not about to forget it.
    pub fn is_there(&self) -> bool {
        self.is_registered() && !self.drains()
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.reason.as_deref() == Some(reason)
    }
}

/// Ports for a person, as in "port 80", "ports 80, 81" or, where they are many, "120 ports".
pub fn ports_in_words(ports: &BTreeSet<u16>) -> String {
    const MOST: usize = 8;
    let list = || ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    match ports.len() {
        1 => format!("port {}", list()),
        2..=MOST => format!("ports {}", list()),
        number => format!("{number} ports"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::retry::FailureKind;

    fn refusal(message: &str) -> Failure {
        Failure { kind: FailureKind::Rejected, code: Some("ValidationError".into()), message: message.into() }
    }

    #[test]
    fn a_zone_that_is_refused_is_sent_the_other_way_once() {
        let refused =
            refusal("The IP address '10.0.1.7' is within the VPC, and cannot have its Availability Zone overridden");
        let mut choice = ZoneChoice::new(TargetZone::outside(None));
        assert!(choice.turns_after(&refused));
        assert_eq!(choice.zone(), &TargetZone::Implied);
        assert!(!choice.turns_after(&refused), "the other way is tried once");
        assert_eq!(choice.zone().to_send(), Some("all"), "the first way stands again");
        assert!(!choice.turns_after(&refused));
        assert_eq!(choice.zone().to_send(), Some("all"));
    }

    #[test]
    fn another_refusal_says_nothing_of_the_zone() {
        let mut choice = ZoneChoice::new(TargetZone::Implied);
        assert!(!choice.turns_after(&refusal("The target is draining")));
        assert_eq!(choice.zone(), &TargetZone::Implied);
    }

    #[test]
    fn a_target_that_is_not_in_use_serves_only_where_no_load_balancer_uses_its_group() {
        let target = Target { id: "i-us".into(), port: 80 };
        let arn = TargetGroupArn::new("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0");
        let mut registration = Registration::new(arn, TargetType::Instance, vec![target.clone()]);
        let reason = Some("Target.NotInUse".to_owned());
        let row = TargetHealth { target, state: TargetState::Unused, reason };
        assert!(registration.is_served(&row) && !registration.is_unserved(&row));
        registration.load_balancers.push("arn:lb".into());
        assert!(!registration.is_served(&row) && registration.is_unserved(&row));
        assert!(row.is_registered(), "it is in the group all the same");
    }

    #[test]
    fn targets_stand_in_their_group_as_the_worst_of_their_ports() {
        let targets = [80, 81].map(|port| Target { id: "i-us".into(), port });
        let arn = TargetGroupArn::new("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0");
        let mut registration = Registration::new(arn, TargetType::Instance, targets.to_vec());
        registration.load_balancers.push("arn:lb".into());
        let (not_in_use, gone) = (Some("Target.NotInUse"), Some("Target.NotRegistered"));
        let healthy = (TargetState::Healthy, None);
        let wanting = |drains| TargetStanding::Wanting { ports: BTreeSet::from([81]), drains };
        for (second, expected) in [
            (healthy.clone(), TargetStanding::Serves),
            ((TargetState::Unused, not_in_use), TargetStanding::Unserved),
            ((TargetState::Initial, None), TargetStanding::Registered),
            ((TargetState::Draining, None), wanting(true)),
            ((TargetState::Unused, gone), wanting(false)),
        ] {
            let rows = targets
                .iter()
                .cloned()
                .zip([healthy.clone(), second])
                .map(|(target, (state, reason))| TargetHealth { target, state, reason: reason.map(str::to_owned) });
            assert_eq!(registration.standing(&targets, &rows.collect::<Vec<_>>()), expected);
        }
        assert_eq!(
            registration.standing(&targets[1..], &[]),
            wanting(false),
            "a target without a row is not registered"
        );
    }
}
