//! Credentials: loaded before they are needed, renewed on request, let go when AWS would not have them. The simulator is
//! the metadata service and AWS.

use std::time::{Duration, Instant, SystemTime};

use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::{Aws, Connection};
use spot_relay::core::retry::{Failure, FailureKind};
use spot_relay::sim::{Fault, FaultKind, Nth, Settings, Sim};

use crate::alone::alone;

/// A test in a process whose environment names no credentials.
fn story(name: &str, settings: Settings, story: impl AsyncFnOnce(Sim, Aws)) {
    if !alone(&format!("credentials::{name}"), &[]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sim = Sim::start(settings).await.unwrap();
        let mut connection = Connection::new("eu-west-1", Clock::default());
        connection.endpoint_url = Some(sim.aws_endpoint());
        connection.metadata_endpoint = Some(sim.metadata_endpoint());
        let aws = Aws::connect(connection).await.unwrap();
        story(sim, aws).await;
    });
}

async fn call(aws: &Aws) -> Result<(), Failure> {
    aws.autoscaling.group_state("web").await.map(drop)
}

fn loads(sim: &Sim) -> usize {
    let paths = sim.requests();
    paths.iter().filter(|request| request.action.contains("security-credentials/web")).count()
}

fn metadata_fault(kind: FaultKind) -> Fault {
    Fault { service: Some("metadata".into()), action: "*".into(), nth: Nth::All, kind }
}

#[test]
fn connecting_asks_nobody_anything() {
    story("connecting_asks_nobody_anything", Settings::default(), async |sim, _aws| {
        assert!(sim.requests().is_empty());
    });
}

#[test]
fn they_are_renewed_on_request_and_then_no_call_waits_for_them() {
    let name = "they_are_renewed_on_request_and_then_no_call_waits_for_them";
    story(name, Settings::default(), async |sim, aws| {
        let expiry = aws.credentials.renew().await.unwrap().unwrap();
        let left = expiry.duration_since(SystemTime::now()).unwrap();
        assert!((Duration::from_secs(6 * 3600 - 60)..=Duration::from_secs(6 * 3600)).contains(&left), "{left:?}");
        sim.fault(metadata_fault(FaultKind::Hang));
        let began = Instant::now();
        call(&aws).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(loads(&sim), 1);
        assert_eq!(aws.credentials.renew().await.unwrap_err().kind, FailureKind::Credentials);
        assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
        assert!(aws.credentials.standing().trouble.is_some(), "a load that failed is trouble");
        call(&aws).await.unwrap();
        sim.clear_faults();
        aws.credentials.renew().await.unwrap();
        assert_eq!(aws.credentials.standing().trouble, None);
    });
}

#[test]
fn where_none_are_in_hand_concurrent_calls_load_them_once() {
    let name = "where_none_are_in_hand_concurrent_calls_load_them_once";
    story(name, Settings::default(), async |sim, aws| {
        let (one, two, three) = tokio::join!(call(&aws), call(&aws), call(&aws));
        one.and(two).and(three).unwrap();
        assert_eq!(loads(&sim), 1);
    });
}

#[test]
fn expired_ones_are_let_go_and_the_next_call_has_new_ones() {
    let name = "expired_ones_are_let_go_and_the_next_call_has_new_ones";
    story(name, Settings::default(), async |sim, aws| {
        call(&aws).await.unwrap();
        sim.expire_credentials(None);
        let failure = call(&aws).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Credentials, Some("ExpiredToken")));
        call(&aws).await.unwrap();
        assert_eq!(loads(&sim), 2);
        sim.expire_credentials(None);
        let failure = aws.ec2.describe_tags("i-1").await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Credentials, Some("RequestExpired")));
        aws.ec2.describe_tags("i-1").await.unwrap();
    });
}

