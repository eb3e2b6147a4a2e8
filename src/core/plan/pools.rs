//! The ways to launch a successor: the pools of templates and fleets, made into attempts, best first.
//!
//! Invariant: no attempt names one pool twice, because CreateFleet refuses a whole request that does.

use std::collections::{BTreeMap, BTreeSet};

use super::launch_plan::{LaunchPlan, MissingTemplate, PREDECESSOR_TAG, Surroundings, TemplateMarket};
use crate::core::config::Successor;
use crate::core::model::{Identity, InstantFleet, LaunchConfiguration, LaunchOverride, Market, SingleLaunch};

/// The number of rounds of attempts in which several subnets of one zone take turns.
const MOST_ROUNDS: usize = 4;

impl LaunchPlan {
    pub(super) fn new(
        from: String,
        configurations: &[LaunchConfiguration],
        tags: BTreeMap<String, String>,
        identity: &Identity,
        choice: &Successor,
        surroundings: &Surroundings,
    ) -> LaunchPlan {
        let missing = surroundings.traits.missing.clone();
        let configurations: Vec<LaunchConfiguration> =
            configurations.iter().map(one_subnet_each).map(|it| it.without(&missing)).collect();
        let attempts = attempts(&configurations, tags, identity, choice, surroundings);
        let pools: Vec<&LaunchOverride> = configurations.iter().flat_map(|it| &it.overrides).collect();
        let all_reclaimed = pools.iter().all(|pool| is_reclaimed(pool, identity, surroundings));
        let mut remarks = surroundings.traits.remarks(choice);
        remarks.extend(surroundings.unknown_subnets.iter().map(|subnet| {
            format!("AWS knows no {subnet} in this account and region: the successor goes to the other subnets, if any")
        }));
        remarks.extend(surroundings.replaced_too.clone());
        let stands_in_for = surroundings.stands_in_for.clone();
        remarks.extend(
            stands_in_for.iter().map(|why| format!("{from} stands in for the owner that the tags name: {why}")),
        );
        let running: usize = surroundings.running_by_zone.values().sum();
        let running = (running > 0).then_some(running);
        let (only_reclaimed, zone_of_subnet) =
            (!pools.is_empty() && all_reclaimed, surroundings.zone_of_subnet.clone());
        LaunchPlan { from, only_reclaimed, attempts, running, remarks, missing, zone_of_subnet, stands_in_for }
    }

    /// The attempt of this number. After the last attempt of the plan the first one comes again.
    pub fn attempt(&self, number: u32) -> Option<&InstantFleet> {
        self.attempts.get(number as usize % self.attempts.len().max(1))
    }

    /// Takes the default version, if all attempts use one template and AWS no longer knows its version. Of several
    /// templates nobody tells which it is. Returns the missing version; `None` if nothing changes.
    pub fn takes_default_version(&mut self) -> Option<MissingTemplate> {
        let all = || self.attempts.iter().flat_map(|attempt| &attempt.launch_configurations).map(|it| &it.template);
        let templates: BTreeSet<(&str, &str)> =
            all().map(|template| (template.id_or_name.as_str(), template.version.as_str())).collect();
        let template = all().next().filter(|_| templates.len() == 1)?.clone();
        let default = template.by_default_version()?;
        let configurations = self.attempts.iter_mut().flat_map(|attempt| &mut attempt.launch_configurations);
        configurations.for_each(|configuration| configuration.template.clone_from(&default));
        Some(MissingTemplate { template, has_default: true })
    }

    /// Tells whether the plan begins again with the attempt of this number.
    pub fn comes_round(&self, number: u32) -> bool {
        (number as usize).is_multiple_of(self.attempts.len().max(1))
    }

    /// The attempt as one instance: RunInstances takes one pool, and another one at each round. It cannot select types
    /// by attributes, so this instance's type stands for them.
    pub fn single(&self, number: u32, own_type: &str) -> Option<SingleLaunch> {
        let attempt = self.attempt(number)?;
        let own_pool = LaunchOverride::default();
        let pools: Vec<(&LaunchConfiguration, &LaunchOverride)> = attempt
            .launch_configurations
            .iter()
            .flat_map(|configuration| match configuration.overrides.as_slice() {
                [] => vec![(configuration, &own_pool)],
                pools => pools.iter().map(|pool| (configuration, pool)).collect(),
            })
            .collect();
        let round = number as usize / self.attempts.len().max(1);
        let position = number as usize % self.attempts.len().max(1);
        let (configuration, pool) = pools.get((round + position) % pools.len().max(1))?;
        Some(SingleLaunch {
            template: configuration.template.clone(),
            instance_type: pool.instance_type.clone().unwrap_or_else(|| own_type.to_owned()),
            subnet_id: pool.subnet_id.clone(),
            max_price: pool.max_price.clone(),
            market: attempt.market,
            tags: attempt.tags.clone(),
        })
    }
}

impl LaunchConfiguration {
    /// Takes the default version in place of a missing one.
    fn without(mut self, missing: &[MissingTemplate]) -> LaunchConfiguration {
        let is_missing = missing.iter().any(|it| it.has_default && it.template == self.template);
        if let Some(default) = self.template.by_default_version().filter(|_| is_missing) {
            self.template = default;
        }
        self
    }
}

