//! Builds the world of the settings at its start: everything is `running` and `healthy`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::auto_scaling_group::{AutoScalingGroup, LifecycleHook, Member};
use super::fleet::{Choice, Fleet, Override, TemplateConfig};
use super::fleets::units;
use super::instance::{InstancePlace, InstanceState, Keeper, Launch};
use super::instance_types::memory_mib;
use super::launch_template::{LaunchTemplate, TemplateReference, TemplateVersion};
use super::members::{LAUNCHING, TERMINATING, known_state};
use super::settings::{FleetType, LifeCycle, Owner, Settings, TargetGroupSettings, TargetType, TargetUnit};
use super::target_group::{Named, TargetGroup};
use super::world::{Subnet, World};

const GROUP: &str = "web";

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        let mut world = World::empty(settings);
        world.add_subnets();
        let template = world.add_template();
        let by_template = !world.settings.fleet.launch_specifications;
        let template = if by_template { template } else { TemplateReference::default() };
        let keeper = match world.settings.owner.clone() {
            Owner::AutoScalingGroup { .. } => Some(Keeper::AutoScalingGroup(GROUP.to_owned())),
            Owner::Ec2Fleet { .. } => Some(Keeper::Fleet(format!("fleet-{}", world.uuid()))),
            Owner::SpotFleet { .. } => Some(Keeper::Fleet(format!("sfr-{}", world.uuid()))),
            Owner::LaunchTemplate | Owner::Nobody => None,
        };
        world.add_target_groups();
        let members = world.add_members(keeper.as_ref(), &template);
        match keeper {
            Some(Keeper::AutoScalingGroup(_)) => world.add_group(&members, &template),
            Some(Keeper::Fleet(id)) => world.add_fleet(&id, &members, &template),
            None => {}
        }
        if world.settings.template.version_is_deleted {
            world.launch_templates.iter_mut().for_each(LaunchTemplate::renew);
        }
        world.begin_long_ago();
        world
    }

    /// Adds subnets in each zone of the settings, and always in zones a, b and c of the region.
    fn add_subnets(&mut self) {
        let region = &self.settings.region;
        let mut zones: BTreeSet<String> = ["a", "b", "c"].iter().map(|letter| format!("{region}{letter}")).collect();
        zones.insert(self.settings.zone.clone());
        zones.extend(self.settings.others.iter().map(|other| other.zone.clone()));
        let several = self.settings.subnets_in_a_zone;
        let places = zones.into_iter().flat_map(|zone| std::iter::repeat_n(zone, several));
        for (number, zone) in (1..).zip(places) {
            let id = self.id("subnet");
            self.subnets.push(Subnet { id, zone, cidr: format!("10.0.{number}.0/24") });
        }
    }

    fn add_template(&mut self) -> TemplateReference {
        let id = self.id("lt");
        let settings = self.settings.template.clone();
        let own_subnet = self.subnet_of_zone(&self.settings.zone).map(|subnet| subnet.id.clone());
        let version = TemplateVersion {
            instance_type: self.settings.instance_type.clone(),
            image: settings.image.unwrap_or_else(|| "ami-0123456789abcdef0".to_owned()),
            instance_profile: self.settings.role.clone(),
            security_groups: vec!["sg-0123456789abcdef0".to_owned()],
            subnet: own_subnet.filter(|_| settings.names_its_subnet),
            market: settings.asks_for_spot.then(|| "spot".to_owned()),
            is_persistent: settings.asks_persistently,
            max_price: settings.max_price,
            spot_request_tags: settings
                .tags_spot_requests
                .then(|| ("team".to_owned(), "web".to_owned()))
                .into_iter()
                .collect(),
            key_name: settings.key_name,
            kms_key: settings.kms_key,
            placement_group: settings.placement_group,
            capacity_reservation: settings.capacity_reservation,
            user_data: settings.user_data,
            ..TemplateVersion::default()
        };
        self.launch_templates.push(LaunchTemplate {
            id: id.clone(),
            name: "web".to_owned(),
            created: self.now,
            tags: BTreeMap::new(),
            versions: BTreeMap::from([(1, version)]),
            default_version: 1,
        });
        TemplateReference { id: Some(id), name: None, version: Some("1".to_owned()) }
    }

    fn add_target_groups(&mut self) {
        for settings in self.settings.target_groups.clone() {
            self.add_target_group(&settings);
        }
    }

    /// Adds a target group and returns its ARN.
    pub(crate) fn add_target_group(&mut self, settings: &TargetGroupSettings) -> String {
        let Settings { region, account, .. } = &self.settings;
        let prefix = format!("arn:aws:elasticloadbalancing:{region}:{account}");
        let zone_of_strangers = format!("{region}b");
        let id = self.id("").trim_start_matches('-').chars().skip(1).collect::<String>();
        let group = TargetGroup::new(settings, &prefix, &self.settings.vpc, &id);
        let group = group.with_strangers(&settings.strangers, zone_of_strangers, self.now);
        let arn = group.arn.clone();
        self.target_groups.push(group);
        arn
    }

    /// Adds our instance and then the others; all run and are registered.
    fn add_members(&mut self, keeper: Option<&Keeper>, template: &TemplateReference) -> Vec<String> {
        let own = (self.settings.instance_type.clone(), self.settings.zone.clone());
        let others = self.settings.others.iter().map(|other| (other.instance_type.clone(), other.zone.clone()));
        let pools: Vec<(String, String)> = std::iter::once(own).chain(others).collect();
        let tags = self.first_tags(keeper, template);
        let mut members = Vec::new();
        for (instance_type, zone) in pools {
            let subnet = self.subnet_of_zone(&zone).map(|subnet| subnet.id.clone()).unwrap_or_default();
            let place = InstancePlace { instance_type, zone, subnet, life_cycle: self.settings.life_cycle };
            let mut id = self.launch(Launch { place, tags: tags.clone(), keeper: keeper.cloned() });
            let wanted = self.settings.instance_id.clone().filter(|_| members.is_empty()).unwrap_or_else(|| id.clone());
            let persistent = self.settings.persistent_request && members.is_empty();
            if let Some(instance) = self.instance_mut(&id) {
                instance.spot.iter_mut().for_each(|spot| spot.persistent = persistent);
                instance.id.clone_from(&wanted);
                id = wanted;
                instance.state = InstanceState::Running;
                instance.first = true;
            }
            self.register_first(&id);
            members.push(id);
        }
        self.ours = members.first().cloned().unwrap_or_default();
        let own_tags = self.settings.tags.clone();
        let ours = self.ours.clone();
        if let Some(instance) = self.instance_mut(&ours) {
            instance.tags.extend(own_tags);
        }
        members
    }

    fn first_tags(&mut self, keeper: Option<&Keeper>, template: &TemplateReference) -> BTreeMap<String, String> {
        let mut tags = match self.settings.owner {
            Owner::Nobody => BTreeMap::new(),
            _ => self.template_tags(template),
        };
        let mixed = matches!(self.settings.owner, Owner::AutoScalingGroup { mixed_instances: true, .. });
        let (key, value) = match keeper {
            Some(Keeper::AutoScalingGroup(name)) => ("aws:autoscaling:groupName", name.clone()),
            Some(Keeper::Fleet(id)) if id.starts_with("sfr-") => ("aws:ec2spot:fleet-request-id", id.clone()),
            Some(Keeper::Fleet(id)) => ("aws:ec2:fleet-id", id.clone()),
            None => return tags,
        };
        tags.insert(key.to_owned(), value);
        if mixed {
            tags.insert("aws:ec2:fleet-id".to_owned(), format!("fleet-{}", self.uuid()));
        }
        tags
    }

    fn register_first(&mut self, id: &str) {
        let addresses = self.instance(id).map(|one| (one.private_ip.clone(), one.ipv6_address())).unwrap_or_default();
        for (number, settings) in self.settings.target_groups.clone().into_iter().enumerate() {
            let Some(arn) = self.target_groups.get(number).map(|group| group.arn.clone()) else { continue };
            let target = match settings.kind {
                TargetType::Instance => id,
                TargetType::Ip if settings.ipv6 => &addresses.1,
                TargetType::Ip => &addresses.0,
            };
            let is_outside =
                settings.kind == TargetType::Ip && settings.vpc.is_some_and(|vpc| vpc != self.settings.vpc);
            let zone = is_outside.then(|| "all".to_owned());
            for port in settings.ports {
                self.register_target(&arn, &Named { id: target.to_owned(), port: Some(port), zone: zone.clone() });
            }
        }
    }

    fn attached_target_groups(&self) -> Vec<String> {
        let both = self.settings.target_groups.iter().zip(&self.target_groups);
        both.filter(|(settings, _)| settings.attached).map(|(_, group)| group.arn.clone()).collect()
    }

    fn add_group(&mut self, members: &[String], template: &TemplateReference) {
        let Owner::AutoScalingGroup { capacity_rebalance, termination_hook, mixed_instances } = self.settings.owner
        else {
            return;
        };
        let Settings { region, account, .. } = &self.settings;
        let arn = format!(
            "arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{}:autoScalingGroupName/{GROUP}",
            "930d940e-891e-4781-a11a-7b0acd480f03"
        );
        let state = known_state(&self.settings.member_state).unwrap_or("InService");
        let protects = self.settings.protected_from_scale_in;
        let member = |id: &String| match *id == self.ours {
            true => Member { is_protected: protects, ..Member::new(id, state) },
            false => Member::new(id, "InService"),
        };
        let members: Vec<Member> = members.iter().map(member).collect();
        let counted = members.iter().filter(|member| member.is_active()).count();
        let desired = u32::try_from(counted).unwrap_or(u32::MAX);
        let on_demand = if self.settings.life_cycle == LifeCycle::Spot { 0 } else { 100 };
        self.auto_scaling_groups.push(AutoScalingGroup {
            name: GROUP.to_owned(),
            arn,
            min: self.settings.min_size,
            max: self.settings.max_size.unwrap_or(desired + 1),
            desired,
            subnets: self.subnets.iter().map(|subnet| subnet.id.clone()).collect(),
            target_groups: self.attached_target_groups(),
            capacity_rebalance,
            health_check_type: self.settings.health_check_type.clone(),
            template: template.clone(),
            mixed_types: if mixed_instances { self.types() } else { Vec::new() },
            instance_type: self.settings.instance_type.clone(),
            life_cycle: self.settings.life_cycle,
            on_demand_percentage: self.settings.on_demand_percentage.unwrap_or(on_demand),
            hooks: self.first_hooks(termination_hook),
            members,
            tags: BTreeMap::new(),
            created: self.now,
            weight: self.settings.member_weight,
            launching: 0,
        });
        self.first_member_state(state);
    }

    fn first_hooks(&self, termination_hook: bool) -> Vec<LifecycleHook> {
        let Settings { heartbeat_timeout, default_result, more_hooks, launch_hook, .. } = &self.settings;
        let hook = |name: &str, transition: &str| LifecycleHook {
            name: name.to_owned(),
            transition: transition.to_owned(),
            heartbeat_timeout: *heartbeat_timeout,
            default_result: default_result.clone(),
        };
        let ending = termination_hook.then_some("drain").into_iter().chain(more_hooks.iter().map(String::as_str));
        let launching = launch_hook.then(|| hook("ready", LAUNCHING));
        ending.map(|name| hook(name, TERMINATING)).chain(launching).collect()
    }

    /// Sets up our instance in a state other than `InService`: it is not registered, and its metadata shows the state.
    fn first_member_state(&mut self, state: &'static str) {
        let ours = self.ours.clone();
        if state == "InService" {
            return;
        }
        for arn in self.attached_target_groups() {
            if let Some(group) = self.target_group_mut(&arn) {
                group.targets.retain(|target| target.id != ours);
            }
        }
        let target = Member::new(&ours, state).target_state();
        self.set_target_lifecycle_state(&ours, target);
        if state == "Pending:Wait" {
            self.open_hooks(&ours, LAUNCHING, state);
        }
    }

    /// The types of our instance and the others, each once.
    fn types(&self) -> Vec<String> {
        let mut types = vec![self.settings.instance_type.clone()];
        for other in &self.settings.others {
            if !types.contains(&other.instance_type) {
                types.push(other.instance_type.clone());
            }
        }
        types
    }

    fn add_fleet(&mut self, id: &str, members: &[String], template: &TemplateReference) {
        let (type_, replacement_strategy) = match &self.settings.owner {
            Owner::Ec2Fleet { type_, replacement_strategy } | Owner::SpotFleet { type_, replacement_strategy } => {
                (*type_, replacement_strategy.clone())
            }
            _ => return,
        };
        let config = TemplateConfig { template: template.clone(), overrides: self.first_overrides() };
        let on_demand = self.settings.life_cycle == LifeCycle::OnDemand;
        let spot_fleet = id.starts_with("sfr-");
        let mut fleet = Fleet {
            id: id.to_owned(),
            type_,
            state: "active",
            is_expired: false,
            target: 0,
            unit: self.settings.fleet.unit,
            on_demand_target: 0,
            default_life_cycle: self.settings.life_cycle,
            replacement_strategy,
            terminates_excess: true,
            configs: vec![config.clone()],
            target_groups: if spot_fleet { self.attached_target_groups() } else { Vec::new() },
            tags: self.settings.fleet.tags.clone(),
            instance_tags: BTreeMap::new(),
            created: self.now,
            client_token: None,
            launching: 0,
            launched: self.first_launched(type_, members, &config),
            failed: Vec::new(),
            modifying: None,
        };
        let types = members.iter().filter_map(|id| Some(self.instance(id)?.place.instance_type.as_str()));
        fleet.target = types.map(|name| units(&fleet, name)).sum::<f64>() as u32;
        fleet.on_demand_target = if on_demand { fleet.target } else { 0 };
        self.fleets.push(fleet);
    }

    /// An override for every type in every subnet; in a fleet that counts memory, without a type.
    fn first_overrides(&self) -> Vec<Override> {
        let types = self.types();
        if self.settings.fleet.unit == TargetUnit::MemoryMib {
            let memory_from = types.iter().map(|name| memory_mib(name)).min();
            let overrides = self.subnets.iter().map(|subnet| Override {
                subnet: Some(subnet.id.clone()),
                memory_from,
                ..Override::default()
            });
            return overrides.collect();
        }
        let places =
            self.subnets.iter().flat_map(|subnet| types.iter().map(move |instance_type| (subnet, instance_type)));
        let overrides = places.map(|(subnet, instance_type)| Override {
            instance_type: Some(instance_type.clone()),
            subnet: Some(subnet.id.clone()),
            weighted_capacity: self.settings.fleet.weights.get(instance_type).cloned(),
            ..Override::default()
        });
        overrides.collect()
    }

    fn first_launched(
        &self,
        type_: FleetType,
        members: &[String],
        config: &TemplateConfig,
    ) -> Vec<(Choice, Vec<String>)> {
        if type_ != FleetType::Instant {
            return Vec::new();
        }
        let places = members.iter().filter_map(|id| Some((id, self.instance(id)?.place.clone())));
        let launched = places.map(|(id, place)| {
            let choice =
                Choice { template: config.template.clone(), override_: config.overrides.first().cloned(), place };
            (choice, vec![id.clone()])
        });
        launched.collect()
    }

    /// Moves the launches and registrations of the start back by hours.
    fn begin_long_ago(&mut self) {
        let hours = Duration::from_secs(3 * 3600);
        let long_ago = |at: Instant| at.checked_sub(hours).unwrap_or(at);
        for instance in &mut self.instances {
            instance.launched = long_ago(instance.launched);
        }
        for target in self.target_groups.iter_mut().flat_map(|group| &mut group.targets) {
            target.registered = long_ago(target.registered);
        }
    }
}
