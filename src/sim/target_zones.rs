//! The zones of targets: which addresses are in a target group's VPC, in which zone, and whether that zone is served.
//!
//! AWS sets the zone of an address inside the VPC, and RegisterTargets rejects another. An address outside is
//! registered with `all`, or behind a Network Load Balancer with a zone.

use std::net::Ipv4Addr;

use super::refusal::Refusal;
use super::settings::TargetType;
use super::target_group::{Named, Target, TargetGroup};
use super::world::World;

/// The place of an address relative to a target group's VPC.
enum AddressPlace {
    Inside { zone: String },
    Outside,
}

impl World {
    fn place(&self, group: &TargetGroup, address: &str) -> AddressPlace {
        if let Some(target) = group.targets.iter().find(|target| target.is_stranger && target.id == address) {
            return AddressPlace::Inside { zone: target.zone.clone().unwrap_or_default() };
        }
        let of_instance = self.instances.iter().find(|one| one.has_address(address) && group.vpc == self.settings.vpc);
        if let Some(instance) = of_instance {
            return AddressPlace::Inside { zone: instance.place.zone.clone() };
        }
        let Ok(address) = address.parse::<Ipv4Addr>() else { return AddressPlace::Outside };
        let [a, b, c, _] = address.octets();
        let own = format!("{a}.{b}.{c}.0/24");
        match self.subnets.iter().find(|subnet| subnet.cidr == own) {
            Some(subnet) if group.vpc == self.settings.vpc => AddressPlace::Inside { zone: subnet.zone.clone() },
            _ => AddressPlace::Outside,
        }
    }

    /// Refuses a target with a wrong zone, as AWS does.
    pub(crate) fn check_zone(&self, group: &TargetGroup, named: &Named) -> Result<(), Refusal> {
        let (id, zone) = (&named.id, named.zone.as_deref());
        let refused = |what: String| Err(Refusal::validation(what));
        if group.kind == TargetType::Instance {
            return match zone {
                None => Ok(()),
                Some(_) => refused(format!("You cannot specify an Availability Zone for the instance '{id}'")),
            };
        }
        let is_network = group.load_balancer.as_ref().is_some_and(|one| one.kind == "network");
        match (self.place(group, id), zone) {
            (AddressPlace::Inside { .. }, None) => Ok(()),
            (AddressPlace::Inside { zone: own }, Some(zone)) if own == zone => Ok(()),
            (AddressPlace::Inside { .. }, Some(_)) => refused(format!(
                "The IP address '{id}' is within the VPC, and cannot have its Availability Zone overridden"
            )),
            (AddressPlace::Outside, Some("all")) => Ok(()),
            (AddressPlace::Outside, Some(_)) if is_network => Ok(()),
            (AddressPlace::Outside, _) => refused(format!(
                "The IP address '{id}' is outside the VPC '{}', and must have 'all' as its Availability Zone",
                group.vpc
            )),
        }
    }

    /// The zone that AWS shows for a target registered now.
    pub(crate) fn zone_shown(&self, group: &TargetGroup, named: &Named) -> Option<String> {
        match (group.kind, self.place(group, &named.id)) {
            (TargetType::Instance, _) => None,
            (TargetType::Ip, AddressPlace::Inside { zone }) => Some(zone),
            (TargetType::Ip, AddressPlace::Outside) => named.zone.clone(),
        }
    }

    /// The zones for which the group's load balancer is enabled.
    pub(crate) fn served_zones<'a>(&'a self, group: &'a TargetGroup) -> impl Iterator<Item = &'a str> {
        let enabled = |zone: &&str| {
            let zones = group.load_balancer.iter().map(|one| &one.zones);
            zones.clone().all(|zones| zones.is_empty() || zones.iter().any(|one| one == zone))
        };
        self.subnets.iter().map(|subnet| subnet.zone.as_str()).filter(enabled)
    }

    fn zone_of<'a>(&'a self, target: &'a Target) -> Option<&'a str> {
        let of_instance = || self.instance(&target.id).map(|instance| instance.place.zone.as_str());
        target.zone.as_deref().or_else(of_instance)
    }

    /// True for a target in a zone from which a zonal shift has taken the traffic.
    pub(crate) fn is_shifted(&self, target: &Target) -> bool {
        self.zone_of(target).is_some_and(|zone| self.settings.shifted_zones.iter().any(|shifted| shifted == zone))
    }

    /// False for a target in a zone for which the load balancer is not enabled.
    pub(crate) fn is_in_served_zone(&self, group: &TargetGroup, target: &Target) -> bool {
        let zone = self.zone_of(target);
        target.is_stranger || zone.is_none_or(|zone| zone == "all" || self.served_zones(group).any(|one| one == zone))
    }
}
