//! The Auto Scaling group: it counts its members, launches missing ones, registers them, and lets members go.
//!
//! Members that are `Detaching` or `Terminating` do not count, so the group replaces a member removed without decrement
//! at once. It notices a dead member only after a while.

use super::auto_scaling_group::{AutoScalingGroup, Member};
use super::instance::{InstancePlace, Launch};
use super::world::{World, WorldEvent};

impl World {
    pub(crate) fn group(&self, name: &str) -> Option<&AutoScalingGroup> {
        self.auto_scaling_groups.iter().find(|group| group.name == name)
    }

    pub(crate) fn group_mut(&mut self, name: &str) -> Option<&mut AutoScalingGroup> {
        self.auto_scaling_groups.iter_mut().find(|group| group.name == name)
    }

    pub(crate) fn group_of(&self, instance: &str) -> Option<&AutoScalingGroup> {
        self.auto_scaling_groups.iter().find(|group| group.member(instance).is_some())
    }

    /// The number of missing members: the desired capacity and a replacement for each member at risk, less the active
    /// members.
    fn missing_members(&self, group: &AutoScalingGroup) -> u32 {
        let at_risk = |member: &&Member| self.instance(&member.instance).is_some_and(|instance| instance.at_risk);
        let wanted = u64::from(group.desired) + group.active().filter(at_risk).count() as u64;
        u32::try_from(wanted.saturating_sub(group.active().count() as u64)).unwrap_or(u32::MAX)
    }

    pub(crate) fn recount_group(&mut self, name: &str) {
        let Some(group) = self.group(name) else { return };
        if self.settings.suspended_processes.iter().any(|process| process == "Launch") {
            return;
        }
        let more = self.missing_members(group).saturating_sub(group.launching);
        let keeper = group.keeper();
        for _ in 0..more {
            self.after(self.settings.timings.launch_after, WorldEvent::Launch(keeper.clone()));
        }
        if let Some(group) = self.group_mut(name) {
            group.launching += more;
        }
    }

    pub(crate) fn group_launches(&mut self, name: &str) {
        let Some(group) = self.group_mut(name) else { return };
        group.launching = group.launching.saturating_sub(1);
        let Some(group) = self.group(name).filter(|group| self.missing_members(group) > 0) else { return };
        let keeper = group.keeper();
        match self.group_places(group, &group.subnets).into_iter().find(|place| self.has_capacity(place)) {
            Some(place) => {
                let id = self.launch_member(name, place);
                self.replaced_at_risk(name, &id);
            }
            None => self.after(self.settings.timings.owner_reacts_after, WorldEvent::Recount(keeper)),
        }
    }

    /// The places for a launch, best first: the zones with the fewest active members, every type in each.
    pub(crate) fn group_places(&self, group: &AutoScalingGroup, subnets: &[String]) -> Vec<InstancePlace> {
        let members_in = |zone: &str| {
            let lives_in = |id: &str| self.instance(id).is_some_and(|instance| instance.place.zone == zone);
            group.active().filter(|member| lives_in(&member.instance)).count()
        };
        let mut subnets: Vec<_> = subnets.iter().filter_map(|id| self.subnet(id)).collect();
        subnets.sort_by_key(|subnet| members_in(&subnet.zone));
        let own = std::slice::from_ref(&group.instance_type);
        let types = if group.mixed_types.is_empty() { own } else { &group.mixed_types };
        let places =
            subnets.into_iter().flat_map(|subnet| types.iter().map(move |instance_type| (subnet, instance_type)));
        let places = places.map(|(subnet, instance_type)| InstancePlace {
            instance_type: instance_type.clone(),
            zone: subnet.zone.clone(),
            subnet: subnet.id.clone(),
            life_cycle: group.life_cycle,
        });
        places.collect()
    }

