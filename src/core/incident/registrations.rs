//! This instance's registrations, and whether all of them are known.

use serde::{Deserialize, Serialize};

use crate::core::model::Registration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registrations {
    /// The ones found so far, while the look-up goes on.
    SoFar(Vec<Registration>),
    All(Vec<Registration>),
}

impl Default for Registrations {
    fn default() -> Registrations {
        Registrations::SoFar(Vec::new())
    }
}

impl Registrations {
    /// The registrations that are known so far.
    pub fn known(&self) -> &[Registration] {
        let (Registrations::SoFar(known) | Registrations::All(known)) = self;
        known
    }

    /// All registrations; `None` while some may be missing.
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

    /// Sets whether all registrations are known by now.
    pub(crate) fn are_all_known(&mut self, all: bool) {
        let known = std::mem::take(self.known_mut());
        *self = if all { Registrations::All(known) } else { Registrations::SoFar(known) };
    }
}
