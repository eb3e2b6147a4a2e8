//! The variables that every AWS client honours. The server is in this process, the client in one with the variables.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::{Aws, Connection};
use spot_relay::core::retry::{Failure, FailureKind};
use spot_relay::sim::{Request, Settings, Sim, Tls};
use tokio::net::TcpListener;

use crate::alone::{assert_passed, command};

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "secret")];

/// As the daemon connects: everything from the environment but the instance's own region.
fn call() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let aws = Aws::connect(Connection::new("eu-west-1", Clock::default())).await.unwrap();
        aws.autoscaling.group_state("web").await.map(drop)
    })
}

fn is_alone(test: &str) -> bool {
    std::env::var("SPOT_RELAY_TEST_ALONE").is_ok_and(|name| name == format!("environment::{test}"))
}

/// What arrived at a simulator while the test ran with these variables; `{aws}` and `{metadata}` stand for its endpoints.
fn requests_with(test: &str, variables: &[(&str, &str)]) -> Vec<Request> {
    let sim = Sim::start_on_a_thread(Settings::default()).unwrap();
    let (aws, metadata) = (sim.aws_endpoint(), sim.metadata_endpoint());
    let filled: Vec<(&str, String)> = variables
        .iter()
        .map(|(name, value)| (*name, value.replace("{aws}", &aws).replace("{metadata}", &metadata)))
        .collect();
    let filled: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_passed(&command(&format!("environment::{test}"), &filled).output().unwrap());
    sim.requests()
}

#[test]
fn the_endpoint_the_region_and_the_keys_come_from_the_environment() {
    let test = "the_endpoint_the_region_and_the_keys_come_from_the_environment";
    if is_alone(test) {
        return call().unwrap();
    }
    let others = [("AWS_ENDPOINT_URL", "{aws}"), ("AWS_REGION", "us-west-2")];
    let requests = requests_with(test, &[&KEYS[..], &others].concat());
    assert_eq!(requests.len(), 1);
    let authorization = &requests[0].headers["authorization"];
    assert!(authorization.contains("AKIAENVIRONMENT/") && authorization.contains("/us-west-2/"), "{authorization}");
}

#[test]
fn an_endpoint_of_one_service_counts_and_the_region_is_the_instances() {
    let test = "an_endpoint_of_one_service_counts_and_the_region_is_the_instances";
    if is_alone(test) {
        return call().unwrap();
    }
    let others = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_ENDPOINT_URL_AUTO_SCALING", "{aws}")];
    let requests = requests_with(test, &[&KEYS[..], &others].concat());
    assert!(requests[0].headers["authorization"].contains("/eu-west-1/autoscaling/"), "{requests:?}");
}

#[test]
fn credentials_come_from_the_metadata_endpoint_and_past_the_proxy() {
    let test = "credentials_come_from_the_metadata_endpoint_and_past_the_proxy";
    if is_alone(test) {
        return call().unwrap();
    }
    let proxy = "http://127.0.0.1:9";
    let variables = [
        ("AWS_ENDPOINT_URL", "{aws}"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "{metadata}"),
        ("HTTP_PROXY", proxy),
        ("http_proxy", proxy),
        ("ALL_PROXY", proxy),
    ];
    let requests = requests_with(test, &variables);
    let services: Vec<&str> = requests.iter().map(|request| request.service.as_str()).collect();
    assert_eq!(services, ["metadata", "metadata", "metadata", "autoscaling"]);
    assert!(requests[3].headers["authorization"].contains("ASIASIMULATED"), "{:?}", requests[3]);
}

/// An authority and what it certified for 127.0.0.1, made by openssl for this run of a test.
pub(crate) fn certificates(test: &str) -> (PathBuf, PathBuf, PathBuf) {
    let directory = std::env::temp_dir().join(format!("spot-relay-tls-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").current_dir(&directory).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("req -x509 {key} -keyout authority.key -out authority.pem -subj /CN=authority"));
    let name = "-subj /CN=here -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    openssl(&format!("req -x509 {key} -CA authority.pem -CAkey authority.key -keyout here.key -out here.pem {name}"));
    (directory.join("authority.pem"), directory.join("here.pem"), directory.join("here.key"))
}

#[test]
fn https_trusts_the_bundle_and_nobody_without_it() {
    let test = "https_trusts_the_bundle_and_nobody_without_it";
    if is_alone(test) {
        let trusted = std::env::var_os("AWS_CA_BUNDLE").is_some();
        match call() {
            Ok(()) => assert!(trusted),
            Err(failure) => {
                assert!(!trusted && failure.kind == FailureKind::Unanswered, "{failure}");
                assert!(failure.message.contains("certificate"), "{failure}");
            }
        }
        return;
    }
    let (authority, certificates, key) = certificates(test);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = Some(Tls { certificate: certificates, key });
        let sim = Sim::start_on(Settings::default(), listener().await, listener().await, tls).await.unwrap();
        for (bundle, arrived) in [(None, 0), (Some(authority), 1)] {
            let mut command = command(&format!("environment::{test}"), &KEYS);
            command.env("AWS_ENDPOINT_URL", sim.aws_endpoint()).envs(bundle.map(|bundle| ("AWS_CA_BUNDLE", bundle)));
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert_passed(&output);
            assert_eq!(sim.requests().len(), arrived);
        }
    });
}

