//! The duty to see the successor serve in one of our target groups: register it there, unless its owner does, and follow
//! its health.

use std::time::Duration;

use super::crowd::Bucket;
use super::{About, Answer, Call, Journal, Pace, Report, View, seconds};
use crate::core::model::{
    BootInstant, Instance, InstanceId, MilestoneKind, Registration, Target, TargetHealth, TargetType, ZoneChoice,
};

use super::watch::Watch;
use crate::core::retry::Precedence;

/// The pauses between two looks at its health.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5)];

pub(super) struct Register {
    /// Ours: the successor gets the same ports.
    registration: Registration,
    by_owner: bool,
    stage: Stage,
    pace: Pace,
    looks: usize,
    registered: bool,
    healthy_at: Option<BootInstant>,
    gone: bool,
    zone: ZoneChoice,
    /// Registered in a zone that no load balancer of the group serves.
    is_unserved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Register,
    Follow,
    Healthy,
}

impl Register {
    pub(super) fn new(registration: Registration, by_owner: bool, now: BootInstant, seed: u64) -> Register {
        let stage = if by_owner { Stage::Follow } else { Stage::Register };
        let zone = ZoneChoice::new(registration.zone.clone());
        Register {
            registration,
            by_owner,
            stage,
            pace: Pace::new(now, seed).with(Precedence::Last),
            looks: 0,
            registered: false,
            healthy_at: None,
            gone: false,
            zone,
            is_unserved: false,
        }
    }

    /// Another successor: everything from the start.
    pub(super) fn begin_anew(&mut self, now: BootInstant) {
        let registration = self.registration.clone();
        *self = Register::new(registration, self.by_owner, now, self.pace.seed);
    }

    /// Whether this instance need not live on for it: registered, or its owner's business.
    pub(super) fn is_provided_for(&self) -> bool {
        self.by_owner || self.registered || self.stage == Stage::Healthy
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.stage == Stage::Healthy
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>, running: &[Instance]) -> Option<Call> {
        let targets = self.targets(running);
        if !targets.is_empty() {
            match self.stage {
                Stage::Register => view.crowd.hold_back(&mut self.pace),
                Stage::Follow => view.crowd.space_out(&mut self.pace, Bucket::ELB_LOOKS),
                Stage::Healthy => {}
            }
        }
        if targets.is_empty() || self.stage == Stage::Healthy || !self.pace.begin(view.now) {
            return None;
        }
        let (target_group, zone) = (self.registration.target_group.clone(), self.zone.zone().clone());
        Some(match self.stage {
            Stage::Register => Call::RegisterTargets { target_group, targets, zone },
            // An owner registers on the group's own port, which need not be one of ours.
            Stage::Follow | Stage::Healthy if self.by_owner => {
                Call::DescribeTargetHealth { target_group, targets: Vec::new(), zone }
            }
            Stage::Follow | Stage::Healthy => Call::DescribeTargetHealth { target_group, targets, zone },
        })
    }

    fn targets(&self, running: &[Instance]) -> Vec<Target> {
        let ids = running.iter().filter_map(|instance| target_id(self.registration.target_type, instance));
        ids.flat_map(|id| self.registration.targets_of(&id)).collect()
    }

    pub(super) fn answered(&mut self, now: BootInstant, running: &[Instance], answer: Answer, journal: &mut Journal) {
        match (self.stage, answer) {
            (Stage::Register, Answer::Accepted) => {
                self.stage = Stage::Follow;
                self.pace.succeeded(now + PAUSES[0]);
                self.say_registered(now, running, journal);
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => self.is_gone(now),
            (Stage::Register, Answer::Failed(failure)) if self.zone.turns_after(&failure) => self.pace.succeeded(now),
            (Stage::Follow, Answer::Health(rows)) => self.followed(now, running, &rows, journal),
            (_, other) => self.pace.failed_by(now, other),
        }
    }

    /// There is no such target group any more: nothing to serve there.
    fn is_gone(&mut self, now: BootInstant) {
        self.stage = Stage::Healthy;
        self.gone = true;
        self.pace.succeeded(now);
    }

    fn followed(&mut self, now: BootInstant, running: &[Instance], rows: &[TargetHealth], journal: &mut Journal) {
        let here = |row: &&TargetHealth| {
            running.iter().any(|it| target_id(self.registration.target_type, it).as_deref() == Some(&row.target.id))
        };
        let rows: Vec<&TargetHealth> = rows.iter().filter(here).filter(|row| row.is_registered()).collect();
        self.is_unserved = rows.iter().any(|row| self.registration.is_unserved(row));
        if !rows.is_empty() {
            self.say_registered(now, running, journal);
        }
        self.looks += 1;
        if let Some(row) = rows.iter().find(|row| self.registration.is_served(row)) {
            self.stage = Stage::Healthy;
            self.healthy_at = Some(now);
            self.pace.succeeded(now);
            let successor = running
                .iter()
                .find(|it| target_id(self.registration.target_type, it).as_deref() == Some(&row.target.id));
            let id = successor.map(|successor| successor.instance_id.clone());
            let name = id.as_ref().map(InstanceId::to_string).unwrap_or_default();
            let message = format!("successor {name} is healthy in {}", self.registration.name());
            self.say(now, MilestoneKind::SuccessorHealthy, message, id, journal);
            return;
        }
        if rows.is_empty() && !self.by_owner {
            self.stage = Stage::Register;
        }
        let pause = PAUSES.get(self.looks).or(PAUSES.last()).copied().unwrap_or_default();
        self.pace.succeeded(now + pause);
    }

    fn say_registered(&mut self, now: BootInstant, running: &[Instance], journal: &mut Journal) {
        if self.registered {
            return;
        }
        self.registered = true;
        let id = running.first().map(|successor| successor.instance_id.clone());
        let name = id.as_ref().map(InstanceId::to_string).unwrap_or_default();
        let message = format!("successor {name} is registered in {}", self.registration.name());
        self.say(now, MilestoneKind::SuccessorRegistered, message, id, journal);
    }

    fn say(
        &self,
        now: BootInstant,
        kind: MilestoneKind,
        message: String,
        successor: Option<InstanceId>,
        journal: &mut Journal,
    ) {
        let target_group = Some(self.registration.target_group.clone());
        journal.reach(now, kind, message, About { target_group, successor_id: successor });
    }

    /// Only while there is somebody to register or to follow.
    pub(super) fn wake(&self, watch: Option<&Watch>) -> Option<BootInstant> {
        let wanted = watch.is_some_and(Watch::is_running) && self.stage != Stage::Healthy;
        if wanted { self.pace.wake() } else { None }
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let duty = format!("successor in {}", self.registration.name());
        if self.gone {
            return Report::new(duty, true, "there is no such target group any more");
        }
        match (self.healthy_at, self.registered) {
            (Some(at), _) => Report::new(duty, true, format!("healthy after {}", seconds(at.since(begun_at)))),
            (None, true) if self.is_unserved => Report::new(
                duty,
                false,
                "registered in a zone that is enabled for no load balancer of the group (Target.NotInUse): it gets no requests",
            ),
            (None, true) => Report::new(duty, false, "registered, not seen healthy yet"),
            (None, false) => Report::new(duty, false, format!("not registered: {}", self.pace.trouble())),
        }
    }
}

fn target_id(target_type: TargetType, instance: &Instance) -> Option<String> {
    match target_type {
        TargetType::Instance => Some(instance.instance_id.to_string()),
        TargetType::Ip => instance.private_ip.clone(),
    }
}
