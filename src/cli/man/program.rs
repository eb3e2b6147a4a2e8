//! spot-relay(8), from the command line's definitions.

use clap::{Arg, Command};
use clap_mangen::roff::{Inline, bold, italic, roman};

use super::page::ManualPage;
use crate::cli::configuration::DEFAULT_CONFIG;

pub(super) fn page(mut program: Command) -> anyhow::Result<String> {
    program.build();
    let about = program.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = ManualPage::new("spot-relay", "8", &lower_first(&about));
    page.heading("SYNOPSIS");
    page.line(vec![bold("spot-relay"), roman(" ["), italic("OPTIONS"), roman("] "), italic("COMMAND"), roman(" ...")]);
    page.heading("DESCRIPTION");
    let long = program.get_long_about().map(ToString::to_string).unwrap_or_default();
    // The first paragraph is already in NAME.
    for paragraph in long.split("\n\n").skip(1) {
        page.paragraph(paragraph);
    }
    page.heading("OPTIONS");
    page.paragraph("These may stand before or after every command:");
    options(&mut page, program.get_arguments());
    page.heading("COMMANDS");
    for command in commands(&program) {
        of_command(&mut page, command);
    }
    exit_status(&mut page, &program);
    for (heading, terms) in [("FILES", FILES.as_slice()), ("ENVIRONMENT", &ENVIRONMENT), ("SIGNALS", &SIGNALS)] {
        page.heading(heading);
        for (term, text) in terms {
            page.term(vec![bold(*term)], text);
        }
    }
    page.heading("EXAMPLES");
    for (what, line) in EXAMPLES {
        page.paragraph(what);
        page.verbatim(line);
    }
    page.heading("SEE ALSO");
    page.paragraph("`spot-relay.toml`(5), `systemd.service`(5), `journalctl`(1)");
    Ok(page.render())
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The beginning of the help line with a command's exit codes.
const EXIT_STATUS: &str = "Exit status: ";

/// The visible commands, without `help`, which clap adds.
fn commands(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn of_command(page: &mut ManualPage, command: &Command) {
    page.subheading(&format!("spot-relay {}", command.get_name()));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    for paragraph in about.split("\n\n") {
        let full_stop = if paragraph.ends_with(['.', ':']) { "" } else { "." };
        page.paragraph(&format!("{paragraph}{full_stop}"));
    }
    options(page, command.get_arguments().filter(|argument| !argument.is_global_set()));
}

fn options<'a>(page: &mut ManualPage, arguments: impl Iterator<Item = &'a Arg>) {
    for argument in arguments.filter(|argument| !argument.is_hide_set() && argument.get_id() != "help") {
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let full_stop = if help.ends_with(['.', ']']) { "" } else { "." };
        page.term(head(argument), &format!("{help}{full_stop}{}", values(argument)));
    }
}

/// The option's names and value, such as `--config FILE`.
fn head(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut head: Vec<Inline> = Vec::new();
    for name in [short, long].into_iter().flatten() {
        if !head.is_empty() {
            head.push(roman(", "));
        }
        head.push(bold(name));
    }
    if argument.get_action().takes_values() {
        let names = argument.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        if !head.is_empty() {
            head.push(roman(" "));
        }
        head.push(italic(names.unwrap_or_default().join(" ")));
    }
    head
}

/// The possible values, and the default.
fn values(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let mut text = String::new();
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !possible.is_empty() {
        text.push_str(&format!(" One of {}.", possible.join(", ")));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() {
        text.push_str(&format!(" The default is `{}`.", defaults.join(" ")));
    }
    text
}

/// Adds each command's exit codes, and those of all commands.
fn exit_status(page: &mut ManualPage, program: &Command) {
    page.heading("EXIT STATUS");
    for command in commands(program) {
        let said = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if let Some(text) = said.strip_prefix(EXIT_STATUS) {
            page.term(vec![bold(command.get_name())], text.trim());
        }
    }
    page.paragraph(
        "Where nothing else is said, a command ends with 1 when it fails, and with 2 on wrong arguments. `run`, `policy` and `drill` \
         end with 75 if the configuration cannot be read, or is named and not there, and with 78 if it is wrong. `check` reports \
         either as a failure; with `--config-only` it ends with 78 in both cases.",
    );
}

const FILES: [(&str, &str); 7] = [
    (DEFAULT_CONFIG, "The configuration, see `spot-relay.toml`(5). It may be absent."),
    (
        "/var/lib/spot-relay/handover.json",
        "The record of the last handover: its target groups, milestones and outcome. A record of another instance is ignored.",
    ),
    ("/run/spot-relay/status.json", "What the daemon does now."),
    ("/run/spot-relay/notice", "Exists from the moment that this instance is certain to leave, until it lives on."),
    ("/run/spot-relay/drained", "Exists from the moment that no request is open, or the reserve is reached."),
    ("/run/spot-relay/lock", "Held by the daemon or a drill: only one of them works for an instance."),
    (
        "/run/spot-relay, /var/lib/spot-relay",
        "Are replaced by the directories that systemd names in `RUNTIME_DIRECTORY` and `STATE_DIRECTORY`.",
    ),
];

const ENVIRONMENT: [(&str, &str); 13] = [
    ("AWS_REGION", "The region, instead of the instance's own."),
    ("AWS_PROFILE", "The profile of the AWS configuration whose credentials are used, instead of the instance's."),
    (
        "AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_<SERVICE>",
        "Where AWS is asked: a VPC endpoint, or something that stands in for AWS.",
    ),
    ("AWS_CA_BUNDLE", "A PEM file with the certificates that are trusted for AWS."),
    ("HTTPS_PROXY, NO_PROXY", "The proxy to AWS and to the webhook. The metadata is never asked through a proxy."),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "Where the metadata is asked, instead of http://169.254.169.254."),
    (
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
        "`IPv4` or `IPv6`: where the metadata is asked if no endpoint is named; without it, IPv4 and then IPv6.",
    ),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts the credentials that `webhook-file` names without a slash."),
    ("NOTIFY_SOCKET", "Set by systemd: where the daemon reports readiness and the watchdog's sign of life."),
    ("STATE_DIRECTORY, RUNTIME_DIRECTORY", "Where files are kept; systemd sets both."),
    (
        "RUST_LOG",
        "How much is logged: `error`, `warn`, `info` (the default) or `debug`; as in `spot_relay=debug`. What the libraries \
         below say at `debug` shows credentials, and is never logged.",
    ),
    (
        "JOURNAL_STREAM",
        "Set by systemd: where standard error goes to the journal, lines are entries with fields, see `journalctl`(1).",
    ),
    ("NO_COLOR", "Set, and not empty: nothing is coloured."),
];

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "End the daemon; a handover that is in the middle is finished first. A second one ends at once, and the log says \
         what is left undone.",
    ),
    (
        "SIGHUP",
        "Like the first SIGTERM; after one it changes nothing. Ignored if it was ignored at the start, as under `nohup`(1).",
    ),
];

