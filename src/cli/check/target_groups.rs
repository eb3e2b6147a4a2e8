//! The target groups of this instance: found as the daemon finds them, with ports, health and deregistration delay.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::Finding;
use super::{group, owner, traffic_sources};
use crate::cloud::elb::{FoundRegistrations, UnclearReason};
use crate::core::config::{Config, ListedTargetGroup, TargetGroups};
use crate::core::model::{DEFAULT_DEREGISTRATION_DELAY, Registration, TargetGroupArn, TargetHealth, TargetState};
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::Plan;
use crate::core::retry::Failure;
use crate::daemon::Parties;
use crate::daemon::registrations;

/// The limit of a scan of all of the account's target groups.
const SCAN_LIMIT: Duration = Duration::from_secs(60);

/// Checks the target groups, and returns the registrations if they were found.
pub(super) async fn look(parties: &Parties, plan: Option<&Plan>) -> (Vec<Finding>, Option<Vec<Registration>>) {
    let mut found = match find(parties, plan.map(Plan::owners_target_groups).unwrap_or_default()).await {
        Ok(found) => found,
        Err(finding) => return (vec![finding], None),
    };
    let without_delay = registrations::add_delays(parties, &mut found).await.err();
    let mut findings: Vec<Finding> = found.missing.iter().map(|name| missing(name)).collect();
    findings.extend(not_registered(&parties.config, &found));
    findings.extend(found.unclear.iter().map(|(target_group, doubt)| in_doubt(target_group, doubt)));
    findings.extend(traffic_sources::look(parties, plan).await);
    findings.extend(traffic_sources::zones(parties, plan, &found.registrations).await);
    findings.extend(group::termination_hooks(plan, &found.registrations));
    for registration in &found.registrations {
        let why = without_delay.as_ref().filter(|_| found.without_delay.contains(&registration.target_group));
        findings.extend(of_registration(parties, registration, why, plan).await);
        findings.extend(drains(registration, &found.unheard, plan).map(|finding| finding.of(registration.name())));
    }
    if findings.is_empty() {
        findings.push(
            Finding::warn("target-group", "this instance is in no target group")
                .meaning("there is nothing to leave; what it serves, if anything, is cut at its end")
                .remedy("register it, or list its groups in target-groups; a worker that serves nothing is fine"),
        );
    }
    (findings, Some(found.registrations))
}

/// Finds the registrations: first, as the daemon does, in the groups that the owner names, which takes no scan.
async fn find(parties: &Parties, named: &[TargetGroupArn]) -> Result<FoundRegistrations, Finding> {
    let look = |among: Option<Vec<TargetGroupArn>>| registrations::find_registrations(parties, among, &[]);
    let of_owner = match named {
        [] => None,
        named => {
            let found = parties.patiently(|| look(Some(named.to_vec()))).await;
            Some(found.map_err(|failure| unknown(&failure))?)
        }
    };
    match (tokio::time::timeout(SCAN_LIMIT, look(None)).await, of_owner) {
        (Ok(Ok(found)), _) | (_, Some(found)) => Ok(found),
        (Ok(Err(failure)), None) => Err(unknown(&failure)),
        (Err(_), None) => Err(too_many()),
    }
}

fn in_doubt(target_group: &TargetGroupArn, doubt: &UnclearReason) -> Finding {
    match doubt {
        UnclearReason::Vpc => Finding::warn(
            "target-group",
            "it holds this instance's address, and this instance's VPC is not known",
        )
        .of(target_group.name())
        .meaning(
            "an instance of another VPC may have the same address, so the group is left alone: nothing is deregistered",
        )
        .remedy(
            "see that the metadata tells network/interfaces/macs/MAC/vpc-id, or allow ec2:DescribeInstances, or list \
                the group in target-groups if it is ours",
        ),
        UnclearReason::Addresses => {
            Finding::warn("target-group", "it holds IPv6 addresses, and those of this instance are not known")
                .of(target_group.name())
                .meaning("whether this instance is in it is not known; the daemon looks again and again")
                .remedy("see that the metadata tells network/interfaces/macs/MAC/ipv6s, or allow ec2:DescribeInstances")
        }
        UnclearReason::Refused(failure) => {
            Finding::warn("target-group", format!("AWS does not describe it: {failure}"))
                .of(target_group.name())
                .meaning("whether this instance is in it is not known, and it is left alone")
                .remedy("look at the group, or list this instance's groups in target-groups")
        }
        UnclearReason::Untold(failure) => Finding::warn("target-group", format!("AWS has not told of it: {failure}"))
            .of(target_group.name())
            .meaning("whether this instance is in it is not known; the daemon asks for it again and again")
            .remedy("check again"),
        UnclearReason::Undescribed(failure) => Finding::warn(
            "target-group",
            format!("this instance is in it, and IAM lets nobody describe it: {failure}"),
        )
        .of(target_group.name())
        .meaning("its protocol and its own port are not known, so it is waited for as behind a Network Load Balancer")
        .remedy("allow elasticloadbalancing:DescribeTargetGroups: spot-relay policy prints it"),
    }
}

