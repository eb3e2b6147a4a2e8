//! Trouble with the credentials: told once when it begins and once when it is over, in the status and in the metrics.
//!
//! The renewal is decided elsewhere. Invariant: a process whose calls will fail says so before a notice comes.

use tracing::{info, warn};

use super::Daemon;
use crate::cloud::credentials::CredentialsState;

impl Daemon {
    /// Reports a change in the state of the credentials.
    pub(super) fn follow_credentials(&mut self) {
        let Some(aws) = &self.aws else { return };
        let standing = aws.credentials.standing();
        self.measures.credentials(standing.expires, self.clock.now());
        if standing == self.credentials {
            return;
        }
        match (&self.credentials, &standing) {
            (CredentialsState { trouble: None, .. }, CredentialsState { trouble: Some(why), .. }) => {
                warn!("trouble with the credentials: {why}; calls to AWS fail until it is over; still trying");
            }
            (CredentialsState { trouble: Some(_), .. }, CredentialsState { trouble: None, loaded: false, .. }) => {
                return;
            }
            (CredentialsState { trouble: Some(_), .. }, CredentialsState { trouble: None, expires, .. }) => {
                let until = expires.map_or_else(String::new, |expires| format!(", until {expires:.0}"));
                info!("the trouble with the credentials is over: they are good{until}");
            }
            _ => {}
        }
        self.publisher.credentials(&standing);
        self.credentials = standing;
    }
}
