//! Calls to the fleet that owns this instance, of either kind, and putting right what a raise of its capacity has left.

use tracing::warn;

use super::log_line::LogLine;
use crate::cloud::Aws;
use crate::cloud::fleets::FleetMembers;
use crate::core::call::Answer;
use crate::core::model::{CapacityUnit, Fleet, FleetMember, Identity};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, Leftover, PutRight, leftover, leftover_of_survivor};
use crate::core::retry::{Failure, FailureKind};

/// The consequences for a raise where a read is denied.
const NOT_RAISED: &str =
    "its members cannot be counted, so it is not raised at a notice, and replaces this instance when it is gone";
const BY_MARKS: &str = "the members that go together are counted by the tags that spot-relay sets, which show late";
const TOO_FEW: &str = "it counts memory, and is raised by one MiB for each member that goes, so it may launch too few";

/// The remains of raises on a fleet, after an attempt to put them right.
pub(super) enum Tidied {
    Nothing,
    /// Something is left, to be looked at again soon; with a sentence for the log where a person may want to act.
    Later(Option<String>),
    /// A sentence for the log.
    Done(String),
}

/// The log line about the fleet, if there is anything to tell.
pub(super) fn told_of_the_fleet(tidied: Result<Tidied, Failure>) -> Option<LogLine> {
    match tidied {
        Ok(Tidied::Nothing | Tidied::Later(None)) => None,
        Ok(Tidied::Later(Some(why))) => Some(LogLine::Warn(why)),
        Ok(Tidied::Done(what)) => Some(LogLine::Info(what)),
        Err(failure) => Some(LogLine::Warn(format!("failed to put right what a raise left on the fleet: {failure}"))),
    }
}

/// Puts right what raises have left on the fleet, if nobody is under notice any more.
pub(super) async fn tidy(aws: &Aws, kind: FleetKind, fleet: &Fleet) -> Result<Tidied, Failure> {
    if !fleet.tags.contains_key(BASE_CAPACITY_TAG) {
        return Ok(Tidied::Nothing);
    }
    let members = members_to_tidy(aws, kind, fleet).await?;
    Ok(match leftover(fleet, &members, aws.clock.now()) {
        Leftover::Nothing => Tidied::Nothing,
        Leftover::Later => Tidied::Later(None),
        Leftover::Surplus { living, target } => Tidied::Later(Some(surplus(&fleet.id, living, target))),
        Leftover::Now(right) => Tidied::Done(put_right(aws, kind, fleet, right).await?),
    })
}

fn surplus(fleet_id: &str, living: i32, target: i32) -> String {
    format!(
        "{fleet_id} has {living} units and a target of {target}: a member under notice lived on, or somebody launched one more. \
         spot-relay leaves the tag {BASE_CAPACITY_TAG} and the excess capacity policy no-termination in place until you \
         terminate the members that are too many, or raise the target"
    )
}

async fn put_right(aws: &Aws, kind: FleetKind, fleet: &Fleet, right: PutRight) -> Result<String, Failure> {
    let mut done = Vec::new();
    for (change, words) in right.changes(fleet) {
        aws.ec2.change_fleet(kind, &fleet.id, change).await?;
        done.push(words);
    }
    if right.untag {
        aws.ec2.delete_tags(&fleet.id, &[BASE_CAPACITY_TAG]).await?;
        done.push(format!("removed the tag {BASE_CAPACITY_TAG}: nobody is under notice"));
    }
    Ok(format!("{}: {}", fleet.id, done.join("; ")))
}

/// Puts the capacity of a fleet back as far as it is this instance's to do.
pub(super) async fn put_capacity_back(
    aws: &Aws,
    identity: &Identity,
    kind: FleetKind,
    fleet_id: &str,
) -> Result<Answer, Failure> {
    let Some(fleet) = aws.ec2.fleet(kind, fleet_id).await? else {
        return Ok(Answer::Capacity { is_back: true });
    };
    let members = match fleet.tags.contains_key(BASE_CAPACITY_TAG) {
        true => members_to_tidy(aws, kind, &fleet).await?,
        false => Vec::new(),
    };
    let left = leftover_of_survivor(&fleet, members, &identity.instance_id, aws.clock.now());
    if let Leftover::Now(right) = left {
        // The fleet is looked at once more after it was put right.
        put_right(aws, kind, &fleet, right).await?;
    }
    Ok(Answer::Capacity { is_back: left == Leftover::Nothing })
}

/// The members to count. If IAM denies the Spot requests, leaving tags show who goes; one without yet raises again.
async fn members_to_tidy(aws: &Aws, kind: FleetKind, fleet: &Fleet) -> Result<Vec<FleetMember>, Failure> {
    let members = fleet_members(aws, kind, &fleet.id, fleet.unit).await?;
    match members.without_requests {
        Some(Failure { kind: FailureKind::Denied, .. }) => Ok(members.members),
        _ => members.with_requests(),
    }
}

/// The reads that a raise needs and that IAM denies, each in a sentence. What IAM has allowed is not asked again.
pub(super) async fn denied_reads(aws: &Aws, identity: &Identity, kind: FleetKind, fleet: &Fleet) -> Vec<String> {
    let (us, fleet_id) = (&identity.instance_id, &fleet.id);
    let is_open = |action: &str| aws.tally.is_allowed(action) != Some(true);
    let mut reads = Vec::new();
    let action = match kind {
        FleetKind::Ec2 => "DescribeFleetInstances",
        FleetKind::Spot => "DescribeSpotFleetInstances",
    };
    // A fleet may launch new types at any time.
    let counts_memory = fleet.unit == CapacityUnit::MemoryMib;
    if counts_memory || is_open(action) {
        let types = aws.ec2.member_types(kind, fleet_id).await;
        if let (Ok(types), true) = (&types, counts_memory) {
            let memory = aws.ec2.describe_instance_types(types.clone()).await;
            reads.push(("DescribeInstanceTypes", memory, TOO_FEW));
        }
        reads.push((action, types.map(drop), NOT_RAISED));
    }
    if is_open("DescribeInstances") {
        let described = aws.ec2.describe_instances(std::slice::from_ref(us)).await;
        reads.push(("DescribeInstances", described.map(drop), NOT_RAISED));
    }
    if is_open("DescribeSpotInstanceRequests") {
        let requests = aws.ec2.persistent_request(us).await;
        reads.push(("DescribeSpotInstanceRequests", requests.map(drop), BY_MARKS));
    }
    let denied = reads.into_iter().filter_map(|(action, read, meaning)| {
        let failure = read.err().filter(|failure| failure.kind == FailureKind::Denied)?;
        Some(format!(
            "ec2:{action} is denied for {fleet_id}: {meaning} (allow it: spot-relay policy prints what): {failure}"
        ))
    });
    denied.collect()
}

pub(super) async fn fleet_members(
    aws: &Aws,
    kind: FleetKind,
    fleet_id: &str,
    unit: CapacityUnit,
) -> Result<FleetMembers, Failure> {
    let mut members = aws.ec2.fleet_members(kind, fleet_id).await?;
    if unit == CapacityUnit::MemoryMib {
        let types = members.members.iter().map(|member| member.instance_type.clone()).collect();
        // A member whose memory is not known counts for less: the fleet launches too few rather than nobody.
        if let Err(failure) = aws.ec2.learn_new_types(types).await {
            warn!("the memory of the members of {fleet_id} is not known: {failure}");
        }
        for member in &mut members.members {
            member.memory_mib = aws.ec2.memory_mib(&member.instance_type);
        }
    }
    Ok(members)
}
