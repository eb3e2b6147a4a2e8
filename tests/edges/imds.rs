//! The metadata client: tokens, limits, and everything that a metadata service can do wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use spot_relay::cloud::Connection;
use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::imds::{Imds, ImdsError, Look};
use spot_relay::core::model::LifeCycle;

use crate::alone::alone;
use crate::stub::{Reply, Request, Stub, reply};

const NOTICE: &str = "latest/meta-data/spot/instance-action";

/// A service that gives out `token-1`, `token-2`, ... and answers the rest with `answer`.
async fn metadata(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> (Stub, Imds) {
    let stub = Stub::start(move |request, before| {
        if request.is_token_request() { reply(200, &format!("token-{}", before + 1)) } else { answer(request, before) }
    })
    .await;
    let imds = Imds::new(Some(&stub.url)).unwrap();
    (stub, imds)
}

fn lines(stub: &Stub) -> Vec<String> {
    stub.requests().into_iter().map(|request| request.line).collect()
}

#[tokio::test]
async fn looks_share_one_connection_and_one_token_for_six_hours() {
    let (stub, imds) = metadata(|_, _| reply(404, "<html>not found</html>")).await;
    for _ in 0..3 {
        assert_eq!(imds.instance_action().await.unwrap().body, None);
    }
    let requests = stub.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.connection == 0));
    assert_eq!(requests[0].line, "PUT /latest/api/token");
    assert_eq!(requests[0].header("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
    for look in &requests[1..] {
        assert_eq!(look.line, format!("GET /{NOTICE}"));
        assert_eq!(look.header("x-aws-ec2-metadata-token"), Some("token-1"));
    }
    assert!(requests.iter().all(|request| request.header("x-forwarded-for").is_none()));
    assert!(
        requests.iter().all(|request| request.header("user-agent").is_some_and(|ua| ua.starts_with("spot-relay/")))
    );
}

#[tokio::test]
async fn a_look_brings_the_body_and_the_time() {
    let body = "{\n\t\"action\": \"terminate\"\n}";
    let date = "date: Mon, 18 Sep 2017 08:20:00 GMT\r\n";
    let (_stub, imds) = metadata(move |_, _| Reply::Http(200, date.into(), body.into())).await;
    let look = imds.instance_action().await.unwrap();
    assert_eq!(look, Look { body: Some(body.into()), date: Some("2017-09-18T08:20:00Z".parse().unwrap()) });
}

#[tokio::test]
async fn a_401_renews_the_token_once_and_replays() {
    let (stub, imds) = metadata(|request, _| match request.header("x-aws-ec2-metadata-token") {
        Some("token-1") => reply(401, ""),
        _ => reply(200, "it"),
    })
    .await;
    assert_eq!(imds.instance_action().await.unwrap().body.as_deref(), Some("it"));
    assert_eq!(imds.instance_action().await.unwrap().body.as_deref(), Some("it"));
    let (put, get) = ("PUT /latest/api/token".to_owned(), format!("GET /{NOTICE}"));
    assert_eq!(lines(&stub), [put.clone(), get.clone(), put, get.clone(), get]);
}

#[tokio::test]
async fn a_status_counts_also_where_its_body_does_not_end() {
    let (_stub, imds) = metadata(|request, _| match request.header("x-aws-ec2-metadata-token") {
        Some("token-1") => Reply::Unfinished(401),
        _ if request.line.ends_with("absent") => Reply::Unfinished(404),
        _ => reply(200, "it"),
    })
    .await;
    assert_eq!(imds.instance_action().await.unwrap().body.as_deref(), Some("it"), "with a new token");
    assert_eq!(imds.get("absent").await.unwrap().body, None);
    assert!(imds.get("absent").await.is_ok());
}

#[tokio::test]
async fn a_single_path_that_hangs_does_not_hide_who_this_instance_is() {
    for hangs in ["/mac", "/network/interfaces/macs/", "/vpc-id"] {
        let (_stub, imds) = metadata(move |request, _| match request.line.rsplit_once("meta-data").map(|(_, it)| it) {
            Some(path) if path.ends_with(hangs) => Reply::Silence,
            Some("/instance-id") => reply(200, "i-us"),
            Some("/placement/region") => reply(200, "eu-west-1"),
            Some("/mac") if hangs == "/vpc-id" => reply(200, "02:1"),
            _ => reply(404, ""),
        })
        .await;
        let identity = imds.identity().await.unwrap_or_else(|error| panic!("{hangs}: {error}"));
        assert_eq!((identity.instance_id.as_str(), identity.vpc_id), ("i-us", None), "{hangs}");
    }
}

#[tokio::test]
async fn credentials_are_asked_for_where_the_metadata_has_answered() {
    let (stub, _imds) = metadata(|_, _| reply(404, "")).await;
    let imds = Imds::among(&["http://127.0.0.1:9", &stub.url]).unwrap();
    while imds.instance_action().await.is_err() {}
    let connection = Connection::with_metadata_of(&imds, "eu-west-1", Clock::default());
    assert_eq!(connection.metadata_endpoint.as_deref(), Some(stub.url.as_str()));
}

#[tokio::test]
async fn a_second_401_is_an_error_and_not_a_third_try() {
    let (stub, imds) = metadata(|_, _| reply(401, "")).await;
    assert!(matches!(imds.instance_action().await, Err(ImdsError::TokenRefused(401))));
    assert_eq!(stub.requests().len(), 4);
}

#[tokio::test]
async fn a_token_is_renewed_before_the_age_that_its_reply_names() {
    let stub = Stub::start(|request, before| {
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 1\r\n";
        if request.is_token_request() {
            Reply::Http(200, ttl.into(), format!("token-{before}").into())
        } else {
            reply(404, "")
        }
    })
    .await;
    let imds = Imds::new(Some(&stub.url)).unwrap();
    imds.instance_action().await.unwrap();
    imds.instance_action().await.unwrap();
    assert_eq!(stub.requests().iter().filter(|request| request.is_token_request()).count(), 1);
    tokio::time::sleep(Duration::from_millis(960)).await;
    imds.instance_action().await.unwrap();
    assert_eq!(stub.requests().iter().filter(|request| request.is_token_request()).count(), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    for (status, body) in
        [(400, "x"), (403, "x"), (404, "x"), (405, "x"), (503, "x"), (302, "x"), (200, " \n"), (200, "a\nb")]
    {
        let stub = Stub::start(move |_, _| reply(status, body)).await;
        let error = Imds::new(Some(&stub.url)).unwrap().instance_action().await.unwrap_err();
        assert_eq!(lines(&stub), ["PUT /latest/api/token"], "{status}");
        match status {
            403 => assert!(matches!(error, ImdsError::TurnedOff), "{error:?}"),
            503 => assert!(matches!(error, ImdsError::Overloaded), "{error:?}"),
            302 => assert!(matches!(error, ImdsError::Redirected(302)), "{error:?}"),
            200 => assert!(matches!(error, ImdsError::TokenUnusable), "{error:?}"),
            status => assert!(matches!(error, ImdsError::TokenRefused(given) if given == status), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn each_wrong_status_is_told_from_the_others() {
    let (_stub, imds) =
        metadata(|request, _| reply(request.line[request.line.len() - 3..].parse().unwrap(), "x")).await;
    assert!(matches!(imds.get("403").await, Err(ImdsError::TurnedOff)));
    assert!(matches!(imds.get("503").await, Err(ImdsError::Overloaded)));
    assert!(matches!(imds.get("500").await, Err(ImdsError::Status(500))));
    assert!(matches!(imds.get("204").await, Err(ImdsError::Status(204))));
    assert_eq!(imds.get("404").await.unwrap().body, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Stub::start(|_, _| reply(200, "caught")).await;
    let location = format!("location: {}/\r\n", elsewhere.url);
    let (_stub, imds) = metadata(move |_, _| Reply::Http(302, location.clone(), Vec::new())).await;
    assert!(matches!(imds.instance_action().await, Err(ImdsError::Redirected(302))));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn silence_is_an_error_after_a_second_and_the_next_look_has_a_new_connection() {
    let (stub, imds) = metadata(|_, before| if before == 1 { Reply::Silence } else { reply(404, "") }).await;
    let began = Instant::now();
    assert!(matches!(imds.instance_action().await, Err(ImdsError::TimedOut(_))));
    assert!((Duration::from_millis(950)..Duration::from_millis(1200)).contains(&began.elapsed()));
    assert_eq!(imds.instance_action().await.unwrap().body, None);
    assert_eq!(stub.requests().last().unwrap().connection, 1);
}

#[tokio::test]
async fn a_service_that_takes_longer_than_a_second_is_understood_and_a_hang_costs_a_second_again_after_it() {
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = Arc::clone(&is_slow);
    let stub = Stub::start(move |request, _| {
        let after = Duration::from_millis(if slow.load(Ordering::Relaxed) { 1_500 } else { 0 });
        match request.line.ends_with("/hangs") {
            true => Reply::Silence,
            false => Reply::After(after, if request.is_token_request() { "token" } else { "it" }.to_owned()),
        }
    })
    .await;
    let imds = Imds::new(Some(&stub.url)).unwrap();
    assert!(imds.instance_action().await.is_err(), "nobody knows yet that it is slow");
    for _ in 0..3 {
        assert_eq!(imds.instance_action().await.unwrap().body.as_deref(), Some("it"));
    }
    is_slow.store(false, Ordering::Relaxed);
    assert!(imds.instance_action().await.is_ok());
    let began = Instant::now();
    assert!(imds.get("hangs").await.is_err());
    assert!(began.elapsed() < Duration::from_millis(1_200), "{:?}", began.elapsed());
    for seconds in [2, 3, 3] {
        let began = Instant::now();
        assert!(imds.get("hangs").await.is_err());
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_between_two_looks_costs_neither_of_them() {
    for announced in [false, true] {
        let (stub, imds) = metadata(move |_, _| match announced {
            true => Reply::Http(404, "connection: close\r\n".into(), Vec::new()),
            false => Reply::Last(404),
        })
        .await;
        for _ in 0..3 {
            assert_eq!(imds.instance_action().await.unwrap().body, None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let connections: Vec<usize> = stub.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 0, 1, 2], "no look is sent twice");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_soon() {
    let (_stub, imds) = metadata(|_, _| Reply::WithoutEnd).await;
    let began = Instant::now();
    assert!(matches!(imds.instance_action().await, Err(ImdsError::TooLong)));
    assert!(began.elapsed() < Duration::from_millis(900));
}

#[tokio::test]
async fn a_large_body_that_fits_is_taken_and_one_byte_more_is_not() {
    let (_stub, imds) = metadata(|request, _| {
        reply(200, &"x".repeat(if request.line.ends_with("/fits") { 64 * 1024 } else { 64 * 1024 + 1 }))
    })
    .await;
    assert_eq!(imds.get("fits").await.unwrap().body.unwrap().len(), 64 * 1024);
    assert!(matches!(imds.get("more").await, Err(ImdsError::TooLong)));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_an_error() {
    let (_stub, imds) = metadata(|_, _| Reply::Http(200, String::new(), vec![0xff, 0xfe, 0x00])).await;
    assert!(matches!(imds.instance_action().await, Err(ImdsError::NotText)));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let imds = Imds::new(Some(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
    drop(listener);
    assert!(matches!(imds.instance_action().await, Err(ImdsError::Unreachable(_))));
}

#[test]
fn a_proxy_of_the_environment_is_not_used() {
    let proxies = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, "http://127.0.0.1:9"));
    if !alone("imds::a_proxy_of_the_environment_is_not_used", &proxies) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_stub, imds) = metadata(|_, _| reply(404, "")).await;
        assert_eq!(imds.instance_action().await.unwrap().body, None);
    });
}

#[test]
fn an_endpoint_that_cannot_be_one_is_refused() {
    for endpoint in ["nonsense", "https://169.254.169.254", "ftp://x", "http://x/path", "http://x/?query"] {
        assert!(Imds::new(Some(endpoint)).is_err(), "{endpoint}");
    }
    for endpoint in [None, Some(""), Some("http://[fd00:ec2::254]"), Some("http://127.0.0.1:1338/")] {
        assert!(Imds::new(endpoint).is_ok(), "{endpoint:?}");
    }
}

const DOCUMENT: &str = r#"{
  "accountId" : "123456789012", "architecture" : "x86_64", "availabilityZone" : "us-west-2-lax-1a",
  "billingProducts" : null, "imageId" : "ami-0abcdef", "instanceId" : "i-0123456789abcdef0",
  "instanceType" : "m5.large", "privateIp" : "10.0.0.7", "region" : "us-west-2", "version" : "2017-09-30"
}"#;

async fn identity_of(
    document: &'static str,
    life_cycle: &'static str,
) -> Result<spot_relay::core::model::Identity, ImdsError> {
    let (_stub, imds) = metadata(move |request, _| match request.line.as_str() {
        "GET /latest/dynamic/instance-identity/document" => reply(200, document),
        "GET /latest/meta-data/instance-life-cycle" if !life_cycle.is_empty() => reply(200, life_cycle),
        _ => reply(404, ""),
    })
    .await;
    imds.identity().await
}

#[tokio::test]
async fn the_identity_takes_the_region_from_the_document() {
    let identity = identity_of(DOCUMENT, "spot").await.unwrap();
    assert_eq!(identity.instance_id.as_str(), "i-0123456789abcdef0");
    assert_eq!((identity.region.as_str(), identity.availability_zone.as_str()), ("us-west-2", "us-west-2-lax-1a"));
    assert_eq!((identity.private_ip.as_str(), identity.instance_type.as_str()), ("10.0.0.7", "m5.large"));
    assert_eq!((identity.account_id.as_str(), identity.life_cycle), ("123456789012", LifeCycle::Spot));
    assert_eq!(identity_of(DOCUMENT, "on-demand\n").await.unwrap().life_cycle, LifeCycle::OnDemand);
}

#[tokio::test]
async fn the_vpc_is_that_of_the_first_network_interface_where_the_metadata_tells_it() {
    let vpc_id = async |mac: Option<&'static str>, vpc: Option<u16>| {
        let (_stub, imds) = metadata(move |request, _| match request.line.as_str() {
            "GET /latest/dynamic/instance-identity/document" => reply(200, DOCUMENT),
            "GET /latest/meta-data/instance-life-cycle" => reply(200, "spot"),
            "GET /latest/meta-data/mac" => mac.map_or_else(|| reply(404, ""), |mac| reply(200, mac)),
            "GET /latest/meta-data/network/interfaces/macs/" => reply(200, "02:1/\n02:2/"),
            "GET /latest/meta-data/network/interfaces/macs/02:1/vpc-id" => match vpc {
                Some(200) => reply(200, "vpc-1"),
                other => reply(other.unwrap_or(404), "<html>"),
            },
            "GET /latest/meta-data/network/interfaces/macs/02:2/vpc-id" => reply(200, "vpc-2"),
            _ => reply(404, ""),
        })
        .await;
        imds.identity().await.unwrap().vpc_id
    };
    assert_eq!(vpc_id(Some("02:2"), Some(200)).await.as_deref(), Some("vpc-2"));
    assert_eq!(vpc_id(None, Some(200)).await.as_deref(), Some("vpc-1"), "of the first interface listed");
    assert_eq!(vpc_id(Some("02:1"), None).await, None);
    assert_eq!(vpc_id(Some("02:1"), Some(500)).await, None, "a fault of this item alone holds nothing up");
}

#[tokio::test]
async fn ipv6_addresses_that_are_not_told_are_not_none_and_cost_one_limit() {
    let addresses = async |second: fn() -> Reply| {
        let (_stub, imds) = metadata(move |request, _| match request.line.as_str() {
            "GET /latest/dynamic/instance-identity/document" => reply(200, DOCUMENT),
            "GET /latest/meta-data/instance-life-cycle" => reply(200, "spot"),
            "GET /latest/meta-data/network/interfaces/macs/" => reply(200, "02:1/\n02:2/\n02:3/\n02:4/"),
            "GET /latest/meta-data/network/interfaces/macs/02:1/ipv6s" => reply(200, "2001:db8::7"),
            line if line.ends_with("/ipv6s") => second(),
            _ => reply(404, ""),
        })
        .await;
        let began = Instant::now();
        let addresses = imds.identity().await.unwrap().ipv6_addresses;
        assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
        addresses
    };
    assert_eq!(addresses(|| reply(404, "")).await, Some(vec!["2001:db8::7".to_owned()]));
    assert_eq!(addresses(|| reply(500, "")).await, None);
    assert_eq!(addresses(|| Reply::Silence).await, None);
    assert_eq!(identity_of(DOCUMENT, "spot").await.unwrap().ipv6_addresses, Some(Vec::new()), "there are none");
}

#[tokio::test]
async fn what_the_identity_lacks_is_named() {
    let error = identity_of(r#"{"instanceId": "i-1", "region": ""}"#, "spot").await.unwrap_err();
    assert_eq!(error.to_string(), "the metadata has no region");
    let error = identity_of("<html>it works</html>", "spot").await.unwrap_err();
    assert_eq!(error.to_string(), "the metadata has no instanceId");
    for odd in [r#"{"instanceId": "i-1", "region": "eu west"}"#, r#"{"instanceId": 7, "region": "r-1"}"#] {
        assert!(identity_of(odd, "spot").await.is_err(), "{odd}");
    }
}

#[tokio::test]
async fn an_odd_id_in_the_document_is_not_believed_before_the_item_that_stands_by_itself() {
    let identity = async |alone: &'static str| {
        let (_stub, imds) = metadata(move |request, _| match request.line.as_str() {
            "GET /latest/dynamic/instance-identity/document" => reply(200, r#"{"instanceId": "i-1", "region": "r-1"}"#),
            "GET /latest/meta-data/instance-id" => reply(200, alone),
            _ => reply(404, ""),
        })
        .await;
        imds.identity().await.map(|identity| identity.instance_id.to_string())
    };
    assert_eq!(identity("i-0123456789abcdef0").await.unwrap(), "i-0123456789abcdef0");
    assert_eq!(identity("i-1").await.unwrap(), "i-1", "both say so");
    assert!(identity("i-2").await.is_err(), "asked again");
}

#[tokio::test]
async fn an_identity_is_no_less_one_for_what_it_lacks() {
    for (life_cycle, kind) in [("", LifeCycle::Spot), ("<html>", LifeCycle::Spot), ("scheduled", LifeCycle::OnDemand)] {
        assert_eq!(identity_of(DOCUMENT, life_cycle).await.unwrap().life_cycle, kind, "{life_cycle}");
    }
    let sparse =
        identity_of(r#"{"instanceId": "i-1", "region": "r-1", "accountId": [], "privateIp": "a b"}"#, "spot").await;
    let sparse = sparse.unwrap();
    assert_eq!((sparse.account_id.as_str(), sparse.private_ip.as_str(), sparse.instance_type.as_str()), ("", "", ""));
}

#[tokio::test]
async fn what_the_document_does_not_tell_is_asked_for_by_itself() {
    let (_stub, imds) = metadata(|request, _| match request.line.as_str() {
        "GET /latest/dynamic/instance-identity/document" => reply(500, "<html>"),
        "GET /latest/meta-data/instance-id" => reply(200, "i-2\n"),
        "GET /latest/meta-data/placement/region" => reply(200, "eu-west-1"),
        "GET /latest/meta-data/placement/availability-zone" => reply(200, "eu-west-1a"),
        "GET /latest/meta-data/instance-type" => reply(200, "m5.large"),
        _ => reply(404, ""),
    })
    .await;
    let identity = imds.identity().await.unwrap();
    assert_eq!((identity.instance_id.as_str(), identity.region.as_str()), ("i-2", "eu-west-1"));
    assert_eq!((identity.availability_zone.as_str(), identity.instance_type.as_str()), ("eu-west-1a", "m5.large"));
}

#[tokio::test]
async fn tags_are_those_asked_for_and_none_where_the_metadata_hides_them() {
    let (stub, imds) = metadata(|request, _| match request.line.as_str() {
        "GET /latest/meta-data/tags/instance/" => reply(200, "Name\naws:autoscaling:groupName\nOther"),
        "GET /latest/meta-data/tags/instance/aws:autoscaling:groupName" => reply(200, "web"),
        _ => reply(404, ""),
    })
    .await;
    let tags = imds.instance_tags(&["aws:autoscaling:groupName", "aws:ec2:fleet-id"]).await.unwrap().unwrap();
    assert_eq!(tags.into_iter().collect::<Vec<_>>(), [("aws:autoscaling:groupName".to_owned(), "web".to_owned())]);
    assert_eq!(stub.requests().len(), 3);
    let (_stub, imds) = metadata(|_, _| reply(404, "")).await;
    assert_eq!(imds.instance_tags(&["Name"]).await.unwrap(), None);
}
