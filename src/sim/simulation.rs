//! A running simulation: the handle by which a test or the demo changes it and reads it.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;

use super::faults::{Fault, Faults};
use super::launch_template::LaunchTemplate;
use super::reply::Reply;
use super::requests::{Request, RequestMoment, Requests};
use super::settings::Pool;
use super::target_group::{Named, Reported};
use super::world::World;

/// A running simulation; clones are handles to it. It ends with its runtime.
#[derive(Clone)]
pub struct Sim(pub(crate) Arc<Inner>);

pub(crate) type Watcher = Arc<dyn Fn(&Request, RequestMoment) + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) world: Mutex<World>,
    pub(crate) log: Mutex<RequestLog>,
    pub(crate) watcher: Mutex<Option<Watcher>>,
    pub(crate) connections: AtomicU64,
    pub(crate) endpoints: OnceLock<Endpoints>,
    pub(crate) started: Instant,
    /// The runtime of the server tasks.
    pub(crate) runtime: Handle,
}

#[derive(Default)]
pub(crate) struct RequestLog {
    pub(crate) requests: Requests,
    pub(crate) faults: Faults,
}

impl RequestLog {
    pub(crate) fn done(&mut self, number: usize, reply: Option<&Reply>) {
        if let Some(reply) = reply {
            self.requests.answered(number, reply.status, &reply.body);
        }
    }
}

pub(crate) struct Endpoints {
    pub(crate) metadata: SocketAddr,
    pub(crate) aws: String,
    pub(crate) control: SocketAddr,
}

