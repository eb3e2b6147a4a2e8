//! Reads target health for the successors in one target group, and tells the milestones that follow.

use super::{PAUSES, Place, Register, Successor, Told};
use crate::core::duty::Duty;
use crate::core::handover::words::successors;
use crate::core::incident::{About, Incident};
use crate::core::model::{BootInstant, Instance, InstanceId, MilestoneKind, Target, TargetHealth, TargetStanding};
use crate::core::retry::growing;

impl Register {
    pub(super) fn followed(
        &mut self,
        now: BootInstant,
        asked: &[Instance],
        rows: &[TargetHealth],
        incident: &mut Incident,
    ) {
        let (mut shown, mut at_once) = (Vec::new(), false);
        self.is_unserved = false;
        for instance in asked {
            let (Some(target_id), Some(place)) = (self.target_id(instance), self.place(instance)) else { continue };
            let (now_at, standing) = self.place_by_health(&target_id, rows, place, now);
            at_once |=
                (self.is_left_to_others() || matches!(place, Place::Look(_))) && matches!(now_at, Place::Register(_));
            self.is_unserved |= standing == TargetStanding::Unserved;
            if !matches!(standing, TargetStanding::Wanting { .. }) {
                shown.push(instance.instance_id.clone());
            }
            if let Some(successor) = self.successors.get_mut(&instance.instance_id) {
                successor.has_fallen &= now_at != Place::Healthy;
                successor.place = now_at;
            }
        }
        if self.is_healthy() {
            self.seen_at = Some(now);
        }
        self.looks += 1;
        let pause = growing(&PAUSES, self.looks);
        self.attempts.succeeded(if at_once { now } else { now + pause });
        self.say_registered(now, &shown, incident);
        self.say_healthy(now, incident);
    }

    /// Lets those whose wait is over be registered unseen. Another victim may have been faster, but registering twice
    /// is harmless.
    pub(super) fn cannot_look(&mut self, now: BootInstant) {
        let ports = self.registration.ports();
        for successor in self.successors.values_mut() {
            if matches!(successor.place, Place::Look(from) if now >= from) {
                successor.place = Place::Register(ports.clone());
            }
        }
    }

    /// Reads the place of one successor from target health.
    fn place_by_health(
        &self,
        target_id: &str,
        rows: &[TargetHealth],
        place: &Place,
        now: BootInstant,
    ) -> (Place, TargetStanding) {
        let standing = self.registration.standing(&self.registration.targets_of(target_id), rows);
        let is_shown = || rows.iter().any(|row| row.target.has_id(target_id) && row.is_there());
        let place = match (&standing, place) {
            (TargetStanding::Serves, _) | (_, Place::Healthy) => Place::Healthy,
            (TargetStanding::Registered | TargetStanding::Unserved, _) => Place::Follow,
            (TargetStanding::Wanting { .. }, Place::Look(from)) if now < *from => Place::Look(*from),
            (TargetStanding::Wanting { .. }, _) if self.registration.needs_server_id => Place::Follow,
            // An owner registers on the group's own port alone. Until then nobody registers the other ports.
            (TargetStanding::Wanting { .. }, _) if self.is_left_to_others() && !is_shown() => Place::Follow,
            (TargetStanding::Wanting { ports, .. }, _) => Place::Register(ports.clone()),
        };
        (place, standing)
    }

    /// The last instant at which the successors were seen healthy; `None` if they are not healthy now.
    pub(in crate::core::handover) fn seen_at(&self) -> Option<BootInstant> {
        self.seen_at.filter(|_| !self.is_over() && self.is_healthy())
    }

    /// The targets of the successors that were seen healthy.
    pub(in crate::core::handover) fn healthy_targets(&self) -> Vec<Target> {
        let is_healthy = |instance: &&Instance| self.place(instance) == Some(&Place::Healthy);
        self.running.iter().filter(is_healthy).flat_map(|instance| self.targets(instance)).collect()
    }

    /// Takes a later look at successors that were healthy. Returns those that are not healthy any more: they are
    /// followed again.
    pub(in crate::core::handover) fn looked_again(
        &mut self,
        rows: &[TargetHealth],
        now: BootInstant,
    ) -> Vec<InstanceId> {
        let mut lost = Vec::new();
        for instance in self.running.clone() {
            let Some(target_id) = self.target_id(&instance) else { continue };
            // If AWS shows no target of this successor, nothing new is known of it.
            let is_told = rows.iter().any(|row| row.target.has_id(&target_id));
            let was_healthy = self.place(&instance) == Some(&Place::Healthy);
            let (place, _) = self.place_by_health(&target_id, rows, &Place::Follow, now);
            if !is_told || !was_healthy || place == Place::Healthy {
                continue;
            }
            let told = if matches!(place, Place::Register(_)) { Told::Nothing } else { Told::Registered };
            lost.push(instance.instance_id.clone());
            self.successors.insert(instance.instance_id, Successor { place, told, has_fallen: true });
        }
        if lost.is_empty() {
            self.seen_at = self.seen_at.map(|_| now);
        } else {
            self.looks = 0;
            self.attempts.succeeded(now);
        }
        lost
    }

    pub(super) fn say_registered(&mut self, now: BootInstant, instances: &[InstanceId], incident: &mut Incident) {
        let mut news = Vec::new();
        for id in instances {
            if let Some(successor) = self.successors.get_mut(id).filter(|it| it.told < Told::Registered) {
                successor.told = Told::Registered;
                news.push(id.clone());
            }
        }
        self.say(now, MilestoneKind::SuccessorRegistered, "registered", &news, incident);
    }

    /// Tells once that all known successors are healthy, and again when more have come.
    fn say_healthy(&mut self, now: BootInstant, incident: &mut Incident) {
        if !self.is_healthy() || self.successors.values().all(|it| it.told == Told::Healthy) {
            return;
        }
        self.healthy_at = Some(now);
        self.successors.values_mut().for_each(|it| it.told = Told::Healthy);
        let healthy: Vec<InstanceId> = self.successors.keys().cloned().collect();
        self.say(now, MilestoneKind::SuccessorHealthy, "healthy", &healthy, incident);
    }

    fn say(&self, now: BootInstant, kind: MilestoneKind, what: &str, ids: &[InstanceId], incident: &mut Incident) {
        let Some(first) = ids.first().cloned() else { return };
        let message = format!("{} {what} in {}", successors(ids), self.registration.name());
        let target_group = Some(self.registration.target_group.clone());
        incident.reach(now, kind, message, About { target_group, successor_id: Some(first) });
    }
}
