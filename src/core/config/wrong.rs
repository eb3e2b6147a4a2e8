//! The reasons why a configuration cannot be used: file, line, column, key, what is wrong and what would be right.
//!
//! Invariant: the line itself is shown only where it can hold no secret.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

/// The part of the text that is at fault, its key, and what is wrong.
pub(super) type Mistake = (Option<Range<usize>>, String, String);

/// Everything that is wrong about one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub file: String,
    /// At least one problem.
    problems: Vec<ConfigProblem>,
    /// A file could not be read: the next try may succeed.
    is_unreadable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ConfigProblem {
    place: Option<SourcePosition>,
    /// The key's path, as in `leave.quiet-for`; empty where the problem belongs to no key.
    key: String,
    what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SourcePosition {
    line: usize,
    column: usize,
    /// The line, and how many characters of it are at fault.
    shown: Option<(String, usize)>,
}

/// The longest line that is shown.
const LONGEST: usize = 100;
const TAB: &str = "    ";

impl ConfigError {
    /// The error of a named file that cannot be read. It may be mounted, written or made readable later.
    pub fn unreadable(file: &str, error: &std::io::Error) -> ConfigError {
        let remedy = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; the service runs as a user of its own, which has to be allowed to read it: leave it readable (mode 0644) \
                 and keep what is secret in a credential (LoadCredential= and webhook-file)"
            }
            _ => "",
        };
        let wrong =
            ConfigError::wrong(file, &format!("this file of the configuration cannot be read: {error}{remedy}"));
        // Waiting does not help for a file that is no text.
        ConfigError { is_unreadable: error.kind() != std::io::ErrorKind::InvalidData, ..wrong }
    }

    /// Tells whether a file could not be read, as opposed to one that says something wrong.
    pub fn is_unreadable(&self) -> bool {
        self.is_unreadable
    }

    /// The error of a whole file, such as a template, which only its user can check.
    pub fn wrong(file: &str, what: &str) -> ConfigError {
        let problem = ConfigProblem { place: None, key: String::new(), what: what.to_owned() };
        ConfigError { file: file.to_owned(), problems: vec![problem], is_unreadable: false }
    }

    /// The error of the value of `key` (as in `notify.webhook`) that only its user can find; `text` is the file's.
    pub fn of_value(file: &str, text: &str, key: &str, what: &str) -> ConfigError {
        ConfigError::of(file, text, vec![(span_of(text, key), key.to_owned(), what.to_owned())])
    }

    pub(super) fn of(file: &str, text: &str, problems: Vec<Mistake>) -> ConfigError {
        let problem = |(span, key, what): Mistake| ConfigProblem {
            place: span.map(|span| SourcePosition::of(text, span)),
            key,
            what,
        };
        ConfigError {
            file: file.to_owned(),
            problems: problems.into_iter().map(problem).collect(),
            is_unreadable: false,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {problem}", self.file)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "line {}, column {}: ", place.line, place.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.place {
            Some(place) => place.show(f),
            None => Ok(()),
        }
    }
}

impl SourcePosition {
    fn of(text: &str, span: Range<usize>) -> SourcePosition {
        let before = text.get(..span.start).unwrap_or(text);
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text.get(begin..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = text.get(begin..span.start).unwrap_or_default().chars().count() + 1;
        let at_fault = text.get(span.clone()).unwrap_or_default().lines().next().unwrap_or_default();
        let is_key =
            line.get(span.start - begin + at_fault.len()..).is_some_and(|rest| rest.trim_start().starts_with('='));
        let shown = match line.split_once('=') {
            // The value of an unknown key may be anything, also a secret.
            Some((key, _)) if is_key => format!("{key}= ..."),
            _ => line.to_owned(),
        };
        let can_be_shown = shown.chars().count() <= LONGEST && !shown.trim().is_empty() && !may_be_secret(line);
        SourcePosition {
            line: before.matches('\n').count() + 1,
            column,
            shown: can_be_shown.then(|| (shown, at_fault.chars().count().max(1))),
        }
    }

    /// Shows the line with its number, and marks the part at fault below it.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, at_fault)) = &self.shown else { return Ok(()) };
        let number = self.line.to_string();
        let gap: String = line.chars().take(self.column - 1).map(|one| if one == '\t' { TAB } else { " " }).collect();
        write!(f, "\n  {number} | {}\n  ", line.replace('\t', TAB))?;
        write!(f, "{:width$} | {gap}{}", "", "^".repeat(*at_fault), width = number.len())
    }
}

/// Tells whether the line may hold a secret: a URL may hold a password, and a webhook's URL is a secret.
fn may_be_secret(line: &str) -> bool {
    line.contains("://") || line.contains("webhook")
}

/// The position of a key's value, if it was written.
fn span_of(text: &str, path: &str) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let (table, key) = path.split_once('.').unwrap_or(("", path));
    let value = match table {
        "" => root.get_ref().get(key),
        table => root.get_ref().get(table).and_then(|table| table.get_ref().as_table()?.get(key)),
    };
    value.map(Spanned::span)
}
