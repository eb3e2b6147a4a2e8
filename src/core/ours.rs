//! This instance's targets in a target group, and their names for AWS. Pure.
//!
//! Invariant: an address is no identity across VPCs, because two VPCs of one account often use the same range. A group
//! of the other VPC that holds this instance's address holds a stranger (docs/aws.md 3). A target is ours in our VPC,
//! or in a group that the configuration names: the group of a peered VPC.

use crate::core::config::ListedTargetGroup;
use crate::core::model::{
    ALL_ZONES, DEFAULT_DEREGISTRATION_DELAY, Identity, Ports, Registration, Target, TargetGroupArn, TargetType,
    TargetZone,
};
use crate::core::retry::Failure;

/// A target group as DescribeTargetGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetGroup {
    pub arn: TargetGroupArn,
    pub target_type: TargetType,
    /// Its `IpAddressType` is `ipv6`: an `ip` group holds IPv6 addresses and no others.
    pub ipv6: bool,
    pub network: bool,
    pub multiplexed: bool,
    pub tls: bool,
    pub needs_server_id: bool,
    pub vpc_id: Option<String>,
    /// The port of a target that is registered without one.
    pub port: Option<u16>,
    pub load_balancers: Vec<String>,
    /// The reason why AWS did not describe the group: then its ARN is all that is known.
    pub undescribed: Option<Failure>,
}

/// A target as DescribeTargetHealth shows it, with its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShownTarget {
    pub target: Target,
    pub zone: Option<String>,
}

/// The source that says that this instance may be in a target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// The configuration, with these entries: the group is ours wherever it is.
    Configuration(&'a [ListedTargetGroup]),
    /// The owner, which registers there what it launches.
    Owner,
    /// A scan of all target groups.
    Discovery,
}

/// The relation of this instance to a target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours(Box<Registration>),
    /// This instance is not in it. If the group holds its address, that is another instance's in another VPC.
    NotOurs,
    /// The group holds this instance's address, but this instance's VPC is not known.
    Unclear,
    /// The group holds IPv6 addresses, but this instance's are not known.
    Untold,
}

/// Selects this instance's targets from `shown`, the targets of `group`.
pub(crate) fn whose(identity: &Identity, group: &TargetGroup, source: Source<'_>, shown: &[ShownTarget]) -> Whose {
    let entries = match source {
        Source::Configuration(entries) => entries,
        Source::Owner | Source::Discovery => &[],
    };
    let covers = covers(group, entries);
    let listed: Vec<u16> = entries.iter().filter(|entry| entry.names(&group.arn)).filter_map(|it| it.port).collect();
    let is_ours = |one: &&ShownTarget| {
        identity.is_target(group.target_type, &one.target.id)
            && (covers == Ports::Every || listed.contains(&one.target.port))
    };
    let ours: Vec<&ShownTarget> = shown.iter().filter(is_ours).collect();
    let by_address = !matches!(source, Source::Configuration(_)) && group.target_type == TargetType::Ip;
    let is_untold = group.ipv6 && identity.ipv6_addresses.is_none() && !shown.is_empty();
    match (&identity.vpc_id, &group.vpc_id) {
        (Some(ours), Some(theirs)) if by_address && ours != theirs => return Whose::NotOurs,
        _ if ours.is_empty() && is_untold => return Whose::Untold,
        (None, Some(_)) if by_address && !ours.is_empty() => return Whose::Unclear,
        _ => {}
    }
    let Some(first) = ours.first() else { return Whose::NotOurs };
    let zone = zone(identity, group, first.zone.as_deref());
    let mut targets: Vec<Target> = ours.iter().map(|one| one.target.clone()).collect();
    targets.sort();
    targets.dedup();
    Whose::Ours(Box::new(registration(group, targets, covers, zone)))
}

