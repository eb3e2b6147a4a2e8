//! EC2's instance types: the memory of each.
//!
//! An instance type never changes, so an answer is kept and no type is asked for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use super::ec2::Ec2;
use super::instances::{FILTER_VALUES_A_CALL, one_of};
use crate::core::retry::{Failure, FailureKind};

impl Ec2 {
    fn known_memory(&self) -> MutexGuard<'_, BTreeMap<String, Option<u32>>> {
        self.memory_mib.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory of a type in MiB, if AWS has answered.
    pub fn memory_mib(&self, name: &str) -> Option<u32> {
        self.known_memory().get(name).copied().flatten()
    }

    /// Asks for the memory of types that were never asked for. After a missing answer only the next round of look-ups
    /// asks for them again.
    pub async fn learn_new_types(&self, mut names: BTreeSet<String>) -> Result<(), Failure> {
        names.retain(|name| !self.known_memory().contains_key(name));
        let learned = self.describe_instance_types(names.clone()).await;
        if matches!(&learned, Err(Failure { kind: FailureKind::Unanswered, .. })) {
            let mut known = self.known_memory();
            names.into_iter().for_each(|name| _ = known.entry(name).or_insert(None));
        }
        learned
    }

    /// Calls DescribeInstanceTypes for those of these types whose memory is unknown.
    pub async fn describe_instance_types(&self, mut names: BTreeSet<String>) -> Result<(), Failure> {
        names.retain(|name| !name.is_empty() && self.memory_mib(name).is_none());
        let names: Vec<String> = names.into_iter().collect();
        for names in names.chunks(FILTER_VALUES_A_CALL) {
            // A filter skips a type that AWS does not know; a list of types would be rejected.
            let asked = self.client.describe_instance_types().filters(one_of("instance-type", names));
            let page = |token| asked.clone().set_next_token(token).send();
            let described = self.caller.pages(page, |answer| (answer.instance_types, answer.next_token)).await;
            let is_answered =
                matches!(&described, Ok(_) | Err(Failure { kind: FailureKind::Denied | FailureKind::Rejected, .. }));
            let mut known = self.known_memory();
            if is_answered {
                known.extend(names.iter().map(|name| (name.clone(), None)));
            }
            known.extend(described?.iter().filter_map(|one| {
                let memory = u32::try_from(one.memory_info()?.size_in_mib()?).ok()?;
                Some((one.instance_type()?.as_str().to_owned(), Some(memory)))
            }));
        }
        Ok(())
    }
}
