//! Tests that depend on environment variables, which belong to a process: such a test runs itself again, alone.

use std::env;
use std::process::{Command, Output};

pub(crate) const ALONE: &str = "SPOT_RELAY_TEST_ALONE";

/// Whether this is the process in which the test is to run. If not, the test has just been run in one that has these
/// variables, no other `AWS_*`, no proxy and no home, and has passed.
pub(crate) fn alone(test: &str, variables: &[(&str, &str)]) -> bool {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let output = command(test, variables).output().unwrap();
    assert_passed(&output);
    false
}

pub(crate) fn command(test: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    let disturbs = |name: &str| name.starts_with("AWS_") || name.to_lowercase().ends_with("_proxy") || name == "HOME";
    for (name, _) in env::vars().filter(|(name, _)| disturbs(name)) {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").env(ALONE, test).envs(variables.iter().copied());
    command
}

pub(crate) fn assert_passed(output: &Output) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
