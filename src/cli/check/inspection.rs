//! The means with which every part of `check` asks, and IAM's answers so far.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cloud::Aws;
use crate::cloud::imds::Imds;
use crate::cloud::tally::Tally;
use crate::core::config::Config;
use crate::core::model::Identity;
use crate::core::retry::FailureKind;

/// The clients and facts that every part asks with.
#[derive(Clone)]
pub(super) struct Inspection {
    pub(super) aws: Arc<Aws>,
    pub(super) imds: Arc<Imds>,
    pub(super) identity: Identity,
    pub(super) config: Arc<Config>,
    pub(super) iam_answers: IamAnswers,
}

/// IAM's word on each action that was called so far.
#[derive(Clone, Default)]
pub(super) struct IamAnswers(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl IamAnswers {
    /// Counts for allowed what AWS has looked at, whatever it answered.
    pub(super) fn tally(&self) -> Tally {
        let iam_answers = self.clone();
        Tally::new(move |action, failure| {
            let allowed = match failure {
                None | Some(FailureKind::Rejected) => true,
                Some(FailureKind::Denied) => false,
                Some(_) => return,
            };
            iam_answers.0.lock().unwrap_or_else(PoisonError::into_inner).insert(action, allowed);
        })
    }

    pub(super) fn is_allowed(&self, action: &str) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(action).copied()
    }
}
