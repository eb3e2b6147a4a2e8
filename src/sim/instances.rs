//! Instances: how they start (`pending`, `running`) and how they end, by a call or by an announced interruption. Their
//! keepers' reactions are in the keepers' files.

use std::time::{Duration, Instant};

use super::instance::{Instance, InstanceState, Keeper, Launch, Notice, Spot};
use super::settings::LifeCycle;
use super::world::{World, WorldEvent};

impl World {
    /// Launches an instance, which is `pending`, and returns its id.
    pub(crate) fn launch(&mut self, launch: Launch) -> String {
        // The first instance is ours.
        let id = self.settings.instance_id.take().unwrap_or_else(|| self.id("i"));
        let spot = (launch.place.life_cycle == LifeCycle::Spot).then(|| Spot {
            id: format!("sir-{:08x}", self.serial().wrapping_mul(0x9e37_79b1) & 0xffff_ffff),
            state: "active",
            status: "fulfilled",
            updated: self.now,
            persistent: false,
        });
        let group = match &launch.keeper {
            Some(Keeper::AutoScalingGroup(_)) => Some("InService".to_owned()),
            _ => None,
        };
        let private_ip = self.private_ip(&launch.place.subnet);
        self.instances.push(Instance {
            id: id.clone(),
            place: launch.place,
            private_ip,
            state: InstanceState::Pending,
            reason: String::new(),
            launched: self.now,
            tags: launch.tags,
            keeper: launch.keeper,
            spot,
            notice: None,
            rebalance: None,
            at_risk: false,
            target_lifecycle_state: group,
            first: false,
        });
        let boots = self.boot_time();
        self.after(boots, WorldEvent::Runs(id.clone()));
        self.die_at_birth(&id);
        id
    }

    /// The boot time. It differs between instances; the first that is launched after the world began is the quickest.
    fn boot_time(&self) -> Duration {
        let timings = &self.settings.timings;
        let number = self.instances.iter().filter(|one| !one.first).count().saturating_sub(1) as f64;
        // Multiples of the golden ratio spread evenly, for any number of instances.
        timings.running_after + timings.boots_differ_by.mul_f64((number * 0.618_034).fract())
    }

    /// Lets an instance die at birth, if the settings say so.
    fn die_at_birth(&mut self, id: &str) {
        let is_setting_up = self.ours.is_empty();
        let Some(death) = self.settings.dies_at_birth.as_mut().filter(|death| !is_setting_up && death.count > 0) else {
            return;
        };
        death.count -= 1;
        let reason = death.reason.clone();
        self.after(
            self.settings.timings.running_after / 2,
            WorldEvent::DiesAtBirth { instance: id.to_owned(), reason },
        );
    }

    /// Launches an instance again for a persistent Spot request.
    pub(crate) fn request_launches(&mut self, id: &str) {
        let Some(instance) = self.instance(id) else { return };
        let (place, mut tags) = (instance.place.clone(), instance.tags.clone());
        tags.retain(|key, _| !key.starts_with("spot-relay:"));
        self.launch(Launch { place, tags, keeper: None });
    }

    fn private_ip(&mut self, subnet: &str) -> String {
        if let Some(ours) = self.settings.private_ip.take() {
            return ours;
        }
        let third = self.subnets.iter().position(|one| one.id == subnet).unwrap_or(0);
        format!("10.0.{}.{}", third + 1, self.instances.len() + 10)
    }

    pub(crate) fn instance_runs(&mut self, id: &str) {
        let Some(instance) = self.instance_mut(id).filter(|one| one.state == InstanceState::Pending) else { return };
        instance.state = InstanceState::Running;
        match instance.keeper.clone() {
            Some(Keeper::AutoScalingGroup(name)) => self.member_runs(&name, id),
            Some(Keeper::Fleet(fleet)) => self.fleet_member_runs(&fleet, id),
            None => {}
        }
    }

    /// Gives a notice, or changes the present one. With `taken_at` AWS takes the instance at that time.
    pub(crate) fn put_up_notice(&mut self, id: &str, action: &str, time: String, taken_at: Option<Instant>) {
        let serial = self.serial();
        let now = self.now;
        let Some(instance) = self.instance_mut(id) else { return };
        instance.notice = Some(Notice { action: action.to_owned(), time, serial });
        if let Some(spot) = &mut instance.spot {
            // With the behaviour `terminate` the request closes at the notice, while the instance runs on.
            (spot.state, spot.status) = match action {
                "terminate" => ("closed", "instance-terminated-no-capacity"),
                _ => ("active", "marked-for-stop"),
            };
            spot.updated = now;
        }
        if let Some(at) = taken_at.filter(|_| self.settings.kill_at_deadline) {
            self.at(at, WorldEvent::Reclaimed { instance: id.to_owned(), serial });
        }
        self.after(self.settings.timings.owner_reacts_after, WorldEvent::RiskSeen(id.to_owned()));
    }

