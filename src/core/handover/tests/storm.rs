//! Many at once, in virtual time: hundreds of handovers against one account, with the buckets of calls that AWS documents
//! (docs/aws.md 3 and 4).
//!
//! Every victim is the real core. The account refuses what its buckets do not hold, charges for a refusal in one of two
//! ways, launches, registers and takes its victims after two minutes. The figures are what `benches/storm` measures with
//! real daemons.

use super::*;
use crate::core::retry::fraction;

/// From the notice to the end, in milliseconds.
const TWO_MINUTES: u64 = 120_000;

/// Tells whether a refused call costs a bucket anything is not documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    Free,
    /// The bucket loses the gathered part of its next call.
    LosesFraction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnedBy {
    Template,
    Group,
    /// Of type `maintain`, which launches once it is raised.
    Fleet,
}

struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    filled: u64,
}

impl Bucket {
    fn new(size: f64, per_second: f64) -> Bucket {
        Bucket { size, per_second, level: size, filled: 0 }
    }

    fn take(&mut self, now: u64, charge: Charge) -> bool {
        let gathered = (now - self.filled) as f64 / 1_000.0 * self.per_second;
        self.level = (self.level + gathered).min(self.size);
        self.filled = now;
        if self.level >= 1.0 {
            self.level -= 1.0;
            return true;
        }
        if charge == Charge::LosesFraction {
            self.level = 0.0;
        }
        false
    }
}

struct Account {
    charge: Charge,
    boot: (u64, u64),
    buckets: BTreeMap<&'static str, Bucket>,
    /// Accepted and refused calls.
    calls: BTreeMap<&'static str, (usize, usize)>,
    /// When each victim was out of its target group.
    out: Vec<Option<u64>>,
    /// Successors, with the instants of their launch, their first second as running, and their registration.
    successors: Vec<(InstanceId, u64, u64, Option<u64>)>,
    of_victim: BTreeMap<usize, usize>,
    by_id: BTreeMap<InstanceId, usize>,
    group: Vec<InstanceId>,
    /// The fleet as AWS shows it. Its members are the victims and the successors.
    fleet: Fleet,
    /// Targets that serve and were not noticed.
    unnoticed: usize,
}

/// The buckets that a call takes one token each of, one after the other, and the actions. `members`: of the fleet.
fn costs(call: &Call, members: usize) -> Vec<(&'static str, &'static str)> {
    let one = match call {
        Call::DeregisterTargets { .. } => ("elb targets", "DeregisterTargets"),
        Call::RegisterTargets { .. } => ("elb targets", "RegisterTargets"),
        Call::DescribeTargetHealth { .. } => ("elb describe", "DescribeTargetHealth"),
        Call::DetachInstances { .. } => ("auto scaling", "DetachInstances"),
        Call::DescribeAutoScalingGroup { .. } | Call::DescribeGroupSettings { .. } => {
            ("auto scaling", "DescribeAutoScalingGroups")
        }
        Call::CreateFleet { .. } => ("ec2 mutating", "CreateFleet"),
        Call::TagInstance { .. } | Call::TagFleet { .. } => ("ec2 mutating", "CreateTags"),
        Call::ModifyFleet { .. } => ("ec2 mutating", "ModifyFleet"),
        Call::DescribeInstances { .. } | Call::DescribeSuccessorsByTag(_) | Call::DescribeInstancesOfFleet { .. } => {
            ("ec2 describe", "DescribeInstances")
        }
        Call::DescribeFleet { .. } => ("ec2 describe", "DescribeFleets"),
        // As `cloud/ec2_fleet.rs` does it.
        Call::DescribeFleetMembers { .. } => {
            let described = vec![("ec2 describe", "DescribeInstances"); members.div_ceil(500)];
            let requests = vec![("ec2 describe", "DescribeSpotInstanceRequests"); members.div_ceil(200)];
            return [vec![("ec2 describe", "DescribeFleetInstances")], described, requests].concat();
        }
        Call::LookAtConnections { .. } => return Vec::new(),
        other => panic!("{other:?} is not asked in a storm"),
    };
    vec![one]
}

