//! The duty to watch the successors as long as the handover lasts: pending, running, or gone again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::course::{HandingOver, News, Situation};
use super::crowd::{Bucket, LAST_LOOK};
use super::deaths::Death;
use super::words::{seconds, successors};
use crate::core::call::{Answer, Call};
use crate::core::duty::{self, Attempts, Duty, DutyId, DutyReport, its_attempts};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, Instance, InstanceId, InstanceState, MilestoneKind, Registration};
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::{fraction, growing};

/// The pauses between two looks until all successors run.
const PAUSES: [u64; 6] = [1, 1, 2, 2, 3, 4];
/// The pause between two looks at a successor that runs.
const RUNNING_PAUSE: Duration = Duration::from_secs(15);
/// About the pause between two looks once the handover is over.
const LOOKS_AFTER_EVERY: Duration = Duration::from_secs(24);
/// A look older than this is out of date: before the end it is taken once more.
pub(super) const LOOK_HOLDS: Duration = Duration::from_secs(5);
/// This many incidents of one boot are told apart without their records: a wrong clock launches no more.
const TOLD_APART: u32 = 4;
/// A new instance that AWS has not shown for this long is registered unseen: it runs by then, and registering twice is
/// harmless. If the look is denied, AWS will show nothing, and the shorter time counts.
const UNTOLD_AFTER: Duration = Duration::from_secs(20);
const DENIED_AFTER: Duration = Duration::from_secs(8);

pub(super) struct Watch {
    /// Not empty. The owner of several victims launches several successors; the first is told as ours.
    ids: Vec<InstanceId>,
    /// A client token brought them. An instance launched in this time is of another incident of this boot.
    earlier: Option<Range<Timestamp>>,
    /// The last look at each.
    seen: BTreeMap<InstanceId, Instance>,
    running: Vec<Instance>,
    /// The successors that were told of as running.
    told: BTreeSet<InstanceId>,
    running_at: Option<BootInstant>,
    attempts: Attempts,
    looks: usize,
    begun_at: BootInstant,
    seen_at: Option<BootInstant>,
}

impl Watch {
    /// `attempts` are due now.
    pub(super) fn new(ids: Vec<InstanceId>, mut attempts: Attempts) -> Watch {
        let begun_at = attempts.next;
        attempts.next = begun_at + growing(&PAUSES, 0);
        let (seen, told, running) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Watch { ids, earlier: None, seen, running, told, running_at: None, attempts, looks: 0, begun_at, seen_at: None }
    }

    /// Watches the instances that a client token brought.
    pub(super) fn by_token(ids: Vec<InstanceId>, attempts: Attempts, incident: &Incident) -> Watch {
        let since = incident.start.launches_since.filter(|_| incident.id.number < TOLD_APART);
        // The token is of this boot: a launch time before the boot is wrong.
        let earlier = since.map(|since| incident.booted()..since);
        Watch { earlier, ..Watch::new(ids, attempts) }
    }

    /// Watches more successors, which have shown.
    pub(super) fn add(&mut self, now: BootInstant, instances: &[Instance]) {
        let new = instances.iter().map(|instance| &instance.instance_id).filter(|id| !self.ids.contains(id));
        self.ids.extend(new.cloned().collect::<Vec<_>>());
        self.looks = 0;
        self.attempts.next = self.attempts.next.min(now + growing(&PAUSES, 0));
    }

    pub(super) fn id(&self) -> Option<InstanceId> {
        self.ids.first().cloned()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.ids.iter()
    }

    /// Tells whether the successor bears the tag of an instance that leaves.
    pub(super) fn goes(&self, id: &InstanceId) -> bool {
        self.seen.get(id).is_some_and(|instance| instance.tags.contains_key(LEAVING_TAG))
    }

