//! The reasons why it is not known whether this instance is in a target group. Data.

use crate::core::retry::Failure;

/// The reason why it is not known whether this instance is in a target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnclearReason {
    /// The group holds this instance's address, and which VPC this instance is in is not known.
    Vpc,
    /// The group holds IPv6 addresses, and this instance's are not known.
    Addresses,
    /// AWS refuses to tell of the group.
    Refused(Failure),
    /// AWS has not told of the group this time.
    Untold(Failure),
    /// The instance is in it, on the ports that target health shows. Nothing else is known of the group.
    Undescribed(Failure),
}

impl UnclearReason {
    /// The failure, where asking again in a moment may tell.
    pub fn to_ask_again(&self) -> Option<Failure> {
        match self {
            UnclearReason::Untold(failure) => Some(failure.clone()),
            UnclearReason::Vpc
            | UnclearReason::Addresses
            | UnclearReason::Refused(_)
            | UnclearReason::Undescribed(_) => None,
        }
    }

    /// Tells whether another look may find this instance in the group.
    pub fn is_open(&self) -> bool {
        matches!(self, UnclearReason::Untold(_) | UnclearReason::Addresses)
    }
}
