//! The errors for a key or a table that does not exist: they name the one that was probably meant.

use super::keys::{TABLES, Table};
use super::suggestion::nearest;

/// The error for a key that `table` does not have.
pub(super) fn no_such_key(written: &str, table: &Table) -> String {
    let own: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
    if let Some(name) = nearest(written, &own) {
        return format!("no such key; did you mean {name}?");
    }
    if let Some(other) = TABLES.iter().find(|other| other.key(written).is_some()) {
        return format!("this key belongs {}", place(other));
    }
    if let Some(other) = near_key(written) {
        return format!("no such key; {other}");
    }
    match table.name {
        "" => format!("no such key; {}", all_tables()),
        name => format!("no such key; [{name}] has {}", own.join(", ")),
    }
}

pub(super) fn no_such_table(written: &str) -> String {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty()).collect();
    let said = nearest(written, &names).map(|name| format!("did you mean [{name}]?"));
    let said = said.or_else(|| near_key(written)).unwrap_or_else(all_tables);
    format!("no such table; {said}")
}

/// Suggests a key of any table that is near to `written`.
fn near_key(written: &str) -> Option<String> {
    TABLES.iter().find_map(|table| {
        let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        nearest(written, &names).map(|name| format!("did you mean {name}, which belongs {}?", place(table)))
    })
}

fn all_tables() -> String {
    let names = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
    let list = names.map(|name| format!("[{name}]")).collect::<Vec<_>>().join(", ");
    format!("there are {list}, and before them target-groups")
}

fn place(table: &Table) -> String {
    match table.name {
        "" => "before the first [table]".to_owned(),
        name => format!("into [{name}]"),
    }
}
