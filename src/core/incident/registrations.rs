//! This instance's registrations, and whether all of them are known.

use serde::{Deserialize, Serialize};

use crate::core::model::Registration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registrations {
    /// Those found so far, while the look-up goes on.
    SoFar(Vec<Registration>),
    All(Vec<Registration>),
}

impl Default for Registrations {
    fn default() -> Registrations {
        Registrations::SoFar(Vec::new())
    }
}

impl Registrations {
    /// Those that are known, be they all or not.
    pub fn known(&self) -> &[Registration] {
        let (Registrations::SoFar(known) | Registrations::All(known)) = self;
        known
    }

    /// `None` while some may be missing.
    pub fn all(&self) -> Option<&[Registration]> {
        match self {
            Registrations::SoFar(_) => None,
            Registrations::All(all) => Some(all),
        }
    }

    pub(crate) fn known_mut(&mut self) -> &mut Vec<Registration> {
        let (Registrations::SoFar(known) | Registrations::All(known)) = self;
        known
    }

    /// Keeps whether all are known by now.
    pub(crate) fn are_all_known(&mut self, all: bool) {
        let known = std::mem::take(self.known_mut());
        *self = if all { Registrations::All(known) } else { Registrations::SoFar(known) };
    }
}
