//! The webhook against servers that take it, refuse it, hang, redirect and talk too much; what may be shown of it; and
//! the templates that are shipped.

use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use spot_relay::cloud::client::{client, for_posts};
use spot_relay::core::model::MilestoneKind;
use spot_relay::core::retry::{Failure, FailureKind};
use spot_relay::telemetry::webhook::{Announcement, LIMIT, PostError, Webhook};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::alone::{assert_passed, command};
use crate::environment::certificates;
use crate::stub::{Reply, Stub, reply};

/// The limit, and what a machine with two busy cores takes to notice it.
const AT_MOST: Duration = Duration::from_millis(3500);

async fn post(url: &str) -> Result<(), Failure> {
    try_to_post(url).await.map_err(|not_taken| not_taken.failure)
}

async fn try_to_post(url: &str) -> Result<(), PostError> {
    let webhook = Webhook::new(url, None, for_posts).unwrap();
    let body = webhook.render(&Announcement::sample("noticed")).unwrap().unwrap();
    let began = Instant::now();
    let result = webhook.post(body, LIMIT).await;
    assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    result
}

/// Every name is this machine's.
struct Here;

impl reqwest::dns::Resolve for Here {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let here = [SocketAddr::from(([127, 0, 0, 1], 0))];
        Box::pin(async move { Ok(Box::new(here.into_iter()) as reqwest::dns::Addrs) })
    }
}

fn here(_: bool) -> BoxFuture<'static, anyhow::Result<reqwest::Client>> {
    Box::pin(async { client(None, Some(Arc::new(Here)), LIMIT) })
}

#[tokio::test]
async fn its_name_is_found_by_whom_it_was_given() {
    let stub = Stub::start(|_, _| reply(200, "")).await;
    let port = stub.url.rsplit_once(':').unwrap().1;
    let webhook = Webhook::new(&format!("http://hooks.invalid:{port}/x"), None, for_posts).unwrap();
    let body = || webhook.render(&Announcement::sample("noticed")).unwrap().unwrap();
    assert!(webhook.post(body(), LIMIT).await.is_err(), "nobody knows such a name");
    let webhook = Webhook::new(&format!("http://hooks.invalid:{port}/x"), None, here).unwrap();
    let body = webhook.render(&Announcement::sample("noticed")).unwrap().unwrap();
    webhook.post(body, LIMIT).await.unwrap();
}

/// What comes of a POST that is answered with this.
async fn answered(reply: fn() -> Reply) -> Result<(), Failure> {
    let stub = Stub::start(move |_, _| reply()).await;
    let result = post(&stub.url).await;
    assert_eq!(stub.requests().len(), 1, "an edge tries nothing again");
    result
}

