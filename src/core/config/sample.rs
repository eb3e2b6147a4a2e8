//! The sample: a configuration file with every key, its default and a word on it, from the table of keys.

use super::keys::{TABLES, Table};

/// The column at which the comments begin.
const COLUMN: usize = 30;

/// Every table in order. Parsing it gives the defaults.
pub fn sample() -> String {
    TABLES.iter().map(of_table).collect::<Vec<_>>().join("\n")
}

fn of_table(table: &Table) -> String {
    let mut text = if table.name.is_empty() { String::new() } else { format!("[{}]\n", table.name) };
    for key in table.keys {
        let written = format!("{} = {}", key.name, key.default);
        let line = if key.note.is_empty() { written } else { format!("{written:COLUMN$}# {}", key.note) };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
