//! Threads that cannot be had (EAGAIN): the daemon neither ends nor goes deaf, and hands over without them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use crate::scenario::{AT_ONCE, Scenario, eventually, world};

/// Nothing else runs as this user, whose processes and threads the kernel counts.
const USER: &str = "61077";

/// The daemon may run so long as this user has no more processes and threads than this.
const MOST: usize = 12;

/// Processes that take all that the daemon may have, its first thread aside.
struct Others(Vec<Child>);

impl Others {
    fn start() -> Others {
        let sleeper = || Command::new("setpriv").args(["--reuid", USER, "--clear-groups", "sleep", "1000"]).spawn();
        Others((1..MOST).map(|_| sleeper().expect("a process")).collect())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for process in &mut self.0 {
            process.kill().and_then(|()| process.wait()).expect("it ends");
        }
    }
}

/// Tells whether a program can be run as that user. Root has no such limit.
fn may_change_user() -> bool {
    let program = ["--reuid", USER, "--clear-groups", env!("CARGO_BIN_EXE_spot-relay"), "--version"];
    let is_possible = Command::new("setpriv").args(program).output().is_ok_and(|output| output.status.success());
    assert!(is_possible || std::env::var("CI").is_err(), "CI has to be able to run as another user: setpriv, as root");
    is_possible
}

#[test]
fn without_threads_the_daemon_waits_for_them_at_its_start_and_hands_over_without_them() {
    if !may_change_user() {
        return;
    }
    let own = std::env::temp_dir().join(format!("spot-relay-threads-{}", std::process::id()));
    for directory in ["state", "run"] {
        std::fs::create_dir_all(own.join(directory)).expect("a directory");
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(own.join(directory), everybody).expect("its permissions");
    }
    let path = |name: &str| own.join(name).to_str().expect("a path").to_owned();
    let limit = format!("--nproc={MOST}:{MOST}");
    let scenario = Scenario::listing(world());
    let by_name = scenario.sim.aws_endpoint().replace("127.0.0.1", "localhost");
    let scenario = scenario
        .config(&format!("{AT_ONCE}[notify]\nwebhook = \"https://127.0.0.1:9/\"\n"))
        .variable("AWS_ENDPOINT_URL", &by_name)
        .started_by(&["prlimit", &limit, "setpriv", "--reuid", USER, "--clear-groups"])
        .variable("STATE_DIRECTORY", &path("state"))
        .variable("RUNTIME_DIRECTORY", &path("run"));
    let others = Others::start();
    // Each is that user by then.
    std::thread::sleep(Duration::from_secs(1));
    let mut daemon = scenario.start();
    let looks = || scenario.sim.requests().iter().filter(|it| it.action.ends_with("spot/instance-action")).count();
    eventually(|| (looks() >= 3).then_some(())).expect("it looks for notices");
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.lines_with("ready; on a notice").is_empty(), "{}", daemon.lines().join("\n"));
    assert!(!daemon.has_ended(), "{}", daemon.lines().join("\n"));
    drop(others);
    daemon.wait_for_line("ready; on a notice");
    // An idle thread of the runtime's lives for ten seconds.
    std::thread::sleep(Duration::from_secs(11));
    let others = Others::start();
    std::thread::sleep(Duration::from_secs(1));
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(!daemon.has_ended() && !scenario.serves("web"), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.sim.successors().len(), 1, "{}", daemon.lines().join("\n"));
    // Neither the look-up of a name nor the certificates for the webhook panic.
    assert!(daemon.lines_with("a bug of this program").is_empty(), "{}", daemon.lines().join("\n"));
    let before = looks();
    eventually(|| (looks() > before + 2).then_some(())).expect("it goes on looking");
    drop((daemon, others));
    std::fs::remove_dir_all(own).expect("it is removed");
}
