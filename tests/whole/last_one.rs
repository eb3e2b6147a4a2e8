//! The last one goes on serving: all instances of a service are noticed together, each with a daemon of its own, and a
//! load balancer is asked all the time whether there is anybody to send a request to.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use spot_relay::sim::{FleetType, Other, Owner, RequestMoment, Settings, TargetType};

use crate::scenario::{Daemon, Scenario, world};

/// A notice of which the reserve is 5 s, because it is a quarter at most.
const NOTICE: Duration = Duration::from_secs(20);
/// Somebody serves until then; AWS's times are full seconds.
const LIT_FOR: Duration = Duration::from_secs(13);
/// A group that is asked by detaching takes its only member out, which has to see that and to pass a health check again. Of several
/// members the last one waits until another is back.
const TAKEN_OUT_FOR: Duration = Duration::from_secs(6);

/// Longer than from the first member that sees its notice to the last: each sees all the others healthy, and their tags
/// decide.
const LOOKS_TAKE: Duration = Duration::from_millis(1_200);

/// Members see their notices up to a second apart, as with the default interval.
const SERVES_ON: &str = "target-groups = [\"web\"]\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\n";
const AT_ONCE: &str =
    "target-groups = [\"web\"]\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\nwhen = \"at-once\"\n";
/// A world with up to three daemons for each of several services is enough for one machine.
static ONE_AFTER_THE_OTHER: Mutex<()> = Mutex::new(());

/// One service: its owner, its configuration, and for how long it may be dark.
struct Service {
    name: &'static str,
    settings: Settings,
    config: &'static str,
    dark: Duration,
    /// How long AWS takes to answer about target health, after it has looked.
    looks_take: Duration,
}

/// The names of one instance: its own, and the one under which a target group knows it.
#[derive(Clone)]
struct Member {
    instance_id: String,
    target: String,
}

impl Member {
    fn all(scenario: &Scenario) -> Vec<Member> {
        let (world, targets) = (scenario.sim.snapshot(), scenario.sim.targets("web"));
        let instances = world["instances"].as_array().expect("instances").iter();
        let names =
            instances.map(|it| ["id", "private_ip"].map(|name| it[name].as_str().unwrap_or_default().to_owned()));
        let target = |name: &&String| targets.iter().any(|(target, _, _)| target == *name);
        let member = |names: [String; 2]| {
            let target = names.iter().find(target).cloned()?;
            Some(Member { instance_id: names[0].clone(), target })
        };
        names.filter_map(member).collect()
    }
}

/// No successor comes to run within the notice.
fn owned_by(owner: Owner) -> Settings {
    let mut settings = Settings { owner, ..world() };
    settings.timings.running_after = Duration::from_secs(600);
    settings.target_groups[0].deregistration_delay = Duration::from_secs(1);
    settings
}

/// The target group holds private addresses.
fn by_address(mut settings: Settings) -> Settings {
    settings.target_groups[0].kind = TargetType::Ip;
    settings.target_groups[0].attached = false;
    settings
}

fn services(members: usize) -> Vec<Service> {
    let hooked = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let full = |owner| Settings { max_size: u32::try_from(members).ok(), ..owned_by(owner) };
    let service = |name, settings, config, dark| Service { name, settings, config, dark, looks_take: Duration::ZERO };
    let slowly = |service| Service { looks_take: LOOKS_TAKE, ..service };
    let never = Duration::ZERO;
    let taken_out = if members == 1 { TAKEN_OUT_FOR } else { never };
    let mut services = vec![
        service("template", owned_by(Owner::LaunchTemplate), SERVES_ON, never),
        slowly(service("template at once", owned_by(Owner::LaunchTemplate), AT_ONCE, never)),
        service("group at once", owned_by(Owner::auto_scaling_group()), AT_ONCE, taken_out),
        service("group that refuses", full(Owner::auto_scaling_group()), SERVES_ON, taken_out),
        service("group with a hook", full(hooked), AT_ONCE, taken_out),
        service("nobody", owned_by(Owner::Nobody), SERVES_ON, never),
        service("addresses", by_address(owned_by(Owner::LaunchTemplate)), SERVES_ON, never),
        slowly(service("addresses at once", by_address(owned_by(Owner::LaunchTemplate)), AT_ONCE, never)),
    ];
    if members == 1 {
        services.extend([
            service("fleet at once", owned_by(Owner::ec2_fleet(FleetType::Maintain)), AT_ONCE, never),
            service("group that launches first", owned_by(Owner::auto_scaling_group()), SERVES_ON, never),
        ]);
    }
    for service in &mut services {
        service.settings.others = (1..members).map(|_| Other::new("m5.large", "eu-west-1b")).collect();
        service.settings.max_size.get_or_insert(9);
    }
    services
}