impl Account {
    fn new(victims: usize, unnoticed: usize, charge: Charge, boot: (u64, u64)) -> Account {
        let buckets = [
            ("elb targets", Bucket::new(20.0, 4.0)),
            ("elb describe", Bucket::new(40.0, 10.0)),
            ("auto scaling", Bucket::new(100.0, 10.0)),
            ("ec2 mutating", Bucket::new(50.0, 5.0)),
            ("ec2 describe", Bucket::new(100.0, 20.0)),
        ];
        Account {
            charge,
            boot,
            buckets: buckets.into(),
            calls: BTreeMap::new(),
            out: vec![None; victims],
            successors: Vec::new(),
            of_victim: BTreeMap::new(),
            by_id: BTreeMap::new(),
            group: (0..victims).map(victim_id).collect(),
            fleet: fleet(victims as i32),
            unnoticed,
        }
    }

    fn current(&self) -> GroupState {
        let size = self.group.len() as i32;
        let members = self.group.iter().map(|id| member(id.as_str(), "InService")).collect();
        GroupState { members, desired_capacity: size, max_size: size + 1, ..empty_group() }
    }

    fn launch(&mut self, now: u64, victim: usize, registered: bool) -> InstanceId {
        let id = id(&format!("i-new{:013x}", self.successors.len()));
        let (shortest, longest) = self.boot;
        let boot = shortest + ((longest - shortest) as f64 * fraction(self.successors.len() as u64)) as u64;
        let runs_at = now + boot;
        self.by_id.insert(id.clone(), self.successors.len());
        self.of_victim.entry(victim).or_insert(self.successors.len());
        self.successors.push((id.clone(), now, runs_at, registered.then_some(runs_at)));
        id
    }

    fn instance(&self, wanted: &InstanceId, now: u64) -> Option<Instance> {
        let (id, launched, runs_at, _) = self.successors.get(*self.by_id.get(wanted)?)?;
        Some(Instance {
            instance_id: id.clone(),
            state: if now >= *runs_at { InstanceState::Running } else { InstanceState::Pending },
            instance_type: "m5.large".into(),
            availability_zone: "eu-west-1b".into(),
            private_ip: Some("10.0.0.9".into()),
            ipv6_address: None,
            addresses: Vec::new(),
            subnet_id: None,
            launch_time: Some(epoch() + Duration::from_millis(*launched)),
            tags: BTreeMap::new(),
            state_reason: None,
            vcpus: None,
            is_on_demand: false,
        })
    }

    fn answer(&mut self, now: u64, victim: usize, call: &Call) -> Answer {
        for (bucket, action) in costs(call, self.out.len() + self.successors.len()) {
            let charge = self.charge;
            let taken = self.buckets.get_mut(bucket).is_none_or(|bucket| bucket.take(now, charge));
            let calls = self.calls.entry(action).or_default();
            *(if taken { &mut calls.0 } else { &mut calls.1 }) += 1;
            if !taken {
                let code = Some("Throttling".to_owned());
                return Answer::Failed(Failure { kind: FailureKind::Throttled, code, message: "Rate exceeded".into() });
            }
        }
        self.perform(now, victim, call)
    }