/// The registration of this instance to make in a group that the configuration names: on the ports of its entries, or
/// on the group's own. `None` if this instance has no address, or the group no port.
pub(crate) fn to_register(
    identity: &Identity,
    group: &TargetGroup,
    entries: &[ListedTargetGroup],
) -> Option<Registration> {
    let id = own_id(identity, group);
    let entries = entries.iter().filter(|entry| entry.names(&group.arn));
    let mut targets: Vec<Target> = entries
        .clone()
        .filter_map(|it| it.port.or(group.port))
        .map(|port| Target { id: id.to_owned(), port })
        .collect();
    targets.sort();
    targets.dedup();
    let entries: Vec<ListedTargetGroup> = entries.cloned().collect();
    let registration = registration(group, targets, covers(group, &entries), zone(identity, group, None));
    (!id.is_empty() && !registration.targets.is_empty()).then_some(registration)
}

/// The presumed targets in a group of which AWS does not show the targets: on the listed ports, else on the group's
/// own. `None` if nobody says that this instance is in the group, or its address may be another instance's.
pub(crate) fn presumed(identity: &Identity, group: &TargetGroup, source: Source<'_>) -> Option<Registration> {
    let is_inside =
        group.target_type == TargetType::Instance || (identity.vpc_id.is_some() && identity.vpc_id == group.vpc_id);
    match source {
        Source::Configuration(entries) => to_register(identity, group, entries),
        Source::Owner if is_inside => {
            let entry = ListedTargetGroup { arn_or_name: group.arn.to_string(), port: None };
            to_register(identity, group, &[entry])
        }
        Source::Owner | Source::Discovery => None,
    }
}

/// The configuration covers every port unless each of its entries for the group names one.
fn covers(group: &TargetGroup, entries: &[ListedTargetGroup]) -> Ports {
    let mut entries = entries.iter().filter(|entry| entry.names(&group.arn)).peekable();
    let each_has_a_port = entries.peek().is_some() && entries.all(|entry| entry.port.is_some());
    if each_has_a_port { Ports::Listed } else { Ports::Every }
}

fn own_id<'a>(identity: &'a Identity, group: &TargetGroup) -> &'a str {
    match group.target_type {
        TargetType::Instance => identity.instance_id.as_str(),
        TargetType::Ip if group.ipv6 => {
            identity.ipv6_addresses.iter().flatten().next().map(String::as_str).unwrap_or_default()
        }
        TargetType::Ip => &identity.private_ip,
    }
}

/// The zone to send: none inside the group's VPC, where it is AWS's. If a VPC is not known, a zone other than this
/// instance's was given at the registration, as only an address outside needs.
fn zone(identity: &Identity, group: &TargetGroup, shown: Option<&str>) -> TargetZone {
    let is_inside = match (&identity.vpc_id, &group.vpc_id) {
        _ if group.target_type == TargetType::Instance => true,
        (Some(ours), Some(theirs)) => ours == theirs && shown != Some(ALL_ZONES),
        _ => shown.is_none_or(|zone| zone == identity.availability_zone),
    };
    if is_inside { TargetZone::Implied } else { TargetZone::outside(shown) }
}