fn unknown(failure: &Failure) -> Finding {
    Finding::fail("target-group", format!("this instance's target groups are not known: {failure}"))
        .meaning("nothing could be deregistered at once on a notice")
        .remedy(owner::remedy(failure))
}

fn too_many() -> Finding {
    let what = format!("AWS has not told within {} s which target groups this instance is in", SCAN_LIMIT.as_secs());
    Finding::warn("target-group", what).meaning("this instance leaves late a target group that is found late").remedy(
        "check again, in case AWS throttles; if they are too many, list this instance's groups in target-groups",
    )
}

fn missing(name: &str) -> Finding {
    Finding::fail("target-group", "AWS knows no such target group in this region")
        .of(name)
        .meaning("no handover is complete while it is listed")
        .remedy("correct target-groups, or create the group")
}

/// Reports listed groups that exist but do not hold this instance.
fn not_registered(config: &Config, found: &FoundRegistrations) -> Vec<Finding> {
    let TargetGroups::Listed(listed) = &config.target_groups else { return Vec::new() };
    let unclear = found.unclear.iter().map(|(target_group, _)| target_group);
    let known: Vec<_> = found.registrations.iter().map(|it| &it.target_group).chain(unclear).collect();
    let is_known = |group: &ListedTargetGroup| known.iter().any(|arn| group.names(arn));
    let others = listed.iter().filter(|group| !is_known(group)).map(|group| &group.arn_or_name);
    let arrives = config.arrive.register;
    others
        .filter(|name| !found.missing.contains(name))
        .map(|name| match arrives {
            true => Finding::ok("target-group", "not in it yet: [arrive] register adds this instance once it is ready")
                .of(name),
            false => Finding::warn("target-group", "this instance is not registered in it")
                .of(name)
                .meaning("there is nothing to leave in it")
                .remedy("register it, write [arrive] register = true, or take the group out of target-groups"),
        })
        .collect()
}

async fn of_registration(
    parties: &Parties,
    registration: &Registration,
    without_delay: Option<&Failure>,
    plan: Option<&Plan>,
) -> Vec<Finding> {
    let name = registration.name();
    let health = parties
        .aws
        .elb
        .describe_target_health(&registration.target_group, &registration.targets, &registration.zone)
        .await;
    let in_it = match health {
        Ok(health) if !health.is_empty() => in_service(registration, &health),
        Ok(_) => not_known(registration, "AWS describes none of its targets"),
        Err(failure) => not_known(registration, &failure.to_string()),
    };
    let mut findings = vec![in_it.of(name)];
    findings.push(without_delay.map_or_else(|| delay(registration, &parties.config), untold_delay).of(name));
    if registration.network {
        let finding = Finding::warn("load-balancer", "a Network Load Balancer");
        findings.push(
            finding
                .of(name)
                .meaning("it sends new flows for minutes after the deregistration, and a successor is healthy as late")
                .remedy(
                    "keep the application listening to the end, and do not let its health check fail on the hook `notice`: \
                     this instance may still serve after it",
                ),
        );
    } else {
        findings.push(Finding::ok("load-balancer", "an Application Load Balancer").of(name));
    }
    findings.extend(server_id(registration).map(|finding| finding.of(name)));
    findings.extend(who_registers(registration, plan).map(|finding| finding.of(name)));
    findings
}

/// Reports whether this machine's connections show the end of its requests. Network Load Balancers have a finding of
/// their own.
fn drains(registration: &Registration, unheard: &BTreeSet<u16>, plan: Option<&Plan>) -> Option<Finding> {
    if registration.network {
        return None;
    }
    let unheard: Vec<String> =
        registration.ports().iter().filter(|port| unheard.contains(port)).map(u16::to_string).collect();
    let sources = plan.map(Plan::other_traffic_sources).unwrap_or_default();
    let found = match unheard.as_slice() {
        _ if registration.multiplexed => {
            "it speaks HTTP/2 or gRPC: many requests share one connection, and a silent one is not seen".to_owned()
        }
        [] if !sources.is_empty() => {
            format!("requests come from the group's other traffic sources too: {}", sources.join(", "))
        }
        [] => return Some(Finding::ok("drain", "this machine's connections show when its requests have ended")),
        ports => format!(
            "nobody listens here on port {}, which is in service: it is redirected, or published from a container",
            ports.join(", ")
        ),
    };
    let meaning = "open requests are not seen, so every handover waits for them until the reserve";
    let remedy =
        "let a unit of spot-relay-drained.target stop the server gracefully: it has [leave] reserve to end them in";
    Some(Finding::warn("drain", found).meaning(meaning).remedy(remedy))
}

