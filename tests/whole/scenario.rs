//! A world, a daemon in it, and what a test may say about both.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spot_relay::core::plan::BASE_CAPACITY_TAG;
use spot_relay::core::retry;
use spot_relay::sim::{Request, Settings, Sim, TargetGroupSettings, Timings};
use tokio::net::TcpSocket;

/// Long enough for anything on a busy machine; no test waits so long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration under which a handover takes a moment: nothing is on the target ports.
pub(crate) const SHORT: &str = "[watch]\ninterval = \"100ms\"\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\n";

/// The same, and this instance leaves its target groups in the first instant, whoever launches the successor.
pub(crate) const AT_ONCE: &str =
    "[watch]\ninterval = \"100ms\"\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\nwhen = \"at-once\"\n";

/// Everything in tenths of a second, and an instance whose look-ups begin at once: their jitter is decided by the id.
pub(crate) fn world() -> Settings {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    Settings {
        timings: Timings::fast(),
        instance_id: Some(prompt_instance_id()),
        target_groups: vec![web],
        ..Settings::default()
    }
}

fn prompt_instance_id() -> String {
    let id = |number: u32| format!("i-{number:017x}");
    let is_prompt = |id: &String| retry::fraction(retry::seed(&format!("look-ups of {id}"))) < 0.002;
    (0..).map(id).find(is_prompt).expect("an id with little jitter")
}

/// A group's termination hook opens once its load balancer has drained: soon, in this world.
pub(crate) fn drained_soon(mut settings: Settings) -> Settings {
    for group in settings.target_groups.iter_mut().filter(|group| group.attached) {
        group.deregistration_delay = Duration::from_secs(1);
    }
    settings
}

/// A target group whose port nobody connects to on this machine. A [`Scenario`] listens on it.
pub(crate) fn target_group(name: &str, ports: &[u16]) -> TargetGroupSettings {
    TargetGroupSettings { ports: ports.to_vec(), ..TargetGroupSettings::named(name) }
}

/// As the application of this machine does, from now to the end of the tests: a daemon trusts the connections of a port only
/// where somebody listens, and where another machine has come to. Other runs of the tests may listen on it too.
pub(crate) fn listen(port: u16) {
    static LISTENERS: Mutex<BTreeMap<u16, TcpListener>> = Mutex::new(BTreeMap::new());
    let mut listeners = LISTENERS.lock().expect("no test has died in here");
    listeners.entry(port).or_insert_with(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseport(true).expect("a shared port");
            socket.bind((Ipv4Addr::UNSPECIFIED, port).into()).expect("a port of the tests");
            socket.listen(16).expect("a listener")
        });
        std::thread::spawn(move || stay_connected(&runtime, port));
        listener.into_std().expect("it goes on without its runtime")
    });
}

