//! Successors that end before their time: why, for how long the next launch waits, and what a person can do.

use std::fmt;
use std::time::Duration;

use crate::core::model::{InstanceId, StateReason};
use crate::core::retry;

/// The longest pause after the first successor that died, doubled for each further one. Jitter takes off up to half.
const DEATH_PAUSE: Duration = Duration::from_secs(6);
/// After this many successors that died for the same reason, the next one would die for it too.
pub(super) const MOST_DEATHS: usize = 3;

/// A successor that ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) instance_id: InstanceId,
    pub(super) reason: Option<StateReason>,
    pub(super) has_run: bool,
    /// It was launched for an earlier incident.
    pub(super) is_of_another: bool,
    /// It bore the tag of an instance that leaves: its own daemon has asked for a successor.
    pub(super) was_leaving: bool,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_of_another {
            return write!(
                f,
                "{} was launched for an earlier interruption, and another one is launched",
                self.instance_id
            );
        }
        let when = if self.has_run { "ran and died" } else { "died at birth" };
        match &self.reason {
            Some(reason) => write!(f, "{} {when}: {reason}", self.instance_id),
            None => write!(f, "{} {when}, and AWS does not say why", self.instance_id),
        }
    }
}

/// The pause after this many successors that died (at least one).
pub(super) fn pause_after_deaths(deaths: usize, seed: u64) -> Duration {
    let longest = DEATH_PAUSE * (1 << deaths.saturating_sub(1).min(4));
    longest.mul_f64(0.5 + retry::fraction(seed) / 2.0)
}

/// Advice to a person about instances that die for this reason.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html>
pub(super) fn advice(code: &str) -> &'static str {
    match code {
        "Client.InternalError" => {
            "mostly the key of an encrypted volume: let the role that launches, and the service-linked roles of EC2 Spot and \
             EC2 Fleet, use the key (a grant), or take a key that they can use"
        }
        "Client.VolumeLimitExceeded" => "ask for a higher quota of EBS storage, or delete volumes that nobody needs",
        "Client.InvalidSnapshot.NotFound" | "Client.InvalidSnapshotId" => {
            "the image's snapshot is gone or not shared: put an image into the launch template that is there"
        }
        "Client.UserInitiatedShutdown" => "somebody terminates them by a call: CloudTrail names who",
        "Client.InstanceInitiatedShutdown" => "they shut themselves down: read their console output and user data",
        "Server.InsufficientInstanceCapacity" | "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" => {
            "AWS is short of these pools: name more [successor] subnets or instance-types, or allow on-demand-fallback"
        }
        _ => {
            "launch one by hand from the launch template and see what it says: aws ec2 describe-instances shows StateReason"
        }
    }
}
