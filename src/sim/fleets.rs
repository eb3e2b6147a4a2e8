//! EC2 Fleets and Spot Fleets, which are one type here. The form of the id tells them apart.
//!
//! Only `maintain` fleets launch after their start: up to their target, counting live members. With a replacement
//! strategy they replace each member at risk. A lower target cancels launches that are not made yet.

use super::fleet::{Choice, Fleet, Obstacle, Override, TemplateConfig};
use super::instance::{Instance, InstancePlace, Launch};
use super::instance_types::memory_mib;
use super::launch_template::TemplateReference;
use super::refusal::Refusal;
use super::settings::{FleetType, LifeCycle, TargetUnit};
use super::world::{World, WorldEvent};

impl World {
    pub(crate) fn fleet(&self, id: &str) -> Option<&Fleet> {
        self.fleets.iter().find(|fleet| fleet.id == id)
    }

    pub(crate) fn fleet_mut(&mut self, id: &str) -> Option<&mut Fleet> {
        self.fleets.iter_mut().find(|fleet| fleet.id == id)
    }

    /// The live members, and members interrupted by a stop, whose place is kept for their return.
    pub(crate) fn fleet_members(&self, fleet: &Fleet) -> impl Iterator<Item = &Instance> {
        let keeper = fleet.keeper();
        let counts = |one: &Instance| !(self.settings.replaces_at_notice && one.is_taken());
        self.instances.iter().filter(move |one| one.kept_by(&keeper) && counts(one) && (one.alive() || one.paused()))
    }

    /// The fulfilled capacity in the fleet's units.
    pub(crate) fn fulfilled(&self, fleet: &Fleet, life_cycle: Option<LifeCycle>) -> f64 {
        let members = self.fleet_members(fleet).filter(|one| one.alive());
        let wanted = members.filter(|one| life_cycle.is_none_or(|wanted| one.place.life_cycle == wanted));
        wanted.map(|one| units(fleet, &one.place.instance_type)).sum()
    }

    /// The number of instances that the fleet has still to launch.
    fn missing_instances(&self, fleet: &Fleet) -> u32 {
        if fleet.type_ != FleetType::Maintain || fleet.state != "active" || fleet.is_expired {
            return 0;
        }
        let held = self.fleet_members(fleet).filter(|one| !one.at_risk);
        let held: f64 = held.map(|one| units(fleet, &one.place.instance_type)).sum();
        let choices = self.choices(&fleet.configs, self.next_life_cycle(fleet));
        let next = choices.iter().find(|choice| self.obstacle(choice).is_none()).or(choices.first());
        let each = next.map_or(1.0, |choice| units(fleet, &choice.place.instance_type));
        ((f64::from(fleet.target) - held) / each).ceil().max(0.0) as u32
    }

    pub(crate) fn recount_fleet(&mut self, id: &str) {
        let Some(fleet) = self.fleet(id) else { return };
        let more = self.missing_instances(fleet).saturating_sub(fleet.launching);
        let keeper = fleet.keeper();
        for _ in 0..more {
            self.after(self.settings.timings.launch_after, WorldEvent::Launch(keeper.clone()));
        }
        if let Some(fleet) = self.fleet_mut(id) {
            fleet.launching += more;
        }
    }

    pub(crate) fn fleet_launches(&mut self, id: &str) {
        let Some(fleet) = self.fleet_mut(id) else { return };
        fleet.launching = fleet.launching.saturating_sub(1);
        let Some(fleet) = self.fleet(id).filter(|fleet| self.missing_instances(fleet) > 0) else { return };
        let keeper = fleet.keeper();
        let life_cycle = self.next_life_cycle(fleet);
        let choices = self.choices(&fleet.configs, life_cycle);
        match choices.into_iter().find(|choice| self.obstacle(choice).is_none()) {
            Some(choice) => {
                self.launch_fleet_member(id, &choice);
                self.fleet_replaced_at_risk(id);
            }
            None => self.after(self.settings.timings.owner_reacts_after, WorldEvent::Recount(keeper)),
        }
    }