#[test]
fn those_whose_signature_is_refused_are_let_go_too() {
    let name = "those_whose_signature_is_refused_are_let_go_too";
    story(name, Settings::default(), async |sim, aws| {
        for (nth, code) in ["SignatureDoesNotMatch", "RequestTimeTooSkewed", "IncompleteSignature"].iter().enumerate() {
            call(&aws).await.unwrap();
            assert_eq!(loads(&sim), nth + 1);
            let kind = FaultKind::Status { status: 403, code: (*code).into(), message: "no".into() };
            sim.fault(Fault { service: Some("autoscaling".into()), action: "*".into(), nth: Nth::First(1), kind });
            assert_eq!(call(&aws).await.unwrap_err().code.as_deref(), Some(*code));
            sim.clear_faults();
        }
    });
}

#[test]
fn a_load_that_fails_holds_up_nobody_twice_and_nobody_after_it() {
    let name = "a_load_that_fails_holds_up_nobody_twice_and_nobody_after_it";
    story(name, Settings::default(), async |sim, aws| {
        call(&aws).await.unwrap();
        aws.credentials.forget();
        sim.fault(metadata_fault(FaultKind::Hang));
        let began = Instant::now();
        let (one, two, three) = tokio::join!(call(&aws), call(&aws), call(&aws));
        // With those in hand, which AWS still takes.
        one.and(two).and(three).unwrap();
        assert!(began.elapsed() < Duration::from_millis(2700), "{:?}", began.elapsed());
        let began = Instant::now();
        call(&aws).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    });
}

#[test]
fn those_that_expire_by_their_own_time_are_renewed_by_the_call_that_needs_them() {
    let name = "those_that_expire_by_their_own_time_are_renewed_by_the_call_that_needs_them";
    let settings = Settings { credentials_lifetime: Duration::from_secs(2), ..Settings::default() };
    story(name, settings, async |sim, aws| {
        call(&aws).await.unwrap();
        call(&aws).await.unwrap();
        assert_eq!(loads(&sim), 1);
        tokio::time::sleep(Duration::from_millis(2100)).await;
        call(&aws).await.unwrap();
        assert_eq!(loads(&sim), 2);
    });
}

#[test]
fn a_clock_that_is_wrong_does_not_make_them_expire() {
    let name = "a_clock_that_is_wrong_does_not_make_them_expire";
    let settings = Settings {
        clock_offset: jiff::SignedDuration::from_mins(-10),
        credentials_lifetime: Duration::from_secs(300),
        ..Settings::default()
    };
    story(name, settings, async |sim, aws| {
        aws.credentials.renew().await.unwrap();
        assert!(aws.clock.offset() < jiff::SignedDuration::from_mins(-9), "{}", aws.clock.offset());
        call(&aws).await.unwrap();
        assert_eq!(loads(&sim), 1);
    });
}

#[test]
fn a_metadata_service_that_forgets_its_tokens_is_asked_for_a_new_one() {
    let name = "a_metadata_service_that_forgets_its_tokens_is_asked_for_a_new_one";
    story(name, Settings::default(), async |sim, aws| {
        aws.credentials.renew().await.unwrap();
        sim.expire_tokens();
        sim.expire_credentials(None);
        let failure = call(&aws).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials);
        assert!(aws.credentials.standing().trouble.is_some_and(|why| why.contains("ExpiredToken")));
        call(&aws).await.unwrap();
        assert_eq!(aws.credentials.standing().trouble, None);
    });
}

#[test]
fn metadata_that_is_turned_off_by_the_environment_is_said_to_be() {
    let name = "metadata_that_is_turned_off_by_the_environment_is_said_to_be";
    if !alone(&format!("credentials::{name}"), &[("AWS_EC2_METADATA_DISABLED", "TRUE")]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sim = Sim::start(Settings::default()).await.unwrap();
        let mut connection = Connection::new("eu-west-1", Clock::default());
        connection.metadata_endpoint = Some(sim.metadata_endpoint());
        connection.endpoint_url = Some(sim.aws_endpoint());
        let failure = call(&Aws::connect(connection).await.unwrap()).await.unwrap_err();
        assert!(failure.message.contains("AWS_EC2_METADATA_DISABLED"), "{failure}");
        assert!(!failure.message.contains("instance profile, or"), "{failure}");
    });
}