/// All members are noticed in the same moment.
fn all_noticed_at_once(service: Service) {
    let launches = usize::from(!matches!(service.settings.owner, Owner::Nobody));
    let members = service.settings.others.len() + 1;
    let context = format!("{} of {members}", service.name);
    let first = Scenario::new(service.settings).config(service.config);
    let ours = first.sim.instance_id();
    let all = Member::all(&first);
    let others: Vec<String> = all.iter().map(|it| it.instance_id.clone()).filter(|id| *id != ours).collect();
    assert_eq!(others.len() + 1, members, "{context}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fellow = |id: &String| {
        let metadata = runtime.block_on(first.sim.metadata_for(id)).expect("its metadata");
        Scenario::of(&first.sim, metadata).config(service.config)
    };
    let fellows: Vec<Scenario> = others.iter().map(fellow).collect();
    // Their metadata is served by this test's own runtime.
    let _serving = thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let daemons: Vec<Daemon> = std::iter::once(&first).chain(&fellows).map(Scenario::ready).collect();
    let looks_take = service.looks_take;
    first.sim.on_request(move |request, moment| {
        if request.action == "DescribeTargetHealth" && moment == RequestMoment::Done {
            thread::sleep(looks_take);
        }
    });
    let noticed_at = Instant::now();
    others.iter().chain([&ours]).for_each(|id| first.sim.notice_for(id, "terminate", NOTICE));
    let mut dark = Duration::ZERO;
    while noticed_at.elapsed() < LIT_FOR {
        let began = Instant::now();
        let is_lit = first.sim.targets("web").iter().any(|(_, _, state)| state == "healthy");
        thread::sleep(Duration::from_millis(20));
        dark += if is_lit { Duration::ZERO } else { began.elapsed() };
    }
    let log = || daemons.iter().flat_map(Daemon::lines).collect::<Vec<_>>().join("\n");
    assert!(dark <= service.dark, "{context}: dark for {dark:?}:\n{}", log());
    for daemon in &daemons {
        daemon.wait_for("handed-over");
    }
    for member in &all {
        let is_in = |(target, _, state): &(String, u16, String)| *target == member.target && state != "draining";
        let (id, targets) = (&member.instance_id, first.sim.targets("web"));
        assert!(!targets.iter().any(is_in), "{context}: {id} is out before the end: {targets:?}\n{}", log());
    }
    assert_eq!(first.sim.successors().len(), launches * members, "{context}: {:?}\n{}", first.writes(), log());
}

fn all_services(members: usize) {
    // One that failed has nothing to say about the others.
    let _turn = ONE_AFTER_THE_OTHER.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for service in services(members) {
            scope.spawn(move || all_noticed_at_once(service));
        }
    });
}

#[test]
fn one_of_one_serves_until_the_reserve_whoever_owns_it() {
    all_services(1);
}

#[test]
fn of_two_of_two_noticed_at_once_somebody_serves_until_the_reserve() {
    all_services(2);
}

#[test]
fn of_three_of_three_noticed_at_once_somebody_serves_until_the_reserve() {
    all_services(3);
}

#[test]
fn whoever_is_shifted_away_with_its_zone_is_nobody_who_serves() {
    let mut settings = owned_by(Owner::Nobody);
    settings.others = vec![Other::new("m5.large", "eu-west-1b")];
    settings.shifted_zones = vec!["eu-west-1b".to_owned()];
    let scenario = Scenario::new(settings).config(AT_ONCE);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", NOTICE);
    thread::sleep(LIT_FOR);
    assert!(scenario.serves("web"), "{:#?}", daemon.lines());
    daemon.wait_for("handed-over");
    assert!(!scenario.serves("web"));
}
