//! Health reports from outside: in a bench a load balancer probes the real servers that play the instances.
//!
//! A report counts for the targets that are registered when it arrives. It does not concern draining.

use super::target_group::Reported;
use super::world::World;

impl World {
    /// Sets the health of every target with this id and port, in any group.
    pub(crate) fn report_target_health(&mut self, id: &str, port: u16, reported: Reported) {
        let targets = self.target_groups.iter_mut().flat_map(|group| &mut group.targets);
        for target in targets.filter(|target| target.id == id && target.port == port) {
            target.reported = Some(reported);
        }
    }
}
