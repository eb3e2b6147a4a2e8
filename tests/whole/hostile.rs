//! The real binary in front of a liar: a metadata service or an AWS that answers otherwise than the truth for a while, files
//! that are none, names that move a cursor. What holds: never deaf, never dead, never wrong about the time.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use spot_relay::sim::{Owner, Settings};

use crate::scenario::{Daemon, Scenario, eventually, target_group, world};

/// What the liar makes of a request: of its first line, and of the true answer.
type Lie = Box<dyn FnMut(&str, Vec<u8>) -> Vec<u8> + Send>;

/// Stands between a client and a server, and passes on what it does not lie about.
struct Liar {
    url: String,
    lie: Arc<Mutex<Option<Lie>>>,
}

impl Liar {
    fn before(server: &str) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = server.trim_start_matches("http://").to_owned();
        let lie: Arc<Mutex<Option<Lie>>> = Arc::default();
        let shared = lie.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (server, lie) = (server.clone(), shared.clone());
                std::thread::spawn(move || pass_on(stream, &server, &lie));
            }
        });
        Liar { url, lie }
    }

    fn lies(&self, lie: impl FnMut(&str, Vec<u8>) -> Vec<u8> + Send + 'static) {
        *self.lie.lock().expect("no panic") = Some(Box::new(lie));
    }

    fn is_honest(&self) {
        *self.lie.lock().expect("no panic") = None;
    }

    /// Every date is so many seconds off, in so many answers about the notice; then the truth.
    fn dates_off(&self, seconds: i64, answers: usize) {
        let mut left = answers;
        self.lies(move |line, truth| {
            if left == 0 || !line.contains("spot/instance-action") {
                return truth;
            }
            left -= 1;
            let wrong = Timestamp::now() + SignedDuration::from_secs(seconds);
            with_date(&truth, &wrong.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        });
    }
}

fn with_date(answer: &[u8], date: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let kept = head.lines().filter(|line| !line.to_lowercase().starts_with("date:")).collect::<Vec<_>>().join("\r\n");
    format!("{kept}\r\nDate: {date}\r\n\r\n{body}").into_bytes()
}

fn pass_on(mut client: TcpStream, server: &str, lie: &Mutex<Option<Lie>>) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&piece[..length]),
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    let Ok(mut server) = TcpStream::connect(server) else { return };
    let closing = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut truth = Vec::new();
    if server.write_all(closing.as_bytes()).is_err() || server.read_to_end(&mut truth).is_err() {
        return;
    }
    let answer = match &mut *lie.lock().expect("no panic") {
        Some(lie) => lie(&line, truth),
        None => truth,
    };
    let _ = client.write_all(&answer);
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

fn settings() -> Settings {
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    Settings { owner: Owner::auto_scaling_group(), target_groups: vec![group], ..world() }
}

/// A world whose metadata is told by a liar, who is honest so far.
fn lied_to(settings: Settings) -> (Scenario, Liar) {
    let truth = Scenario::new(settings);
    let endpoint = truth
        .command()
        .get_envs()
        .find(|(name, _)| *name == "AWS_EC2_METADATA_SERVICE_ENDPOINT")
        .and_then(|(_, value)| value)
        .expect("an endpoint")
        .to_string_lossy()
        .into_owned();
    let liar = Liar::before(&endpoint);
    (Scenario::of(&truth.sim, liar.url.clone()), liar)
}

fn handed_over_in_full(daemon: &Daemon, scenario: &Scenario, context: &str) {
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{context}: {}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], context);
}

#[test]
fn a_wrong_date_at_the_first_look_makes_nobody_deaf() {
    for seconds in [3_600, -3_600, 86_400 * 400] {
        let (scenario, liar) = lied_to(settings());
        scenario.sim.notice("terminate", Duration::from_secs(100));
        liar.dates_off(seconds, 1);
        let daemon = scenario.start();
        handed_over_in_full(&daemon, &scenario, &format!("{seconds} s off"));
        let left = daemon.wait_for("noticed")["seconds_left"].as_f64().expect("a number");
        assert!((90.0..=100.5).contains(&left), "{left} s left with a date {seconds} s off");
    }
}

