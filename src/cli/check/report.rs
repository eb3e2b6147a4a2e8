//! The findings on standard output: lines as they come, on a terminal with the current check below them; or one JSON
//! document at the end.

use std::io;

use serde_json::json;

use super::finding::{Finding, Level};
use crate::cli::environment::{print, read_enough};
use crate::cli::screen::{Paint, Screen, Tone, wrap};

/// The schema of the JSON. It is raised when a key is removed or changes its meaning.
const SCHEMA: u32 = 1;
/// The width of a level and two blanks.
const INDENT: usize = 6;

/// The extent of the check, so that the summary claims no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Everything,
    Configuration,
}

pub(super) struct CheckReport {
    /// `None` for JSON.
    screen: Option<Screen>,
    scope: Scope,
    findings: Vec<Finding>,
}

impl CheckReport {
    pub(super) fn new(json: bool, scope: Scope) -> CheckReport {
        CheckReport { screen: (!json).then(Screen::new), scope, findings: Vec::new() }
    }

    /// # Errors
    /// Standard output cannot be written. A closed reader is no error.
    pub(super) fn add(&mut self, findings: Vec<Finding>) -> io::Result<()> {
        if let Some(screen) = &mut self.screen {
            let lines: Vec<String> =
                findings.iter().flat_map(|finding| lines(finding, screen.paint, screen.width)).collect();
            read_enough(screen.show(&lines, &[]))?;
        }
        self.findings.extend(findings);
        Ok(())
    }

    /// Shows what is checked now.
    pub(super) fn looking(&mut self, at: &str) -> io::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let picture = screen.paint.with(Tone::Faint, &format!("looking at {at} ..."));
        read_enough(screen.show(&[], &[picture]))
    }

    /// Writes the last line, or the document. Returns the worst level.
    pub(super) fn end(mut self) -> io::Result<Level> {
        let worst = self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        match &mut self.screen {
            Some(screen) => {
                let last = summary(&self.findings, self.scope, screen.paint, screen.width);
                read_enough(screen.show(&last, &[]))?;
            }
            None => print(&format!("{:#}", document(&self.findings, worst)))?,
        }
        Ok(worst)
    }
}

fn document(findings: &[Finding], worst: Level) -> serde_json::Value {
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "result": worst,
        "findings": findings,
    })
}

/// A finding as lines: `warn  hop-limit: 2`, and below it the meaning and the remedy.
pub(super) fn lines(finding: &Finding, paint: Paint, width: usize) -> Vec<String> {
    let subject = finding.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    let name = format!("{}{subject}:", finding.check);
    let text_width = width.saturating_sub(INDENT);
    let mut lines = Vec::new();
    // A text with line breaks (a place in a file) keeps them.
    let found = match finding.found.contains('\n') {
        true => finding.found.lines().map(str::to_owned).collect(),
        false => wrap(&format!("{name} {}", finding.found), text_width),
    };
    for (number, line) in found.into_iter().enumerate() {
        // A name that does not fit on one line is not highlighted.
        let text = match line.strip_prefix(&name) {
            Some(rest) if number == 0 => format!("{}{rest}", paint.with(Tone::Strong, &name)),
            _ => line,
        };
        lines.push(match number {
            0 => format!("{}{text}", level(finding.level, paint)),
            _ => format!("{:INDENT$}{text}", ""),
        });
    }
    let below = |text: &Option<String>, tone: Tone, before: &str| -> Vec<String> {
        let text = text.iter().flat_map(|text| wrap(&format!("{before}{text}"), text_width));
        text.map(|line| format!("{:INDENT$}{}", "", paint.with(tone, &line))).collect()
    };
    lines.extend(below(&finding.meaning, Tone::Faint, ""));
    lines.extend(below(&finding.remedy, Tone::Call, "do: "));
    lines
}

fn level(level: Level, paint: Paint) -> String {
    let tone = match level {
        Level::Ok => Tone::Good,
        Level::Warn => Tone::Alarm,
        Level::Fail => Tone::Bad,
    };
    let blanks = INDENT.saturating_sub(level.as_str().len());
    format!("{}{:blanks$}", paint.with(tone, level.as_str()), "")
}

fn summary(findings: &[Finding], scope: Scope, paint: Paint, width: usize) -> Vec<String> {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let plural = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    let (tone, meaning) = match (scope, failures, warnings) {
        (Scope::Everything, 0, 0) => (Tone::Good, "nothing stands in the way of a handover"),
        (Scope::Everything, 0, _) => (Tone::Alarm, "a handover can work; read the warnings"),
        (Scope::Everything, ..) => (Tone::Bad, "a handover would go wrong; correct what failed"),
        (Scope::Configuration, 0, 0) => {
            (Tone::Good, "the configuration can be used; without --config-only everything else is looked at")
        }
        (Scope::Configuration, 0, _) => (Tone::Alarm, "the configuration can be used; read the warnings"),
        (Scope::Configuration, ..) => (Tone::Bad, "the configuration cannot be used as it is; correct what failed"),
    };
    let counts = format!("{} ok, {}, {}", count(Level::Ok), plural(warnings, "warning"), plural(failures, "failure"));
    let text = wrap(&format!("{counts}: {meaning}"), width);
    text.iter().map(|line| paint.with(tone, line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let place =
            "/etc/spot-relay/config.toml: line 2, column 1: watch.intervall: unknown key\n    intervall = \"1s\"";
        vec![
            Finding::ok("metadata", "http://169.254.169.254 answers: i-0123456789abcdef0 (m5.large, eu-west-1a)"),
            Finding::ok("permission", "allowed: tried with DryRun").of("ec2:CreateTags"),
            Finding::warn("deregistration-delay", "300 s are longer than the notice allows")
                .of("web")
                .meaning("a request that takes longer than 110 s is cut when the instance goes, whatever it does")
                .remedy("aws elbv2 modify-target-group-attributes --target-group-arn ARN --attributes Key=K,Value=110"),
            Finding::fail("permission", "denied: AccessDenied: not authorized to perform: autoscaling:DetachInstances")
                .of("autoscaling:DetachInstances")
                .meaning("a handover is not complete without it")
                .remedy("allow it: spot-relay policy prints what, for this instance's role"),
            Finding::fail("configuration", place).remedy("put right what is said above"),
        ]
    }

    fn shown(paint: Paint, width: usize) -> String {
        let findings = findings();
        let lines = findings.iter().flat_map(|finding| lines(finding, paint, width));
        lines.chain(summary(&findings, Scope::Everything, paint, width)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_reads_well_on_narrow_and_wide_terminals_and_on_none() {
        insta::assert_snapshot!("plain_80", shown(Paint { coloured: false }, 80));
        insta::assert_snapshot!("plain_120", shown(Paint { coloured: false }, 120));
        insta::assert_snapshot!("coloured_80", shown(Paint { coloured: true }, 80));
        insta::assert_snapshot!("coloured_120", shown(Paint { coloured: true }, 120));
    }

    #[test]
    fn the_document_keeps_its_keys() {
        insta::assert_snapshot!("document", format!("{:#}", document(&findings()[2..4], Level::Fail)));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_but_for_one_word() {
        let wide = shown(Paint { coloured: false }, 60);
        let long = wide.lines().filter(|line| line.chars().count() > 60 && line.trim().contains(' '));
        // A place in a file is shown as it stands there.
        assert!(long.clone().all(|line| line.contains("config.toml")), "{:?}", long.collect::<Vec<_>>());
    }
}
