//! Names by the system's own resolver, against name servers that are dead, slow, or deaf for a kind of question. Each test runs
//! itself again in a network namespace, in which those servers are the system's.

use std::env;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::alone::{ALONE, assert_passed};
use crate::calls::{DONE, connect, deregister, metadata};
use crate::stub::{Stub, reply};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const A: [u8; 2] = [0, 1];
const AAAA: [u8; 2] = [0, 28];

/// The manner of a name server: how late it answers a question of this type, if it does.
type Manner = fn([u8; 2]) -> Option<Duration>;

/// Tells whether this is the process in the namespace. If not, the test has just run there and passed, or this machine lets nobody
/// make one.
fn in_a_namespace(test: &str, name_servers: &[Ipv4Addr]) -> bool {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let is_possible = Command::new("unshare").args(["-rmn", "ip", "link", "set", "lo", "up"]).output();
    if !is_possible.is_ok_and(|output| output.status.success()) {
        assert!(env::var("CI").is_err(), "CI has to be able to make a network namespace: unshare and ip, as root");
        return false;
    }
    let resolv_conf =
        env::temp_dir().join(format!("spot-relay-resolv-{}-{}", std::process::id(), test.replace(':', "-")));
    let lines: String = name_servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(&resolv_conf, lines).unwrap();
    let inside = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-rmn", "sh", "-c", inside])
        .arg(&resolv_conf)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, test)
        .output()
        .unwrap();
    std::fs::remove_file(resolv_conf).unwrap();
    assert_passed(&output);
    false
}

fn serve(address: Ipv4Addr, manner: Manner) {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let question = buffer[12..length].to_vec();
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let wanted = [question[end - 4], question[end - 3]];
            let Some(late) = manner(wanted) else { continue };
            let count = u8::from(wanted == A);
            let mut answer = [&buffer[..2], &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0], &question[..end]].concat();
            if wanted == A {
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            let socket = socket.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(late);
                socket.send_to(&answer, from).unwrap();
            });
        }
    });
}

/// The first call waits for the name, as long as the resolver takes, and the second one for nothing.
fn check(slower_than: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stub = Stub::start(|request, _| metadata(request).unwrap_or_else(|| reply(200, DONE))).await;
        let aws = connect(&stub.url.replace("127.0.0.1", "aws.test"), &stub.url).await;
        aws.credentials.renew().await.unwrap();
        let began = Instant::now();
        deregister(&aws).await.unwrap();
        let took = began.elapsed();
        assert!(took >= slower_than && took < Duration::from_secs(20), "{took:?}");
        let began = Instant::now();
        deregister(&aws).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn a_dead_first_name_server_costs_time_and_no_call() {
    if in_a_namespace("resolver::a_dead_first_name_server_costs_time_and_no_call", &[FIRST, SECOND]) {
        serve(FIRST, |_| None);
        serve(SECOND, |_| Some(Duration::ZERO));
        // The C library's own patience with a server.
        check(Duration::from_secs(4));
    }
}

#[test]
fn a_name_server_that_drops_questions_for_ipv6_costs_time_and_no_call() {
    let test = "resolver::a_name_server_that_drops_questions_for_ipv6_costs_time_and_no_call";
    if in_a_namespace(test, &[FIRST]) {
        serve(FIRST, |wanted| (wanted != AAAA).then_some(Duration::ZERO));
        check(Duration::from_secs(4));
    }
}

#[test]
fn a_name_server_that_is_slower_than_a_call_may_be_costs_no_call() {
    if in_a_namespace("resolver::a_name_server_that_is_slower_than_a_call_may_be_costs_no_call", &[FIRST]) {
        serve(FIRST, |_| Some(Duration::from_millis(1_500)));
        check(Duration::from_millis(1_400));
    }
}
