//! Reads settings from text: each key that was written is looked up in the table of keys, and read as its entry says.
//!
//! Invariant: every problem is collected, not only the first; the errors are in the order of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{TABLES, Table};
use super::settings::Config;
use super::unknown_key::{no_such_key, no_such_table};
use super::value::Value;
use super::wrong::{ConfigError, Mistake};

/// Reading stops at this many problems: such a file is not a configuration with slips, but something else.
const MOST_PROBLEMS: usize = 100;

type SpannedName<'a> = Spanned<Cow<'a, str>>;

struct Reading {
    config: Config,
    /// The place of the value of each key that was written.
    written: BTreeMap<String, Range<usize>>,
    problems: Vec<Mistake>,
}

pub(super) fn read(text: &str, file: &str) -> Result<Config, ConfigError> {
    let table = parse(text).map_err(|problems| ConfigError::of(file, text, problems))?;
    let mut reading = Reading { config: Config::default(), written: BTreeMap::new(), problems: Vec::new() };
    for (name, value) in &table {
        if reading.is_hopeless() {
            break;
        }
        reading.top(name, value);
    }
    if reading.problems.is_empty() {
        reading.compare();
    }
    if reading.problems.is_empty() {
        return Ok(reading.config);
    }
    reading.problems.sort_by_key(|(span, ..)| span.as_ref().map(|span| span.start));
    Err(ConfigError::of(file, text, reading.problems))
}

/// Parses the TOML. Syntax errors are in plain words, one for each line.
fn parse(text: &str) -> Result<DeTable<'_>, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count();
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    for error in errors.into_iter().take(MOST_PROBLEMS) {
        let line = error.span().map(|span| line_of(span.start));
        if !lines.contains(&line) {
            lines.push(line);
            problems.push((error.span(), String::new(), format!("this is no TOML: {}", in_words(error.message()))));
        }
    }
    Err(problems)
}

/// Keeps the parser's words, except for the most frequent mistake.
fn in_words(message: &str) -> &str {
    if message.starts_with("string values must be quoted") { "text stands in quotes, as \"3s\"" } else { message }
}

impl Reading {
    fn top(&mut self, name: &SpannedName<'_>, value: &Value<'_>) {
        let [first, tables @ ..] = &TABLES;
        let table = tables.iter().find(|table| table.name == name.get_ref());
        match (table, value.get_ref()) {
            (Some(table), DeValue::Table(keys)) => {
                for (name, value) in keys {
                    if self.is_hopeless() {
                        return;
                    }
                    self.key(table, name, value);
                }
            }
            (Some(table), _) => self.wrong(
                name.span(),
                table.name.to_owned(),
                format!("it is a table: write [{}] in a line of its own, and its keys below", table.name),
            ),
            (None, DeValue::Table(_)) if first.key(name.get_ref()).is_none() => {
                self.wrong(name.span(), name.get_ref().to_string(), no_such_table(name.get_ref()));
            }
            (None, _) => self.key(first, name, value),
        }
    }

    fn key(&mut self, table: &'static Table, name: &SpannedName<'_>, value: &Value<'_>) {
        let path = table.path_of(name.get_ref());
        let Some(key) = table.key(name.get_ref()) else {
            self.wrong(name.span(), path, no_such_key(name.get_ref(), table));
            return;
        };
        match (key.read)(&mut self.config, value) {
            Ok(()) => {
                self.written.insert(path, value.span());
            }
            Err(wrong) => self.wrong(wrong.span, path, wrong.what),
        }
    }