/// The pools of a bare template: the types and subnets of the settings, else this instance's type and the surroundings'
/// subnets (the template's, or this instance's). A template that names its subnet itself gets none.
pub(super) fn overrides(identity: &Identity, choice: &Successor, surroundings: &Surroundings) -> Vec<LaunchOverride> {
    let types: Vec<&String> = match choice.instance_types.as_slice() {
        [] => vec![&identity.instance_type],
        types => types.iter().collect(),
    };
    let max_price = match &surroundings.traits.market {
        TemplateMarket::Spot { max_price } => max_price.clone(),
        TemplateMarket::Open => None,
    };
    let pool = |instance_type: &String| LaunchOverride {
        instance_type: Some(instance_type.clone()),
        max_price: max_price.clone(),
        ..LaunchOverride::default()
    };
    if surroundings.traits.own_subnet.is_some() {
        return types.into_iter().map(pool).collect();
    }
    let Surroundings { zone_of_subnet, subnets_without_zone, unknown_subnets, .. } = surroundings;
    // If AWS knows none of them, the launch has to fail and say so: without a subnet it would go anywhere.
    let unknown = unknown_subnets.iter().filter(|_| zone_of_subnet.is_empty() && subnets_without_zone.is_empty());
    let without_zone = subnets_without_zone.iter().chain(unknown).map(|subnet| (subnet, None));
    let subnets: Vec<(&String, Option<&String>)> =
        zone_of_subnet.iter().map(|(subnet, zone)| (subnet, Some(zone))).chain(without_zone).collect();
    types
        .iter()
        .flat_map(|instance_type| {
            subnets.iter().map(|(subnet, zone)| LaunchOverride {
                subnet_id: Some((*subnet).clone()),
                availability_zone: zone.cloned(),
                ..pool(instance_type)
            })
        })
        .collect()
}

/// The zones in which several of these subnets lie, each with its subnets: only one of them is used at a time.
pub fn crowded_zones(zone_of_subnet: &BTreeMap<String, String>) -> BTreeMap<&str, Vec<&str>> {
    let mut zones: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (subnet, zone) in zone_of_subnet {
        zones.entry(zone).or_default().push(subnet);
    }
    zones.retain(|_, subnets| subnets.len() > 1);
    zones
}

/// Selects the pools that an attempt is for.
type PoolFilter<'a> = &'a dyn Fn(&LaunchOverride) -> bool;

/// The attempts, best first: the zones with the fewest running members, then the other zones, both without the pool
/// that is being reclaimed. Then all pools; then on demand, if allowed. Where a zone has several subnets, the same
/// follows with the others. Pools whose instances count for fewer units than this one come last: as many units are
/// launched as leave, if possible. An attempt that repeats another is left out.
fn attempts(
    configurations: &[LaunchConfiguration],
    mut tags: BTreeMap<String, String>,
    identity: &Identity,
    choice: &Successor,
    surroundings: &Surroundings,
) -> Vec<InstantFleet> {
    tags.insert(PREDECESSOR_TAG.to_owned(), identity.instance_id.to_string());
    let zone = |pool: &LaunchOverride| zone_of(pool, surroundings);
    let reclaimed = |pool: &LaunchOverride| is_reclaimed(pool, identity, surroundings);
    let others = || configurations.iter().flat_map(|it| &it.overrides).filter(|pool| !reclaimed(pool)).filter_map(zone);
    let running = |zone: &String| surroundings.running_by_zone.get(zone).copied().unwrap_or(0);
    let fewest = others().filter(|zone| *zone != identity.availability_zone).map(|zone| running(&zone)).min();
    let best = |pool: &LaunchOverride| {
        let there = zone(pool).filter(|zone| *zone != identity.availability_zone);
        !reclaimed(pool) && there.is_some_and(|zone| Some(running(&zone)) == fewest)
    };
    let elsewhere = |pool: &LaunchOverride| !reclaimed(pool);
    let anywhere = |_: &LaunchOverride| true;

    let mut kinds: Vec<(Market, PoolFilter<'_>)> = Vec::new();
    if choice.balance_zones.0 {
        kinds.push((Market::Spot, &best));
    }
    kinds.extend([(Market::Spot, &elsewhere as _), (Market::Spot, &anywhere as _)]);
    if choice.on_demand_fallback {
        kinds.push((Market::OnDemand, &anywhere));
    }
    let own_type = Some(identity.instance_type.as_str());
    let pools = configurations.iter().flat_map(|it| &it.overrides);
    let ours = pools.filter(|pool| pool.instance_type.as_deref() == own_type).map(units_of).max();
    let counts = |pool: &LaunchOverride, least: Option<u32>| least.is_none_or(|least| units_of(pool) >= least);
    let rounds = most_alike(configurations, surroundings).min(MOST_ROUNDS);
    let mut attempts: Vec<InstantFleet> = Vec::new();
    for (least, round) in [ours, None].into_iter().flat_map(|least| (0..rounds).map(move |round| (least, round))) {
        for (position, (market, wanted)) in kinds.iter().enumerate() {
            let wanted = |pool: &LaunchOverride| wanted(pool) && counts(pool, least);
            let launch_configurations = narrowed(configurations, &wanted, round + position, surroundings);
            let attempt = InstantFleet { launch_configurations, market: *market, tags: tags.clone() };
            if !attempt.launch_configurations.is_empty() && !attempts.contains(&attempt) {
                attempts.push(attempt);
            }
        }
    }
    attempts
}

/// The units, in hundredths, that an instance of the pool counts for by its weight.
fn units_of(pool: &LaunchOverride) -> u32 {
    pool.weight_hundredths.unwrap_or(100)
}

/// One pool in AWS's eyes: a type (or a selection of types) in a zone. Subnets of unknown zone may lie in the same one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PoolIdentity {
    types: String,
    zone: Option<String>,
}

