//! What every call to AWS has in common: one attempt, a limit, a signature by AWS's time, and a failure that says what it
//! means, whatever is answered.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::{Aws, Connection};
use spot_relay::core::model::{InstanceId, Target, TargetGroupArn, TargetZone};
use spot_relay::core::retry::{Failure, FailureKind};

use crate::stub::{Reply, Request, Stub, reply};

const ARN: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
pub(crate) const DONE: &str = "<DeregisterTargetsResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
                    <DeregisterTargetsResult/></DeregisterTargetsResponse>";

/// AWS with credentials from a metadata service, both at one server; `answer` sees the calls alone.
async fn aws(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> (Stub, Aws) {
    let stub = Stub::start(move |request, before| metadata(request).unwrap_or_else(|| answer(request, before))).await;
    let aws = connect(&stub.url, &stub.url).await;
    aws.credentials.renew().await.unwrap();
    (stub, aws)
}

pub(crate) async fn connect(aws: &str, metadata: &str) -> Aws {
    let mut connection = Connection::new("eu-west-1", Clock::default());
    connection.endpoint_url = Some(aws.to_owned());
    connection.metadata_endpoint = Some(metadata.to_owned());
    Aws::connect(connection).await.unwrap()
}

pub(crate) fn metadata(request: &Request) -> Option<Reply> {
    let role = "/latest/meta-data/iam/security-credentials/";
    Some(match request.line.split_once(' ')? {
        ("PUT", _) => Reply::Http(200, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n".into(), b"token".to_vec()),
        ("GET", path) if path == role => reply(200, "web"),
        ("GET", path) if path.starts_with(role) => reply(
            200,
            r#"{"Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIATEST",
                "SecretAccessKey": "secret", "Token": "session", "Expiration": "2999-01-01T00:00:00Z"}"#,
        ),
        _ => return None,
    })
}

fn calls(stub: &Stub) -> Vec<Request> {
    stub.requests().into_iter().filter(|request| request.line == "POST /").collect()
}

fn target() -> Target {
    Target { id: "i-1".into(), port: 8080 }
}

pub(crate) async fn deregister(aws: &Aws) -> Result<(), Failure> {
    aws.elb.deregister_targets(&TargetGroupArn::new(ARN), &[target()], &TargetZone::Implied).await
}

/// Any call to EC2, whose errors are spelled otherwise.
async fn terminate(aws: &Aws) -> Result<(), Failure> {
    aws.ec2.terminate_instances(&InstanceId::new("i-1")).await
}

fn query_error(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>what AWS said</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

/// As AWS pairs them.
fn status(code: &str) -> u16 {
    match code {
        "ServiceUnavailable" | "RequestLimitExceeded" => 503,
        "InsufficientInstanceCapacity" | "InternalError" | "InternalFailure" => 500,
        _ => 400,
    }
}

fn ec2_error(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
         <Message>what AWS said</Message></Error></Errors><RequestID>r</RequestID></Response>"
    )
}

#[tokio::test]
async fn a_call_names_id_and_port_and_is_signed_with_the_credentials_in_hand() {
    let (stub, aws) = aws(|_, _| reply(200, DONE)).await;
    let far = Target { id: "10.0.0.7".into(), port: 80 };
    aws.elb.deregister_targets(&TargetGroupArn::new(ARN), &[target(), far], &TargetZone::outside(None)).await.unwrap();
    let call = &calls(&stub)[0];
    for part in ["Targets.member.1.Id=i-1", "Targets.member.1.Port=8080", "Targets.member.2.AvailabilityZone=all"] {
        assert!(call.body.contains(part), "{part} in {}", call.body);
    }
    let authorization = call.header("authorization").unwrap();
    assert!(authorization.contains("Credential=ASIATEST/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/elasticloadbalancing/aws4_request"), "{authorization}");
    assert!(call.header("user-agent").unwrap().contains("app/spot-relay"));
    assert!(call.header("x-amz-user-agent").is_none_or(|agent| agent.contains("spot-relay")));
}

#[tokio::test]
async fn all_services_share_one_connection_and_the_credentials_are_loaded_once() {
    let (stub, aws) = aws(|_, _| reply(400, &ec2_error("DryRunOperation"))).await;
    for _ in 0..3 {
        deregister(&aws).await.unwrap_err();
        terminate(&aws).await.unwrap_err();
        aws.autoscaling.group_state("web").await.unwrap_err();
    }
    let requests = stub.requests();
    let connections: std::collections::BTreeSet<usize> = calls(&stub).iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 1, "{requests:#?}");
    assert_eq!((requests.len(), calls(&stub).len()), (3 + 9, 9));
}