/// A story in which `AWS_PROFILE` names the profile `web` of a file, whose path it gets, with this text.
fn story_of_a_profile(name: &str, text: &str, told: impl AsyncFnOnce(&str, Aws)) {
    let file = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    // A run that failed may have left a pipe there.
    let _ = std::fs::remove_file(&file);
    std::fs::write(&file, text).unwrap();
    if alone(&format!("credentials::{name}"), &[("AWS_PROFILE", "web"), ("AWS_CONFIG_FILE", &file)]) {
        story(name, Settings::default(), async |_sim, aws| told(&file, aws).await);
    }
}

const OF_A_PROCESS: &str = "[profile web]\ncredential_process = \
    echo '{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"secret\"}'\n";

#[test]
fn the_process_of_a_profile_tells_them() {
    story_of_a_profile("the_process_of_a_profile_tells_them", OF_A_PROCESS, async |_, aws| {
        aws.credentials.renew().await.unwrap();
        assert!(aws.credentials.standing().loaded);
    });
}

#[test]
fn a_slow_source_has_more_time_after_each_load_that_took_too_long() {
    let text = OF_A_PROCESS.replace("echo", "sleep 3; echo");
    story_of_a_profile("a_slow_source_has_more_time_after_each_load_that_took_too_long", &text, async |_, aws| {
        assert!(aws.credentials.renew().await.is_err(), "two seconds");
        aws.credentials.renew().await.unwrap();
    });
}

#[test]
fn a_profile_on_a_disk_that_does_not_answer_blocks_nobody() {
    let name = "a_profile_on_a_disk_that_does_not_answer_blocks_nobody";
    story_of_a_profile(name, OF_A_PROCESS, async |file, aws| {
        aws.credentials.renew().await.unwrap();
        std::fs::remove_file(file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(file).status().unwrap().success());
        let renewed = tokio::time::timeout(Duration::from_millis(500), aws.credentials.renew()).await;
        assert!(renewed.is_err(), "the wait can be given up");
        call(&aws).await.unwrap();
        // Somebody writes, so that the reader ends.
        std::fs::write(file, OF_A_PROCESS).unwrap();
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn the_reason_why_a_profile_cannot_be_used_is_told_each_time_until_the_file_is_right() {
    let name = "the_reason_why_a_profile_cannot_be_used_is_told_each_time_until_the_file_is_right";
    story_of_a_profile(name, "[profile web]\nsso_session = absent\n", async |file, aws| {
        for _ in 0..2 {
            let told = aws.credentials.renew().await.unwrap_err().message;
            assert!(told.contains("sso"), "{told}");
        }
        std::fs::write(file, OF_A_PROCESS).unwrap();
        aws.credentials.renew().await.unwrap();
    });
}

#[test]
fn an_instance_without_a_profile_is_told_what_to_do() {
    let settings = Settings { role: None, ..Settings::default() };
    story("an_instance_without_a_profile_is_told_what_to_do", settings, async |sim, aws| {
        let failure = call(&aws).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials);
        assert!(failure.message.contains("no instance profile"), "{failure}");
        assert!(sim.requests().iter().all(|request| request.service == "metadata"));
        assert_eq!(aws.credentials.renew().await.unwrap_err(), failure);
    });
}

#[test]
fn a_metadata_service_that_is_silent_costs_two_seconds_at_most() {
    let name = "a_metadata_service_that_is_silent_costs_two_seconds_at_most";
    story(name, Settings::default(), async |sim, aws| {
        sim.fault(metadata_fault(FaultKind::Hang));
        let began = Instant::now();
        let failure = call(&aws).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials, "{failure}");
        assert!(began.elapsed() < Duration::from_millis(2300), "{:?}", began.elapsed());
    });
}
