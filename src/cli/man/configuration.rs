//! spot-relay.toml(5), from the table of keys.

use clap_mangen::roff::{bold, roman};

use super::page::ManualPage;
use crate::cli::configuration::DEFAULT_CONFIG;
use crate::core::config::{Key, TABLES, Table, sample};

pub(super) fn page() -> String {
    let mut page = ManualPage::new("spot-relay.toml", "5", "configuration of spot-relay(8)");
    page.heading("DESCRIPTION");
    page.paragraph(&format!(
        "`spot-relay` reads `{DEFAULT_CONFIG}`, or the file that is named with `--config`. The former may be absent: every \
         key is optional, and without any it finds out by itself which target groups and which owner there are. A file that \
         cannot be read, or that is named and not there, ends the program with exit status 75: the service tries again."
    ));
    page.paragraph(
        "The file is TOML: keys stand below the `[table]` that they belong to. A duration is a string with its unit, as \
         \"3s\", \"500ms\" or \"2m\".",
    );
    page.paragraph(
        "An unknown key, a bad value or a bad duration ends the program at start with exit status 78. Everything that is \
         wrong is told, with line, column, key and what would be right. What is legal and unwise is warned of at start, and \
         by `spot-relay check`.",
    );
    for table in &TABLES {
        of_table(&mut page, table);
    }
    page.heading("EXAMPLES");
    page.paragraph("The defaults, all of them:");
    page.verbatim(&sample());
    for (what, text) in EXAMPLES {
        page.paragraph(what);
        page.verbatim(text);
    }
    page.heading("FILES");
    page.term(vec![bold(DEFAULT_CONFIG)], "The configuration.");
    page.heading("SEE ALSO");
    page.paragraph("`spot-relay`(8)");
    page.render()
}

/// Examples: the purpose of each, and a whole file.
const EXAMPLES: [(&str, &str); 3] = [
    (
        "A service that finishes a batch before it goes, and tells Slack:",
        r#"[leave]
reserve = "30s"

[hooks]
notice = ["/usr/local/bin/stop-taking-jobs"]
drained = ["/usr/local/bin/flush", "--now"]
timeout = "25s"

[notify]
webhook-file = "webhook"
template = "/etc/spot-relay/slack.json.j2"
"#,
    ),
    (
        "A fleet from a launch template, whose instances register themselves:",
        r#"target-groups = ["web", "api:8080"]

[successor]
launch-template = "web:$Latest"
subnets = ["subnet-0a1b2c3d", "subnet-4e5f6a7b"]
instance-types = ["m7g.large", "m6g.large"]
on-demand-fallback = true

[arrive]
register = true
ready = "http://127.0.0.1/healthz"
"#,
    ),
    (
        "An instance that a recommendation replaces before any notice comes:",
        r#"[watch]
rebalance = "hand-over"

[leave]
when = "successor-healthy"

[survive]
then = "terminate"
"#,
    ),
];

fn of_table(page: &mut ManualPage, table: &Table) {
    match table.name {
        "" => page.heading("BEFORE THE FIRST TABLE"),
        name => page.heading(&format!("[{name}]")),
    }
    page.paragraph(table.meaning);
    for Key { name, default, meaning, .. } in table.keys {
        page.term(vec![bold(*name), roman(" = "), roman(*default)], &quoted_in_bold(meaning));
    }
}

/// Marks quoted values, such as `"ignore"`, for bold.
fn quoted_in_bold(text: &str) -> String {
    let parts = text.split('"').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { format!("`\"{part}\"`") } else { part.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::Config;

    #[test]
    fn every_key_stands_there_with_its_default_and_meaning() {
        let page = page();
        let plain = |text: &str| text.replace('-', "\\-");
        for table in &TABLES {
            assert!(page.contains(&format!(".SH [{}]", table.name)) || table.name.is_empty(), "{}", table.name);
            for key in table.keys {
                let term = format!(".TP\n\\fB{}\\fR = {}\n", plain(key.name), plain(key.default));
                assert!(page.contains(&term), "{term} in {page}");
            }
        }
    }

    #[test]
    fn the_examples_are_wise_configurations() {
        for (what, text) in EXAMPLES {
            let config = Config::parse(text, what);
            assert_eq!(config.map(|config| config.unwise()), Ok(Vec::new()), "{what}");
        }
    }
}