    /// Withdraws the interruption. The notice stays in the metadata and its time passes, as at AWS; `removed` also
    /// removes the notice.
    pub(crate) fn withdraw_notice(&mut self, id: &str, removed: bool) {
        let serial = self.serial();
        let now = self.now;
        let Some(instance) = self.instance_mut(id) else { return };
        instance.at_risk = false;
        if let Some(spot) = &mut instance.spot {
            (spot.state, spot.status) = ("active", "fulfilled");
            spot.updated = now;
        }
        match &mut instance.notice {
            Some(notice) if !removed => notice.serial = serial,
            _ => instance.notice = None,
        }
    }

    pub(crate) fn recommend_rebalance(&mut self, id: &str) {
        let time = self.clock.iso(self.now);
        let Some(instance) = self.instance_mut(id) else { return };
        instance.rebalance = Some(time);
        self.after(self.settings.timings.owner_reacts_after, WorldEvent::RiskSeen(id.to_owned()));
    }

    /// AWS takes the instance at the time of its notice.
    pub(crate) fn instance_reclaimed(&mut self, id: &str, serial: u64) {
        let Some(instance) = self.instance(id).filter(|one| one.alive()) else { return };
        let Some(notice) = instance.notice.as_ref().filter(|notice| notice.serial == serial) else { return };
        let before = instance.spot.clone();
        let now = self.now;
        let spot = if notice.action == "terminate" {
            self.terminate(id, "Server.SpotInstanceTermination");
            // The request was closed at the notice.
            before
        } else {
            self.stop(id);
            before.map(|spot| Spot { state: "disabled", status: "instance-stopped-no-capacity", updated: now, ..spot })
        };
        if let Some(instance) = self.instance_mut(id) {
            instance.spot = spot;
        }
    }

    /// Begins to shut the instance down, for any reason.
    pub(crate) fn terminate(&mut self, id: &str, reason: &str) {
        let now = self.now;
        let Some(instance) = self.instance_mut(id) else { return };
        if matches!(instance.state, InstanceState::ShuttingDown | InstanceState::Terminated) {
            return;
        }
        instance.state = InstanceState::ShuttingDown;
        reason.clone_into(&mut instance.reason);
        if let Some(spot) = &mut instance.spot {
            spot.state = "closed";
            spot.status = "instance-terminated-by-user";
            spot.updated = now;
        }
        self.after(self.settings.timings.gone_after, WorldEvent::Gone(id.to_owned()));
    }

    fn stop(&mut self, id: &str) {
        let Some(instance) = self.instance_mut(id) else { return };
        instance.state = InstanceState::Stopping;
        "Server.SpotInstanceShutdown".clone_into(&mut instance.reason);
        self.after(self.settings.timings.gone_after, WorldEvent::Gone(id.to_owned()));
    }

    pub(crate) fn instance_gone(&mut self, id: &str) {
        let Some(instance) = self.instance_mut(id) else { return };
        match instance.state {
            InstanceState::ShuttingDown => instance.state = InstanceState::Terminated,
            InstanceState::Stopping => instance.state = InstanceState::Stopped,
            _ => return,
        }
        let launches_again =
            instance.state == InstanceState::Terminated && instance.spot.as_ref().is_some_and(|it| it.persistent);
        if launches_again {
            self.after(self.settings.timings.owner_reacts_after, WorldEvent::RequestLaunches(id.to_owned()));
        }
        self.forget_terminated_targets();
        if self.forget_terminating_member(id) {
            return;
        }
        self.after(self.settings.timings.owner_reacts_after, WorldEvent::DeathSeen(id.to_owned()));
    }

    pub(crate) fn death_seen(&mut self, id: &str) {
        match self.instance(id).and_then(|instance| instance.keeper.clone()) {
            Some(Keeper::AutoScalingGroup(name)) => self.member_died(&name, id),
            Some(Keeper::Fleet(fleet)) => self.recount_fleet(&fleet),
            None => {}
        }
    }

    /// Lets the keeper replace a live instance at risk, if it has a strategy for that.
    pub(crate) fn risk_seen(&mut self, id: &str) {
        let Some(instance) = self.instance(id).filter(|one| one.alive() && !one.at_risk) else { return };
        let noticed = instance.is_taken();
        // Capacity Rebalancing and replacement strategies act on signals of Spot instances only.
        let recommended = instance.rebalance.is_some() && instance.spot.is_some();
        let Some(keeper) = instance.keeper.clone().filter(|_| noticed || recommended) else { return };
        if let (Keeper::Fleet(fleet), true) = (&keeper, noticed && self.settings.replaces_at_notice) {
            return self.recount_fleet(fleet);
        }
        let replaces = match &keeper {
            Keeper::AutoScalingGroup(name) => self.group_rebalances(name, id),
            Keeper::Fleet(fleet) => self.fleet_rebalances(fleet, id),
        };
        if !replaces {
            return;
        }
        if let Some(instance) = self.instance_mut(id) {
            instance.at_risk = true;
        }
        self.recount(&keeper);
    }

    /// Terminates an instance at risk whose keeper has replaced it.
    pub(crate) fn risk_ended(&mut self, id: &str) {
        let Some(instance) = self.instance(id).filter(|one| one.at_risk && one.alive()) else { return };
        match instance.keeper.clone() {
            Some(Keeper::AutoScalingGroup(name)) => self.terminate_member(&name, id),
            Some(Keeper::Fleet(_)) => self.terminate(id, "Server.SpotInstanceTermination"),
            None => {}
        }
    }
}