fn server_id(registration: &Registration) -> Option<Finding> {
    registration.needs_server_id.then(|| {
        Finding::warn("protocol", "QUIC: a target is registered there with a server id of its own")
            .meaning("spot-relay takes this instance out, and can register neither a successor nor this instance again")
            .remedy("register the successor by a program that knows the server ids")
    })
}

fn not_known(registration: &Registration, why: &str) -> Finding {
    Finding::warn(
        "target-group",
        format!("in it with {}; whether it is in service is not known: {why}", registration.ports_in_words()),
    )
    .meaning("nothing proves in a handover that this instance has left")
    .remedy("allow elasticloadbalancing:DescribeTargetHealth, and check again")
}

fn in_service(registration: &Registration, health: &[TargetHealth]) -> Finding {
    let ports = registration.ports_in_words();
    let idle = health.iter().find(|row| row.state != TargetState::Healthy);
    match idle {
        Some(row) if registration.is_unserved(row) => Finding::warn(
            "target-group",
            format!("in it with {ports}, in a zone that is enabled for none of its load balancers (Target.NotInUse)"),
        )
        .meaning("this instance gets no requests from it, and a successor in this zone would not either")
        .remedy("enable the zone for the load balancer, or launch in the zones that it serves"),
        None => Finding::ok("target-group", format!("in it with {ports}, in service")),
        Some(row) => {
            let reason = row.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
            Finding::warn(
                "target-group",
                format!("in it with {ports}; port {} is not in service ({}{reason})", row.target.port, row.state),
            )
            .meaning("it gets no requests now; a handover leaves it all the same, and its successor may not be healthy either")
            .remedy("see its health check, and that a load balancer uses the group")
        }
    }
}

/// Checks that the deregistration delay fits into the notice without the reserve.
fn delay(registration: &Registration, config: &Config) -> Finding {
    let delay = registration.deregistration_delay;
    let room = TWO_MINUTES.saturating_sub(config.leave.reserve);
    if delay <= room {
        return Finding::ok("deregistration-delay", format!("{} s fit into the two minutes", delay.as_secs()));
    }
    Finding::warn("deregistration-delay", format!("{} s are longer than the notice allows", delay.as_secs()))
        .meaning(format!(
            "a request that takes longer than {} s is cut when the instance goes; the load balancer shows `draining` for \
             longer than that, so spot-relay goes by this machine's own connections",
            room.as_secs()
        ))
        .remedy(format!(
            "aws elbv2 modify-target-group-attributes --target-group-arn {} --attributes \
             Key=deregistration_delay.timeout_seconds,Value={}",
            registration.target_group,
            room.as_secs()
        ))
}

fn untold_delay(failure: &Failure) -> Finding {
    Finding::warn("deregistration-delay", format!("not known: {failure}"))
        .meaning(format!("{} s are assumed; the daemon asks for it again", DEFAULT_DEREGISTRATION_DELAY.as_secs()))
        .remedy("check again")
}

fn who_registers(registration: &Registration, plan: Option<&Plan>) -> Option<Finding> {
    let plan = plan.filter(|plan| !matches!(plan, Plan::Nobody { .. }))?;
    let is_by_owner = plan.owners_target_groups().contains(&registration.target_group);
    let found = match plan {
        _ if is_by_owner => "the owner registers the successor",
        _ if registration.needs_server_id => return None,
        Plan::Launch(_) => "spot-relay registers the successor",
        _ => "the owner does not know this group: spot-relay registers the successor",
    };
    Some(Finding::ok("successor-registration", found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::retry::FailureKind;

    #[test]
    fn a_listed_target_group_that_aws_does_not_tell_of_is_not_called_one_without_this_instance() {
        let arn = |account: &str, name: &str| {
            TargetGroupArn::new(format!("arn:aws:elasticloadbalancing:r:{account}:targetgroup/{name}/0123456789abcdef"))
        };
        let theirs = arn("222222222222", "theirs");
        let config = Config::parse(&format!("target-groups = [\"api\", \"{theirs}\"]\n"), "test").unwrap();
        let denied = Failure::of(FailureKind::Denied, "not authorized".to_owned());
        let unclear = vec![(theirs, UnclearReason::Untold(denied))];
        let found = FoundRegistrations { unclear, ..FoundRegistrations::default() };
        let told: Vec<String> = not_registered(&config, &found).iter().map(|finding| format!("{finding:?}")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("api"), "{told:?}");
    }
}
