//! The instance profile's credentials, and the access keys that have expired.
//!
//! Any access key is accepted until it has expired: by its own time if the metadata issued it, or because a test said
//! so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct IssuedCredentials {
    lifetime: Duration,
    issued: BTreeMap<String, Instant>,
    used_keys: BTreeSet<String>,
    expired: BTreeSet<String>,
    current: Option<String>,
}

pub(crate) struct Issued {
    pub(crate) access_key_id: String,
    pub(crate) issued: Instant,
    pub(crate) expires: Instant,
}

impl IssuedCredentials {
    pub(crate) fn new(lifetime: Duration) -> IssuedCredentials {
        IssuedCredentials {
            lifetime,
            issued: BTreeMap::new(),
            used_keys: BTreeSet::new(),
            expired: BTreeSet::new(),
            current: None,
        }
    }

    /// The current credentials. In the last tenth of their life, and after it, new ones are issued.
    pub(crate) fn issue(&mut self, now: Instant) -> Issued {
        let current = self.current.as_ref().filter(|key| !self.expired.contains(*key));
        let current = current.and_then(|key| Some((key.clone(), *self.issued.get(key)?)));
        if let Some((access_key_id, expires)) = current.filter(|(_, expires)| *expires > now + self.lifetime / 10) {
            let issued = expires.checked_sub(self.lifetime).unwrap_or(now);
            return Issued { access_key_id, issued, expires };
        }
        let access_key_id = format!("ASIASIMULATED{:07}", self.issued.len() + 1);
        self.issued.insert(access_key_id.clone(), now + self.lifetime);
        self.current = Some(access_key_id.clone());
        Issued { access_key_id, issued: now, expires: now + self.lifetime }
    }

    pub(crate) fn used(&mut self, access_key_id: &str) {
        self.used_keys.insert(access_key_id.to_owned());
    }

    /// Lets this key expire; without a key, every key issued or used so far.
    pub(crate) fn expire(&mut self, access_key_id: Option<&str>) {
        match access_key_id {
            Some(key) => {
                self.expired.insert(key.to_owned());
            }
            None => self.expired.extend(self.issued.keys().chain(&self.used_keys).cloned()),
        }
    }

    pub(crate) fn is_expired(&self, access_key_id: &str, now: Instant) -> bool {
        let over = self.issued.get(access_key_id).is_some_and(|expires| *expires <= now);
        over || self.expired.contains(access_key_id)
    }
}