    fn perform(&mut self, now: u64, victim: usize, call: &Call) -> Answer {
        match call {
            Call::DeregisterTargets { .. } => {
                self.out[victim].get_or_insert(now);
                Answer::Accepted
            }
            Call::RegisterTargets { targets, .. } => {
                for target in targets {
                    if let Some(index) = self.by_id.get(&id(&target.id)) {
                        self.successors[*index].3.get_or_insert(now);
                    }
                }
                Answer::Accepted
            }
            // The victim's own row, the successors', those of targets that were not noticed, and of the first of the
            // others that are not out yet: one that looks who serves asks no more than whether there are many.
            Call::DescribeTargetHealth { targets, .. } => {
                let row = |id: &InstanceId, state: TargetState| TargetHealth {
                    target: Target { id: id.to_string(), port: 80 },
                    state,
                    reason: None,
                };
                let ours = if self.out[victim].is_some() { TargetState::Draining } else { TargetState::Healthy };
                let registered = self.successors.iter().filter(|it| it.3.is_some_and(|at| at <= now));
                let others = registered.map(|(id, _, _, at)| {
                    let healthy = at.is_some_and(|at| now >= at + 5_000);
                    row(id, if healthy { TargetState::Healthy } else { TargetState::Initial })
                });
                let ours = row(&victim_id(victim), ours);
                let in_service = (0..self.out.len()).filter(|it| *it != victim && self.out[*it].is_none());
                let fellows = in_service.take(12).map(|it| row(&victim_id(it), TargetState::Healthy));
                let stay = (0..self.unnoticed).map(|it| row(&id(&format!("i-stays{it:012x}")), TargetState::Healthy));
                let all = others.chain([ours]).chain(fellows).chain(stay);
                let named: BTreeSet<&str> = targets.iter().map(|target| target.id.as_str()).collect();
                Answer::Health(all.filter(|it| named.is_empty() || named.contains(it.target.id.as_str())).collect())
            }
            Call::LookAtConnections { ports, .. } => Answer::Connections(Connections {
                listening: ports.clone(),
                reached: ports.clone(),
                ..Connections::default()
            }),
            Call::DetachInstances { .. } => {
                self.out[victim].get_or_insert(now);
                self.group.retain(|member| *member != victim_id(victim));
                let new = self.launch(now, victim, true);
                self.group.push(new);
                Answer::Accepted
            }
            Call::DescribeGroupSettings { .. } => {
                Answer::GroupSettings { current: Some(self.current()), termination_hooks: None }
            }
            Call::DescribeAutoScalingGroup { .. } => Answer::GroupState(Some(self.current())),
            Call::CreateFleet { .. } => {
                let new = match self.of_victim.get(&victim) {
                    Some(index) => self.successors[*index].0.clone(),
                    None => self.launch(now, victim, false),
                };
                Answer::Launched(Launched { instances: vec![new], errors: Vec::new() })
            }
            Call::DescribeInstances { instance_ids } => {
                Answer::Instances(instance_ids.iter().filter_map(|wanted| self.instance(wanted, now)).collect())
            }
            Call::TagInstance { .. } => Answer::Accepted,
            Call::DescribeFleet { .. } => Answer::Fleet(Some(Box::new(self.fleet.clone()))),
            Call::DescribeFleetMembers { .. } => Answer::FleetMembers(self.fleet_members(now)),
            Call::DescribeInstancesOfFleet { .. } => Answer::Instances(Vec::new()),
            Call::TagFleet { key, value, .. } => {
                self.fleet.tags.insert(key.clone(), value.clone());
                Answer::Accepted
            }
            Call::ModifyFleet { total, .. } => {
                self.fleet.capacity.total = *total;
                for _ in self.fleet.capacity.fulfilled..*total {
                    self.launch(now, self.successors.len(), false);
                }
                self.fleet.capacity.fulfilled = self.fleet.capacity.fulfilled.max(*total);
                Answer::Accepted
            }
            other => panic!("{other:?} is not asked in a storm"),
        }
    }

    fn fleet_members(&self, now: u64) -> Vec<FleetMember> {
        let member = |instance: Instance, taken_since| FleetMember {
            instance_id: instance.instance_id.clone(),
            instance_type: instance.instance_type.clone(),
            memory_mib: None,
            instance: Some(instance),
            taken_since,
        };
        let victims = (0..self.out.len()).map(|victim| {
            let launch_time = Some(epoch() - Duration::from_secs(900));
            let noticed = Some(noticed_at(victim)).filter(|at| now >= *at);
            let taken_since = noticed.map(|at| epoch() + Duration::from_millis(at));
            member(Instance { launch_time, ..running(victim_id(victim).as_str()) }, taken_since)
        });
        let successors = self.successors.iter().filter_map(|(id, ..)| Some(member(self.instance(id, now)?, None)));
        victims.chain(successors).collect()
    }
}

fn victim_id(victim: usize) -> InstanceId {
    id(&format!("i-{victim:017x}"))
}