    pub(crate) fn launch_member(&mut self, name: &str, place: InstancePlace) -> String {
        let Some(group) = self.group(name) else { return String::new() };
        let keeper = group.keeper();
        let mut tags = group.tags.clone();
        tags.extend(self.template_tags(&group.template));
        tags.insert("aws:autoscaling:groupName".to_owned(), name.to_owned());
        if !group.mixed_types.is_empty() {
            let fleet = self.uuid();
            tags.insert("aws:ec2:fleet-id".to_owned(), format!("fleet-{fleet}"));
        }
        let id = self.launch(Launch { place, tags, keeper: Some(keeper) });
        if let Some(group) = self.group_mut(name) {
            group.members.push(Member::new(&id, "Pending"));
        }
        id
    }

    /// Terminates a member at risk after its replacement is in service (Capacity Rebalancing).
    fn replaced_at_risk(&mut self, name: &str, replacement: &str) {
        let Some(group) = self.group(name).filter(|_| self.settings.rebalance_terminates) else { return };
        let at_risk = group.active().find(|one| self.instance(&one.instance).is_some_and(|instance| instance.at_risk));
        let Some(at_risk) = at_risk.filter(|member| member.instance != replacement) else { return };
        let event = WorldEvent::RiskEnded(at_risk.instance.clone());
        self.after(self.settings.timings.running_after + self.settings.timings.healthy_after, event);
    }

    pub(crate) fn member_died(&mut self, name: &str, id: &str) {
        let Some(group) = self.group_mut(name) else { return };
        group.members.retain(|member| member.instance != id);
        self.recount_group(name);
    }

    /// Removes a member that the group was terminating as soon as its instance has terminated.
    pub(crate) fn forget_terminating_member(&mut self, id: &str) -> bool {
        let Some(name) = self.group_of(id).map(|group| group.name.clone()) else { return false };
        let Some(group) = self.group_mut(&name) else { return false };
        let before = group.members.len();
        group.members.retain(|member| member.instance != id || !member.is_terminating());
        if group.members.len() == before {
            return false;
        }
        self.recount_group(&name);
        true
    }

    /// Replaces a member in service that is no longer a target, if the group uses ELB health checks.
    pub(crate) fn health_checked(&mut self, id: &str) {
        let Some(group) = self.group_of(id).filter(|group| group.health_check_type == "ELB") else { return };
        let in_service = group.member(id).is_some_and(|member| member.state == "InService");
        let missing = group.target_groups.iter().any(|arn| self.registrations(arn, id).is_empty());
        let name = group.name.clone();
        if in_service && missing {
            self.terminate_member(&name, id);
        }
    }

    pub(crate) fn group_rebalances(&self, name: &str, id: &str) -> bool {
        let Some(group) = self.group(name).filter(|group| group.capacity_rebalance) else { return false };
        group.active().any(|member| member.instance == id)
    }

    /// Detaches a member and leaves its instance running.
    pub(crate) fn detach(&mut self, name: &str, id: &str, decrement: bool) {
        let Some(group) = self.group_mut(name) else { return };
        if decrement {
            group.desired = group.desired.saturating_sub(1);
        }
        if let Some(member) = group.member_mut(id) {
            member.state = "Detaching";
        }
        let target_groups = group.target_groups.clone();
        self.deregister_instance(&target_groups, id);
        self.set_target_lifecycle_state(id, "Detached");
        let event = WorldEvent::Detached { group: name.to_owned(), instance: id.to_owned() };
        self.after(self.settings.timings.detaching_for, event);
    }

    pub(crate) fn detached(&mut self, name: &str, id: &str) {
        let Some(group) = self.group_mut(name) else { return };
        group.members.retain(|member| member.instance != id || member.state != "Detaching");
        if let Some(instance) = self.instance_mut(id) {
            instance.keeper = None;
            instance.at_risk = false;
            instance.tags.remove("aws:autoscaling:groupName");
        }
    }

    /// Terminates the oldest members above the desired capacity.
    pub(crate) fn terminate_excess_members(&mut self, name: &str) {
        let Some(group) = self.group(name) else { return };
        let active = group.active().map(|member| member.instance.clone()).collect::<Vec<_>>();
        let excess = active.len().saturating_sub(group.desired as usize);
        for id in active.into_iter().take(excess) {
            self.terminate_member(name, &id);
        }
    }
}
