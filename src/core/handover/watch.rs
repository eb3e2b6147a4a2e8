//! The duty to watch the successor as long as the handover lasts: pending, running, or gone again.

use std::time::Duration;

use super::crowd::Bucket;
use super::{Answer, Call, Journal, Pace, Report, View, seconds};
use crate::core::model::{BootInstant, Instance, InstanceId, InstanceState, MilestoneKind};

/// The pauses between two looks until it runs.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
];
/// And once it runs.
const RUNNING_PAUSE: Duration = Duration::from_secs(15);

pub(super) struct Watch {
    /// Not empty. A fleet that replaces several victims at once may have launched several; the first is ours by name.
    ids: Vec<InstanceId>,
    running: Vec<Instance>,
    running_at: Option<BootInstant>,
    state: Option<InstanceState>,
    pace: Pace,
    looks: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    Alive,
    Died,
}

impl Watch {
    pub(super) fn new(ids: Vec<InstanceId>, now: BootInstant, seed: u64) -> Watch {
        let pace = Pace::new(now + PAUSES[0], seed);
        Watch { ids, running: Vec::new(), running_at: None, state: None, pace, looks: 0 }
    }

    pub(super) fn id(&self) -> Option<InstanceId> {
        self.ids.first().cloned()
    }

    pub(super) fn into_ids(self) -> Vec<InstanceId> {
        self.ids
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn running(&self) -> &[Instance] {
        &self.running
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> Option<Call> {
        view.crowd.space_out(&mut self.pace, Bucket::EC2_LOOKS);
        let due = self.pace.begin(view.now);
        due.then(|| Call::DescribeInstances { instance_ids: self.ids.clone() })
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer, journal: &mut Journal) -> Watched {
        let instances = match answer {
            Answer::Instances(instances) => instances,
            // AWS knows a new instance a moment after it has told of it.
            Answer::Failed(failure) if failure.has_code(&["InvalidInstanceID.NotFound"]) => Vec::new(),
            other => {
                self.pace.failed_by(now, other);
                return Watched::Alive;
            }
        };
        self.state = instances.iter().find(|it| Some(&it.instance_id) == self.ids.first()).map(|it| it.state);
        if !instances.is_empty() && !instances.iter().any(|instance| instance.state.is_alive()) {
            return Watched::Died;
        }
        self.running = instances.into_iter().filter(|instance| instance.state == InstanceState::Running).collect();
        if let (Some(first), None) = (self.running.first(), self.running_at) {
            self.running_at = Some(now);
            let message = format!("successor {} is running in {}", first.instance_id, first.availability_zone);
            journal.reach(now, MilestoneKind::SuccessorRunning, message, Some(first.instance_id.clone()).into());
        }
        self.looks += 1;
        let growing = PAUSES.get(self.looks).or(PAUSES.last()).copied().unwrap_or_default();
        self.pace.succeeded(now + if self.running.is_empty() { growing } else { RUNNING_PAUSE });
        Watched::Alive
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        self.pace.wake()
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let ids: Vec<String> = self.ids.iter().map(InstanceId::to_string).collect();
        let ids = ids.join(", ");
        match (self.running_at, self.state) {
            (Some(at), _) => {
                Report::new("successor", true, format!("{ids}, running after {}", seconds(at.since(begun_at))))
            }
            (None, Some(state)) => Report::new("successor", false, format!("{ids} is not running yet: {state:?}")),
            (None, None) => Report::new("successor", false, format!("{ids}: {}", self.pace.trouble())),
        }
    }
}