/// Examples: the purpose of each, and a line for the shell. A whole-program test parses each.
const EXAMPLES: [(&str, &str); 4] = [
    ("A whole handover to look at, without an AWS account:", "spot-relay demo"),
    ("What would be done on a notice; nothing is written to AWS:", "spot-relay run --dry-run"),
    (
        "The daemon with another configuration, and its log for machines:",
        "spot-relay --config my.toml --log-format json run",
    ),
    ("The IAM policy for a launch template:", "spot-relay policy --for launch-template"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_tells_its_exit_codes() {
        let program = crate::cli::visible();
        for command in commands(&program) {
            let told = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            let wanted = format!(
                "#[command(after_help = \"{EXIT_STATUS}0 ..., 1 ...\")], in the words of the table in docs/operating.md"
            );
            assert!(told.len() > EXIT_STATUS.len() && told.starts_with(EXIT_STATUS), "{name} needs {wanted}");
        }
    }

    #[test]
    fn every_command_and_option_has_a_section_or_a_term() {
        let page = page(crate::cli::visible()).expect("a page").replace("\\-", "-");
        let mut program = crate::cli::visible();
        program.build();
        for command in commands(&program) {
            let heading = format!(".SS \"spot-relay {}\"\n", command.get_name());
            let section = page.split(&heading).nth(1).expect(&heading).split("\n.S").next().unwrap_or_default();
            for argument in command
                .get_arguments()
                .filter(|one| !one.is_global_set() && !one.is_hide_set() && one.get_id() != "help")
            {
                let long = argument.get_long().map(|long| format!("\\fB--{long}\\fR"));
                let value = argument.get_value_names().and_then(|names| Some(format!("\\fI{}\\fR", names.first()?)));
                let option = long.or(value).expect("a name");
                assert!(section.contains(&format!(".TP\n{option}")), "{option} in {section}");
            }
        }
        assert!(
            page.contains("\\fB--config\\fR \\fIFILE\\fR")
                && !page.contains("relay man")
                && !page.contains("relay sim")
        );
    }
}