enum What {
    Wake,
    Arrive(DutyId, Call),
    Reply(DutyId, Answer),
}

struct Storm {
    account: Account,
    handovers: Vec<Handover>,
    wakes: Vec<Option<u64>>,
    /// What happens to whom, by its instant and its number.
    queue: BTreeMap<(u64, u64), (usize, What)>,
    number: u64,
    death: u64,
}

impl Storm {
    fn new(case: Case) -> Storm {
        let Case { victims, unnoticed, fellows, owner, charge, boot, death, when } = case;
        let leave = LeaveSettings { when, ..LeaveSettings::default() };
        let settings = HandoverSettings { leave, ..HandoverSettings::default() };
        let plan = match owner {
            OwnedBy::Template => match launch_plan() {
                Plan::Launch(launch) => Plan::Launch(LaunchPlan { running: fellows, ..launch }),
                other => other,
            },
            OwnedBy::Group => {
                let members = (0..victims).map(|it| member(victim_id(it).as_str(), "InService")).collect();
                Plan::Group { group: AutoScalingGroup { members, ..group(&[]) }, how: GroupRequest::Detach }
            }
            OwnedBy::Fleet => {
                Plan::Fleet { kind: FleetKind::Ec2, fleet: fleet(victims as i32), how: FleetRequest::Raise }
            }
        };
        let begin = |victim: usize| {
            let name = victim_id(victim);
            let incident = incident_of(name.as_str(), Action::Terminate, death);
            let registrations = Some(vec![registration(WEB, name.as_str(), &[80])]);
            let known = LookedUp { registrations, plan: Some(plan.clone()), ..LookedUp::default() };
            Handover::begin(incident, settings.clone(), known, at(noticed_at(victim)))
        };
        let mut storm = Storm {
            account: Account::new(victims, unnoticed, charge, boot),
            handovers: (0..victims).map(begin).collect(),
            wakes: vec![None; victims],
            queue: BTreeMap::new(),
            number: 0,
            death,
        };
        for victim in 0..victims {
            storm.wakes[victim] = Some(noticed_at(victim));
            storm.push(noticed_at(victim), victim, What::Wake);
        }
        storm
    }

    fn push(&mut self, at: u64, victim: usize, what: What) {
        self.number += 1;
        self.queue.insert((at, self.number), (victim, what));
    }

    /// How long a message is under way.
    fn latency(&self) -> u64 {
        20 + (fraction(self.number) * 40.0) as u64
    }

    fn run(mut self) -> Figures {
        while let Some(((now, _), (victim, what))) = self.queue.pop_first() {
            match what {
                What::Wake if self.wakes[victim] != Some(now) => continue,
                What::Wake => self.wakes[victim] = None,
                What::Arrive(duty, call) => {
                    let answer = self.account.answer(now, victim, &call);
                    let latency = self.latency();
                    self.push(now + latency, victim, What::Reply(duty, answer));
                    continue;
                }
                What::Reply(duty, answer) => drop(self.handovers[victim].answered(at(now), duty, answer)),
            }
            self.ask(victim, now);
        }
        self.figures()
    }

    fn ask(&mut self, victim: usize, now: u64) {
        let due = self.handovers[victim].due(at(now));
        for Due { duty, call, .. } in due {
            assert!(now < self.death, "{call:?} is begun after the end");
            let latency = self.latency();
            self.push(now + latency, victim, What::Arrive(duty, call));
        }
        let Some(wake) = self.handovers[victim].wake() else { return };
        let wake = (wake.since(at(0)).as_millis() as u64).max(now) + 1;
        if self.wakes[victim].is_none_or(|pending| wake < pending || pending <= now) {
            self.wakes[victim] = Some(wake);
            self.push(wake, victim, What::Wake);
        }
    }

