//! Suggestions for a word that does not exist.

use super::keys::{TABLES, Table};

/// The candidate that is nearest to `written`, if one is near: a letter in every three may be wrong.
pub(super) fn meant<'a>(written: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let written = plain(written);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&written, candidate);
    let nearest = candidates.iter().copied().min_by_key(|candidate| distance(candidate))?;
    (distance(nearest) <= nearest.chars().count().div_ceil(3)).then_some(nearest)
}

/// The error for a key that `table` does not have.
pub(super) fn no_such_key(written: &str, table: &Table) -> String {
    let own: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
    if let Some(name) = meant(written, &own) {
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
    let said = meant(written, &names).map(|name| format!("did you mean [{name}]?"));
    let said = said.or_else(|| near_key(written)).unwrap_or_else(all_tables);
    format!("no such table; {said}")
}

/// A key of any table.
fn near_key(written: &str) -> Option<String> {
    TABLES.iter().find_map(|table| {
        let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        meant(written, &names).map(|name| format!("did you mean {name}, which belongs {}?", place(table)))
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
