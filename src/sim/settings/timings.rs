//! The times that things take in the simulated world.

use std::time::Duration;

use serde::Deserialize;

use super::super::clock::duration_text;

/// The times of events in the simulated world.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// The time from an owner's decision to launch until the instance exists, `pending`.
    #[serde(with = "duration_text")]
    pub launch_after: Duration,
    /// The time that LaunchInstances takes to answer.
    #[serde(with = "duration_text")]
    pub launch_instances_takes: Duration,
    /// The time from launch until DescribeInstances shows the instance: AWS is eventually consistent.
    #[serde(with = "duration_text")]
    pub visible_after: Duration,
    /// The time from `pending` to `running`.
    #[serde(with = "duration_text")]
    pub running_after: Duration,
    /// The difference between the slowest boot and the quickest.
    #[serde(with = "duration_text")]
    pub boots_differ_by: Duration,
    /// The time from `running` until DescribeInstances shows the private address.
    #[serde(with = "duration_text")]
    pub address_after: Duration,
    /// The time from registration in a target group to `healthy`.
    #[serde(with = "duration_text")]
    pub healthy_after: Duration,
    /// The time that a target drains; by default its group's deregistration delay.
    #[serde(with = "duration_text::optional")]
    pub draining_for: Option<Duration>,
    /// The owner's delay before it acts on an event: a death, a notice with a strategy, a failed launch.
    #[serde(with = "duration_text")]
    pub owner_reacts_after: Duration,
    /// The time for which a detached instance is `Detaching`.
    #[serde(with = "duration_text")]
    pub detaching_for: Duration,
    /// The time from the group's decision to terminate (or the hook's completion) until the instance is shut down.
    #[serde(with = "duration_text")]
    pub terminates_after: Duration,
    /// The time from `shutting-down` to `terminated`, and from `stopping` to `stopped`.
    #[serde(with = "duration_text")]
    pub gone_after: Duration,
    /// A fleet's `TerminationDelay` (strategy launch-before-terminate).
    #[serde(with = "duration_text")]
    pub termination_delay: Duration,
    /// The time for which a fleet is `modifying`, and shows its old target.
    #[serde(with = "duration_text")]
    pub modifying_for: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            launch_after: Duration::from_secs(1),
            launch_instances_takes: Duration::from_secs(3),
            visible_after: Duration::ZERO,
            running_after: Duration::from_secs(4),
            boots_differ_by: Duration::from_secs(20),
            address_after: Duration::ZERO,
            healthy_after: Duration::from_secs(5),
            draining_for: None,
            owner_reacts_after: Duration::from_secs(2),
            detaching_for: Duration::from_secs(5),
            terminates_after: Duration::from_secs(5),
            gone_after: Duration::from_secs(2),
            termination_delay: Duration::from_secs(120),
            modifying_for: Duration::ZERO,
        }
    }
}

impl Timings {
    /// Almost everything takes a tenth of a second, for tests.
    pub fn fast() -> Timings {
        let tenth = Duration::from_millis(100);
        Timings {
            launch_after: tenth,
            launch_instances_takes: tenth,
            visible_after: Duration::ZERO,
            running_after: tenth,
            boots_differ_by: tenth * 10,
            address_after: Duration::ZERO,
            healthy_after: tenth,
            draining_for: None,
            owner_reacts_after: tenth,
            detaching_for: tenth,
            terminates_after: tenth,
            gone_after: tenth,
            termination_delay: Duration::from_secs(120),
            modifying_for: Duration::ZERO,
        }
    }
}