    fn figures(self) -> Figures {
        let mut out: Vec<u64> = self.account.out.iter().filter_map(|at| at.filter(|at| *at < self.death)).collect();
        out.sort_unstable();
        let successors = &self.account.successors;
        let ended = self.handovers.iter().filter(|handover| handover.outcome().is_some()).count();
        assert_eq!(ended, self.handovers.len(), "every handover ends");
        Figures {
            victims: self.handovers.len(),
            out,
            launched: successors.len(),
            last_launch: successors.iter().map(|it| it.1).max().unwrap_or_default(),
            registered: successors.iter().filter(|it| it.3.is_some_and(|at| at < self.death)).count(),
            last_registration: successors.iter().filter_map(|it| it.3).max().unwrap_or_default(),
            complete: self.handovers.iter().filter(|it| it.outcome().is_some_and(|it| it.complete)).count(),
            calls: self.account.calls,
        }
    }
}

/// Every daemon looks once a second.
fn noticed_at(victim: usize) -> u64 {
    (fraction(victim as u64 ^ 0x5eed) * 1_000.0) as u64
}

#[derive(Debug)]
struct Figures {
    victims: usize,
    /// When each that was out in time was out, in milliseconds, in order.
    out: Vec<u64>,
    launched: usize,
    last_launch: u64,
    registered: usize,
    last_registration: u64,
    complete: usize,
    calls: BTreeMap<&'static str, (usize, usize)>,
}

impl Figures {
    fn quantile(&self, share: f64) -> u64 {
        let index = (self.victims as f64 * share).ceil() as usize;
        self.out.get(index.max(1) - 1).copied().unwrap_or(u64::MAX)
    }

    fn print(&self, name: &str) {
        let seconds = |milliseconds: u64| match milliseconds {
            u64::MAX => "never".to_owned(),
            milliseconds => format!("{:.1}", milliseconds as f64 / 1_000.0),
        };
        println!(
            "{name:<34} out: half {}, 90 % {}, all {} ({} of {}); launched {} by {}; registered {} by {}; complete {}",
            seconds(self.quantile(0.5)),
            seconds(self.quantile(0.9)),
            seconds(self.quantile(1.0)),
            self.out.len(),
            self.victims,
            self.launched,
            seconds(self.last_launch),
            self.registered,
            seconds(self.last_registration),
            self.complete,
        );
        println!("    {:?}", self.calls);
    }
}

/// Instances that boot within seconds, and ones that take a minute.
const BOOTS: [(u64, u64); 2] = [(3_000, 10_000), (30_000, 60_000)];

/// The ingredients of a storm.
struct Case {
    victims: usize,
    unnoticed: usize,
    /// Instances that the plan knows to have the same owner.
    fellows: Option<usize>,
    owner: OwnedBy,
    charge: Charge,
    boot: (u64, u64),
    death: u64,
    when: When,
}

impl Case {
    fn new(victims: usize, owner: OwnedBy, boot: (u64, u64)) -> Case {
        let (charge, death, when) = (Charge::Free, TWO_MINUTES, When::AtOnce);
        Case { victims, unnoticed: 0, fellows: Some(victims), owner, charge, boot, death, when }
    }

    fn run(self) -> Figures {
        let name = format!("{} {:?} {:?} {:?} {:?}", self.victims, self.fellows, self.owner, self.charge, self.boot);
        let figures = Storm::new(self).run();
        figures.print(&name);
        figures
    }
}

/// How long the bucket of deregistrations needs for so many, in milliseconds.
fn bound(victims: usize) -> u64 {
    (victims.saturating_sub(20) * 250) as u64
}

/// Nobody calls before he has looked at his metadata.
const SEEN_WITHIN: u64 = 1_000;

/// Other targets stay. Else the last ten would serve on, so that somebody serves, until their successors do.
#[test]
fn all_are_out_within_the_bucket_s_bound_and_four_tenths() {
    for (owner, boot) in [
        (OwnedBy::Template, BOOTS[0]),
        (OwnedBy::Template, BOOTS[1]),
        (OwnedBy::Group, BOOTS[0]),
        (OwnedBy::Group, BOOTS[1]),
    ] {
        for victims in [10, 30, 60, 100, 150, 300] {
            let figures = Case { unnoticed: 12, ..Case::new(victims, owner, boot) }.run();
            assert!(owner == OwnedBy::Template || figures.complete * 4 >= victims * 3, "{figures:?}");
            assert!(figures.quantile(1.0) <= SEEN_WITHIN + bound(victims) * 14 / 10, "{figures:?}");
            assert_eq!(figures.launched, victims, "{figures:?}");
            // Three hundred detaches take their bucket 20 s.
            assert!(owner == OwnedBy::Template || figures.last_launch <= 26_000, "{figures:?}");
            let tokens = 500 - victims;
            assert!(figures.registered >= (tokens * 9 / 10).min(victims), "{figures:?}");
        }
    }
}