    /// The life cycle of the next launch: on demand until that part of the target is reached.
    fn next_life_cycle(&self, fleet: &Fleet) -> LifeCycle {
        let on_demand = self.fleet_members(fleet).filter(|one| one.place.life_cycle == LifeCycle::OnDemand).count();
        if on_demand < fleet.on_demand_target as usize { LifeCycle::OnDemand } else { LifeCycle::Spot }
    }

    /// Every pool of the configurations, by priority and then in their order, including pools that do not exist.
    pub(crate) fn choices(&self, configs: &[TemplateConfig], market: LifeCycle) -> Vec<Choice> {
        let mut all: Vec<(&TemplateReference, Option<&Override>)> = Vec::new();
        for config in configs {
            match config.overrides.as_slice() {
                [] => all.push((&config.template, None)),
                overrides => all.extend(overrides.iter().map(|one| (&config.template, Some(one)))),
            }
        }
        // An override of a maintain or request fleet may name several subnets.
        let several: Vec<(&TemplateReference, Option<Override>)> =
            all.iter().flat_map(|(template, one)| one_each(template, *one)).collect();
        let mut all: Vec<(&TemplateReference, Option<&Override>)> =
            several.iter().map(|(template, one)| (*template, one.as_ref())).collect();
        let priority = |one: Option<&Override>| one?.priority.as_ref()?.parse::<f64>().ok();
        all.sort_by(|(_, one), (_, other)| {
            let (one, other) = (priority(*one).unwrap_or(f64::MAX), priority(*other).unwrap_or(f64::MAX));
            one.total_cmp(&other)
        });
        all.into_iter().map(|(template, override_)| self.choice(template, override_, market)).collect()
    }

    fn choice(&self, template: &TemplateReference, override_: Option<&Override>, market: LifeCycle) -> Choice {
        let wanted = override_.cloned().unwrap_or_default();
        let version = self.template_version(template);
        let own_type = version.map_or("", |version| version.instance_type.as_str());
        let own_subnet = version.and_then(|version| version.subnet.clone());
        let subnet = match (&wanted.subnet, &wanted.zone) {
            (Some(id), _) => self.subnet(id),
            (None, Some(zone)) => self.subnet_of_zone(zone),
            (None, None) => own_subnet.and_then(|id| self.subnet(&id)).or(self.subnets.first()),
        };
        let place = InstancePlace {
            instance_type: wanted.instance_type.clone().unwrap_or_else(|| own_type.to_owned()),
            zone: subnet.map(|subnet| subnet.zone.clone()).or(wanted.zone.clone()).unwrap_or_default(),
            subnet: subnet.map(|subnet| subnet.id.clone()).or(wanted.subnet.clone()).unwrap_or_default(),
            life_cycle: market,
        };
        Choice { template: template.clone(), override_: override_.cloned(), place }
    }

    /// The error of this pool, if nothing can be launched there.
    pub(crate) fn obstacle(&self, choice: &Choice) -> Option<Obstacle> {
        let place = &choice.place;
        if self.subnet(&place.subnet).is_none() {
            let message = format!("The subnet ID '{}' does not exist", place.subnet);
            return Some(Obstacle { code: "InvalidSubnetID.NotFound", message });
        }
        let version = self.template_version(&choice.template);
        if place.life_cycle == LifeCycle::OnDemand && version.is_some_and(|it| !it.spot_request_tags.is_empty()) {
            let failure = Refusal::no_spot_request();
            return Some(Obstacle { code: "InvalidParameterValue", message: failure.message });
        }
        if place.life_cycle == LifeCycle::OnDemand && version.is_some_and(|it| it.market.is_some()) {
            let message = "The launch template asks for Spot, and the fleet for On-Demand.".to_owned();
            return Some(Obstacle { code: "InvalidParameterCombination", message });
        }
        if self.has_capacity(place) {
            return None;
        }
        let (market, instance_type, zone) = (place.life_cycle.as_str(), &place.instance_type, &place.zone);
        let message =
            format!("There is no {market} capacity available that matches your request for {instance_type} in {zone}.");
        Some(Obstacle { code: "InsufficientInstanceCapacity", message })
    }

