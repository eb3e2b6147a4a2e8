//! The webhook in a whole handover: every milestone is told, whatever the other side does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::Owner;

use crate::scenario::{SHORT, Scenario, eventually};
use crate::signals::owned_by;

/// A real HTTP server that takes what is posted; `status` after `pause`.
pub(crate) fn receiver(status: &'static str, pause: Duration) -> (String, Arc<Mutex<Vec<Value>>>) {
    answering(pause, move |_| status.to_owned())
}

/// `answer` makes the status line, and headers after it, of the number of the requests before.
fn answering(
    pause: Duration,
    answer: impl Fn(usize) -> String + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<Value>>>) {
    let answer = Arc::new(answer);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://user:secret@{}/hook/secret-path", listener.local_addr().expect("its address"));
    let received = Arc::new(Mutex::new(Vec::new()));
    let sink = received.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (sink, answer) = (sink.clone(), answer.clone());
            std::thread::spawn(move || serve(stream, &*answer, pause, &sink));
        }
    });
    (url, received)
}

fn serve(mut stream: std::net::TcpStream, answer: &dyn Fn(usize) -> String, pause: Duration, sink: &Mutex<Vec<Value>>) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let Ok(read @ 1..) = stream.read(&mut piece) else { return };
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let before = {
            let mut sink = sink.lock().expect("a lock");
            sink.push(serde_json::from_str(body).expect("JSON"));
            sink.len() - 1
        };
        bytes.clear();
        std::thread::sleep(pause);
        let status = answer(before);
        if stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// A secret, or a template, that an agent writes some seconds after the start costs no handover.
#[test]
fn a_file_of_the_webhook_that_is_not_there_costs_no_handover() {
    for file in ["webhook-file = \"/nowhere/it\"", "webhook = \"https://x/y\"\ntemplate = \"/nowhere/it\""] {
        let config = format!("{SHORT}[notify]\n{file}\n");
        let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{file}: {}", daemon.lines().join("\n"));
        assert_eq!(daemon.lines_with("/nowhere/it: this file of the configuration cannot be read").len(), 1, "{file}");
        assert_eq!(daemon.lines_with("the daemon works without the webhook").len(), 1, "{file}");
    }
}

#[test]
fn every_milestone_is_posted_at_once_and_in_order() {
    let (url, received) = receiver("204 No Content", Duration::ZERO);
    let config = format!("{SHORT}[notify]\nwebhook = \"{url}\"\n");
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    let daemon = scenario.hand_over();
    let posted = || {
        let received = received.lock().expect("a lock");
        received.iter().filter_map(|body| body["milestone"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    eventually(|| (posted() == daemon.milestone_names()).then_some(()))
        .unwrap_or_else(|| panic!("{:?} of {:?}", posted(), daemon.milestone_names()));
    let received = received.lock().expect("a lock");
    assert_eq!(received[0]["instance_id"].as_str(), Some(scenario.sim.instance_id().as_str()));
    assert_eq!(received[0]["signal"], "notice");
    assert_eq!(received.last().map(|last| last["outcome"].clone()), Some("complete".into()));
    assert!(daemon.lines().iter().all(|line| !line.contains("secret")), "no secret in the log");
}

#[test]
fn a_webhook_that_fails_or_hangs_is_never_in_the_way() {
    for (status, pause) in [("500 Internal Server Error", Duration::ZERO), ("200 OK", Duration::from_secs(20))] {
        let (url, received) = receiver(status, pause);
        let config = format!("{SHORT}[notify]\nwebhook = \"{url}\"\n");
        let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete());
        let outcome = daemon.wait_for("handed-over");
        assert!(outcome["seconds_left"].as_f64().is_some_and(|left| left > 100.0), "{outcome}");
        let line = daemon.wait_for_line("does not take milestones");
        assert!(!line.contains("secret"), "{line}");
        let tried = |body: &Value| told(body).contains(&"noticed".to_owned());
        let tries = || (received.lock().expect("a lock").iter().filter(|body| tried(body)).count() >= 3).then_some(());
        eventually(tries).expect("it is tried again and again");
    }
}

/// The milestones that one POST tells of, the newest last.
fn told(body: &Value) -> Vec<String> {
    let earlier = body["earlier"].as_array().into_iter().flatten();
    earlier.chain([body]).filter_map(|one| one["milestone"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_webhook_that_asks_for_a_pause_is_told_everything_after_it() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let (url, received) = answering(Duration::ZERO, move |before| match before {
            0 => format!("{status}\r\nretry-after: 3"),
            _ => "200 OK".to_owned(),
        });
        let config = format!("{SHORT}[notify]\nwebhook = \"{url}\"\n");
        let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
        let daemon = scenario.hand_over();
        let arrived = || {
            let received = received.lock().expect("a lock");
            received.iter().skip(1).flat_map(told).collect::<Vec<_>>()
        };
        eventually(|| (arrived() == daemon.milestone_names()).then_some(()))
            .unwrap_or_else(|| panic!("{:?} of {:?}", arrived(), daemon.milestone_names()));
        assert!(received.lock().expect("a lock").len() <= 4, "what waited is told together");
        daemon.wait_for_line("takes milestones again");
    }
}

#[test]
fn the_webhook_may_stand_in_a_file_that_only_this_service_can_read() {
    let (url, received) = receiver("200 OK", Duration::ZERO);
    let config = format!("{SHORT}[notify]\nwebhook-file = \"webhook\"\n");
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    std::fs::write(scenario.directory().join("webhook"), format!("{url}\n")).expect("written");
    let directory = scenario.directory().display().to_string();
    let scenario = scenario.variable("CREDENTIALS_DIRECTORY", &directory);
    let daemon = scenario.hand_over();
    let outcome = || received.lock().expect("a lock").iter().any(|body| body["milestone"] == "handed-over");
    eventually(|| outcome().then_some(())).expect("it is told");
    assert!(daemon.lines().iter().all(|line| !line.contains("secret")), "no secret in the log");
}

#[test]
fn a_credential_that_systemd_does_not_pass_is_told_with_what_to_do() {
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config("[notify]\nwebhook-file = \"webhook\"\n");
    let output = scenario.command().output().expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("LoadCredential=webhook:") && text.contains("line 2"), "{text}");
}

#[test]
fn the_last_milestone_is_posted_before_the_daemon_ends() {
    let (url, received) = receiver("200 OK", Duration::from_millis(300));
    let config = format!("{SHORT}[notify]\nwebhook = \"{url}\"\n");
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("noticed");
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    let received = received.lock().expect("a lock");
    assert!(received.iter().any(|body| body["milestone"] == "handed-over"), "{received:?}");
}

#[test]
fn a_wrong_template_ends_the_start_with_78_and_says_where() {
    let file = std::env::temp_dir().join(format!("spot-relay-template-{}", std::process::id()));
    std::fs::write(&file, "{\"text\": {{ message | tojson }},\n \"more\": {{ mesage | tojson }} }").expect("written");
    let config = format!("[notify]\nwebhook = \"http://127.0.0.1:9/x\"\ntemplate = \"{}\"\n", file.display());
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    let output = scenario.command().output().expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("spot-relay-template") && text.contains("line 2"), "{text}");
    let _ = std::fs::remove_file(file);
}
