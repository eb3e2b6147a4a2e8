//! The parts of answers that several services share: pages, client tokens, tags and filters.

use std::collections::BTreeMap;

use super::query::{Filter, Query};
use super::refusal::Refusal;
use super::world::{Answered, World};
use super::xml::Xml;

/// The earlier answer to this token; an error if its parameters differ.
pub(crate) fn answered_before(world: &World, action: &str, query: &Query, token: &str) -> Result<Option<Xml>, Refusal> {
    let Some(before) = world.answered.get(&(action.to_owned(), token.to_owned())) else { return Ok(None) };
    if &before.parameters != query.flat() {
        return Err(Refusal::new("IdempotentParameterMismatch", "Client token already used before."));
    }
    Ok(Some(before.answer.clone()))
}

pub(crate) fn remember_answer(world: &mut World, action: &str, query: &Query, token: &str, answer: &Xml) {
    let answered = Answered { parameters: query.flat().clone(), answer: answer.clone() };
    world.answered.insert((action.to_owned(), token.to_owned()), answered);
}

/// A page of `all`, and the marker of the next page; `None` for a wrong marker.
pub(crate) fn page<T>(
    all: Vec<T>,
    query: &Query,
    marker: &str,
    size: Option<usize>,
) -> Option<(Vec<T>, Option<String>)> {
    let start = match query.get(marker) {
        None if query.begins_empty => return Some((Vec::new(), Some("bWFya2Vy0".to_owned()))),
        None => 0,
        Some(marker) => marker.strip_prefix("bWFya2Vy").and_then(|number| number.parse().ok())?,
    };
    let end = start + size.unwrap_or(usize::MAX - start);
    let next = (end < all.len()).then(|| format!("bWFya2Vy{end}"));
    Some((all.into_iter().take(end).skip(start).collect(), next))
}

/// EC2's answer to a call without a result.
pub(crate) fn done() -> Xml {
    Xml::new().text("return", true)
}

/// A page of an EC2 listing, by `MaxResults` and `NextToken`.
pub(crate) fn paged<T>(all: Vec<T>, query: &Query) -> Result<(Vec<T>, Option<String>), Refusal> {
    let size = query.number("MaxResults")?;
    page(all, query, "NextToken", size).ok_or_else(|| Refusal::new("InvalidNextToken", "The token is not valid"))
}

pub(crate) fn tag_set(tags: &BTreeMap<String, String>) -> Xml {
    let items = tags.iter().map(|(key, value)| Xml::new().text("key", key).text("value", value));
    Xml::new().list("tagSet", "item", items)
}

pub(crate) fn filtered_by_tags(filter: &Filter, tags: &BTreeMap<String, String>) -> Option<bool> {
    if let Some(key) = filter.name.strip_prefix("tag:") {
        return Some(tags.get(key).is_some_and(|value| filter.admits(value)));
    }
    (filter.name == "tag-key").then(|| tags.keys().any(|key| filter.admits(key)))
}

pub(crate) fn unknown_filter(filter: &Filter) -> Refusal {
    Refusal::new("InvalidParameterValue", format!("The filter '{}' is invalid", filter.name))
}