/// Passes connections on, each after this time.
async fn late(listener: TcpListener, to: std::net::SocketAddr, after: Duration) {
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[test]
fn a_path_whose_handshakes_take_more_than_two_seconds_is_slow_and_not_dead() {
    let test = "a_path_whose_handshakes_take_more_than_two_seconds_is_slow_and_not_dead";
    if is_alone(test) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(async {
            let aws = Aws::connect(Connection::new("eu-west-1", Clock::default())).await.unwrap();
            let mut failures = Vec::new();
            while let Err(failure) = aws.within(Duration::from_secs(20)).autoscaling.group_state("web").await {
                failures.push(failure);
                assert!(failures.len() <= 3, "{failures:?}");
            }
            assert!(failures.iter().all(|failure| failure.message.contains("connect timeout")), "{failures:?}");
        });
    }
    let (authority, certificates, key) = certificates(test);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = Some(Tls { certificate: certificates, key });
        let sim = Sim::start_on(Settings::default(), listener().await, listener().await, tls).await.unwrap();
        let to = sim.aws_endpoint().trim_start_matches("https://").parse().unwrap();
        let slow = listener().await;
        let endpoint = format!("https://{}", slow.local_addr().unwrap());
        tokio::spawn(late(slow, to, Duration::from_millis(2_400)));
        let mut command = command(&format!("environment::{test}"), &KEYS);
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_CA_BUNDLE", authority);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_passed(&output);
    });
}

#[test]
fn a_bundle_that_cannot_be_used_fails_each_call_and_is_named() {
    let test = "a_bundle_that_cannot_be_used_fails_each_call_and_is_named";
    if is_alone(test) {
        let failure = call().unwrap_err();
        return assert!(failure.message.contains("failed to use AWS_CA_BUNDLE=/"), "{failure}");
    }
    let rubbish = std::env::temp_dir().join(format!("spot-relay-rubbish-{}.pem", std::process::id()));
    std::fs::write(&rubbish, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let mut command = command(&format!("environment::{test}"), &KEYS);
    command.env("AWS_ENDPOINT_URL", "https://127.0.0.1:1").env("AWS_CA_BUNDLE", &rubbish);
    assert_passed(&command.output().unwrap());
    std::fs::remove_file(rubbish).unwrap();
}

/// The hosts that a client with these variables asks a proxy for, in order, each once.
fn hosts_asked_for(test: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in proxy.incoming() {
            let mut line = String::new();
            let read = BufReader::new(connection.unwrap()).read_line(&mut line);
            if read.is_ok() && tell.send(line).is_err() {
                return;
            }
        }
    });
    let output = command(&format!("environment::{test}"), &[variables, &[("HTTPS_PROXY", &url)]].concat()).output();
    assert_passed(&output.unwrap());
    let host = |line: String| line.strip_prefix("CONNECT ").and_then(|rest| Some(rest.split_once(':')?.0.to_owned()));
    let mut hosts: Vec<String> = told.try_iter().filter_map(host).collect();
    hosts.dedup();
    hosts
}

#[test]
fn fips_and_dual_stack_hold_for_sts_as_for_every_service() {
    let test = "fips_and_dual_stack_hold_for_sts_as_for_every_service";
    if is_alone(test) {
        assert!(call().is_err(), "the proxy lets nothing through");
        return;
    }
    let token = std::env::temp_dir().join(format!("spot-relay-web-identity-{}", std::process::id()));
    std::fs::write(&token, "a token of an identity provider").unwrap();
    let role = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
    ];
    let (fips, dual_stack) = (("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true"));
    for (variables, fips, domain) in [
        (&[][..], "", "amazonaws.com"),
        (&[fips], "-fips", "amazonaws.com"),
        (&[dual_stack], "", "api.aws"),
        (&[fips, dual_stack], "-fips", "api.aws"),
    ] {
        for (credentials, service) in [(&role, "sts"), (&KEYS, "autoscaling")] {
            let variables = [&credentials[..], variables, &[("AWS_REGION", "us-west-2")]].concat();
            let asked = hosts_asked_for(test, &variables);
            assert_eq!(asked, [format!("{service}{fips}.us-west-2.{domain}")], "{variables:?}");
        }
    }
    std::fs::remove_file(token).unwrap();
}