    pub(crate) fn launch_fleet_member(&mut self, id: &str, choice: &Choice) -> String {
        let Some(fleet) = self.fleet(id) else { return String::new() };
        let keeper = fleet.keeper();
        let mut tags = fleet.instance_tags.clone();
        tags.extend(self.template_tags(&choice.template));
        let key = if fleet.is_spot_fleet() { "aws:ec2spot:fleet-request-id" } else { "aws:ec2:fleet-id" };
        tags.insert(key.to_owned(), id.to_owned());
        self.launch(Launch { place: choice.place.clone(), tags, keeper: Some(keeper) })
    }

    pub(crate) fn fleet_member_runs(&mut self, fleet: &str, id: &str) {
        let Some(fleet) = self.fleet(fleet) else { return };
        let target_groups = fleet.target_groups.clone();
        self.register_instance(&target_groups, id);
    }

    pub(crate) fn fleet_rebalances(&self, fleet: &str, id: &str) -> bool {
        let Some(fleet) = self.fleet(fleet) else { return false };
        let able =
            fleet.replacement_strategy.is_some() && fleet.type_ == FleetType::Maintain && fleet.state == "active";
        able && self.fleet_members(fleet).any(|member| member.id == id)
    }

    /// Terminates a member at risk after the termination delay (`launch-before-terminate`).
    fn fleet_replaced_at_risk(&mut self, id: &str) {
        let Some(fleet) = self.fleet(id) else { return };
        if fleet.replacement_strategy.as_deref() != Some("launch-before-terminate") {
            return;
        }
        let Some(at_risk) = self.fleet_members(fleet).find(|one| one.at_risk).map(|one| one.id.clone()) else { return };
        self.after(self.settings.timings.termination_delay, WorldEvent::RiskEnded(at_risk));
    }

    /// Sets the target. A higher one launches; a lower one cancels launches that are not made yet, and with
    /// `terminates` the youngest members go.
    pub(crate) fn set_fleet_target(&mut self, id: &str, target: u32, terminates: bool) {
        let until = self.now + self.settings.timings.modifying_for;
        let now = self.now;
        let Some(fleet) = self.fleet_mut(id) else { return };
        fleet.modifying = Some((until, fleet.shown(now).1));
        fleet.target = target;
        let Some(fleet) = self.fleet(id) else { return };
        if terminates {
            let mut held = 0.0;
            let exceeds = |one: &&Instance| {
                held += units(fleet, &one.place.instance_type);
                held > f64::from(target)
            };
            let excess = self.fleet_members(fleet).filter(|one| one.alive()).filter(exceeds);
            let excess: Vec<String> = excess.map(|one| one.id.clone()).collect();
            for excess in excess {
                self.terminate(&excess, "Server.SpotInstanceTermination");
            }
        }
        self.recount_fleet(id);
    }
}

/// The units of an instance: the weight of its type, or else its memory in a fleet that counts memory.
pub(crate) fn units(fleet: &Fleet, instance_type: &str) -> f64 {
    let by_itself = || match fleet.unit {
        TargetUnit::Units => 1.0,
        TargetUnit::MemoryMib => f64::from(memory_mib(instance_type).max(1)),
    };
    fleet.weight(instance_type).unwrap_or_else(by_itself)
}

/// Splits an override into one for each of its subnets.
fn one_each<'a>(
    template: &'a TemplateReference,
    wanted: Option<&Override>,
) -> Vec<(&'a TemplateReference, Option<Override>)> {
    let Some(wanted) = wanted else { return vec![(template, None)] };
    let Some(subnets) = &wanted.subnet else { return vec![(template, Some(wanted.clone()))] };
    let one = |subnet: &str| Override { subnet: Some(subnet.trim().to_owned()), ..wanted.clone() };
    subnets.split(',').map(|subnet| (template, Some(one(subnet)))).collect()
}
