//! Health that is reported from outside: a bench's load balancer probes the real servers that play the instances.
//!
//! A report counts for the targets that are registered when it arrives. It says nothing about draining.

use serde::Deserialize;

use super::target_groups::Health;
use super::world::World;

/// The verdict of a load balancer's probes about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reported {
    Healthy,
    Unhealthy,
}

impl Reported {
    pub(crate) fn health(self) -> Health {
        match self {
            Reported::Healthy => ("healthy", None, None),
            Reported::Unhealthy => ("unhealthy", Some("Target.Timeout"), Some("Request timed out")),
        }
    }
}

impl World {
    /// Sets the health of every target with this id and port, in whatever group.
    pub(crate) fn report_target_health(&mut self, id: &str, port: u16, reported: Reported) {
        let targets = self.target_groups.iter_mut().flat_map(|group| &mut group.targets);
        for target in targets.filter(|target| target.id == id && target.port == port) {
            target.reported = Some(reported);
        }
    }
}
