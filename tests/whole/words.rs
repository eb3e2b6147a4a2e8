//! What the program says of its configuration.

use std::process::Command;

use crate::scenario::{Scenario, world};

/// What the program writes to standard output, run with these arguments.
pub(crate) fn written(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_spot-relay")).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn an_unwise_setting_is_warned_of_once_at_start_and_used() {
    let scenario = Scenario::new(world()).config("[leave]\nquiet-for = \"0s\"\n[hooks]\nnotice = [\"true\"]\n");
    let daemon = scenario.start();
    daemon.wait_for_line("ready; on a notice");
    for key in ["leave.quiet-for: 0s", "hooks.notice: true"] {
        let line = daemon.wait_for_line(key);
        assert!(line.contains("\"WARN\""), "{line}");
    }
    let warned = daemon.lines_with("leave.quiet-for").len();
    assert_eq!(warned, 1, "{:?}", daemon.lines());
}

#[test]
fn what_only_the_webhook_finds_out_is_told_with_its_line_and_without_its_secret() {
    for (config, expected) in [
        (
            "[notify]\nwebhook = \"hooks.example.org/secret\"\n",
            "line 2, column 11: notify.webhook: the webhook is no URL",
        ),
        (
            "[notify]\nwebhook = \"https://x/secret\"\n\ntemplate = \"/\"\n",
            "line 4, column 12: notify.template: / cannot be read: it is no regular file",
        ),
    ] {
        let output = Scenario::new(world()).config(config).command().output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(expected) && text.contains("config.toml: line") && !text.contains("/secret"), "{text}");
    }
}

#[test]
fn every_example_of_the_manual_page_is_a_command_line() {
    let page = written(&["man"]).replace("\\-", "-");
    let examples = page.split(".SH EXAMPLES\n").nth(1).and_then(|rest| rest.split(".SH").next()).expect("examples");
    let lines: Vec<&str> = examples.lines().filter(|line| line.starts_with("spot-relay")).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        let words = line.split(" | ").next().expect("a command").split_whitespace();
        let parsed = spot_relay::cli::command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{line}: {}", parsed.map(|_| ()).expect_err("an error"));
    }
}

#[test]
fn bash_completes_commands_options_and_their_values() {
    let script = std::env::temp_dir().join(format!("spot-relay-completions-{}", std::process::id()));
    std::fs::write(&script, written(&["completions", "bash"])).expect("written");
    for (words, expected) in [
        ("spot-relay de", "demo"),
        ("spot-relay demo --ow", "--owner"),
        ("spot-relay demo --owner s", "spot-fleet"),
        ("spot-relay run --dr", "--dry-run"),
        ("spot-relay --log-format j", "json"),
        ("spot-relay si", ""),
    ] {
        // What Tab does: the function that the script names is given the program, the word, and the one before.
        let tab = r#"source "$1"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2 COMP_POINT=${#2}
            name=$(complete -p spot-relay | sed 's/.*-F \([^ ]*\) .*/\1/')
            $name spot-relay "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[*]}""#;
        let output = Command::new("bash").args(["-c", tab, "bash"]).arg(&script).arg(words).output().expect("bash");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((stdout.trim(), stderr.trim()), (expected, ""), "{words}");
    }
    let _ = std::fs::remove_file(script);
}
