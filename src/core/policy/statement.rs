//! One statement of an IAM policy, as IAM takes it.

use std::collections::BTreeMap;

use serde::Serialize;

type Conditions = BTreeMap<&'static str, BTreeMap<String, Values>>;

/// The values of a condition key, any of which may match. IAM takes both spellings; linters want operators that ask yes
/// or no (`Null`, `Bool`) with one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    One(&'static str),
    Any(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    pub sid: &'static str,
    effect: &'static str,
    pub action: Vec<&'static str>,
    pub resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub condition: Conditions,
}

impl Statement {
    pub(super) fn when(mut self, operator: &'static str, key: &str, values: &[&str]) -> Statement {
        let values = Values::Any(values.iter().map(|value| (*value).to_owned()).collect());
        self.condition.entry(operator).or_default().insert(key.to_owned(), values);
        self
    }

    /// Requires the key to be in the request.
    pub(super) fn with_key(mut self, key: &str) -> Statement {
        self.condition.entry("Null").or_default().insert(key.to_owned(), Values::One("false"));
        self
    }
}

pub(super) fn allow(sid: &'static str, mut action: Vec<&'static str>, resource: Vec<String>) -> Statement {
    action.sort_unstable();
    action.dedup();
    Statement { sid, effect: "Allow", action, resource, condition: Conditions::new() }
}