fn pool_of(pool: &LaunchOverride, surroundings: &Surroundings) -> PoolIdentity {
    let types = match (&pool.instance_type, &pool.requirements) {
        (Some(instance_type), _) => instance_type.clone(),
        (None, Some(requirements)) => format!("{requirements:?}"),
        (None, None) => String::new(),
    };
    PoolIdentity { types, zone: zone_of(pool, surroundings) }
}

fn alike(configurations: &[LaunchConfiguration], surroundings: &Surroundings) -> BTreeMap<PoolIdentity, usize> {
    let mut pools: BTreeMap<PoolIdentity, usize> = BTreeMap::new();
    for pool in configurations.iter().flat_map(|it| &it.overrides) {
        *pools.entry(pool_of(pool, surroundings)).or_default() += 1;
    }
    pools
}

/// The number of times that the most frequent pool is named; at least once.
fn most_alike(configurations: &[LaunchConfiguration], surroundings: &Surroundings) -> usize {
    alike(configurations, surroundings).into_values().max().unwrap_or(1)
}

fn zone_of(pool: &LaunchOverride, surroundings: &Surroundings) -> Option<String> {
    let by_subnet = pool.subnet_id.as_ref().and_then(|subnet| surroundings.zone_of_subnet.get(subnet));
    let by_template = || surroundings.traits.own_subnet.as_ref().filter(|_| pool.subnet_id.is_none())?.zone.clone();
    pool.availability_zone.as_ref().or(by_subnet).cloned().or_else(by_template)
}

/// Tells whether this may be the pool from which AWS takes this instance.
fn is_reclaimed(pool: &LaunchOverride, identity: &Identity, surroundings: &Surroundings) -> bool {
    pool.instance_type.as_ref().is_none_or(|instance_type| *instance_type == identity.instance_type)
        && zone_of(pool, surroundings).is_none_or(|zone| zone == identity.availability_zone)
}

/// The configurations with only the wanted pools; of several that are one pool only the one whose `turn` it is. A
/// configuration without pools stands for its template's own pool. Weights are left out: with a weight under one, a
/// capacity of 1 would launch two.
fn narrowed(
    configurations: &[LaunchConfiguration],
    wanted: PoolFilter<'_>,
    turn: usize,
    surroundings: &Surroundings,
) -> Vec<LaunchConfiguration> {
    let own_pool = LaunchOverride::default();
    let counts = alike(configurations, surroundings);
    let mut met: BTreeMap<PoolIdentity, usize> = BTreeMap::new();
    let mut has_turn = |pool: &LaunchOverride| {
        let of = pool_of(pool, surroundings);
        let count = counts.get(&of).copied().unwrap_or(1);
        let number = met.entry(of).or_default();
        *number += 1;
        (*number - 1) == turn % count
    };
    configurations
        .iter()
        .filter_map(|configuration| {
            let mut overrides: Vec<LaunchOverride> = Vec::new();
            for pool in &configuration.overrides {
                if has_turn(pool) && wanted(pool) {
                    overrides.push(LaunchOverride { weight_hundredths: None, ..pool.clone() });
                }
            }
            let stays = if configuration.overrides.is_empty() { wanted(&own_pool) } else { !overrides.is_empty() };
            stays.then(|| LaunchConfiguration { template: configuration.template.clone(), overrides })
        })
        .collect()
}

/// An override may name several subnets, separated by commas; an instant fleet takes one.
fn one_subnet_each(configuration: &LaunchConfiguration) -> LaunchConfiguration {
    let split = |pool: &LaunchOverride| -> Vec<LaunchOverride> {
        let Some(subnets) = &pool.subnet_id else { return vec![pool.clone()] };
        let several = subnets.contains(',');
        let subnets: BTreeSet<&str> = subnets.split(',').map(str::trim).filter(|subnet| !subnet.is_empty()).collect();
        let one = |subnet: &str| LaunchOverride {
            subnet_id: Some(subnet.to_owned()),
            // One zone says nothing of several subnets.
            availability_zone: pool.availability_zone.clone().filter(|_| !several),
            ..pool.clone()
        };
        subnets.into_iter().map(one).collect()
    };
    let overrides = configuration.overrides.iter().flat_map(split).collect();
    LaunchConfiguration { template: configuration.template.clone(), overrides }
}
