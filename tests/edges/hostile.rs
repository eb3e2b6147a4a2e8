//! Hostile answers: every kind of wrong that a metadata service and AWS can be, thrown at each thing that is read from outside.
//! What holds: an answer or an error within the limit, nothing without bound, no panic.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::imds::Imds;
use spot_relay::cloud::{Aws, Connection, LIMIT};

/// What a server does once it has read a request.
#[derive(Clone)]
struct Kind {
    name: String,
    does: Arc<dyn Fn(&mut TcpStream) + Send + Sync>,
}

fn kind(name: &str, does: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Kind {
    Kind { name: name.to_owned(), does: Arc::new(does) }
}

fn bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Kind {
    let bytes = bytes.into();
    kind(name, move |stream| drop(stream.write_all(&bytes)))
}

/// A whole answer with this body.
fn body(name: &str, body: &[u8]) -> Kind {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    bytes(name, [head.as_bytes(), body].concat())
}

/// Writes pieces until the other side has had enough.
fn for_ever(stream: &mut TcpStream, piece: &[u8], pause: Duration) {
    while stream.write_all(piece).is_ok() {
        std::thread::sleep(pause);
    }
}

/// Kinds of answers that are wrong whoever gets them.
fn kinds() -> Vec<Kind> {
    let head = "HTTP/1.1 200 OK\r\n";
    let mut kinds = vec![
        bytes("nothing", ""),
        bytes("garbage", "\u{0}\u{1}garbage\u{7f}\r\n\r\n"),
        bytes("another protocol", "SSH-2.0-OpenSSH_9.2\r\n"),
        bytes("TLS", [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]),
        bytes("half a head", "HTTP/1.1 200 O"),
        bytes("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n{}"),
        bytes("HTTP/0.9", "{}"),
        bytes("HTTP/9.9", "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
        bytes("1xx and no end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)),
        bytes("1xx and an end", format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}Content-Length: 2\r\n\r\n{{}}")),
        bytes("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        bytes("204", "HTTP/1.1 204 No Content\r\n\r\n"),
        bytes("206", "HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\n{"),
        bytes("304", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        bytes("redirect to itself", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        bytes("redirect elsewhere", "HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"),
        bytes("status 0", "HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n"),
        bytes("status 999", "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"),
        bytes("status 70000", "HTTP/1.1 70000 X\r\n\r\n"),
        bytes("too short a body", format!("{head}Content-Length: 100\r\n\r\n{{}}")),
        bytes("too long a body", format!("{head}Content-Length: 1\r\n\r\n{{}}{{}}")),
        bytes("huge length", format!("{head}Content-Length: 18446744073709551615\r\n\r\n{{}}")),
        bytes("length beyond all", format!("{head}Content-Length: 99999999999999999999999\r\n\r\n{{}}")),
        bytes("negative length", format!("{head}Content-Length: -1\r\n\r\n{{}}")),
        bytes("two lengths", format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}")),
        bytes(
            "length and chunks",
            format!("{head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        ),
        bytes("chunks of garbage", format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n")),
        bytes("a chunk beyond all", format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{{}}")),
        bytes("no last chunk", format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n")),
        bytes(
            "gzip",
            [
                format!("{head}Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\n").as_bytes(),
                &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0],
            ]
            .concat(),
        ),
        bytes("headers without end", format!("{head}{}", "X-Header: y\r\n".repeat(200_000))),
        bytes("a header of a MiB", format!("{head}X-Header: {}\r\n\r\n", "y".repeat(1 << 20))),
        bytes("a thousand headers", format!("{head}{}Content-Length: 0\r\n\r\n", "X-Header: y\r\n".repeat(1000))),
        bytes("a header with NUL", format!("{head}X-Header: a\0b\r\nContent-Length: 0\r\n\r\n")),
        bytes("a folded header", format!("{head}X-Header: a\r\n b\r\nContent-Length: 0\r\n\r\n")),
        bytes("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
        kind("silence", |_| std::thread::sleep(Duration::from_secs(10))),
        kind("a slow head", |stream| for_ever(stream, b"H", Duration::from_millis(300))),
        kind("a slow body", move |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            for_ever(stream, b" ", Duration::from_millis(200));
        }),
        kind("slow chunks", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for_ever(stream, b"1\r\n \r\n", Duration::from_millis(100));
        }),
        kind("a flood", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            for_ever(stream, &[b'x'; 1 << 16], Duration::ZERO);
        }),
        kind("a flood of spaces", |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            for_ever(stream, &[b' '; 1 << 16], Duration::ZERO);
        }),
    ];
    let deep = |open: &str| open.repeat(20_000);
    for (name, text) in [
        ("an empty body", Vec::new()),
        ("NUL bytes", vec![0; 4096]),
        ("no UTF-8", vec![0xff, 0xfe, 0xc0, 0x80]),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("HTML", b"<!DOCTYPE html><html><body><h1>It works</h1></body></html>".to_vec()),
        ("deep JSON", deep("[").into_bytes()),
        ("deep objects", deep("{\"a\":").into_bytes()),
        ("deep XML", deep("<a>").into_bytes()),
        ("an entity bomb", b"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><x>&b;</x>".to_vec()),
        ("a long line", vec![b'a'; 60_000]),
        ("escape sequences", b"\x1b[2J\x1b]0;owned\x07\r\n".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999999".to_vec()),
        ("a list", b"[[], {}, null, 7, \"x\"]".to_vec()),
        ("an object of nulls", br#"{"action": null, "time": null, "instanceId": null, "noticeTime": null}"#.to_vec()),
        ("an object of lists", br#"{"action": [], "time": [], "instanceId": [], "Code": [], "noticeTime": {}}"#.to_vec()),
        ("an object of numbers", br#"{"action": 1, "time": -1e308, "instanceId": 7, "region": 1e400, "Expiration": 0}"#.to_vec()),
        ("doubled keys", br#"{"action": "stop", "action": "stop", "time": "x", "time": "y"}"#.to_vec()),
        ("the year 0", br#"{"action": "stop", "time": "0000-01-01T00:00:00Z", "noticeTime": "0000-01-01T00:00:00Z"}"#.to_vec()),
        ("the year 9999", br#"{"action": "stop", "time": "9999-12-31T23:59:59Z", "noticeTime": "9999-12-31T23:59:59Z"}"#.to_vec()),
        ("a leap second", br#"{"action": "stop", "time": "2016-12-31T23:59:60Z", "noticeTime": "2016-12-31T23:59:60Z"}"#.to_vec()),
        ("events at the ends", br#"[{"Code": "x", "NotBefore": "31 Dec 9999 23:59:59 GMT"}, {"Code": "y", "NotBefore": "1 Jan 0000 00:00:00 GMT"}]"#.to_vec()),
        ("an absurd role", b"a role/../../../x?y#z\nb\n".to_vec()),
    ] {
        kinds.push(body(name, &text));
    }
    for date in [
        "Thu, 01 Jan 0000 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "yesterday",
        "",
        "\u{7f}",
        "Sat, 31 Dec 2016 23:59:60 GMT",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n{{}}");
        kinds.push(bytes(&format!("the date {date:?}"), answer));
    }
    for ttl in ["18446744073709551615", "-1", "0", "1e9", "", "99999999999999999999999", "21600, 21600"] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\nContent-Length: 5\r\n\r\ntoken");
        kinds.push(bytes(&format!("the token's life {ttl:?}"), answer));
    }
    kinds
}

/// Answers each request with a kind; those that `good` knows, well. On threads, so that a client that spins does not stop it.
fn serve(kind: Kind, good: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (good, requests) = (Arc::new(good), Arc::new(AtomicUsize::new(0)));
    let counted = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (kind, good, counted) = (kind.clone(), good.clone(), counted.clone());
            std::thread::spawn(move || answer(stream, &kind, &*good, &counted));
        }
    });
    (url, requests)
}

fn answer(mut stream: TcpStream, kind: &Kind, good: &dyn Fn(&str) -> Option<String>, requests: &AtomicUsize) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(length) => head.extend_from_slice(&piece[..length]),
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&head).into_owned();
    match good(head.lines().next().unwrap_or_default()) {
        Some(body) => {
            let length = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(text.as_bytes());
        }
        None => (kind.does)(&mut stream),
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    // What the client has not sent yet is read, so that it sees the answer and no reset.
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = stream.read(&mut piece);
}

fn token(line: &str) -> Option<String> {
    line.starts_with("PUT ").then(|| "token".to_owned())
}

/// Every kind at once, each against a client of its own.
async fn each<F: Future<Output = ()> + 'static>(kinds: Vec<Kind>, test: impl Fn(Kind) -> F) {
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = kinds.into_iter().map(|kind| (kind.name.clone(), local.spawn_local(test(kind)))).collect();
    local
        .run_until(async {
            for (name, task) in tasks {
                assert!(task.await.is_ok(), "{name}");
            }
        })
        .await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn every_item_of_the_metadata_bears_every_kind_of_answer() {
    each(kinds(), |kind| async move {
        let (url, _) = serve(kind.clone(), token);
        let imds = Imds::new(Some(&url)).unwrap();
        let began = Instant::now();
        let _ = imds.instance_action().await;
        let one = began.elapsed();
        assert!(one < Duration::from_millis(3500), "{}: {one:?}", kind.name);
        let _ = tokio::join!(
            imds.rebalance_recommendation(),
            imds.target_lifecycle_state(),
            imds.scheduled_events(),
            imds.identity(),
            imds.instance_tags(&["Name"]),
            imds.instance_profile(),
            imds.role(),
        );
    })
    .await;
}

#[tokio::test]
async fn every_token_is_borne_and_bounded() {
    each(kinds(), |kind| async move {
        let (url, requests) = serve(kind.clone(), |line| (!line.starts_with("PUT ")).then(|| "{}".to_owned()));
        let imds = Imds::new(Some(&url)).unwrap();
        for _ in 0..3 {
            let _ = imds.instance_action().await;
        }
        assert!(requests.load(Ordering::Relaxed) <= 12, "{}", kind.name);
    })
    .await;
}

fn aws_with(metadata: &str, aws: &str) -> Connection {
    let mut connection = Connection::new("eu-west-1", Clock::default());
    connection.endpoint_url = Some(aws.to_owned());
    connection.metadata_endpoint = Some(metadata.to_owned());
    connection
}

#[test]
fn credentials_bear_every_kind_of_answer() {
    if !crate::alone::alone("hostile::credentials_bear_every_kind_of_answer", &[]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(each(kinds(), |kind| async move {
        let of_role = |line: &str| token(line);
        let of_keys = |line: &str| token(line).or_else(|| line.contains("credentials/ ").then(|| "web".to_owned()));
        for (url, requests) in [serve(kind.clone(), of_role), serve(kind.clone(), of_keys)] {
            let aws = Aws::connect(aws_with(&url, "http://127.0.0.1:9")).await.unwrap();
            let began = Instant::now();
            let failure = aws.credentials.renew().await.expect_err(&kind.name);
            assert!(began.elapsed() < Duration::from_millis(3500), "{}: {:?}", kind.name, began.elapsed());
            assert!(failure.message.len() < 1000, "{}: {failure}", kind.name);
            assert!(aws.credentials.standing().trouble.is_some() && !aws.credentials.standing().loaded);
            assert!(requests.load(Ordering::Relaxed) <= 6, "{}", kind.name);
        }
    }));
}

#[test]
fn calls_to_aws_bear_every_kind_of_answer_in_little_memory() {
    let environment = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    if !crate::alone::alone("hostile::calls_to_aws_bear_every_kind_of_answer_in_little_memory", &environment) {
        return;
    }
    let before = resident_kib();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(each(kinds(), |kind| async move {
        let (url, _) = serve(kind.clone(), |_| None);
        let aws = Aws::connect(aws_with(&url, &url)).await.unwrap();
        let began = Instant::now();
        let (group, instance) = ("web", spot_relay::core::model::InstanceId::new("i-1"));
        let (members, terminated, tags) = tokio::join!(
            aws.autoscaling.group_state(group),
            aws.ec2.terminate_instances(&instance),
            aws.ec2.describe_tags("i-1"),
        );
        assert!(began.elapsed() < LIMIT + Duration::from_millis(2500), "{}: {:?}", kind.name, began.elapsed());
        for message in [members.err(), terminated.err(), tags.err()].into_iter().flatten().map(|it| it.message) {
            assert!(message.len() < 2000, "{}: {message}", kind.name);
        }
    }));
    let grown = resident_kib().saturating_sub(before) / 1024;
    assert!(grown < 250, "{grown} MiB more for {} clients at once", kinds().len());
}

#[tokio::test]
async fn where_one_address_of_the_metadata_does_not_answer_the_other_one_is_asked() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let (url, _) = serve(bytes("nothing", ""), |line| token(line).or_else(|| Some("{}".to_owned())));
    let imds = Imds::among(&[&dead, &url]).unwrap();
    assert!(imds.instance_action().await.is_err());
    assert!(imds.instance_action().await.is_ok());
    assert_eq!(imds.endpoint(), url);
    // The one that has answered is kept.
    let imds = Imds::among(&[&url, &dead]).unwrap();
    for _ in 0..3 {
        assert!(imds.instance_action().await.is_ok());
    }
    assert_eq!(imds.endpoint(), url);
}

#[test]
fn the_mode_of_the_metadatas_address_is_followed() {
    const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
    for mode in ["IPv6", "IPV6", "ipv4"] {
        if crate::alone::alone("hostile::the_mode_of_the_metadatas_address_is_followed", &[(MODE, mode)]) {
            let is_ipv6 = std::env::var(MODE).unwrap().eq_ignore_ascii_case("ipv6");
            let expected = if is_ipv6 { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" };
            assert_eq!(Imds::new(None).unwrap().endpoint(), expected);
            assert_eq!(Imds::new(Some("http://127.0.0.1:9")).unwrap().endpoint(), "http://127.0.0.1:9");
            return;
        }
    }
}
