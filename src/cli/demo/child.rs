//! The daemon as a child process: its directory, its environment, its log lines, its end.
//!
//! Invariant: it never outlives the demo. Dropping this kills it, and if the demo dies the kernel does. Its environment
//! has only the variables that lead it to the simulator.

use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use crate::host::files::Files;

/// A private directory, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn new() -> anyhow::Result<Home> {
        let path = std::env::temp_dir().join(format!("spot-relay-demo-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("failed to make the directory {}", path.display()))?;
        Ok(Home(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The addresses at which the daemon finds the simulator.
pub(super) struct SimulatorEndpoints {
    pub(super) metadata: String,
    pub(super) aws: String,
}

#[derive(Debug)]
pub(super) struct DaemonProcess {
    child: Child,
    files: Files,
}

impl DaemonProcess {
    /// Starts the daemon. `said` is called with each line of its log, and with `None` at the end of the log.
    pub(super) fn start(
        home: &Home,
        config: &str,
        endpoints: &SimulatorEndpoints,
        said: impl Fn(Option<String>) + Send + 'static,
    ) -> anyhow::Result<DaemonProcess> {
        let (state, runtime) = (home.path().join("state"), home.path().join("run"));
        let program = std::env::current_exe().context("failed to find this program's own file")?;
        // The demo never uses this machine's real configuration.
        let path = home.path().join("config.toml");
        std::fs::write(&path, config).with_context(|| format!("failed to write {}", path.display()))?;
        let mut command = Command::new(program);
        command
            .args(["demo", "--daemon"])
            .arg(path)
            .env_clear()
            .env("HOME", home.path())
            .env("STATE_DIRECTORY", &state)
            .env("RUNTIME_DIRECTORY", &runtime)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoints.metadata)
            .env("AWS_ENDPOINT_URL", &endpoints.aws)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal goes to the demo only, which then ends the daemon.
            .process_group(0);
        let mut child = command.spawn().context("failed to start the daemon")?;
        if let Some(log) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(log).lines().map_while(Result::ok) {
                    said(Some(line));
                }
                said(None);
            });
        }
        let files = Files::new(state.to_str(), runtime.to_str());
        Ok(DaemonProcess { child, files })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells whether the daemon's record says that the handover was complete; `None` without an outcome.
    pub(super) fn outcome(&self) -> Option<bool> {
        let record = std::fs::read(self.files.record_path()).ok()?;
        let record: Value = serde_json::from_slice(&record).ok()?;
        record.pointer("/outcome/complete")?.as_bool()
    }

    /// Waits for the end of the process and says how it ended.
    pub(super) fn how_it_ended(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Turns the child into `spot-relay run`, after it asks the kernel to kill it with its parent. Returns only on failure,
/// with the reason.
pub(super) fn become_the_daemon(config: &Path) -> anyhow::Error {
    let kill = Some(rustix::process::Signal::KILL);
    if let Err(error) = rustix::process::set_parent_process_death_signal(kill) {
        return anyhow::Error::from(io::Error::from(error)).context("failed to tie the daemon to the demo");
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return anyhow::Error::from(error).context("failed to find this program's own file"),
    };
    let mut command = Command::new(program);
    command.args(["run", "--log-format", "json", "--config"]).arg(config);
    anyhow::Error::from(command.exec()).context("failed to become the daemon")
}
