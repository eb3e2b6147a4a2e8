//! The zones that load balancers serve: a successor elsewhere is registered and never gets a request (docs/aws.md 3).

use std::collections::{BTreeMap, BTreeSet};

use super::{LaunchPlan, Plan, may_launch_first};
use crate::core::config::Config;
use crate::core::model::{InstantFleet, LaunchConfiguration, LaunchOverride, Registration};

/// The zones in which a target of each of these groups gets requests, by the zones of each load balancer's ARN. `None`
/// if no load balancer uses any group, or the zones of one are not known: then any zone will do.
pub fn served_zones(
    registrations: &[Registration],
    zones_of: &BTreeMap<String, BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    let of_group = |registration: &Registration| -> Option<BTreeSet<String>> {
        let zones = registration.load_balancers.iter().map(|arn| zones_of.get(arn).cloned());
        zones.collect::<Option<Vec<_>>>().map(|zones| zones.into_iter().flatten().collect())
    };
    let in_use = registrations.iter().filter(|registration| !registration.load_balancers.is_empty());
    let each = in_use.map(of_group).collect::<Option<Vec<_>>>()?;
    each.into_iter().reduce(|one, other| one.intersection(&other).cloned().collect())
}

impl Plan {
    /// Tells whether this configuration lets us choose the successor's zone, among several.
    pub fn chooses_zones(&self, config: &Config) -> bool {
        match self {
            Plan::Launch(_) => self.zones().len() > 1,
            Plan::Group { group, how } => {
                let may_launch_first = may_launch_first(config, *how) && group.launches_none_first().is_none();
                may_launch_first && self.zones().len() > 1
            }
            Plan::Fleet { .. } | Plan::Nobody { .. } => false,
        }
    }

    /// The zones to which the successor may go, as far as the plan names them.
    pub fn zones(&self) -> BTreeSet<&str> {
        match self {
            Plan::Launch(launch) => launch.zones(),
            Plan::Group { group, .. } => group.availability_zones.iter().map(String::as_str).collect(),
            Plan::Fleet { .. } | Plan::Nobody { .. } => BTreeSet::new(),
        }
    }

    /// The plan with the pools in these zones first. A group launches one first only in these zones, unless it has none
    /// of them. If AWS refuses that, the group chooses the zone by itself.
    pub fn preferring(self, served: &BTreeSet<String>) -> Plan {
        match self {
            Plan::Launch(launch) => Plan::Launch(launch.preferring(served)),
            Plan::Group { mut group, how } => {
                if group.availability_zones.iter().any(|zone| served.contains(zone)) {
                    group.availability_zones.retain(|zone| served.contains(zone));
                }
                Plan::Group { group, how }
            }
            other => other,
        }
    }
}

impl LaunchPlan {
    /// The zones to which the successor may go, as far as its pools name zones.
    fn zones(&self) -> BTreeSet<&str> {
        self.pools().filter_map(|pool| self.zone_of(pool)).collect()
    }

    fn zone_of<'a>(&'a self, pool: &'a LaunchOverride) -> Option<&'a str> {
        let by_subnet = || pool.subnet_id.as_ref().and_then(|subnet| self.zone_of_subnet.get(subnet));
        pool.availability_zone.as_ref().or_else(by_subnet).map(String::as_str)
    }

