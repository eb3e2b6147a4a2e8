//! The simulator's own handle: what tests of the daemon lean on, tried with a socket and nothing else.
//!
//! What the APIs answer is boto3's business (`tests/boto3`). Here: watchers and the client's death at each moment,
//! several instances' metadata in one world, the list of requests, the world as a test sees it.

#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spot_relay::sim::{
    Fault, FaultKind, FleetType, HealthSource, LifeCycle, Nth, Other, Owner, Pool, Reported, RequestMoment, Settings,
    Sim, TargetGroupSettings, Timings,
};

fn start(settings: Settings) -> Sim {
    Sim::start_on_a_thread(Settings { timings: Timings::fast(), ..settings }).unwrap()
}

fn connect(endpoint: &str) -> TcpStream {
    let stream = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn call_text(version: &str, call: &str) -> String {
    let body = format!("Version={version}&Action={call}");
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: aws\r\nAuthorization: Credential=AKIATEST/x\r\nX-Amz-Date: {date}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Everything that is answered, the head included; empty: the connection was closed without a word.
fn ask(endpoint: &str, text: &str) -> String {
    let mut stream = connect(endpoint);
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn elb(sim: &Sim, call: &str) -> String {
    ask(&sim.aws_endpoint(), &call_text("2015-12-01", call))
}

fn autoscaling(sim: &Sim, call: &str) -> String {
    ask(&sim.aws_endpoint(), &call_text("2011-01-01", call))
}

fn get(endpoint: &str, path: &str) -> String {
    let head = "Host: metadata\r\nConnection: close\r\nX-aws-ec2-metadata-token";
    let token = ask(endpoint, &format!("PUT /latest/api/token HTTP/1.1\r\n{head}-ttl-seconds: 60\r\n\r\n"));
    let token = token.split("\r\n\r\n").nth(1).unwrap();
    let answer = ask(endpoint, &format!("GET {path} HTTP/1.1\r\n{head}: {token}\r\n\r\n"));
    answer.split("\r\n\r\n").nth(1).unwrap().to_owned()
}

fn detach(sim: &Sim) -> String {
    let ours = sim.instance_id();
    format!("DetachInstances&AutoScalingGroupName=web&ShouldDecrementDesiredCapacity=false&InstanceIds.member.1={ours}")
}

fn until(mut truth: impl FnMut() -> bool) {
    let began = Instant::now();
    while !truth() {
        assert!(began.elapsed() < Duration::from_secs(5), "did not become true in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a call whose client dies at `moment`, and waits until that has been seen.
fn call_and_die(sim: &Sim, moment: RequestMoment) {
    let stream = connect(&sim.aws_endpoint());
    let client = Arc::new(Mutex::new(Some(stream.try_clone().unwrap())));
    let (died, dead) = std::sync::mpsc::channel();
    sim.on_request(move |request, now| {
        if request.action == "DetachInstances" && now == moment {
            if let Some(client) = client.lock().unwrap().take() {
                client.shutdown(std::net::Shutdown::Both).unwrap();
            }
            died.send(()).unwrap();
        }
    });
    (&stream).write_all(call_text("2011-01-01", &detach(sim)).as_bytes()).unwrap();
    dead.recv_timeout(Duration::from_secs(5)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn a_client_that_dies_when_its_call_arrives_has_it_forgotten() {
    let sim = start(Settings::default());
    call_and_die(&sim, RequestMoment::Arrived);
    assert!(sim.successors().is_empty());
    assert_eq!(sim.requests().last().unwrap().status, None);
}

#[test]
fn a_client_that_dies_when_its_call_is_done_has_it_done() {
    let sim = start(Settings::default());
    call_and_die(&sim, RequestMoment::Done);
    assert_eq!(sim.successors().len(), 1);
}

#[test]
fn the_answer_waits_for_the_watcher() {
    let sim = start(Settings::default());
    sim.on_request(|_, moment| {
        if moment == RequestMoment::Done {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let began = Instant::now();
    assert!(elb(&sim, "DescribeTargetGroups").starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_lost_reply_is_done_and_a_dropped_call_is_not() {
    let lost = start(Settings::default());
    let dropped = start(Settings::default());
    for (sim, kind) in [(&lost, FaultKind::LostReply), (&dropped, FaultKind::Drop)] {
        sim.fault(Fault { service: None, action: "DetachInstances".to_owned(), nth: Nth::First(1), kind });
        assert_eq!(autoscaling(sim, &detach(sim)), "");
    }
    until(|| lost.successors().len() == 1);
    assert!(dropped.successors().is_empty());
}

#[test]
fn two_instances_of_one_world_have_their_own_metadata() {
    let sim = start(Settings { owner: Owner::ec2_fleet(FleetType::Maintain), ..Settings::default() });
    let other = sim.snapshot()["instances"][1]["id"].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let endpoint = runtime.block_on(sim.metadata_for(&other)).unwrap();
    assert_eq!(get(&sim.metadata_endpoint(), "/latest/meta-data/instance-id"), sim.instance_id());
    assert_eq!(get(&endpoint, "/latest/meta-data/instance-id"), other);
    sim.notice_for(&other, "terminate", Duration::from_secs(60));
    assert!(get(&endpoint, "/latest/meta-data/spot/instance-action").contains("terminate"));
    assert!(get(&sim.metadata_endpoint(), "/latest/meta-data/spot/instance-action").contains("404"));
}

#[test]
fn requests_are_listed_in_order_with_their_answers() {
    let sim = start(Settings::default());
    let arn = sim.snapshot()["target_groups"][0]["arn"].as_str().unwrap().to_owned();
    let ours = sim.instance_id();
    elb(&sim, &format!("DeregisterTargets&TargetGroupArn={arn}&Targets.member.1.Id={ours}&Targets.member.1.Port=80"));
    elb(&sim, "DescribeTargetGroups");
    let requests = sim.requests();
    let actions: Vec<&str> = requests.iter().map(|request| request.action.as_str()).collect();
    assert_eq!(actions, ["DeregisterTargets", "DescribeTargetGroups"]);
    assert_eq!(requests[0].parameters["Targets.member.1.Port"], "80");
    assert_eq!(requests[0].status, Some(200));
    assert!(requests[1].body.as_ref().unwrap().contains(&arn));
    assert!(requests[0].since_start <= requests[1].since_start);
    assert_eq!(sim.targets("web")[0], (ours, 80, "draining".to_owned()));
}

#[test]
fn a_noticed_instance_is_really_taken_and_replaced_once() {
    let sim = start(Settings::default());
    sim.notice("terminate", Duration::from_millis(200));
    until(|| sim.snapshot()["instances"][0]["state"] == "terminated");
    until(|| sim.successors().len() == 1);
    until(|| sim.targets("web").iter().filter(|(_, _, state)| state == "healthy").count() == 3);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sim.successors().len(), 1);
    assert!(sim.targets("web").iter().all(|(id, _, _)| *id != sim.instance_id()));
}

#[test]
fn an_instance_may_be_spared_and_an_interruption_withdrawn() {
    let spared = start(Settings { kill_at_deadline: false, ..Settings::default() });
    let withdrawn = start(Settings::default());
    for sim in [&spared, &withdrawn] {
        sim.notice("terminate", Duration::from_millis(200));
    }
    withdrawn.withdraw_notice();
    std::thread::sleep(Duration::from_millis(600));
    for sim in [&spared, &withdrawn] {
        assert_eq!(sim.snapshot()["instances"][0]["state"], "running");
        assert!(sim.successors().is_empty());
    }
}

#[test]
fn a_group_that_scales_in_takes_our_instance_and_launches_nothing() {
    let mut settings = Settings::default();
    settings.target_groups[0].deregistration_delay = Duration::from_millis(300);
    let sim = start(settings);
    sim.scale_in();
    assert_eq!(sim.member_state().as_deref(), Some("Terminating"));
    assert_eq!(get(&sim.metadata_endpoint(), "/latest/meta-data/autoscaling/target-lifecycle-state"), "Terminated");
    until(|| sim.snapshot()["instances"][0]["state"] == "terminated");
    std::thread::sleep(Duration::from_millis(400));
    assert!(sim.successors().is_empty());
}

/// docs/aws.md 4: victims that each write what they read plus one lose updates; the simulated fleet must show it.
#[test]
fn concurrent_victims_that_write_the_same_target_lose_a_successor() {
    let others = vec![Other::new("m5.large", "eu-west-1b"); 2];
    let sim = start(Settings { owner: Owner::ec2_fleet(FleetType::Maintain), others, ..Settings::default() });
    let fleet = sim.snapshot()["fleets"][0]["id"].as_str().unwrap().to_owned();
    let raise = format!("ModifyFleet&FleetId={fleet}&TargetCapacitySpecification.TotalTargetCapacity=4");
    for _ in 0..2 {
        assert!(ask(&sim.aws_endpoint(), &call_text("2016-11-15", &raise)).contains("<return>true</return>"));
    }
    until(|| sim.snapshot()["fleets"][0]["fulfilled"] == 4);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sim.successors().len(), 1);
}

#[test]
fn health_may_be_what_a_load_balancer_outside_reports() {
    let web = TargetGroupSettings { health: HealthSource::Reported, ..TargetGroupSettings::named("web") };
    let sim = start(Settings { target_groups: vec![web], ..Settings::default() });
    let states = || sim.targets("web").into_iter().map(|(_, _, state)| state).collect::<Vec<_>>();
    assert_eq!(states(), ["initial", "initial", "initial"]);
    let ours = sim.instance_id();
    sim.report_target_health(&ours, 80, Reported::Healthy);
    sim.report_target_health(&ours, 8080, Reported::Unhealthy);
    assert_eq!(states(), ["healthy", "initial", "initial"]);
    sim.report_target_health(&ours, 80, Reported::Unhealthy);
    assert_eq!(states(), ["unhealthy", "initial", "initial"]);
}

#[test]
fn settings_read_from_json_as_they_are_built() {
    let text = r#"{
        "owner": {"kind": "ec2-fleet", "type": "maintain", "replacement_strategy": "launch"},
        "life_cycle": "on-demand",
        "target_groups": [{"name": "a", "kind": "ip", "ports": [8080, 8081], "deregistration_delay": "30s"}],
        "timings": {"running_after": "150ms"},
        "no_capacity": [{"zone": "eu-west-1a", "life_cycle": "spot"}]
    }"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert!(matches!(settings.owner, Owner::Ec2Fleet { type_: FleetType::Maintain, replacement_strategy: Some(_) }));
    assert_eq!(settings.life_cycle, LifeCycle::OnDemand);
    assert_eq!(settings.timings.running_after, Duration::from_millis(150));
    assert_eq!(settings.no_capacity[0].instance_type, Pool::spot("*", "eu-west-1a").instance_type);
    let sim = start(Settings { target_groups: vec![TargetGroupSettings::named("b")], ..settings });
    assert_eq!(sim.targets("b").len(), 3);
    assert!(serde_json::from_str::<Settings>(r#"{"no_such_key": 1}"#).is_err());
}