#[test]
fn dates_that_are_wrong_for_a_second_make_nobody_deaf_and_shorten_nothing() {
    let (scenario, liar) = lied_to(settings());
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(110));
    daemon.wait_for("noticed");
    liar.dates_off(3_600, 10);
    handed_over_in_full(&daemon, &scenario, "dates in the middle");
    assert!(daemon.lines_with("the notice has changed").is_empty(), "{}", daemon.lines().join("\n"));
    let left = daemon.wait_for("handed-over")["seconds_left"].as_f64().expect("a number");
    assert!(left > 60.0, "{left}");
}

#[test]
fn dates_that_go_wrong_for_good_after_the_notice_shorten_nothing() {
    let (scenario, liar) = lied_to(settings());
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(110));
    daemon.wait_for("noticed");
    let deadline = || daemon.record_now().map(|record| record["deadline"].clone()).filter(|it| !it.is_null());
    let first = eventually(deadline).expect("a record");
    liar.dates_off(90, usize::MAX);
    // Longer than dates have to agree before they are believed.
    std::thread::sleep(Duration::from_secs(6));
    handed_over_in_full(&daemon, &scenario, "dates that stay wrong");
    assert_eq!(deadline(), Some(first));
    assert!(daemon.lines_with("the notice has changed").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn an_identity_that_was_another_instance_s_is_read_again() {
    let (scenario, liar) = lied_to(settings());
    let ours = scenario.sim.instance_id();
    let other = format!("i-{}", "f".repeat(ours.len() - 2));
    let mut left = 1;
    liar.lies(move |line, truth| {
        if left == 0 || !line.contains("dynamic/instance-identity") {
            return truth;
        }
        left -= 1;
        String::from_utf8_lossy(&truth).replace(&ours, &other).into_bytes()
    });
    let daemon = scenario.start();
    daemon.wait_for_line("beginning again as that instance");
    daemon.wait_for_line("registered in web");
    scenario.sim.notice("terminate", Duration::from_secs(110));
    handed_over_in_full(&daemon, &scenario, "an odd identity");
}

#[test]
fn ten_404s_within_a_second_withdraw_nothing() {
    let (scenario, liar) = lied_to(Settings { kill_at_deadline: false, ..settings() });
    let daemon = scenario.hand_over();
    let mut left = 10;
    liar.lies(move |line, truth| {
        if left == 0 || !line.contains("spot/instance-action") {
            return truth;
        }
        left -= 1;
        answer(404, "")
    });
    std::thread::sleep(Duration::from_secs(3));
    assert!(!daemon.milestone_names().contains(&"survived".to_owned()), "{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "after ten 404s");
    // What stays away is withdrawn.
    scenario.sim.remove_notice();
    daemon.wait_for("survived");
}

#[test]
fn hostile_tokens_roles_and_identities_kill_no_task_and_are_got_over() {
    let page = "<html><body><h1>A page</h1> of a proxy's, with spaces and \u{1b}[2J</body></html>";
    let token_for_ever = || {
        b"HTTP/1.1 200 OK\r\nX-aws-ec2-metadata-token-ttl-seconds: 18446744073709551615\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntoken".to_vec()
    };
    let cases: [(&str, Vec<u8>); 6] = [
        ("api/token", token_for_ever()),
        ("security-credentials/ ", answer(200, page)),
        ("security-credentials/ ", answer(200, "a b/../c\0d")),
        (
            "security-credentials/web",
            answer(200, r#"{"Code": "Success", "AccessKeyId": "A\u0000", "SecretAccessKey": "", "Token": 7}"#),
        ),
        ("instance-identity/document", answer(200, page)),
        ("instance-life-cycle", answer(500, page)),
    ];
    for (path, lie) in cases {
        let (scenario, liar) = lied_to(settings());
        let asked = path.to_owned();
        liar.lies(move |line, truth| if line.contains(&asked) { lie.clone() } else { truth });
        let mut daemon = scenario.start();
        std::thread::sleep(Duration::from_secs(3));
        assert!(!daemon.has_ended(), "{path}");
        let lines = daemon.lines();
        assert!(lines.len() < 40, "{path}: {} lines\n{}", lines.len(), lines.join("\n"));
        for word in ["panicked", "died", "\u{1b}"] {
            assert!(daemon.lines_with(word).is_empty(), "{path}: {}", lines.join("\n"));
        }
        liar.is_honest();
        scenario.sim.notice("terminate", Duration::from_secs(110));
        daemon.wait_for("noticed");
        handed_over_in_full(&daemon, &scenario, path);
    }
}

#[test]
fn trouble_with_credentials_is_told_when_it_begins_and_when_it_is_over() {
    let (scenario, liar) = lied_to(Settings { credentials_lifetime: Duration::from_secs(20), ..settings() });
    let daemon = scenario.ready();
    liar.lies(|line, truth| if line.contains("security-credentials") { answer(500, "no") } else { truth });
    // They are renewed a minute after the last time at the earliest, which is as long as patience.
    let _ = eventually(|| daemon.lines_with("trouble with the credentials: ").pop());
    daemon.wait_for_line("trouble with the credentials: ");
    let trouble = || daemon.status()["credentials"]["trouble"].is_string().then_some(());
    eventually(trouble).expect("the status tells");
    liar.is_honest();
    scenario.sim.notice("terminate", Duration::from_secs(100));
    handed_over_in_full(&daemon, &scenario, "credentials that were in trouble");
    daemon.wait_for_line("the trouble with the credentials is over");
    assert_eq!(daemon.lines_with("trouble with the credentials: ").len(), 1, "{}", daemon.lines().join("\n"));
}

#[test]
fn files_that_are_none_are_refused_at_once() {
    let pipe = std::env::temp_dir().join(format!("spot-relay-hostile-{}", std::process::id()));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a pipe");
    let scenario = Scenario::new(world());
    for file in [pipe.to_str().expect("a path"), "/dev/zero", "/", "/proc/self/mem"] {
        let mut command = scenario.command_of("run");
        command.arg("--config").arg(file).stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.output().expect("it runs");
        assert!(began.elapsed() < Duration::from_secs(5), "{file}: {:?}", began.elapsed());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(file), "{file}: {said}");
    }
    std::fs::remove_file(&pipe).expect("it is there");
}

#[test]
fn a_template_without_end_and_an_argument_with_nul_are_found_by_check() {
    let template = std::env::temp_dir().join(format!("spot-relay-template-{}", std::process::id()));
    std::fs::write(&template, "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}")
        .expect("written");
    let endless = format!("[notify]\nwebhook = \"http://127.0.0.1:9/\"\ntemplate = \"{}\"\n", template.display());
    for (config, says) in [(endless.as_str(), "fuel"), ("[hooks]\nnotice = [\"/bin/true\", \"a\\u0000b\"]\n", "NUL")] {
        let scenario = Scenario::new(world()).config(config);
        let mut command = scenario.command_of("check");
        command.arg("--config-only").stdout(Stdio::piped());
        let began = Instant::now();
        let output = command.output().expect("it runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(says), "{says:?} in {said}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    std::fs::remove_file(&template).expect("it is there");
}

#[test]
fn what_others_say_moves_no_cursor() {
    let scenario = Scenario::new(settings()).config("[watch]\ninterval = \"100ms\"\nscheduled-events = \"report\"\n");
    scenario.sim.scheduled_events(
        r#"[{"Code": "system-reboot\u001b[2J", "EventId": "e\u009b31m\n\u202ex", "State": "active", "NotBefore": "8 May 2099 16:00:00 GMT"}]"#,
    );
    let mut command = scenario.command();
    command.env("RUST_LOG", "info");
    let daemon = scenario.start();
    let line = daemon.wait_for_line("system-reboot");
    assert!(line.chars().all(|letter| !letter.is_control() && letter != '\u{202e}'), "{line:?}");
    let wrong = scenario.directory().join("wrong.toml");
    std::fs::write(&wrong, "[watch]\n\"k\\u001b[2J\\u009b\" = 1\n").expect("written");
    let mut command = scenario.command_of("check");
    let output =
        command.arg("--config").arg(&wrong).arg("--config-only").stdout(Stdio::piped()).output().expect("it runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("u{1b}[2J") && !said.contains('\u{1b}') && !said.contains('\u{9b}'), "{said:?}");
}

#[test]
fn metadata_that_is_turned_off_by_a_variable_is_told_as_that() {
    let scenario = Scenario::new(settings()).variable("AWS_EC2_METADATA_DISABLED", "true");
    let mut command = scenario.command_of("check");
    let output = command.arg("--json").stdout(Stdio::piped()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("AWS_EC2_METADATA_DISABLED is set") && !said.contains("has no instance profile, or"),
        "{said}"
    );
}