    fn wrong(&mut self, span: Range<usize>, key: String, what: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push((Some(span), key, what));
        }
    }

    fn is_hopeless(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS
    }

    /// Reports values that are wrong only together, at the first of their keys that was written.
    fn compare(&mut self) {
        for (keys, what) in self.config.contradictions() {
            let written = keys.iter().find_map(|key| Some((self.written.get(*key)?.clone(), *key)));
            if let Some((span, key)) = written {
                self.wrong(span, key.to_owned(), what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        read(text, "c").expect_err(text).to_string()
    }

    /// The first line of what is said, without the file.
    fn first(text: &str) -> String {
        let all = problems(text);
        all.lines().next().and_then(|line| line.strip_prefix("c: ")).expect(text).to_owned()
    }

    #[test]
    fn everything_that_is_wrong_is_told_in_the_order_of_the_file_with_its_line() {
        let text = "[survive]\nthen = \"stayout\"\n\n[leave]\n\tquiet-for = 3 # at last\nqiet_for = \"3s\"\n";
        let expected = [
            "c: line 2, column 8: survive.then: \"stayout\" is not one of \"reinstate\", \"stay-out\", \"terminate\"; \
             did you mean \"stay-out\"?",
            "  2 | then = \"stayout\"",
            "    |        ^^^^^^^^^",
            "c: line 5, column 14: leave.quiet-for: expected a string, as \"3s\", found the integer 3",
            "  5 |     quiet-for = 3 # at last",
            "    |                 ^",
            "c: line 6, column 1: leave.qiet_for: no such key; did you mean quiet-for?",
            "  6 | qiet_for = ...",
            "    | ^^^^^^^^",
        ];
        assert_eq!(problems(text).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_word_that_there_is_not_is_told_which_was_meant() {
        for (text, expected) in [
            ("[watch]\nquiet-for = \"3s\"", "line 2, column 1: watch.quiet-for: this key belongs into [leave]"),
            ("interval = \"2s\"", "line 1, column 1: interval: this key belongs into [watch]"),
            (
                "[metrics]\ntarget-groups = [\"web\"]",
                "line 2, column 1: metrics.target-groups: this key belongs before the first [table]",
            ),
            (
                "[watch]\nreserv = \"3s\"",
                "line 2, column 1: watch.reserv: no such key; did you mean reserve, which belongs into [leave]?",
            ),
            (
                "[leave]\ncolour = 1",
                "line 2, column 1: leave.colour: no such key; [leave] has when, settle, quiet-for, reserve",
            ),
            ("target_group = []", "line 1, column 1: target_group: no such key; did you mean target-groups?"),
            ("[wach]\ninterval = \"1s\"", "line 1, column 2: wach: no such table; did you mean [watch]?"),
            (
                "[webhooks]",
                "line 1, column 2: webhooks: no such table; did you mean webhook, which belongs into [notify]?",
            ),
            (
                "[watch.leave]",
                "line 1, column 8: watch.leave: no such key; [watch] has interval, rebalance, lifecycle, scheduled-events",
            ),
            (
                "[zzz]",
                "line 1, column 2: zzz: no such table; there are [watch], [leave], [successor], [arrive], [survive], \
                 [hooks], [notify], [metrics], and before them target-groups",
            ),
        ] {
            assert_eq!(first(text), expected);
        }
    }

    #[test]
    fn a_value_of_a_wrong_kind_says_what_was_expected_and_found() {
        for (text, expected) in [
            (
                "[watch]\nlifecycle = \"yes\"",
                "column 13: watch.lifecycle: expected true or false, without quotes, found a string",
            ),
            ("[watch]\nrebalance = true", "expected one of \"ignore\", \"prepare\", \"hand-over\", found true"),
            ("[watch]\ninterval = \"90s\"", "column 12: watch.interval: \"90s\": it must lie between 100ms and 60s"),
            ("watch = true", "column 1: watch: it is a table: write [watch]"),
            ("[[hooks]]\nnotice = []", "column 3: hooks: it is a table: write [hooks]"),
            ("[successor]\nsubnets = \"subnet-1\"", "write [\"subnet-1\"]"),
            (
                "[successor]\nsubnets = [\"subnet-1\", 3]",
                "line 2, column 24: successor.subnets: expected a string in a list",
            ),
            ("[successor]\nlaunch-template = \"lt-1:\"", "write \"lt-1\" or \"lt-1:7\""),
            (
                "[hooks]\nnotice = [\"/bin/x\", 3]",
                "column 21: hooks.notice: expected a string: each argument stands in quotes",
            ),
            (
                "target-groups = [\"web\",\n  \"api:http\"]",
                "line 2, column 3: target-groups: \"api:http\": \"http\" is no port",
            ),
            ("target-groups = [\"arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/x/1\"]", ":targetgroup/"),
        ] {
            let first = first(text);
            assert!(first.contains(expected), "{expected:?} in {first}");
        }
    }

    #[test]
    fn a_name_or_address_that_can_never_be_is_told_at_the_start() {
        const ELB: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
        let long = "w".repeat(33);
        let lattice = "arn:aws:vpc-lattice:eu-west-1:123456789012:targetgroup/tg-0123456789abcdef0";
        for (key, wrong, right) in [
            ("target-groups", vec!["we b", "-web", "web-", &long, lattice], vec![&long[1..], "a-1", "web:80", ELB]),
            ("successor.subnets", vec!["x", "subnet-", "subnet 1"], vec!["subnet-1", "subnet-0123456789abcdef0"]),
            (
                "successor.instance-types",
                vec!["m5", ".large", "m5 .large", "m5,m6.large"],
                vec!["m5.large", "u-6tb1.112xlarge", "mac2-m2pro.metal"],
            ),
        ] {
            wrong.into_iter().for_each(|value| _ = problems(&format!("{key} = [{value:?}]")));
            right.into_iter().for_each(|value| _ = read(&format!("{key} = [{value:?}]"), "c").expect(value));
        }
        for (key, wrong, right) in [
            (
                "successor.launch-template",
                vec!["web:x", "web:0", "web:$latest", "we", "w b c"],
                vec!["web:1", "lt-0123456789abcdef0:$Latest", "web(1).a/b_c-d:$Default"],
            ),
            (
                "arrive.ready",
                vec![
                    "http://127.0.0.1:99999/",
                    "http://h:0/",
                    "http://h:8o80/x:1",
                    "http://[::1]:70000",
                    "http://a b/",
                ],
                vec![
                    "http://127.0.0.1:8080/a:99999",
                    "http://[::1]/",
                    "http://[::1]:80/",
                    "http://h",
                    "http://h?a=b:c",
                ],
            ),
        ] {
            wrong.into_iter().for_each(|value| _ = problems(&format!("{key} = {value:?}")));
            right.into_iter().for_each(|value| _ = read(&format!("{key} = {value:?}"), "c").expect(value));
        }
    }

    #[test]
    fn a_contradiction_is_told_of_a_key_that_was_written() {
        let text = "[leave]\nquiet-for = \"115s\"\n[notify]\ntemplate = \"/x\"\n";
        assert!(
            first(text).starts_with(
                "line 2, column 13: leave.quiet-for: settle (20s) or quiet-for (115s), with reserve (10s)"
            )
        );
        assert!(problems(text).contains("c: line 4, column 12: notify.template: "));
        assert!(first("arrive.register = true").starts_with("line 1, column 19: arrive.register: it is true, but"));
    }

    #[test]
    fn what_is_no_toml_is_told_once_a_line_and_nothing_else_is() {
        let text = "[watch]\ninterval = 1s\nrebalance = prepare\nzzz = 1\ninterval = \"1s\"\n";
        let all = problems(text);
        let told: Vec<&str> = all.lines().filter(|line| line.starts_with("c: ")).collect();
        let expected = [
            "c: line 2, column 12: this is no TOML: text stands in quotes, as \"3s\"",
            "c: line 3, column 13: this is no TOML: text stands in quotes, as \"3s\"",
            "c: line 5, column 1: this is no TOML: duplicate key",
        ];
        assert_eq!(told, expected, "{all}");
    }

    #[test]
    fn a_hundred_thousand_wrong_keys_are_a_hundred_problems_at_once() {
        let text: String = (0..100_000).map(|number| format!("k{number} = 1\n")).collect();
        assert_eq!(problems(&text).lines().filter(|line| line.starts_with("c: ")).count(), MOST_PROBLEMS);
        let broken = "= \n".repeat(100_000);
        assert!(problems(&broken).lines().filter(|line| line.starts_with("c: ")).count() <= MOST_PROBLEMS);
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        for text in [
            "[notify]\nwebhook = \"https://user:secret@x",
            "[notify]\nwebhook = [\"secret\"]",
            "[notify]\nwebook = \"secret\"",
            "[notify]\ntemplate = [\"https://secret\"]",
            "webhook = \"secret\"",
        ] {
            let all = problems(text);
            assert!(!all.contains("secret"), "{all}");
        }
    }
}
