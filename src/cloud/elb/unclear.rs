//! The reasons why a search cannot tell whether this instance is in a target group.

use crate::core::retry::Failure;

/// The reason why a group is unclear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnclearReason {
    /// The group holds this instance's address, but this instance's VPC is not known.
    Vpc,
    /// The group holds IPv6 addresses, but this instance's are not known.
    Addresses,
    /// AWS rejects the call for this group.
    Refused(Failure),
    /// AWS has not answered for the group this time.
    Untold(Failure),
    /// This instance is in the group, on the ports that target health shows. Nothing else is known of the group.
    Undescribed(Failure),
}

impl UnclearReason {
    /// The failure, if another call in a moment may succeed.
    pub fn to_ask_again(&self) -> Option<Failure> {
        match self {
            UnclearReason::Untold(failure) => Some(failure.clone()),
            UnclearReason::Vpc
            | UnclearReason::Addresses
            | UnclearReason::Refused(_)
            | UnclearReason::Undescribed(_) => None,
        }
    }

    /// Tells whether another search may find this instance in the group.
    pub fn is_open(&self) -> bool {
        matches!(self, UnclearReason::Untold(_) | UnclearReason::Addresses)
    }
}
