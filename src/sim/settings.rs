//! The settings of the simulated world: the owner of our instance, its target groups, the other instances, how long
//! things take.
//!
//! The default is the demo's world: one Spot instance of an Auto Scaling group with two others behind one load
//! balancer. In JSON durations are text with a unit, and an unknown key is an error.

mod fleet;
mod launching;
mod rates;
mod timings;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use super::clock::duration_text;

pub use fleet::{FleetSettings, TargetUnit};
pub use launching::{DeathAtBirth, TemplateSettings};
pub use rates::{Rate, Rates};
pub use timings::Timings;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub region: String,
    /// The partition in the metadata; the simulator's own ARNs have the standard partition.
    pub partition: String,
    pub account: String,
    /// Our instance's id; by default the world makes one.
    pub instance_id: Option<String>,
    /// Our instance's private address; by default one of its subnet.
    pub private_ip: Option<String>,
    /// Every instance also has an IPv6 address.
    pub ipv6: bool,
    /// The answer of RegisterTargets for an address that drains behind an Application Load Balancer.
    pub draining_address: DrainingAddress,
    /// Further traffic sources of the Auto Scaling group, such as a VPC Lattice target group's ARN.
    pub other_traffic_sources: Vec<String>,
    /// The type and zone of our instance's pool.
    pub instance_type: String,
    pub zone: String,
    /// The VPC of every instance.
    pub vpc: String,
    /// The metadata shows the VPC, as at AWS.
    pub vpc_in_metadata: bool,
    pub life_cycle: LifeCycle,
    pub owner: Owner,
    /// The other members of our instance's owner, registered in the same target groups on the same ports.
    pub others: Vec<Other>,
    pub target_groups: Vec<TargetGroupSettings>,
    /// The Auto Scaling group's `MaxSize`; by default one more than its members.
    pub max_size: Option<u32>,
    /// The Auto Scaling group's `MinSize`.
    pub min_size: u32,
    /// The `WeightedCapacity` of each member of the Auto Scaling group; by default the group counts instances.
    pub member_weight: Option<u32>,
    /// Our instance is protected from scale-in, but new members are not.
    pub protected_from_scale_in: bool,
    /// The suspended processes of the Auto Scaling group. Without `Launch` it launches nothing.
    pub suspended_processes: Vec<String>,
    /// The Auto Scaling group's `CapacityDistributionStrategy` is `balanced-only`.
    pub balanced_only: bool,
    /// The Auto Scaling group's `HealthCheckType`. With `ELB` it replaces a member that is no target any more.
    pub health_check_type: String,
    /// The heartbeat timeout of the hooks.
    #[serde(with = "duration_text")]
    pub heartbeat_timeout: Duration,
    /// A `maintain` fleet counts a member as gone at its notice, and replaces it then.
    pub replaces_at_notice: bool,
    /// The Auto Scaling group also has a launch hook, `ready`.
    pub launch_hook: bool,
    /// The names of further termination hooks of the Auto Scaling group.
    pub more_hooks: Vec<String>,
    /// Our instance's lifecycle state in its group at the start; the group has registered it only if this is
    /// `InService`.
    pub member_state: String,
    /// The group's lifecycle policy retains an instance whose termination hook is abandoned (`Terminating:Retained`).
    pub retains_abandoned: bool,
    /// The default result of the hooks.
    pub default_result: String,
    /// `OnDemandPercentageAboveBaseCapacity` of a mixed instances policy; by default 0 for Spot, 100 on demand.
    pub on_demand_percentage: Option<u32>,
    /// The group terminates an instance at risk once its replacement is in service (Capacity Rebalancing).
    pub rebalance_terminates: bool,
    pub tags_in_metadata: bool,
    /// EC2 says that the metadata service also answers without a session token (IMDSv1).
    pub imds_v1: bool,
    /// The hop limit of the metadata service, as EC2 shows it.
    pub hop_limit: u32,
    /// Tags of our instance in addition to AWS's own.
    pub tags: BTreeMap<String, String>,
    /// The instance profile's role; `None` for no profile, and then the metadata answers 404.
    pub role: Option<String>,
    /// Actions that no policy allows, such as `ec2:CreateTags`.
    pub denied: Vec<String>,
    #[serde(with = "duration_text")]
    pub credentials_lifetime: Duration,
    /// The longest life of a metadata token, whatever the client asks for.
    #[serde(with = "duration_text::optional")]
    pub token_ttl_cap: Option<Duration>,
    pub timings: Timings,
    /// The launch template of all launches.
    pub template: TemplateSettings,
    pub fleet: FleetSettings,
    /// CreateFleet accepts a template with `InstanceMarketOptions`.
    pub fleets_take_market_options: bool,
    /// Instances that are launched after the start die at birth.
    pub dies_at_birth: Option<DeathAtBirth>,
    /// Our instance's Spot request is of type `persistent`: it launches again when the instance ends.
    pub persistent_request: bool,
    /// The number of subnets in each zone.
    pub subnets_in_a_zone: usize,
    /// The first page of every listing is empty but has a token, as EC2's manual warns.
    pub first_pages_are_empty: bool,
    /// The zones with an active zonal shift.
    pub shifted_zones: Vec<String>,
    /// The pools without capacity: every launch there answers InsufficientInstanceCapacity.
    pub no_capacity: Vec<Pool>,
    /// The rate buckets; by default nothing is throttled.
    pub rates: Option<Rates>,
    /// The offset of the simulated world's wall clock from the machine's.
    pub clock_offset: SignedDuration,
    /// AWS really takes an instance at the end of its notice.
    pub kill_at_deadline: bool,
    /// The time for which AWS keeps an idle connection; by default for ever.
    #[serde(with = "duration_text::optional")]
    pub keep_alive: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            region: "eu-west-1".to_owned(),
            partition: "aws".to_owned(),
            account: "123456789012".to_owned(),
            instance_id: None,
            private_ip: None,
            ipv6: false,
            draining_address: DrainingAddress::Refused,
            other_traffic_sources: Vec::new(),
            instance_type: "m5.large".to_owned(),
            zone: "eu-west-1a".to_owned(),
            vpc: "vpc-0123456789abcdef0".to_owned(),
            vpc_in_metadata: true,
            life_cycle: LifeCycle::Spot,
            owner: Owner::auto_scaling_group(),
            others: vec![Other::new("m5.large", "eu-west-1a"), Other::new("m5.large", "eu-west-1b")],
            target_groups: vec![TargetGroupSettings::default()],
            max_size: None,
            min_size: 1,
            suspended_processes: Vec::new(),
            balanced_only: false,
            health_check_type: "EC2".to_owned(),
            heartbeat_timeout: Duration::from_secs(300),
            replaces_at_notice: false,
            launch_hook: false,
            more_hooks: Vec::new(),
            member_state: "InService".to_owned(),
            retains_abandoned: false,
            default_result: "CONTINUE".to_owned(),
            on_demand_percentage: None,
            rebalance_terminates: true,
            tags_in_metadata: true,
            imds_v1: false,
            hop_limit: 1,
            tags: BTreeMap::from([("Name".to_owned(), "web".to_owned())]),
            role: Some("web".to_owned()),
            denied: Vec::new(),
            credentials_lifetime: Duration::from_secs(6 * 3600),
            token_ttl_cap: None,
            timings: Timings::default(),
            template: TemplateSettings::default(),
            fleet: FleetSettings::default(),
            fleets_take_market_options: false,
            dies_at_birth: None,
            persistent_request: false,
            first_pages_are_empty: false,
            subnets_in_a_zone: 1,
            member_weight: None,
            protected_from_scale_in: false,
            shifted_zones: Vec::new(),
            no_capacity: Vec::new(),
            rates: None,
            clock_offset: SignedDuration::ZERO,
            kill_at_deadline: true,
            keep_alive: None,
        }
    }
}