impl Inner {
    /// The present world, after all due events.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle();
        world
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sim {
    fn endpoint(&self, of: impl Fn(&Endpoints) -> String) -> String {
        self.0.endpoints.get().map(of).unwrap_or_default()
    }

    /// `http://127.0.0.1:PORT`
    pub fn metadata_endpoint(&self) -> String {
        self.endpoint(|endpoints| format!("http://{}", endpoints.metadata))
    }

    pub fn aws_endpoint(&self) -> String {
        self.endpoint(|endpoints| endpoints.aws.clone())
    }

    pub fn control_endpoint(&self) -> String {
        self.endpoint(|endpoints| format!("http://{}", endpoints.control))
    }

    /// Our instance: the one whose metadata is served.
    pub fn instance_id(&self) -> String {
        self.world().ours.clone()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.world()
    }

    /// Gives our instance a notice that ends after `left`. Then AWS really takes the instance.
    pub fn notice(&self, action: &str, left: Duration) {
        self.notice_for(&self.instance_id(), action, left);
    }

    pub fn notice_for(&self, instance_id: &str, action: &str, left: Duration) {
        let mut world = self.world();
        let at = world.now + left;
        let time = world.clock.iso(at);
        world.put_up_notice(instance_id, action, time, Some(at));
    }

    /// Gives a notice with this text as its time. If that is a time in the future the instance is taken then.
    pub fn notice_at(&self, action: &str, time: &str) {
        let mut world = self.world();
        let parsed: Option<jiff::Timestamp> = time.parse().ok();
        let at = parsed.and_then(|time| world.clock.instant(time)).filter(|at| *at > world.now);
        let ours = world.ours.clone();
        world.put_up_notice(&ours, action, time.to_owned(), at);
    }

    /// Withdraws the interruption: the instance lives on. The notice stays, and its time passes, as at AWS.
    pub fn withdraw_notice(&self) {
        self.withdraw_notice_for(&self.instance_id());
    }

    pub fn withdraw_notice_for(&self, instance_id: &str) {
        self.world().withdraw_notice(instance_id, false);
    }

    /// Withdraws the interruption, and removes the notice from the metadata.
    pub fn remove_notice(&self) {
        let ours = self.instance_id();
        self.world().withdraw_notice(&ours, true);
    }

    /// Gives our instance a rebalance recommendation.
    pub fn rebalance(&self) {
        self.rebalance_for(&self.instance_id());
    }

    pub fn rebalance_for(&self, instance_id: &str) {
        self.world().recommend_rebalance(instance_id);
    }

    /// Removes the recommendation.
    pub fn end_rebalance(&self) {
        let mut world = self.world();
        let ours = world.ours.clone();
        if let Some(instance) = world.instance_mut(&ours) {
            instance.rebalance = None;
        }
    }

    /// Starts our instance again after a stop or hibernation, and removes its notice.
    pub fn start_again(&self) {
        let mut world = self.world();
        let ours = world.ours.clone();
        world.withdraw_notice(&ours, true);
        if let Some(instance) = world.instance_mut(&ours) {
            instance.resume();
        }
    }

    /// Makes every session token of the metadata invalid, as after a hibernation.
    pub fn expire_tokens(&self) {
        self.world().token_generation += 1;
    }

    /// Sets the body of `autoscaling/target-lifecycle-state`; empty for 404. The group is not changed.
    pub fn lifecycle_state(&self, state: &str) {
        let mut world = self.world();
        let ours = world.ours.clone();
        if let Some(instance) = world.instance_mut(&ours) {
            instance.target_lifecycle_state = Some(state.to_owned()).filter(|state| !state.is_empty());
        }
    }

    /// Registers our instance in this target group, on this port.
    pub fn register(&self, target_group: &str, port: u16) {
        let mut world = self.world();
        let id = world.ours.clone();
        let arn = world.target_groups.iter().find(|group| group.name == target_group).map(|group| group.arn.clone());
        if let Some(arn) = arn {
            world.register_target(&arn, &Named { id, port: Some(port), zone: None });
        }
    }

    /// Gives every launch template a new version as the default, and deletes its earlier versions.
    pub fn renew_launch_templates(&self) {
        self.world().launch_templates.iter_mut().for_each(LaunchTemplate::renew);
    }

    /// Sets the state of every fleet: `deleted_running`, `cancelled_running`, `failed`.
    pub fn fleet_ends(&self, state: &'static str) {
        let mut world = self.world();
        let fleets = world.fleets.iter_mut();
        fleets.for_each(|fleet| fleet.state = state);
    }

    /// Lets the `ValidUntil` of every fleet pass.
    pub fn fleet_expires(&self) {
        self.world().fleets.iter_mut().for_each(|fleet| fleet.is_expired = true);
    }

    /// Lets the group terminate our instance, as when it scales in: the desired capacity falls by one.
    pub fn scale_in(&self) {
        let mut world = self.world();
        let ours = world.ours.clone();
        let Some(name) = world.group_of(&ours).map(|group| group.name.clone()) else { return };
        if let Some(group) = world.group_mut(&name) {
            group.desired = group.desired.saturating_sub(1);
        }
        world.terminate_member(&name, &ours);
    }

    /// Moves our instance in its group: to `InService`, `Standby`, `Warmed:Running` and the like (into the warm pool),
    /// or `Warmed:Terminated`.
    pub fn group_moves(&self, to: &str) {
        let mut world = self.world();
        let ours = world.ours.clone();
        world.move_member(&ours, to);
    }

    /// The lifecycle state of our instance in its group; `None` if it is no member.
    pub fn member_state(&self) -> Option<String> {
        let world = self.world();
        let group = world.group_of(&world.ours)?;
        group.member(&world.ours).map(|member| member.state.to_owned())
    }

    /// Sets the body of `events/maintenance/scheduled`; empty for 404.
    pub fn scheduled_events(&self, body: &str) {
        self.world().scheduled_events = Some(body.to_owned()).filter(|body| !body.is_empty());
    }

    /// Sets the pools without capacity.
    pub fn no_capacity(&self, pools: Vec<Pool>) {
        self.world().settings.no_capacity = pools;
    }

    /// Lets this access key expire; without one, every key issued or used so far.
    pub fn expire_credentials(&self, access_key_id: Option<&str>) {
        self.world().credentials.expire(access_key_id);
    }

    /// Sets the health of every target with this id and port, in groups of [`HealthSource::Reported`].
    pub fn report_target_health(&self, id: &str, port: u16, reported: Reported) {
        self.world().report_target_health(id, port, reported);
    }

    pub fn fault(&self, fault: Fault) {
        self.0.log().faults.add(fault);
    }

    pub fn clear_faults(&self) {
        self.0.log().faults.clear();
    }

    /// Calls `watcher` for each request to the metadata and to AWS, when it has arrived and when it is performed; the
    /// answer waits for it. It runs on its own thread and may block. If the client dies during
    /// [`RequestMoment::Arrived`], its request is forgotten.
    pub fn on_request(&self, watcher: impl Fn(&Request, RequestMoment) + Send + Sync + 'static) {
        *self.0.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(watcher));
    }

    /// Every request to the metadata and to AWS so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.0.log().requests.all().to_vec()
    }

    /// The whole world: instances, target groups with their targets' states, groups, fleets, spot requests.
    pub fn snapshot(&self) -> Value {
        self.world().snapshot()
    }

    /// Every instance launched since the start, also dead ones.
    pub fn successors(&self) -> Vec<String> {
        let world = self.world();
        world.instances.iter().filter(|instance| !instance.first).map(|instance| instance.id.clone()).collect()
    }

    /// The id, port and state of every target of a group, as DescribeTargetHealth shows them now.
    pub fn targets(&self, target_group: &str) -> Vec<(String, u16, String)> {
        let world = self.world();
        let Some(group) = world.target_groups.iter().find(|group| group.name == target_group) else {
            return Vec::new();
        };
        let targets = group.targets.iter();
        targets.map(|one| (one.id.clone(), one.port, world.health(group, one).0.to_owned())).collect()
    }
}
