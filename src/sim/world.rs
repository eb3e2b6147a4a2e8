//! The simulated world: instances, target groups, owners, and an agenda of events with their times.
//!
//! Nothing runs in the background. Before the world is read or changed, [`World::settle`] performs all due events in
//! order, each at its own instant. So the world does not depend on how often it is read, and needs no task.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::auto_scaling_group::AutoScalingGroup;
use super::clock::WorldClock;
use super::credentials::IssuedCredentials;
use super::fleet::Fleet;
use super::instance::{Instance, InstancePlace, Keeper, Spot};
use super::launch_template::LaunchTemplate;
use super::rates::Buckets;
use super::settings::Settings;
use super::target_group::TargetGroup;
use super::xml::Xml;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: WorldClock,
    /// The instant of the present event.
    pub(crate) now: Instant,
    /// The instance whose metadata is served.
    pub(crate) ours: String,
    /// The instances in order of launch, including dead ones.
    pub(crate) instances: Vec<Instance>,
    pub(crate) target_groups: Vec<TargetGroup>,
    pub(crate) auto_scaling_groups: Vec<AutoScalingGroup>,
    pub(crate) fleets: Vec<Fleet>,
    pub(crate) launch_templates: Vec<LaunchTemplate>,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) credentials: IssuedCredentials,
    pub(crate) buckets: Buckets,
    /// The body of `events/maintenance/scheduled`; `None` answers 404.
    pub(crate) scheduled_events: Option<String>,
    /// The generation of valid session tokens.
    pub(crate) token_generation: u32,
    /// The answers to client tokens, by action and token.
    pub(crate) answered: BTreeMap<(String, String), Answered>,
    /// The ends of LaunchInstances calls in progress, by client token.
    pub(crate) launches_in_progress: BTreeMap<String, Instant>,
    /// The delay of the answer to the present call.
    pub(crate) answers_after: Duration,
    agenda: BTreeMap<(Instant, u64), WorldEvent>,
    next: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) zone: String,
    pub(crate) cidr: String,
}

/// The answer to a client token, with the call's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) answer: Xml,
}

/// A future event; strings are instance ids.
#[derive(Clone, Debug)]
pub(crate) enum WorldEvent {
    Runs(String),
    /// `shutting-down` becomes `terminated`, `stopping` becomes `stopped`.
    Gone(String),
    /// The notice with this serial ends, if it is still the present one.
    Reclaimed {
        instance: String,
        serial: u64,
    },
    /// The keeper of an instance learns that it is dead.
    DeathSeen(String),
    /// The keeper of an instance learns that it is at risk.
    RiskSeen(String),
    /// The keeper launches an instance, if it still needs one.
    Launch(Keeper),
    /// The keeper counts again.
    Recount(Keeper),
    Detached {
        group: String,
        instance: String,
    },
    /// The group shuts the instance down.
    Terminated(String),
    /// The group checks whether the load balancer still has its member.
    HealthChecked(String),
    /// The load balancer has drained a leaving member.
    MemberDrained(String),
    /// The heartbeat timeout with this serial has passed, if no later one came.
    HookTimedOut {
        instance: String,
        serial: u64,
    },
    DiesAtBirth {
        instance: String,
        reason: String,
    },
    /// The persistent Spot request of an ended instance launches another.
    RequestLaunches(String),
    /// The keeper terminates an instance at risk that it has replaced.
    RiskEnded(String),
}

impl World {
    /// Tells whether no policy allows this action, such as `ec2:CreateTags`.
    pub(crate) fn denies(&self, action: &str) -> bool {
        self.settings.denied.iter().any(|denied| denied == action)
    }

    pub(crate) fn empty(settings: Settings) -> World {
        let clock = WorldClock::starting_now(settings.clock_offset);
        World {
            now: clock.started(),
            credentials: IssuedCredentials::new(settings.credentials_lifetime),
            buckets: Buckets::new(settings.rates.clone()),
            settings,
            clock,
            ours: String::new(),
            instances: Vec::new(),
            target_groups: Vec::new(),
            auto_scaling_groups: Vec::new(),
            fleets: Vec::new(),
            launch_templates: Vec::new(),
            subnets: Vec::new(),
            scheduled_events: Some("[]".to_owned()),
            token_generation: 0,
            answered: BTreeMap::new(),
            launches_in_progress: BTreeMap::new(),
            answers_after: Duration::ZERO,
            agenda: BTreeMap::new(),
            next: 0,
        }
    }