/// A server that does with each connection what it is told; its URL.
async fn server<F: Future<Output = ()> + Send + 'static>(serve: fn(TcpStream) -> F) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn take_request(stream: &mut TcpStream) {
    let mut bytes = Vec::with_capacity(16 * 1024);
    while !bytes.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_arrives_is_the_announcement_as_json_with_every_key() {
    let stub = Stub::start(|_, _| reply(200, "ok")).await;
    let webhook = Webhook::new(&format!("{}/hook?room=ops", stub.url), None, for_posts).unwrap();
    let sample = Announcement::sample("noticed");
    for announcement in [&sample, &sample.clone().sparse()] {
        webhook.post(webhook.render(announcement).unwrap().unwrap(), LIMIT).await.unwrap();
    }
    let requests = stub.requests();
    assert_eq!(requests[0].line, "POST /hook?room=ops");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].header("user-agent"), Some(concat!("spot-relay/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(requests[0].header("authorization"), None);
    assert!(requests.iter().all(|request| request.connection == 0), "one connection serves them all");
    let keys = [
        "account_id",
        "action",
        "at",
        "availability_zone",
        "deadline",
        "earlier",
        "instance_id",
        "instance_type",
        "message",
        "milestone",
        "outcome",
        "owner",
        "owner_kind",
        "region",
        "seconds_left",
        "signal",
        "successor_id",
        "target_group",
        "version",
    ];
    for request in &requests {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    }
    let (full, sparse): (Value, Value) =
        (serde_json::from_str(&requests[0].body).unwrap(), serde_json::from_str(&requests[1].body).unwrap());
    assert_eq!((&full["milestone"], &full["seconds_left"]), (&"noticed".into(), &108.9.into()));
    assert_eq!(full["message"], sample.message);
    assert!(sparse["owner"].is_null() && sparse["seconds_left"].is_null());
}

#[tokio::test]
async fn user_and_password_of_the_url_become_basic_authentication() {
    let stub = Stub::start(|_, _| reply(204, "")).await;
    post(&stub.url.replace("http://", "http://ops:p%40ss@")).await.unwrap();
    assert_eq!(stub.requests()[0].header("authorization"), Some("Basic b3BzOnBAc3M="));
    assert!(!stub.requests()[0].header("host").unwrap().contains("ops"));
}

#[tokio::test]
async fn each_status_means_what_it_means_for_a_second_try() {
    type Case = (fn() -> Reply, FailureKind, &'static str);
    let cases: [Case; 6] = [
        (
            || reply(500, "<html>\n\x1b[31moops</html>"),
            FailureKind::Fault,
            "it answered HTTP 500 (<html>[31moops</html>)",
        ),
        (|| reply(503, ""), FailureKind::Fault, "it answered HTTP 503"),
        (|| reply(404, " no_service\r\n"), FailureKind::Rejected, "it answered HTTP 404 (no_service)"),
        (|| reply(408, ""), FailureKind::Throttled, "it answered HTTP 408"),
        (|| reply(429, "rate_limited"), FailureKind::Throttled, "it answered HTTP 429 (rate_limited)"),
        (|| reply(600, ""), FailureKind::Unanswered, "it answered HTTP 600"),
    ];
    for (reply, kind, message) in cases {
        let failure = answered(reply).await.unwrap_err();
        assert_eq!((failure.kind, failure.to_string().as_str()), (kind, message));
    }
    for reply in [(|| reply(200, "ok")) as fn() -> Reply, || reply(202, ""), || reply(204, "")] {
        answered(reply).await.unwrap();
    }
}

#[tokio::test]
async fn the_pause_that_an_answer_asks_for_comes_with_the_failure() {
    for (status, asked) in [(429, true), (503, true), (400, false)] {
        let limited = move || Reply::Http(status, "Retry-After: 30\r\n".to_owned(), Vec::new());
        let stub = Stub::start(move |_, _| limited()).await;
        let not_taken = try_to_post(&stub.url).await.unwrap_err();
        assert_eq!(not_taken.retry_after, asked.then_some(Duration::from_secs(30)), "HTTP {status}");
    }
}

#[tokio::test]
async fn two_hundred_characters_of_an_answer_are_shown() {
    let failure = answered(|| reply(400, &"ä".repeat(5000))).await.unwrap_err();
    assert_eq!(failure.message, format!("it answered HTTP 400 ({})", "ä".repeat(200)));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_so() {
    let elsewhere = Stub::start(|_, _| reply(200, "")).await;
    let location = format!("location: {}/services/ELSEWHERE\r\n", elsewhere.url);
    let stub = Stub::start(move |_, _| Reply::Http(307, location.clone(), Vec::new())).await;
    let failure = post(&stub.url).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Rejected);
    assert_eq!(
        failure.message,
        format!(
            "it answered HTTP 307, a redirect to {}, which is not followed: the webhook must be the address itself",
            elsewhere.url
        )
    );
    assert!(elsewhere.requests().is_empty());
    assert!(answered(|| reply(301, "")).await.unwrap_err().message.contains("a redirect, which is not followed"));
}

#[tokio::test]
async fn whoever_does_not_answer_costs_the_limit_and_no_more() {
    let silent = Stub::start(|_, _| Reply::Silence).await;
    let never_accepts = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let never_accepts_url = format!("http://{}/", never_accepts.local_addr().unwrap());
    let never_shakes_hands = never_accepts_url.replace("http://", "https://");
    let in_drops = server(|mut stream| async move {
        take_request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: ".iter().chain([b'x'; 1000].iter()) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let began = Instant::now();
    let (one, two, three, four) =
        tokio::join!(post(&silent.url), post(&never_accepts_url), post(&in_drops), post(&never_shakes_hands));
    assert!(began.elapsed() >= LIMIT);
    for result in [one, two, three] {
        assert_eq!(result, Err(Failure::unanswered("no answer within 3 s")));
    }
    assert_eq!(four.unwrap_err().kind, FailureKind::Unanswered);
    assert_eq!(silent.requests().len(), 1);
}

#[tokio::test]
async fn a_2xx_is_success_whatever_follows_it() {
    let stalls = server(|mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        pending::<()>().await;
    });
    post(&stalls.await).await.unwrap();
    let breaks_off = server(|mut stream| async move {
        take_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    });
    post(&breaks_off.await).await.unwrap();
}

#[tokio::test]
async fn an_endless_answer_is_read_to_its_bound_and_then_let_go() {
    let url = server(|mut stream| async move {
        take_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\n\r\n").await;
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    })
    .await;
    let began = Instant::now();
    let failure = post(&url).await.unwrap_err();
    assert_eq!(failure.message, format!("it answered HTTP 500 ({})", "x".repeat(200)));
    answered(|| Reply::WithoutEnd).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn hanging_up_and_nobody_there_are_no_answer() {
    let failure = answered(|| Reply::HangUp).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unanswered);
    assert!(failure.message.starts_with("error sending request: "), "{failure}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let failure = post(&url).await.unwrap_err();
    assert!(failure.message.contains("Connection refused"), "{failure}");
}

#[tokio::test]
async fn an_answer_that_repeats_a_secret_is_not_shown() {
    let stub = Stub::start(|request, before| match before {
        0 => reply(404, &format!("Cannot {}", request.line)),
        1 => reply(400, &format!("{:?}", request.headers)),
        2 => reply(400, "no such token: xoxb1234567890"),
        3 => reply(400, &format!("{}{}", "long ".repeat(100), request.line)),
        _ => reply(400, "the services of this room take no message"),
    })
    .await;
    let url = stub.url.replace("http://", "http://ops:p%40ssword@");
    let webhook =
        Webhook::new(&format!("{url}/services/T000/B000/xoxb1234567890?sig=QUERYTOKEN1"), None, for_posts).unwrap();
    for status in [404, 400, 400, 400] {
        assert_eq!(
            webhook.post("{}".into(), LIMIT).await.unwrap_err().failure.message,
            format!("it answered HTTP {status} (what it said is not shown, because it repeats the webhook's URL)")
        );
    }
    let failure = webhook.post("{}".into(), LIMIT).await.unwrap_err();
    assert_eq!(failure.failure.message, "it answered HTTP 400 (the services of this room take no message)");
}

#[tokio::test]
async fn no_error_and_no_debug_shows_more_than_scheme_and_host() {
    const SECRETS: [&str; 4] = ["USERTOKEN", "PASSTOKEN", "PATHTOKEN", "QUERYTOKEN"];
    let shows_nothing = |text: String| {
        assert!(SECRETS.iter().all(|secret| !text.to_uppercase().contains(secret)), "{text}");
        text
    };
    let rest = "/services/PATHTOKEN?token=QUERYTOKEN#PATHTOKEN";
    for wrong in [
        format!("USERTOKEN:PASSTOKEN@hooks.slack.com{rest}"),
        format!("hooks.slack.com{rest}"),
        format!("ftp://USERTOKEN:PASSTOKEN@hooks.slack.com{rest}"),
        format!("https://USERTOKEN:PASSTOKEN@hooks slack.com{rest}"),
        format!("https://USERTOKEN:PASSTOKEN@hooks.slack.com:99999{rest}"),
        format!("https://USERTOKEN:PASSTOKEN@{rest}"),
        format!("https://USERTOKEN:PASSTOKEN@häuser.example{rest}"),
        "PATHTOKEN".into(),
    ] {
        let error = Webhook::new(&wrong, None, for_posts).unwrap_err();
        let text = shows_nothing(format!("{error:#} {error:?}"));
        assert_eq!(text.contains("is written as xn--"), !wrong.is_ascii(), "{text}");
        assert!(text.contains("it must be https://HOST/PATH or http://HOST/PATH"), "{text}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let redirects = Stub::start(|request, _| {
        let location = format!("location: {}\r\n", request.line.trim_start_matches("POST "));
        Reply::Http(302, location, Vec::new())
    })
    .await;
    let host = |stub: &Stub| stub.url.trim_start_matches("http://").to_owned();
    for (scheme, host) in [
        ("http", closed.to_string()),
        ("https", closed.to_string()),
        ("https", host(&redirects)),
        ("http", host(&redirects)),
        ("http", "no-such-host.invalid".into()),
    ] {
        let webhook = Webhook::new(&format!("{scheme}://USERTOKEN:PASSTOKEN@{host}{rest}"), None, for_posts).unwrap();
        assert_eq!(shows_nothing(format!("{webhook:?}")), format!("Webhook({scheme}://{host})"));
        assert_eq!(webhook.origin(), format!("{scheme}://{host}"));
        let failure = webhook.post("{}".into(), LIMIT).await.unwrap_err();
        shows_nothing(format!("{} {failure:?}", failure.failure));
    }
}

/// An HTTPS server on 127.0.0.1 that takes every POST; where it is.
async fn tls_server(certificate: &Path, key: &Path) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(bytes[..read].starts_with(b"POST /hook HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    });
    address
}

/// The other half of a test whose server is in the process that started this one: posts to the URL it names.
fn post_alone(test: &str) -> Option<Result<(), Failure>> {
    let url =
        std::env::var("WEBHOOK").ok().filter(|_| std::env::var("SPOT_RELAY_TEST_ALONE").as_deref() == Ok(test))?;
    Some(block_on(post(&url)))
}

/// Runs that half, which has to pass, while the servers of this one go on.
async fn run_alone(test: &str, url: &str, variables: &[(&str, &str)]) {
    let mut command = command(test, &[("WEBHOOK", url)]);
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").envs(variables.iter().copied());
    assert_passed(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap());
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn https_trusts_the_systems_certificates_which_ssl_cert_file_replaces() {
    let test = "webhook::https_trusts_the_systems_certificates_which_ssl_cert_file_replaces";
    match (post_alone(test), std::env::var("SSL_CERT_FILE")) {
        (Some(Ok(())), Ok(file)) => return assert!(file.ends_with("authority.pem")),
        (Some(Err(failure)), Ok(file)) => {
            assert_eq!(file, "/nonexistent/bundle.pem");
            assert!(failure.message.contains("install ca-certificates, or set SSL_CERT_FILE"), "{failure}");
            return;
        }
        (Some(result), Err(_)) => {
            let failure = result.unwrap_err();
            return assert!(failure.message.contains("invalid peer certificate: UnknownIssuer"), "{failure}");
        }
        (None, _) => {}
    }
    let (authority, certificate, key) = certificates("webhook");
    block_on(async {
        let url = format!("https://{}/hook", tls_server(&certificate, &key).await);
        for bundle in [None, authority.to_str(), Some("/nonexistent/bundle.pem")] {
            let bundle = bundle.map(|bundle| ("SSL_CERT_FILE", bundle));
            run_alone(test, &url, &bundle.into_iter().collect::<Vec<_>>()).await;
        }
    });
    std::fs::remove_dir_all(authority.parent().unwrap()).unwrap();
}

#[test]
fn https_goes_through_the_proxy_of_the_environment_and_plain_http_never() {
    let test = "webhook::https_goes_through_the_proxy_of_the_environment_and_plain_http_never";
    if let Some(result) = post_alone(test) {
        let is_https = std::env::var("WEBHOOK").unwrap().starts_with("https://");
        return assert_eq!(result.is_err(), is_https, "{result:?}");
    }
    block_on(async {
        let proxy = Stub::start(|_, _| reply(403, "not here")).await;
        let stub = Stub::start(|_, _| reply(200, "ok")).await;
        for url in ["https://hooks.slack.com/services/TOKEN", &stub.url] {
            let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"];
            run_alone(test, url, &names.map(|name| (name, proxy.url.as_str()))).await;
        }
        let lines: Vec<String> = proxy.requests().into_iter().map(|request| request.line).collect();
        assert_eq!(lines, ["CONNECT hooks.slack.com:443"]);
        assert_eq!(stub.requests().len(), 1);
    });
}

#[test]
fn a_wrong_template_is_an_error_at_start_that_names_its_line() {
    let refusal = |text| format!("{:#}", Webhook::new("https://hooks.slack.com/x", Some(text), for_posts).unwrap_err());
    assert_eq!(refusal("{\n\"text\": \"{{ mesage }}\"}"), "the webhook's template is wrong: line 2: undefined value");
    let no_json = refusal("{\n\"text\": {{ message }}}");
    let begin = "the webhook's template is wrong: what it makes of the milestone recommended is not valid JSON: ";
    assert!(no_json.starts_with(begin) && no_json.contains("at line 2 column"), "{no_json}");
}

fn shipped(template: &str) -> Webhook {
    Webhook::new("https://hooks.slack.com/services/x", Some(template), for_posts).unwrap()
}

fn made_of(webhook: &Webhook, announcement: &Announcement) -> Value {
    serde_json::from_str(&webhook.render(announcement).unwrap().unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    let text = value.as_str().unwrap_or_default();
    assert!(!text.is_empty(), "no text: {value}");
    text
}

/// Of each milestone: as samples have it, with nulls, and with a message that is as long as it is awkward.
fn announcements() -> Vec<Announcement> {
    assert_eq!(MilestoneKind::ALL.len(), 13);
    let long = |mut sample: Announcement| {
        sample.message = "\"\\\n<&>ä".repeat(1000);
        sample
    };
    Announcement::samples().into_iter().flat_map(|sample| [long(sample.clone()), sample]).collect()
}

const SLACK: &str = include_str!("../../packaging/webhook/slack.json.j2");
const TEAMS: &str = include_str!("../../packaging/webhook/teams.json.j2");
const PAGERDUTY: &str = include_str!("../../packaging/webhook/pagerduty.json.j2");

#[test]
fn the_slack_template_makes_a_message_of_every_milestone() {
    let webhook = shipped(SLACK);
    for announcement in announcements() {
        let made = made_of(&webhook, &announcement);
        assert!(text(&made["text"]).contains(&announcement.milestone));
        let section = &made["blocks"][0];
        assert_eq!((text(&section["type"]), text(&section["text"]["type"])), ("section", "mrkdwn"));
        assert!(text(&section["text"]["text"]).chars().count() <= 3000);
        let context = &made["blocks"][1];
        assert_eq!((text(&context["type"]), text(&context["elements"][0]["type"])), ("context", "mrkdwn"));
        assert!(!text(&context["elements"][0]["text"]).contains('\n'));
    }
    let message = "a \"quote\", a \\ and\na line with <!channel> & more";
    let announcement = Announcement { message: message.into(), ..Announcement::sample("noticed") };
    let made = made_of(&webhook, &announcement);
    let escaped = "a \"quote\", a \\ and\na line with &lt;!channel&gt; &amp; more";
    assert_eq!(made["text"], format!("i-0123456789abcdef0 noticed: {escaped}"));
    assert_eq!(made["blocks"][0]["text"]["text"], format!(":warning: *noticed* {escaped}"));
    assert_eq!(
        made["blocks"][1]["elements"][0]["text"],
        "i-0123456789abcdef0 (m7g.large, eu-west-1a, account 123456789012) · terminate · 109 s left · web · successor \
         i-0fedcba9876543210"
    );
}

#[test]
fn the_teams_template_makes_an_adaptive_card_of_every_milestone() {
    let webhook = shipped(TEAMS);
    for announcement in announcements() {
        let made = made_of(&webhook, &announcement);
        assert_eq!(made["type"], "message");
        let attachment = &made["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        let card = &attachment["content"];
        assert_eq!((text(&card["type"]), text(&card["version"])), ("AdaptiveCard", "1.4"));
        assert!(text(&card["body"][0]["text"]).contains(&announcement.milestone));
        let message: String = announcement.message.chars().take(2500).collect();
        assert_eq!(card["body"][1]["text"], message);
        for fact in card["body"][2]["facts"].as_array().unwrap() {
            assert!(!text(&fact["title"]).is_empty() && text(&fact["value"]) != "null");
        }
        assert!(made.to_string().len() < 28 * 1024);
    }
}

#[test]
fn the_pagerduty_template_triggers_and_resolves_one_alert_an_instance() {
    let webhook = shipped(PAGERDUTY);
    let pages_nobody = |it: &Announcement| {
        ["recommended", "arrived"].contains(&it.milestone.as_str())
            || it.signal.as_deref() == Some("rebalance-recommendation")
    };
    let (silent, told): (Vec<_>, Vec<_>) = announcements().into_iter().partition(pages_nobody);
    assert!(silent.len() > 4);
    for announcement in silent {
        assert_eq!(webhook.render(&announcement).unwrap(), None, "{}", announcement.milestone);
    }
    for announcement in told {
        let made = made_of(&webhook, &announcement);
        assert_eq!(text(&made["routing_key"]).len(), 32);
        assert_eq!(made["dedup_key"], "spot-relay/i-0123456789abcdef0");
        let resolves = match announcement.milestone.as_str() {
            "handed-over" => announcement.outcome.as_deref() == Some("complete"),
            other => ["survived", "reinstated"].contains(&other),
        };
        assert_eq!(made["event_action"], if resolves { "resolve" } else { "trigger" }, "{}", announcement.milestone);
        let payload = &made["payload"];
        assert!(["error", "warning", "info"].contains(&text(&payload["severity"])));
        assert!((1..=1024).contains(&text(&payload["summary"]).chars().count()));
        assert_eq!(payload["source"], "i-0123456789abcdef0");
        text(&payload["timestamp"]).parse::<jiff::Timestamp>().unwrap();
        assert_eq!(payload["custom_details"]["message"], announcement.message);
        assert_eq!(payload["custom_details"]["owner"].as_str(), announcement.owner.as_deref());
    }
    let severity = |announcement: &Announcement| made_of(&webhook, announcement)["payload"]["severity"].clone();
    assert_eq!(severity(&Announcement::sample("noticed")), "warning");
    assert_eq!(severity(&Announcement::sample("quiet")), "info");
    let partial = Announcement { outcome: Some("partial".into()), ..Announcement::sample("handed-over") };
    assert_eq!(severity(&partial), "error");
}