/// Every victim of a fleet looks for all successors, and one look at hundreds of members takes several calls.
#[test]
fn every_successor_of_a_fleet_is_registered_though_all_victims_look_for_all_of_them() {
    for boot in BOOTS {
        for victims in [10, 60, 150, 300] {
            let figures = Case { unnoticed: 12, ..Case::new(victims, OwnedBy::Fleet, boot) }.run();
            assert!(figures.quantile(1.0) <= 2 * SEEN_WITHIN + bound(victims) * 14 / 10, "{figures:?}");
            assert_eq!((figures.launched, figures.registered), (victims, victims), "{figures:?}");
            let registered_by = if victims > 150 { 115_000 } else { 100_000 };
            assert!(figures.last_launch <= 10_000 && figures.last_registration <= registered_by, "{figures:?}");
            assert!(victims > 150 || figures.complete * 10 >= victims * 6, "{figures:?}");
            let refused: usize =
                figures.calls.iter().filter(|(call, _)| call.contains("Instance")).map(|it| it.1.1).sum();
            assert!(refused <= 5 * victims, "{figures:?}");
        }
    }
}

#[test]
fn a_hundred_and_fifty_get_out_where_a_refused_call_costs_what_the_bucket_has_gathered() {
    for boot in BOOTS {
        for owner in [OwnedBy::Template, OwnedBy::Group, OwnedBy::Fleet] {
            let figures = Case { charge: Charge::LosesFraction, ..Case::new(150, owner, boot) }.run();
            assert!(figures.out.len() >= 146, "{figures:?}");
            assert_eq!(figures.launched, 150, "{figures:?}");
        }
    }
}

#[test]
fn it_hangs_on_no_good_guess_of_how_many_were_noticed() {
    for (fellows, out_where_it_costs) in [(None, 146), (Some(10), 60), (Some(1_000), 146)] {
        for victims in [60, 150, 300] {
            let figures = Case { fellows, ..Case::new(victims, OwnedBy::Template, BOOTS[0]) }.run();
            assert!(figures.out.len() * 100 >= victims * 97, "{figures:?}");
            assert!(figures.quantile(0.9) <= bound(victims).max(30_000) * 3 / 2, "{figures:?}");
        }
        let template = Case::new(150, OwnedBy::Template, BOOTS[0]);
        let figures = Case { fellows, charge: Charge::LosesFraction, ..template }.run();
        assert!(figures.out.len() >= out_where_it_costs, "{figures:?}");
    }
}

#[test]
fn who_serves_on_until_its_last_moment_leaves_earlier_among_many() {
    for victims in [60, 150] {
        let never = (300_000, 300_000);
        let figures = Case { when: When::Auto, ..Case::new(victims, OwnedBy::Template, never) }.run();
        let (taken, refused) = figures.calls["DeregisterTargets"];
        assert_eq!((figures.out.len(), taken), (victims, victims), "{figures:?}");
        assert!(refused <= victims / 4, "{figures:?}");
        // The last moment is 40 s before the end, and half of the time until then is for serving on at least.
        assert!(figures.out.first().is_some_and(|first| *first >= 40_000), "{figures:?}");
        assert!(figures.quantile(1.0) <= 84_000, "{figures:?}");
    }
}

#[test]
fn of_ten_thousand_as_many_get_out_as_the_bucket_lets_and_every_handover_ends() {
    let death = 15_000;
    let figures = Case { death, ..Case::new(10_000, OwnedBy::Template, BOOTS[1]) }.run();
    assert!(figures.out.len() >= 75, "{}", figures.out.len());
    assert_eq!(figures.registered, 0);
}