/// As another machine. The listener that takes the connection may belong to another run of the tests, and end with it.
fn stay_connected(runtime: &tokio::runtime::Runtime, port: u16) {
    loop {
        let client = runtime.block_on(async {
            let other_machine = TcpSocket::new_v4()?;
            other_machine.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
            other_machine.connect((Ipv4Addr::LOCALHOST, port).into()).await?.into_std()
        });
        let mut client = client.and_then(|client| client.set_nonblocking(false).map(|()| client));
        let ended = client.as_mut().map(|client| client.read(&mut [0]));
        if ended.is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) struct Scenario {
    pub(crate) sim: Sim,
    directory: PathBuf,
    config: String,
    /// Stands before the configuration.
    listed: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    metadata: String,
    /// The program that starts the daemon, with its arguments; none: the test does.
    starter: Vec<String>,
}

/// Of each pair the first is asked before the second. Whatever stands in no pair may be begun in one instant.
const ORDER: [(&str, &str); 9] = [
    ("LaunchInstances", "DeregisterTargets"),
    ("LaunchInstances", "DetachInstances"),
    ("CreateTags", "ModifyFleet"),
    ("CreateTags", "ModifySpotFleetRequest"),
    ("ModifyFleet", "RegisterTargets"),
    ("ModifySpotFleetRequest", "RegisterTargets"),
    ("CreateFleet", "RegisterTargets"),
    ("DeregisterTargets", "CompleteLifecycleAction"),
    ("TerminateInstanceInAutoScalingGroup", "CompleteLifecycleAction"),
];

impl Scenario {
    pub(crate) fn new(settings: Settings) -> Scenario {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("spot-relay-whole-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        settings.target_groups.iter().flat_map(|group| &group.ports).for_each(|port| listen(*port));
        let sim = Sim::start_on_a_thread(settings).expect("the simulator starts");
        let metadata = sim.metadata_endpoint();
        let (environment, arguments, starter) = (Vec::new(), Vec::new(), Vec::new());
        let (config, listed) = (AT_ONCE.to_owned(), String::new());
        Scenario { sim, directory, config, listed, environment, arguments, metadata, starter }
    }

    /// A configuration that lists the world's target groups: one that the owner does not name is else found within an
    /// hour.
    pub(crate) fn listing(settings: Settings) -> Scenario {
        let names: Vec<String> = settings.target_groups.iter().map(|group| format!("{:?}", group.name)).collect();
        let listed = format!("target-groups = [{}]\n", names.join(", "));
        let mut scenario = Scenario::new(settings);
        scenario.listed = listed;
        scenario
    }

    /// For another instance of the same world.
    pub(crate) fn of(sim: &Sim, metadata: String) -> Scenario {
        let mut scenario = Scenario::new(world());
        scenario.sim = sim.clone();
        scenario.metadata = metadata;
        scenario
    }

    pub(crate) fn config(mut self, config: &str) -> Scenario {
        self.config = config.to_owned();
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Scenario {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Scenario {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The daemon is started by this program, which executes the arguments that follow its own.
    pub(crate) fn started_by(mut self, starter: &[&str]) -> Scenario {
        self.starter = starter.iter().map(|&part| part.to_owned()).collect();
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.command_by(&self.starter, "run");
        command.args(&self.arguments);
        command
    }

    /// Another command than the daemon, in the same surroundings.
    pub(crate) fn command_of(&self, name: &str) -> Command {
        self.command_by(&[], name)
    }

    fn command_by(&self, starter: &[String], name: &str) -> Command {
        let config = self.directory.join("config.toml");
        // A test may have put something else in its place.
        if !config.is_symlink() {
            std::fs::write(&config, format!("{}{}", self.listed, self.config)).expect("the configuration is written");
        }
        let program = env!("CARGO_BIN_EXE_spot-relay");
        let mut command = match starter {
            [] => Command::new(program),
            [starter, arguments @ ..] => {
                let mut command = Command::new(starter);
                command.args(arguments).arg(program);
                command
            }
        };
        command.arg("--config").arg(config).args(["--log-format", "json", name]);
        command.env_clear();
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.metadata);
        command.env("AWS_ENDPOINT_URL", self.sim.aws_endpoint());
        command.env("RUST_LOG", "info,spot_relay::daemon=debug");
        command.env("HOME", &self.directory);
        command.env("STATE_DIRECTORY", self.directory.join("state"));
        command.env("RUNTIME_DIRECTORY", self.directory.join("run"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        self.spawn(self.command())
    }

    /// Its log, and what it writes to standard output, are its lines.
    pub(crate) fn drill(&self, arguments: &[&str]) -> Daemon {
        let mut command = self.command_of("drill");
        command.args(arguments).stdout(Stdio::piped());
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Daemon {
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("its log");
        self.daemon(child, stderr)
    }

    /// A daemon that writes its log there.
    pub(crate) fn daemon(&self, mut child: Child, log: impl Read + Send + 'static) -> Daemon {
        let lines = Arc::default();
        follow(log, &lines);
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, &lines);
        }
        Daemon { child, lines, directory: self.directory.clone() }
    }

    /// A daemon that has looked everything up.
    pub(crate) fn ready(&self) -> Daemon {
        let daemon = self.start();
        daemon.wait_for_line("ready; on a notice");
        daemon
    }

    /// Ready, noticed, handed over.
    pub(crate) fn hand_over(&self) -> Daemon {
        let daemon = self.ready();
        self.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        daemon
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Requests to AWS, in order of arrival.
    pub(crate) fn aws_requests(&self) -> Vec<Request> {
        self.sim.requests().into_iter().filter(|request| request.service != "metadata").collect()
    }

    /// Actions that change AWS, in order of arrival, but for the mark on our instance.
    pub(crate) fn writes(&self) -> Vec<String> {
        let is_write = |request: &Request| !request.action.starts_with("Describe") && !self.is_mark(request);
        self.aws_requests().into_iter().filter(is_write).map(|request| request.action).collect()
    }

    fn is_mark(&self, request: &Request) -> bool {
        let ours = request.parameters.get("ResourceId.1") == Some(&self.sim.instance_id());
        ours && ["CreateTags", "DeleteTags"].contains(&request.action.as_str())
    }

    /// The value of `spot-relay:leaving` on our instance.
    pub(crate) fn mark(&self) -> Option<String> {
        let world = self.sim.snapshot();
        let instances = world["instances"].as_array().cloned().unwrap_or_default();
        let ours = instances.into_iter().find(|one| one["id"] == world["ours"]).expect("our instance");
        ours["tags"].get("spot-relay:leaving").and_then(Value::as_str).map(str::to_owned)
    }

    /// What a story in which the instance lives on has to leave as it was: our instance with its tags and its group, every
    /// target group's targets but a successor's, fleets with their capacity and tags, groups without a successor.
    pub(crate) fn world_without_successors(&self) -> Value {
        let successors = self.sim.successors();
        let is_new = |id: &Value| id.as_str().is_some_and(|id| successors.iter().any(|successor| successor == id));
        let without = |list: &Value, key: &str| -> Value {
            let list = list.as_array().cloned().unwrap_or_default();
            list.into_iter().filter(|one| !is_new(if key.is_empty() { one } else { &one[key] })).collect()
        };
        let world = self.sim.snapshot();
        let instances = world["instances"].as_array().cloned().unwrap_or_default();
        let ours = instances.into_iter().find(|one| one["id"] == world["ours"]).expect("our instance");
        let each = |list: &Value, row: &dyn Fn(&Value) -> Value| -> Value {
            list.as_array().cloned().unwrap_or_default().iter().map(row).collect()
        };
        let row_of_target = |target: &Value| json!([target["id"], target["port"], target["state"]]);
        json!({
            "tags": ours["tags"],
            "owner": ours["owner"],
            "target_groups": each(&world["target_groups"], &|group| {
                let mut targets: Vec<String> = without(&group["targets"], "id")
                    .as_array().cloned().unwrap_or_default().iter().map(|it| row_of_target(it).to_string()).collect();
                targets.sort();
                json!({"name": group["name"], "targets": targets})
            }),
            "groups": each(&world["groups"], &|group| {
                let members = without(&group["members"], "id");
                let mut members: Vec<String> = members.as_array().cloned().unwrap_or_default().iter()
                    .map(ToString::to_string).collect();
                members.sort();
                json!({"name": group["name"], "members": members})
            }),
            // An instant fleet of ours stays behind, because to delete it would terminate the successor.
            "fleets": world["fleets"].as_array().into_iter().flatten()
                .filter(|fleet| fleet["tags"].get("spot-relay:predecessor").is_none())
                .map(|fleet| json!({"id": fleet["id"], "target": fleet["target"], "tags": fleet["tags"]}))
                .collect::<Value>(),
        })
    }

    /// The subnet of a zone.
    pub(crate) fn subnet(&self, zone: &str) -> String {
        let world = self.sim.snapshot();
        let subnet = world["subnets"].as_array().into_iter().flatten().find(|subnet| subnet["zone"] == zone);
        subnet.and_then(|subnet| subnet["id"].as_str()).expect("a subnet").to_owned()
    }

    /// The same, without the note at a fleet that its policy was `termination`: the note stays as long as the successor exceeds
    /// the target, because that policy would end a member.
    pub(crate) fn world_without_the_excess(&self) -> Value {
        let mut world = self.world_without_successors();
        let exceeds = !self.sim.successors().is_empty();
        for fleet in world["fleets"].as_array_mut().into_iter().flatten() {
            let tags = fleet["tags"].as_object_mut().expect("tags");
            if exceeds
                && tags
                    .get(BASE_CAPACITY_TAG)
                    .is_some_and(|note| note.as_str().is_some_and(|note| note.starts_with("3..4 termination")))
            {
                tags.remove(BASE_CAPACITY_TAG);
            }
        }
        world
    }

    /// How often an action arrived.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.aws_requests().iter().filter(|request| request.action == action).count()
    }

    /// Whether our instance still gets requests from this target group's load balancer.
    pub(crate) fn serves(&self, target_group: &str) -> bool {
        let ours = self.sim.instance_id();
        let row =
            |(id, _, state): &(String, u16, String)| *id == ours && !["draining", "unused"].contains(&state.as_str());
        self.sim.targets(target_group).iter().any(row)
    }

    /// These writes arrived, each as often as it stands here, and none before one that it follows from.
    pub(crate) fn assert_writes(&self, expected: &[&str]) {
        let writes = self.writes();
        let (mut sorted, mut expected) = (writes.clone(), expected.to_vec());
        sorted.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sorted, expected, "in this order: {writes:?}");
        let place = |name: &str| writes.iter().position(|write| write == name);
        for (first, second) in ORDER {
            if let (Some(first), Some(second)) = (place(first), place(second)) {
                assert!(first < second, "{writes:?}");
            }
        }
    }

    /// Our instance is out of every group named, and there is exactly one successor.
    pub(crate) fn assert_handed_over(&self, target_groups: &[&str], context: &str) {
        for group in target_groups {
            assert!(!self.serves(group), "{context}: still in {group}: {:?}", self.sim.targets(group));
        }
        assert_eq!(self.sim.successors().len(), 1, "{context}: one successor: {:?}", self.writes());
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn follow(output: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let sink = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            sink.lock().expect("the lines").push(line);
        }
    });
}

pub(crate) struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    directory: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("the log").clone()
    }

    /// Lines that contain this.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(text)).collect()
    }

    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let found = eventually(|| self.lines_with(text).into_iter().next());
        found.unwrap_or_else(|| panic!("{text:?} was not logged:\n{}", self.lines().join("\n")))
    }

    /// The milestones so far, as JSON.
    pub(crate) fn milestones(&self) -> Vec<Value> {
        let parsed = self.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| line.get("milestone").is_some()).collect()
    }

    pub(crate) fn milestone_names(&self) -> Vec<String> {
        self.milestones().iter().filter_map(|line| line["milestone"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn wait_for(&self, milestone: &str) -> Value {
        self.wait_patiently_for(milestone, PATIENCE)
    }

    /// For what takes longer than any other test waits.
    pub(crate) fn wait_patiently_for(&self, milestone: &str, patience: Duration) -> Value {
        let find = || self.milestones().into_iter().find(|line| line["milestone"] == milestone);
        let found = within(patience, find);
        found.unwrap_or_else(|| panic!("{milestone} was not reached:\n{}", self.lines().join("\n")))
    }

    pub(crate) fn record(&self) -> Value {
        let path = self.directory.join("state/handover.json");
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).ok()?).ok();
        eventually(|| read().filter(|record| !record["outcome"].is_null())).expect("a record with an outcome")
    }

    /// The record as it stands.
    pub(crate) fn record_now(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.directory.join("state/handover.json")).ok()?).ok()
    }

    pub(crate) fn status(&self) -> Value {
        let path = self.directory.join("run/status.json");
        eventually(|| serde_json::from_slice(&std::fs::read(&path).ok()?).ok()).expect("a status")
    }

    pub(crate) fn has_flag(&self, name: &str) -> bool {
        self.directory.join("run").join(name).exists()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.record()["outcome"]["complete"] == true
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually(|| self.child.try_wait().expect("the daemon's state")).expect("the daemon ends")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the daemon's state").is_some()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until there is an answer, or patience ends.
pub(crate) fn eventually<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    within(PATIENCE, ask)
}

fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        match ask() {
            None if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}
