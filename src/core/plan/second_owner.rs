//! The second owner: one that the configuration passes over, and that replaces this instance all the same.

use std::collections::BTreeMap;

use super::Clue;
use crate::core::config::{OwnerChoice, Successor};

impl Clue {
    /// The owner that the tags name, where the configuration asks for a launch from a template all the same: it may
    /// replace this instance, too.
    pub fn second_owner(tags: &BTreeMap<String, String>, choice: &Successor) -> Option<Clue> {
        let other = || Clue::read(tags, None, &Successor::default());
        let other = (choice.owner == OwnerChoice::LaunchTemplate).then(other)?;
        matches!(other, Clue::AutoScalingGroup(_) | Clue::Fleet(..)).then_some(other)
    }
}