/// The owner, which launched our instance and can launch another.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub enum Owner {
    AutoScalingGroup {
        #[serde(default)]
        capacity_rebalance: bool,
        #[serde(default)]
        termination_hook: bool,
        /// A mixed instances policy, all Spot. It launches with instant fleets, so members also have a fleet's tag.
        #[serde(default)]
        mixed_instances: bool,
    },
    Ec2Fleet {
        #[serde(rename = "type")]
        type_: FleetType,
        #[serde(default)]
        replacement_strategy: Option<String>,
    },
    SpotFleet {
        #[serde(rename = "type")]
        type_: FleetType,
        #[serde(default)]
        replacement_strategy: Option<String>,
    },
    LaunchTemplate,
    Nobody,
}

impl Owner {
    pub fn auto_scaling_group() -> Owner {
        Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: false, mixed_instances: false }
    }

    pub fn ec2_fleet(type_: FleetType) -> Owner {
        Owner::Ec2Fleet { type_, replacement_strategy: None }
    }

    pub fn spot_fleet(type_: FleetType) -> Owner {
        Owner::SpotFleet { type_, replacement_strategy: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetType {
    Maintain,
    Request,
    Instant,
}

impl FleetType {
    pub fn as_str(self) -> &'static str {
        match self {
            FleetType::Maintain => "maintain",
            FleetType::Request => "request",
            FleetType::Instant => "instant",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeCycle {
    Spot,
    OnDemand,
}

impl LifeCycle {
    pub fn as_str(self) -> &'static str {
        match self {
            LifeCycle::Spot => "spot",
            LifeCycle::OnDemand => "on-demand",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other {
    pub instance_type: String,
    pub zone: String,
}

impl Other {
    pub fn new(instance_type: &str, zone: &str) -> Other {
        Other { instance_type: instance_type.to_owned(), zone: zone.to_owned() }
    }
}

/// An instance type in a zone with a life cycle. A missing field in JSON, or `*`, means any.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    #[serde(default = "any")]
    pub instance_type: String,
    #[serde(default = "any")]
    pub zone: String,
    #[serde(default)]
    pub life_cycle: Option<LifeCycle>,
}

fn any() -> String {
    "*".to_owned()
}

impl Pool {
    pub fn spot(instance_type: &str, zone: &str) -> Pool {
        Pool { instance_type: instance_type.to_owned(), zone: zone.to_owned(), life_cycle: Some(LifeCycle::Spot) }
    }

    pub(crate) fn holds(&self, instance_type: &str, zone: &str, life_cycle: LifeCycle) -> bool {
        (self.instance_type == "*" || self.instance_type == instance_type)
            && (self.zone == "*" || self.zone == zone)
            && self.life_cycle.is_none_or(|one| one == life_cycle)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetGroupSettings {
    pub name: String,
    pub kind: TargetType,
    /// Its `IpAddressType` is `ipv6`: it holds IPv6 addresses only.
    pub ipv6: bool,
    pub protocol: String,
    /// `HTTP1`, `HTTP2` or `GRPC`.
    pub protocol_version: String,
    pub port: u16,
    /// The ports on which our instance and the others are registered; empty if they are not.
    pub ports: Vec<u16>,
    #[serde(with = "duration_text")]
    pub deregistration_delay: Duration,
    pub load_balancer: LoadBalancerType,
    /// The zones for which its load balancer is enabled; empty for all.
    pub load_balancer_zones: Vec<String>,
    /// The group's VPC; by default that of the instances.
    pub vpc: Option<String>,
    /// Addresses of instances outside this world in the group's VPC; they may equal ours.
    pub strangers: Vec<String>,
    pub health: HealthSource,
    /// The owner registers its launches in it (Auto Scaling groups and Spot Fleets can).
    pub attached: bool,
}

impl Default for TargetGroupSettings {
    fn default() -> TargetGroupSettings {
        TargetGroupSettings {
            name: "web".to_owned(),
            kind: TargetType::Instance,
            ipv6: false,
            protocol: "HTTP".to_owned(),
            protocol_version: "HTTP1".to_owned(),
            port: 80,
            ports: vec![80],
            deregistration_delay: Duration::from_secs(300),
            load_balancer: LoadBalancerType::Application,
            load_balancer_zones: Vec::new(),
            vpc: None,
            strangers: Vec::new(),
            health: HealthSource::Timed,
            attached: true,
        }
    }
}

impl TargetGroupSettings {
    pub fn named(name: &str) -> TargetGroupSettings {
        TargetGroupSettings { name: name.to_owned(), ..TargetGroupSettings::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetType {
    Instance,
    Ip,
}

impl TargetType {
    pub fn as_str(self) -> &'static str {
        match self {
            TargetType::Instance => "instance",
            TargetType::Ip => "ip",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancerType {
    Application,
    Network,
    /// The group has no load balancer: its targets are `unused` with the reason `Target.NotInUse`.
    None,
}

/// The source of the health of a registered target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthSource {
    /// The target becomes healthy [`Timings::healthy_after`] its registration.
    Timed,
    /// The target is `initial` until the control `/target-health` reports it: a real load balancer probes real servers.
    Reported,
}

/// AWS registers a draining address again only after the deregistration delay. How it answers until then is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainingAddress {
    /// RegisterTargets fails.
    Refused,
    /// RegisterTargets succeeds, but the target drains on.
    Kept,
}