fn registration(group: &TargetGroup, targets: Vec<Target>, covers: Ports, zone: TargetZone) -> Registration {
    Registration {
        covers,
        group_port: group.port,
        zone,
        deregistration_delay: DEFAULT_DEREGISTRATION_DELAY,
        network: group.network,
        multiplexed: group.multiplexed,
        tls: group.tls,
        needs_server_id: group.needs_server_id,
        load_balancers: group.load_balancers.clone(),
        ..Registration::new(group.arn.clone(), group.target_type, targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::handover::tests::identity_of;

    fn identity(vpc_id: Option<&str>) -> Identity {
        let (private_ip, vpc_id) = ("10.0.1.7".into(), vpc_id.map(str::to_owned));
        Identity { private_ip, vpc_id, ..identity_of("i-us") }
    }

    fn group(target_type: TargetType, vpc_id: &str) -> TargetGroup {
        TargetGroup {
            arn: TargetGroupArn::new("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0"),
            target_type,
            ipv6: false,
            network: false,
            multiplexed: false,
            tls: false,
            needs_server_id: false,
            vpc_id: Some(vpc_id.into()),
            port: Some(80),
            load_balancers: Vec::new(),
            undescribed: None,
        }
    }

    fn shown(id: &str, port: u16, zone: Option<&str>) -> ShownTarget {
        ShownTarget { target: Target { id: id.into(), port }, zone: zone.map(str::to_owned) }
    }

    fn listed(port: Option<u16>) -> ListedTargetGroup {
        ListedTargetGroup { arn_or_name: "web".into(), port }
    }

    /// The ports of ours, and the zone that is sent.
    fn ours(whose: Whose) -> (Vec<u16>, Option<String>) {
        let Whose::Ours(registration) = whose else { panic!("{whose:?}") };
        (registration.ports().into_iter().collect(), registration.zone.to_send().map(str::to_owned))
    }

    #[test]
    fn an_address_in_our_vpc_is_ours_and_its_zone_is_never_sent() {
        let rows = [shown("10.0.1.7", 80, Some("eu-west-1a")), shown("10.0.1.8", 80, Some("eu-west-1b"))];
        let group = group(TargetType::Ip, "vpc-1");
        assert_eq!(ours(whose(&identity(Some("vpc-1")), &group, Source::Discovery, &rows)), (vec![80], None));
    }

    #[test]
    fn the_same_address_in_another_vpc_is_a_stranger_unless_the_configuration_names_its_group() {
        let rows = [shown("10.0.1.7", 80, Some("all"))];
        let (us, group) = (identity(Some("vpc-1")), group(TargetType::Ip, "vpc-2"));
        assert_eq!(whose(&us, &group, Source::Discovery, &rows), Whose::NotOurs);
        let configured = Source::Configuration(&[ListedTargetGroup { arn_or_name: "web".into(), port: None }]);
        assert_eq!(ours(whose(&us, &group, configured, &rows)), (vec![80], Some("all".into())));
        let rows = [shown("10.0.1.7", 80, Some("eu-west-1c"))];
        assert_eq!(ours(whose(&us, &group, configured, &rows)), (vec![80], Some("eu-west-1c".into())), "as registered");
    }

    #[test]
    fn without_a_vpc_of_our_own_an_address_says_nothing_and_an_instance_id_everything() {
        let us = identity(None);
        let rows = [shown("10.0.1.7", 80, Some("eu-west-1a")), shown("i-us", 80, None)];
        assert_eq!(whose(&us, &group(TargetType::Ip, "vpc-1"), Source::Discovery, &rows), Whose::Unclear);
        assert_eq!(ours(whose(&us, &group(TargetType::Instance, "vpc-1"), Source::Discovery, &rows)), (vec![80], None));
        let configured = [listed(None)];
        let by_name = whose(&us, &group(TargetType::Ip, "vpc-1"), Source::Configuration(&configured), &rows);
        assert_eq!(ours(by_name), (vec![80], None));
        let rows = [shown("10.0.1.7", 80, Some("all"))];
        let by_name = whose(&us, &group(TargetType::Ip, "vpc-1"), Source::Configuration(&configured), &rows);
        assert_eq!(ours(by_name), (vec![80], Some("all".into())), "registered as an address outside");
        assert_eq!(whose(&us, &group(TargetType::Ip, "vpc-1"), Source::Discovery, &[]), Whose::NotOurs);
    }

    #[test]
    fn an_entry_with_a_port_means_that_port_and_one_without_every_port() {
        let rows = [shown("i-us", 8080, None), shown("i-us", 9090, None), shown("i-us", 80, None)];
        let (us, group) = (identity(Some("vpc-1")), group(TargetType::Instance, "vpc-1"));
        let of = |entries: &[ListedTargetGroup]| ours(whose(&us, &group, Source::Configuration(entries), &rows)).0;
        assert_eq!(of(&[listed(Some(8080))]), [8080]);
        assert_eq!(of(&[listed(Some(8080)), listed(Some(80))]), [80, 8080]);
        assert_eq!(of(&[listed(Some(8080)), listed(None)]), [80, 8080, 9090]);
        let nothing = whose(&us, &group, Source::Configuration(&[listed(Some(81))]), &rows);
        assert_eq!(nothing, Whose::NotOurs);
    }

    #[test]
    fn an_arrival_sends_all_where_the_group_is_in_another_vpc() {
        let us = identity(Some("vpc-1"));
        let to_send = |vpc| {
            let made = to_register(&us, &group(TargetType::Ip, vpc), &[listed(Some(8080)), listed(None)]);
            let made = made.expect("a registration");
            (made.ports().into_iter().collect::<Vec<_>>(), made.zone.to_send().map(str::to_owned))
        };
        assert_eq!(to_send("vpc-1"), (vec![80, 8080], None));
        assert_eq!(to_send("vpc-2"), (vec![80, 8080], Some("all".into())));
    }

    #[test]
    fn a_group_of_ipv6_addresses_holds_ours_however_they_are_spelled() {
        let us = Identity {
            ipv6_addresses: Some(vec!["2001:db8::7".into(), "2001:db8::8".into()]),
            ..identity(Some("vpc-1"))
        };
        let group = TargetGroup { ipv6: true, ..group(TargetType::Ip, "vpc-1") };
        let rows = [
            shown("2001:db8:0:0::8", 80, Some("eu-west-1a")),
            shown("2001:db8::9", 80, Some("eu-west-1a")),
            shown("2001:db8::7", 81, None),
        ];
        let Whose::Ours(registration) = whose(&us, &group, Source::Discovery, &rows) else { panic!("it is ours") };
        let ids: Vec<&str> = registration.targets.iter().map(|target| target.id.as_str()).collect();
        assert_eq!(ids, ["2001:db8:0:0::8", "2001:db8::7"], "as AWS shows them");
        assert!(registration.holds_ipv6());
        let made = to_register(&us, &group, &[listed(None)]).expect("a registration");
        assert_eq!(made.targets, [Target { id: "2001:db8::7".into(), port: 80 }]);
        assert_eq!(to_register(&identity(Some("vpc-1")), &group, &[listed(None)]), None, "it has no such address");
        assert_eq!(whose(&us, &group, Source::Discovery, &rows[1..2]), Whose::NotOurs);
    }

    #[test]
    fn addresses_that_nobody_has_told_are_not_taken_for_none() {
        let us = Identity { ipv6_addresses: None, ..identity(Some("vpc-1")) };
        let ipv6 = |vpc| TargetGroup { ipv6: true, ..group(TargetType::Ip, vpc) };
        let rows = [shown("2001:db8::7", 80, None)];
        assert_eq!(whose(&us, &ipv6("vpc-1"), Source::Owner, &rows), Whose::Untold);
        assert_eq!(whose(&us, &ipv6("vpc-2"), Source::Configuration(&[listed(None)]), &rows), Whose::Untold);
        assert_eq!(whose(&us, &ipv6("vpc-2"), Source::Owner, &rows), Whose::NotOurs, "in another VPC");
        assert_eq!(whose(&us, &ipv6("vpc-1"), Source::Owner, &[]), Whose::NotOurs, "the group is empty");
        assert_eq!(whose(&us, &group(TargetType::Ip, "vpc-1"), Source::Owner, &rows), Whose::NotOurs);
        assert_eq!(whose(&us, &group(TargetType::Instance, "vpc-1"), Source::Owner, &rows), Whose::NotOurs);
        let none = Identity { ipv6_addresses: Some(Vec::new()), ..us };
        assert_eq!(whose(&none, &ipv6("vpc-1"), Source::Owner, &rows), Whose::NotOurs);
    }
}
