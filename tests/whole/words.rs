//! Manual pages and completions say what the command line says, and what README shows for a shell is what it takes.

use std::process::{Command, Output};

use spot_relay::cli;

const README: &str = include_str!("../../README.md");

fn spot_relay(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_spot-relay")).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: Output) -> String {
    String::from_utf8(output.stdout).expect("text")
}

/// The page without the escapes of roff.
fn page(section: &str) -> String {
    text(spot_relay(&["man", "--section", section])).replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
}

/// Commands that a person is to know of.
fn commands() -> Vec<clap::Command> {
    let all = cli::command();
    let shown: Vec<_> = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    assert!(shown.len() >= 4);
    shown
}

#[test]
fn the_manual_names_every_command_with_its_options_and_exit_codes() {
    let page = page("8");
    for command in commands() {
        assert!(page.contains(&format!(".SS \"spot-relay {}\"", command.get_name())), "{}", command.get_name());
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for option in shown.filter_map(clap::Arg::get_long).filter(|long| *long != "help") {
            assert!(page.contains(&format!("--{option}")), "{}: --{option}", command.get_name());
        }
        let exit_codes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(exit_codes.starts_with("Exit status: "), "{} tells its exit codes", command.get_name());
    }
}

#[test]
fn readme_has_a_row_for_every_command() {
    for command in commands() {
        let row = format!("| `spot-relay {}`", command.get_name());
        assert!(README.contains(&row), "{row}");
    }
}

#[test]
fn the_manual_of_the_configuration_names_every_key() {
    let page = page("5");
    for line in spot_relay::config::sample().lines() {
        let key = line.split_once(" = ").map(|(key, _)| key).filter(|key| !key.contains('#'));
        if let Some(key) = key {
            assert!(page.contains(&format!("\n{key} = ")), "{key}");
        }
    }
}

#[test]
fn bash_completes_what_the_command_line_has() {
    let script = text(spot_relay(&["completions", "bash"]));
    let complete = |typed: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=(spot-relay {typed}); COMP_CWORD=1; _spot__relay spot-relay '{typed}' spot-relay; \
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().expect("bash");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    assert_eq!(complete("stat"), "status");
    assert_eq!(complete("dem"), "demo");
    // Hidden ones are not offered.
    assert_eq!(complete("si"), "");
}

/// Every line of README's shell blocks that begins with the program, its variables or its path taken off.
#[test]
fn every_command_line_readme_shows_is_one_that_is_taken() {
    let mut seen = 0;
    for block in README.split("```sh\n").skip(1) {
        let block = block.split("```").next().expect("its text").replace("\\\n", " ");
        for line in block.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "sudo").collect();
            let Some(first) = words.iter().position(|word| word.rsplit('/').next() == Some("spot-relay")) else {
                continue;
            };
            let is_run = words.iter().take(first).all(|word| word.contains('='));
            if !is_run {
                continue;
            }
            let arguments = words.iter().skip(first).take_while(|word| !["|", ">", "&&"].contains(*word));
            let parsed = cli::command().try_get_matches_from(arguments.copied());
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("wrong"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "README shows command lines");
}