    pub(super) fn leave_out(&mut self, instances: &BTreeSet<InstanceId>) {
        self.ids.retain(|id| !instances.contains(id));
        self.seen.retain(|id, _| !instances.contains(id));
        self.running.retain(|instance| !instances.contains(&instance.instance_id));
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn has_run(&self) -> bool {
        self.running_at.is_some()
    }

    /// Tells whether the last look is too old to be reported, and looks now if it is. A failed look holds nothing up.
    pub(super) fn is_to_look_again(&mut self, now: BootInstant) -> bool {
        let is_old = self.seen_at.is_none_or(|seen_at| now.since(seen_at) > LOOK_HOLDS);
        let wanted = is_old && self.has_run() && self.attempts.failures == 0;
        if wanted {
            self.attempts.next = self.attempts.next.min(now);
        }
        wanted
    }

    /// The instant of the next look after the end. Looks are seldom, and no two instances look together.
    pub(super) fn looks_after_at(&self) -> Option<BootInstant> {
        let last = self.seen_at.unwrap_or_default().max(self.attempts.begun_at);
        let pause = LOOKS_AFTER_EVERY.mul_f64(0.75 + fraction(self.attempts.seed) / 2.0);
        (!self.attempts.in_flight).then_some(self.attempts.next.max(last + pause))
    }

    pub(super) fn look_after(&mut self, situation: &mut Situation<'_>) -> Option<(DutyId, Call)> {
        duty::begin(self, situation.now, situation)
    }

    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    pub(super) fn all_run(&self) -> bool {
        self.running.len() == self.ids.len()
    }

    /// The successors that run, and those that AWS does not show: a target group takes them by their ids alone, and
    /// refuses an instance that does not run yet.
    pub(super) fn to_register(&self, now: BootInstant) -> Vec<Instance> {
        let patience = if self.attempts.was_denied() { DENIED_AFTER } else { UNTOLD_AFTER };
        let is_untold = |id: &&InstanceId| {
            let told_at = self.seen_at.filter(|_| self.seen.contains_key(*id)).unwrap_or(self.begun_at);
            now.since(told_at) >= patience && !self.running.iter().any(|instance| instance.instance_id == **id)
        };
        let untold = self.ids.iter().filter(is_untold).map(|id| self.shown(id));
        self.running.iter().cloned().chain(untold).collect()
    }

    /// Takes a look at all of them.
    pub(super) fn looked(&mut self, now: BootInstant, instances: Vec<Instance>, incident: &mut Incident) -> Vec<Death> {
        self.seen_at = Some(now);
        let dead = self.learn(now, instances, incident);
        self.looks += 1;
        let growing = growing(&PAUSES, self.looks);
        // A running instance may be shown without its addresses for a while, and address groups need them.
        let of_ipv6 = incident.registrations.known().iter().any(Registration::holds_ipv6);
        let has_address = |it: &Instance| if of_ipv6 { &it.ipv6_address } else { &it.private_ip }.is_some();
        let is_whole = self.all_run() && self.running.iter().all(has_address);
        self.attempts.succeeded(now + if is_whole { RUNNING_PAUSE } else { growing });
        dead
    }

    /// Takes a look at some of them. Those that are gone are returned, and watched no more.
    pub(super) fn learn(&mut self, now: BootInstant, instances: Vec<Instance>, incident: &mut Incident) -> Vec<Death> {
        let instances = instances.into_iter().filter(|instance| self.ids.contains(&instance.instance_id));
        self.seen.extend(instances.map(|instance| (instance.instance_id.clone(), instance)).collect::<Vec<_>>());
        let dead = self.seen.values().filter(|instance| !instance.state.is_alive() || self.is_of_another(instance));
        let dead: Vec<Death> = dead.map(|instance| self.death(instance)).collect();
        self.leave_out(&dead.iter().map(|death| death.instance_id.clone()).collect());
        let seen = self.ids.iter().filter_map(|id| self.seen.get(id));
        self.running = seen.filter(|instance| instance.state == InstanceState::Running).cloned().collect();
        self.tell(now, incident);
        dead
    }

    /// Takes the successors that serve for running, also those of which EC2 has told nothing.
    pub(super) fn learn_who_serves(
        &mut self,
        now: BootInstant,
        serves: impl Fn(&InstanceId) -> bool,
        incident: &mut Incident,
    ) {
        let state = |id: &InstanceId| self.seen.get(id).map_or(InstanceState::Unknown, |instance| instance.state);
        let served = self.ids.iter().filter(|id| state(id) == InstanceState::Unknown && serves(id));
        let run: Vec<Instance> =
            served.map(|id| Instance { state: InstanceState::Running, ..self.shown(id) }).collect();
        if !run.is_empty() {
            // None of them is dead.
            let _ = self.learn(now, run, incident);
        }
    }

    /// The instance as it was last seen, or with nothing but its id.
    fn shown(&self, id: &InstanceId) -> Instance {
        self.seen.get(id).cloned().unwrap_or_else(|| untold(id))
    }

    fn death(&self, instance: &Instance) -> Death {
        let instance_id = instance.instance_id.clone();
        let has_run = self.told.contains(&instance_id);
        Death {
            instance_id,
            reason: instance.state_reason.clone(),
            has_run,
            is_of_another: self.is_of_another(instance),
            was_leaving: self.goes(&instance.instance_id),
        }
    }

    fn is_of_another(&self, instance: &Instance) -> bool {
        instance.launch_time.zip(self.earlier.as_ref()).is_some_and(|(launched, earlier)| earlier.contains(&launched))
    }

    fn tell(&mut self, now: BootInstant, incident: &mut Incident) {
        let news = self.running.iter().filter(|instance| !self.told.contains(&instance.instance_id));
        let ids: Vec<InstanceId> = news.clone().map(|instance| instance.instance_id.clone()).collect();
        let zones = news.map(|instance| instance.availability_zone.clone()).filter(|zone| !zone.is_empty());
        let zones: BTreeSet<String> = zones.collect();
        let Some(first) = ids.first().cloned() else { return };
        self.running_at = Some(now);
        let zones = zones.into_iter().collect::<Vec<_>>().join(", ");
        let place = if zones.is_empty() { String::new() } else { format!(" in {zones}") };
        let message = format!("{} running{place}", successors(&ids));
        self.told.extend(ids);
        incident.reach(now, MilestoneKind::SuccessorRunning, message, Some(first).into());
    }
}

/// An instance of which only the id is known.
fn untold(id: &InstanceId) -> Instance {
    Instance {
        instance_id: id.clone(),
        state: InstanceState::Unknown,
        instance_type: String::new(),
        availability_zone: String::new(),
        private_ip: None,
        ipv6_address: None,
        addresses: Vec::new(),
        subnet_id: None,
        launch_time: None,
        tags: BTreeMap::new(),
        state_reason: None,
        vcpus: None,
        is_on_demand: false,
    }
}

impl Duty<HandingOver> for Watch {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.space_out(&mut self.attempts, Bucket::EC2_LOOKS);
        if situation.now >= situation.incident.deadline - LAST_LOOK {
            self.is_to_look_again(situation.now);
        }
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        Some(Call::DescribeInstances { instance_ids: self.ids.clone() })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let instances = match answer {
            Answer::Instances(instances) => instances,
            // AWS has told of a new instance, but may not know its id for a moment.
            Answer::Failed(failure) if failure.has_code(&["InvalidInstanceID.NotFound"]) => Vec::new(),
            other => return Err(other),
        };
        Ok(News::Watched(self.looked(situation.now, instances, situation.incident)))
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let ids = self.ids.iter().map(InstanceId::to_string).collect::<Vec<_>>().join(", ");
        let waiting = self.ids.iter().find(|id| !self.running.iter().any(|instance| instance.instance_id == **id));
        let seen = waiting.and_then(|id| self.seen.get(id));
        let (done, what) = match (waiting, self.running_at, seen) {
            (None, Some(at), _) => (true, format!("{ids}, running after {}", seconds(at.since(begun_at)))),
            (.., Some(Instance { instance_id, state, .. })) => {
                (false, format!("{instance_id} is not running yet: {state:?}"))
            }
            (Some(id), _, None) => (false, format!("{id} has not been seen running: {}", self.attempts.trouble())),
            (None, None, _) => (false, self.attempts.trouble()),
        };
        Some(DutyReport::new("successor", done, what))
    }
}