    /// Performs all due events, each at its own instant.
    pub(crate) fn settle(&mut self) {
        let until = Instant::now();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now = self.now.max(entry.key().0);
            let event = entry.remove();
            self.happen(event);
        }
        self.now = until;
        self.forget_drained_targets();
    }

    pub(crate) fn after(&mut self, delay: Duration, event: WorldEvent) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn at(&mut self, at: Instant, event: WorldEvent) {
        let serial = self.serial();
        self.agenda.insert((at, serial), event);
    }

    fn happen(&mut self, event: WorldEvent) {
        match event {
            WorldEvent::Runs(instance) => self.instance_runs(&instance),
            WorldEvent::Gone(instance) => self.instance_gone(&instance),
            WorldEvent::Reclaimed { instance, serial } => self.instance_reclaimed(&instance, serial),
            WorldEvent::DeathSeen(instance) => self.death_seen(&instance),
            WorldEvent::RiskSeen(instance) => self.risk_seen(&instance),
            WorldEvent::Launch(keeper) => self.keeper_launches(&keeper),
            WorldEvent::Recount(keeper) => self.recount(&keeper),
            WorldEvent::Detached { group, instance } => self.detached(&group, &instance),
            WorldEvent::Terminated(instance) => self.terminate(&instance, "User initiated"),
            WorldEvent::HealthChecked(instance) => self.health_checked(&instance),
            WorldEvent::MemberDrained(instance) => self.member_drained(&instance),
            WorldEvent::HookTimedOut { instance, serial } => self.hook_timed_out(&instance, serial),
            WorldEvent::RiskEnded(instance) => self.risk_ended(&instance),
            WorldEvent::DiesAtBirth { instance, reason } => self.terminate(&instance, &reason),
            WorldEvent::RequestLaunches(instance) => self.request_launches(&instance),
        }
    }

    /// Counts the members again, and launches missing ones.
    pub(crate) fn recount(&mut self, keeper: &Keeper) {
        match keeper {
            Keeper::AutoScalingGroup(name) => self.recount_group(name),
            Keeper::Fleet(id) => self.recount_fleet(id),
        }
    }

    fn keeper_launches(&mut self, keeper: &Keeper) {
        match keeper {
            Keeper::AutoScalingGroup(name) => self.group_launches(name),
            Keeper::Fleet(id) => self.fleet_launches(id),
        }
    }

    /// A new number.
    pub(crate) fn serial(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// An id with seventeen hexadecimal digits like AWS's, the same in every run.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        let serial = self.serial();
        // An odd multiplier permutes the numbers: ids look random and are unique.
        format!("{prefix}-0{:016x}", serial.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A UUID, for fleets and activities.
    pub(crate) fn uuid(&mut self) -> String {
        let serial = self.serial();
        let one = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let other = serial.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (a, b, c) = (one >> 32, one >> 16 & 0xffff, one & 0xfff);
        format!("{a:08x}-{b:04x}-4{c:03x}-a{:03x}-{:012x}", other >> 52, other & 0xffff_ffff_ffff)
    }

    pub(crate) fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    pub(crate) fn instance_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    pub(crate) fn spot_request(&self, id: &str) -> Option<(&Instance, &Spot)> {
        self.instances.iter().find_map(|one| one.spot.as_ref().filter(|spot| spot.id == id).map(|spot| (one, spot)))
    }

    pub(crate) fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    pub(crate) fn subnet_of_zone(&self, zone: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.zone == zone)
    }

    pub(crate) fn has_capacity(&self, place: &InstancePlace) -> bool {
        let mut without = self.settings.no_capacity.iter();
        !without.any(|pool| pool.holds(&place.instance_type, &place.zone, place.life_cycle))
    }
}