    /// Each attempt comes with the pools in these zones only, and after all of these come the attempts as they were. A
    /// successor that gets no requests can still be seen.
    fn preferring(self, served: &BTreeSet<String>) -> LaunchPlan {
        let is_served = |pool: &LaunchOverride| self.zone_of(pool).is_none_or(|zone| served.contains(zone));
        let within = |attempt: &InstantFleet| {
            let configurations = attempt.launch_configurations.iter().filter_map(|configuration| {
                let overrides: Vec<LaunchOverride> =
                    configuration.overrides.iter().filter(|pool| is_served(pool)).cloned().collect();
                let stays = configuration.overrides.is_empty() || !overrides.is_empty();
                stays.then(|| LaunchConfiguration { template: configuration.template.clone(), overrides })
            });
            InstantFleet { launch_configurations: configurations.collect(), ..attempt.clone() }
        };
        let first = self.attempts.iter().map(within).filter(|attempt| !attempt.launch_configurations.is_empty());
        let mut attempts: Vec<InstantFleet> = Vec::new();
        for attempt in first.chain(self.attempts.iter().cloned()) {
            if !attempts.contains(&attempt) {
                attempts.push(attempt);
            }
        }
        LaunchPlan { attempts, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::When;
    use crate::core::model::{AutoScalingGroup, LaunchTemplate, Market, Target, TargetGroupArn, TargetType};
    use crate::core::plan::GroupRequest;

    fn zones(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn attempt(zones: &[&str], market: Market) -> InstantFleet {
        let pool =
            |zone: &&str| LaunchOverride { availability_zone: Some((*zone).into()), ..LaunchOverride::default() };
        let template = LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() };
        let overrides = zones.iter().map(pool).collect();
        let launch_configurations = vec![LaunchConfiguration { template, overrides }];
        InstantFleet { launch_configurations, market, tags: BTreeMap::new() }
    }

    fn plan(attempts: Vec<InstantFleet>) -> LaunchPlan {
        LaunchPlan { from: "launch template lt-1".into(), attempts, ..LaunchPlan::default() }
    }

    #[test]
    fn attempts_are_made_in_the_served_zones_first_also_on_demand() {
        let attempts = vec![attempt(&["b", "c"], Market::Spot), attempt(&["a", "b", "c"], Market::OnDemand)];
        let preferring = plan(attempts.clone()).preferring(&zones(&["a", "c"]));
        let first = [attempt(&["c"], Market::Spot), attempt(&["a", "c"], Market::OnDemand)];
        assert_eq!(preferring.attempts, [first.to_vec(), attempts].concat());
    }

    #[test]
    fn where_every_zone_is_served_or_none_the_plan_stays() {
        let attempts = vec![attempt(&["b"], Market::Spot), attempt(&["a", "b"], Market::Spot)];
        for served in [zones(&["a", "b", "c"]), zones(&["d"]), zones(&[])] {
            assert_eq!(plan(attempts.clone()).preferring(&served).attempts, attempts, "{served:?}");
        }
    }

    #[test]
    fn a_group_launches_first_in_its_served_zones_alone_and_in_all_of_them_where_none_is_served() {
        let group = |names: &[&str]| Plan::Group {
            group: AutoScalingGroup { availability_zones: zones(names).into_iter().collect(), ..Default::default() },
            how: GroupRequest::Detach,
        };
        assert_eq!(group(&["a", "b", "c"]).preferring(&zones(&["b", "d"])), group(&["b"]));
        assert_eq!(group(&["a", "b"]).preferring(&zones(&["d"])), group(&["a", "b"]));
        assert!(
            group(&["a", "b"]).chooses_zones(&Config::default()) && !group(&["a"]).chooses_zones(&Config::default())
        );
        let mut at_once = Config::default();
        at_once.leave.when = When::AtOnce;
        assert!(!group(&["a", "b"]).chooses_zones(&at_once), "nothing is launched first");
    }

    #[test]
    fn a_zone_is_served_where_each_group_has_a_load_balancer_in_it() {
        let registration = |name: &str, load_balancers: &[&str]| {
            let arn = TargetGroupArn::new(format!("arn:aws:elasticloadbalancing:r:1:targetgroup/{name}/0"));
            let target = Target { id: "i-us".into(), port: 80 };
            let load_balancers = load_balancers.iter().map(|arn| (*arn).to_owned()).collect();
            Registration { load_balancers, ..Registration::new(arn, TargetType::Instance, vec![target]) }
        };
        let of = BTreeMap::from([("one".to_owned(), zones(&["a", "b"])), ("two".to_owned(), zones(&["b", "c"]))]);
        let served = |registrations: &[Registration]| served_zones(registrations, &of);
        assert_eq!(served(&[registration("web", &["one", "two"])]), Some(zones(&["a", "b", "c"])));
        assert_eq!(served(&[registration("web", &["one"]), registration("api", &["two"])]), Some(zones(&["b"])));
        assert_eq!(served(&[registration("web", &["one"]), registration("alone", &[])]), Some(zones(&["a", "b"])));
        assert_eq!(served(&[registration("alone", &[])]), None);
        assert_eq!(served(&[registration("web", &["unknown"])]), None);
    }
}
