//! Registrations of this instance that are presumed from the groups' description only.
//!
//! Target health is not read here. Invariant: every port is named.

use super::{Elb, FoundRegistrations, SearchScope};
use crate::core::config::ListedTargetGroup;
use crate::core::model::{DEFAULT_DEREGISTRATION_DELAY, Identity, Registration};
use crate::core::ours;
use crate::core::retry::Failure;

impl Elb {
    /// Presumes a registration in each group, on the ports that the configuration lists, else on the group's own: one
    /// call for twenty groups. An owner registers in its groups what it launches, and a person says the same of
    /// configured groups. If a presumption is wrong, deregistration does no harm, and its proof finds every other port.
    pub async fn presumed_registrations(
        &self,
        identity: &Identity,
        among: &SearchScope,
    ) -> Result<FoundRegistrations, Failure> {
        let mut found = FoundRegistrations { is_presumed: true, ..FoundRegistrations::default() };
        for group in self.groups(among, &[], &mut found).await? {
            found.presume(identity, &group, among.source());
        }
        Ok(found)
    }

    /// The registrations to make in these groups, one a group with every port named, and the groups that cannot hold
    /// this instance. Such a group does not exist, or its type is neither `instance` nor `ip`.
    pub async fn registrations_to_make(
        &self,
        identity: &Identity,
        entries: &[ListedTargetGroup],
    ) -> Result<(Vec<Registration>, Vec<String>), Failure> {
        let mut found = FoundRegistrations::default();
        let groups = self.groups(&SearchScope::Configured(entries.to_vec()), &[], &mut found).await?;
        for group in groups {
            // Without a description neither the port nor the kind of target id is known.
            if let Some(failure) = group.undescribed {
                return Err(failure);
            }
            let Some(registration) = ours::to_register(identity, &group, entries) else {
                found.missing.push(group.arn.name().to_owned());
                continue;
            };
            let delay = self.deregistration_delay(&group.arn).await;
            let deregistration_delay = delay.unwrap_or(DEFAULT_DEREGISTRATION_DELAY);
            found.registrations.push(Registration { deregistration_delay, ..registration });
        }
        let is_found = |entry: &ListedTargetGroup| {
            let mut registered = found.registrations.iter();
            registered.any(|it| entry.names(&it.target_group)) || found.missing.contains(&entry.arn_or_name)
        };
        let mut unusable: Vec<String> =
            entries.iter().filter(|entry| !is_found(entry)).map(|entry| entry.arn_or_name.clone()).collect();
        unusable.sort();
        unusable.dedup();
        found.missing.extend(unusable);
        Ok((found.registrations, found.missing))
    }
}
