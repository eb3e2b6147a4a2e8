//! No secret is in anything that the daemon writes for others to read, whatever `RUST_LOG` asks for.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use crate::journal::{Entries, start, with_journal};
use crate::metrics::{address, scrape};
use crate::scenario::{Daemon, SHORT, Scenario, eventually, world};
use crate::webhook::receiver;

/// The parts of a webhook's URL that let somebody in; the last one is the first two as HTTP sends them.
const PLANTED: [&str; 5] =
    ["PLANTED-USER", "PLANTED-PASSWORD", "PLANTED-PATH", "PLANTED-QUERY", "UExBTlRFRC1VU0VSOlBMQU5URUQtUEFTU1dPUkQ="];
/// What the simulated metadata gives as the secret access key.
const SECRET_ACCESS_KEY: &str = "a-secret-of-the-simulator";

fn scenario() -> Scenario {
    let (url, _) = receiver("204 No Content", Duration::ZERO);
    let url = url.replace("user:secret", "PLANTED-USER:PLANTED-PASSWORD");
    let url = url.replace("secret-path", "PLANTED-PATH?key=PLANTED-QUERY");
    let config = format!("{SHORT}[notify]\nwebhook = \"{url}\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n");
    Scenario::new(world()).config(&config).variable("RUST_LOG", "trace")
}

/// Planted ones, and those that really went over the wire.
fn secrets(scenario: &Scenario) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = PLANTED.iter().map(|&planted| planted.to_owned()).collect();
    secrets.insert(SECRET_ACCESS_KEY.to_owned());
    let (mut tokens, mut signatures) = (0, 0);
    for request in scenario.sim.requests() {
        for name in ["x-aws-ec2-metadata-token", "x-amz-security-token"] {
            if let Some(token) = request.headers.get(name) {
                tokens += 1;
                secrets.insert(token.clone());
            }
        }
        let signature = request.headers.get("authorization").and_then(|header| header.split_once("Signature="));
        if let Some((_, signature)) = signature {
            signatures += 1;
            secrets.insert(signature.to_owned());
        }
    }
    assert!(tokens > 10 && signatures > 5, "the requests show their secrets: {tokens}, {signatures}");
    secrets
}

/// What was written where: files, metrics, and what `status` makes of them.
fn written(scenario: &Scenario, metrics: &str) -> Vec<(&'static str, String)> {
    let file = |name: &str| std::fs::read_to_string(scenario.directory().join(name)).expect("it is written");
    let status = |argument: Option<&str>| {
        let mut command = scenario.command_of("status");
        let output = command.args(argument).stdout(Stdio::piped()).output().expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    vec![
        ("status.json", file("run/status.json")),
        ("handover.json", file("state/handover.json")),
        ("metrics", scrape(metrics)),
        ("status", status(None)),
        ("status --json", status(Some("--json"))),
    ]
}

fn assert_no_secret(scenario: &Scenario, written: &[(&str, String)]) {
    let secrets = secrets(scenario);
    for (place, text) in written {
        assert!(text.len() > 100, "{place} is written: {text:?}");
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} in {place}");
        }
    }
}

/// Handed over, and the last milestone is posted.
fn finish(scenario: &Scenario, daemon: &mut Daemon) {
    assert!(daemon.is_complete());
    let says = || daemon.status()["state"] == "handed-over";
    eventually(|| says().then_some(())).expect("the status follows");
    assert!(scenario.directory().join("state/handover.json").exists());
}

#[test]
fn no_secret_is_in_standard_error_or_in_any_file_at_trace() {
    for format in ["json", "text"] {
        let scenario = scenario().argument("--log-format").argument(format);
        let mut daemon = scenario.start();
        let metrics = address(&daemon);
        daemon.wait_for_line("ready; on a notice");
        scenario.sim.notice("terminate", Duration::from_secs(120));
        finish(&scenario, &mut daemon);
        let mut written = written(&scenario, &metrics);
        daemon.signal("-TERM");
        assert!(daemon.wait().success());
        daemon.wait_for_line("stopped");
        let log = daemon.lines().join("\n");
        assert!(log.contains("DEBUG"), "more than info is logged:\n{log}");
        written.push((format, log));
        assert_no_secret(&scenario, &written);
    }
}

#[test]
fn no_secret_is_in_the_journal_at_trace() {
    let (scenario, socket) = with_journal(scenario());
    let entries = Entries::default();
    entries.read_from(socket);
    let mut daemon = start(&scenario);
    let said = entries.wait_for("MESSAGE", "metrics are served at http://")["MESSAGE"].clone();
    let metrics = said.trim_start_matches("metrics are served at http://").trim_end_matches("/metrics").to_owned();
    entries.wait_for("MESSAGE", "ready; on a notice");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    finish(&scenario, &mut daemon);
    let mut written = written(&scenario, &metrics);
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    entries.wait_for("MESSAGE", "stopped");
    let entries = entries.all();
    assert!(entries.iter().any(|entry| entry["PRIORITY"] == "7"), "more than info is logged");
    written.push(("journal", format!("{entries:#?}")));
    assert_no_secret(&scenario, &written);
}