#[tokio::test]
async fn a_request_carries_the_headers_that_were_signed_and_no_wish_for_another_encoding() {
    let (stub, aws) = aws(|_, _| reply(200, DONE)).await;
    deregister(&aws).await.unwrap();
    let call = &calls(&stub)[0];
    println!("{:#?}", call.headers);
    assert_eq!(call.header("host"), stub.url.strip_prefix("http://"));
    assert_eq!(call.header("content-length"), Some(call.body.len().to_string().as_str()));
    assert_eq!(call.header("content-type"), Some("application/x-www-form-urlencoded"));
    let signed =
        call.header("authorization").unwrap().split_once("SignedHeaders=").unwrap().1.split(',').next().unwrap();
    assert!(signed.split(';').all(|name| call.headers.iter().filter(|(key, _)| key == name).count() == 1), "{signed}");
    for absent in ["accept-encoding", "referer", "transfer-encoding", "connection"] {
        assert_eq!(call.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_between_two_calls_costs_neither_of_them() {
    let (stub, aws) = aws(|_, _| Reply::Last(400)).await;
    for _ in 0..3 {
        assert_eq!(deregister(&aws).await.unwrap_err().kind, FailureKind::Rejected);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connections: std::collections::BTreeSet<usize> = calls(&stub).iter().map(|call| call.connection).collect();
    assert_eq!((connections.len(), calls(&stub).len()), (3, 3), "no call is sent twice");
}

#[tokio::test]
async fn a_call_after_a_fault_of_the_server_has_another_connection() {
    let is_first = |before| before == 3;
    let (stub, aws) = aws(move |_, before| reply(if is_first(before) { 500 } else { 200 }, DONE)).await;
    deregister(&aws).await.unwrap_err();
    for _ in 0..2 {
        deregister(&aws).await.unwrap();
    }
    let connections: Vec<usize> = calls(&stub).iter().map(|call| call.connection).collect();
    assert!(connections[0] != connections[1] && connections[1] == connections[2], "{connections:?}");
}

#[tokio::test]
async fn each_code_means_what_it_says() {
    let kinds = [
        (FailureKind::Throttled, &["Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"][..]),
        (
            FailureKind::Credentials,
            &["ExpiredToken", "RequestExpired", "InvalidClientTokenId", "SignatureDoesNotMatch"],
        ),
        (FailureKind::Credentials, &["AuthFailure", "UnrecognizedClientException", "RequestTimeTooSkewed"]),
        (FailureKind::Denied, &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"]),
        (FailureKind::Fault, &["InternalError", "ServiceUnavailable", "InternalFailure"]),
        (FailureKind::Rejected, &["ValidationError", "InvalidTarget", "IdempotentParameterMismatch", "Anything"]),
        (FailureKind::Rejected, &["InsufficientInstanceCapacity"]),
    ];
    let (_stub, aws) = aws(|request, _| {
        let code = request.body.rsplit("%20").next().unwrap_or_default().split('&').next().unwrap_or_default();
        let ec2 = request.body.contains("Action=TerminateInstances");
        reply(status(code), &if ec2 { ec2_error(code) } else { query_error(code) })
    })
    .await;
    for (kind, code) in kinds.into_iter().flat_map(|(kind, codes)| codes.iter().map(move |code| (kind, *code))) {
        let group = TargetGroupArn::new(format!("x {code}"));
        let elb = aws.elb.deregister_targets(&group, &[], &TargetZone::Implied).await.unwrap_err();
        let ec2 = aws.ec2.terminate_instances(&InstanceId::new(format!("x {code}"))).await.unwrap_err();
        for failure in [elb, ec2] {
            assert_eq!((failure.kind, failure.code.as_deref()), (kind, Some(code)), "{failure}");
            assert_eq!(failure.message, "what AWS said");
        }
    }
}

#[tokio::test]
async fn nothing_is_tried_twice_and_a_fault_may_have_been_done() {
    for status in [500, 502, 503, 504] {
        let (stub, aws) = aws(move |_, _| reply(status, "<!DOCTYPE html><title>Internal Server Error</title>")).await;
        for failure in [deregister(&aws).await.unwrap_err(), terminate(&aws).await.unwrap_err()] {
            assert_eq!(failure.kind, FailureKind::Fault, "{failure:?}");
            assert!(failure.may_have_been_done());
            assert!(failure.message.contains(&format!("HTTP {status}")), "{failure}");
        }
        assert_eq!(calls(&stub).len(), 2);
    }
}

#[tokio::test]
async fn a_group_with_a_launch_configuration_is_known_to_launch_none_first() {
    for (launches_from, is_known) in [
        ("<LaunchConfigurationName>lc-1</LaunchConfigurationName>", true),
        ("<LaunchTemplate><LaunchTemplateId>lt-1</LaunchTemplateId></LaunchTemplate>", false),
    ] {
        let body = format!(
            "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
             <AutoScalingGroupName>web</AutoScalingGroupName>{launches_from}</member></AutoScalingGroups>\
             </DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
        );
        let (_stub, aws) = aws(move |_, _| reply(200, &body)).await;
        let group = aws.autoscaling.group_without_hooks("web").await.unwrap().unwrap();
        assert_eq!(group.launches_none_first().is_some(), is_known, "{launches_from}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_a_failure_and_no_panic() {
    for (status, body) in
        [(200, "<html>it works</html>"), (200, "{}"), (200, "<a><b>"), (200, ""), (400, "\u{1}"), (403, "no")]
    {
        let (_stub, aws) = aws(move |_, _| reply(status, body)).await;
        let members = aws.autoscaling.group_state("web").await;
        let instances = aws.ec2.describe_instances(&[InstanceId::new("i-1")]).await;
        let failures = [members.err(), instances.err()];
        let expected = match status {
            200 => FailureKind::Fault,
            403 => FailureKind::Denied,
            _ => FailureKind::Rejected,
        };
        for failure in failures {
            assert_eq!(failure.as_ref().map(|failure| failure.kind), Some(expected), "{status} {body}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn silence_ends_with_the_limit() {
    let (stub, aws) = aws(|_, _| Reply::Silence).await;
    let limit = Duration::from_millis(300);
    let began = Instant::now();
    let failure = deregister(&aws.within(limit)).await.unwrap_err();
    assert!((limit..limit + Duration::from_millis(100)).contains(&began.elapsed()));
    assert_eq!(failure, Failure::unanswered("no answer within 300ms"));
    assert_eq!(calls(&stub).len(), 1);
}

#[tokio::test]
async fn a_body_without_end_ends_with_the_limit() {
    let (_stub, aws) = aws(|_, _| Reply::WithoutEnd).await;
    let limit = Duration::from_millis(200);
    let began = Instant::now();
    let failure = deregister(&aws.within(limit)).await.unwrap_err();
    assert!(began.elapsed() < limit + Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(failure.kind, FailureKind::Unanswered);
}

#[tokio::test]
async fn a_closed_door_and_a_lost_reply_are_unanswered_and_say_why() {
    let (stub, lost) = aws(|_, _| Reply::HangUp).await;
    let failure = deregister(&lost).await.unwrap_err();
    assert_eq!((failure.kind, &failure.code), (FailureKind::Unanswered, &None), "{failure:?}");
    assert_eq!(calls(&stub).len(), 1);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let aws = connect(&address, &stub.url).await;
    let failure = deregister(&aws).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unanswered);
    assert!(failure.message.contains("refused") && !failure.message.contains('{'), "{failure}");
}

#[tokio::test]
async fn a_wall_clock_ten_minutes_off_signs_with_the_time_of_an_answer() {
    for minutes in [10, -10] {
        let shown = move || Timestamp::now() + SignedDuration::from_mins(minutes);
        let date = move || format!("date: {}\r\n", shown().strftime("%a, %d %b %Y %H:%M:%S GMT"));
        let (stub, aws) = aws(move |_, before| match before {
            // The three before are the metadata's.
            3 => Reply::Http(403, date(), query_error("SignatureDoesNotMatch").into()),
            _ => Reply::Http(200, date(), DONE.into()),
        })
        .await;
        let failure = deregister(&aws).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Credentials);
        deregister(&aws).await.unwrap();
        deregister(&aws).await.unwrap();
        let signed: Vec<SignedDuration> = calls(&stub)
            .iter()
            .map(|call| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", call.header("x-amz-date").unwrap()).unwrap())
            .map(|time| time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().duration_since(shown()).abs())
            .collect();
        assert!(signed[0] > SignedDuration::from_mins(9), "{signed:?}");
        assert!(signed[1] < SignedDuration::from_secs(3) && signed[2] < SignedDuration::from_secs(3), "{signed:?}");
        // The refused signature may be that of a torn secret: the credentials are asked for once more.
        assert_eq!(stub.requests().len() - calls(&stub).len(), 5);
    }
}

#[tokio::test]
async fn a_listing_is_read_to_its_last_page_and_a_marker_that_repeats_for_ever_ends() {
    let page = |id: &str, next: &str| {
        format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item>\
             <instancesSet><item><instanceId>{id}</instanceId><instanceState><code>272</code></instanceState></item>\
             </instancesSet></item></reservationSet>{next}</DescribeInstancesResponse>"
        )
    };
    let (stub, aws) = aws(move |request, _| {
        let more = "<nextToken>more</nextToken>";
        let token = request.body.split("NextToken=").nth(1).and_then(|rest| rest.split('&').next());
        reply(
            200,
            &match (request.body.contains("for-ever"), request.body.contains("again"), token) {
                (true, ..) => page("i-0", &format!("<nextToken>{}x</nextToken>", token.unwrap_or_default())),
                (_, true, _) => page("i-0", more),
                (.., None) => page("i-1", more),
                (.., Some(_)) => page("i-2", "<nextToken></nextToken>"),
            },
        )
    })
    .await;
    let found = aws.ec2.describe_instances_by_tag("key", "twice").await.unwrap();
    assert_eq!(found.iter().map(|instance| instance.instance_id.as_str()).collect::<Vec<_>>(), ["i-1", "i-2"]);
    // The high byte of the state's code is AWS's own.
    assert!(found.iter().all(|instance| instance.state == spot_relay::core::model::InstanceState::Running));
    assert_eq!(calls(&stub).len(), 2);
    assert_eq!(aws.ec2.describe_instances_by_tag("key", "for-ever").await.unwrap().len(), 100);
    // A page that names itself as the next.
    assert_eq!(aws.ec2.describe_instances_by_tag("key", "again").await.unwrap().len(), 2);
}
