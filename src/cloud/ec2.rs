//! EC2: instances, fleets of both kinds, launch templates and launches. The calls stand in a file for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::Client;

use super::caller::Caller;

/// A handle; its copies share what AWS has told of instance types.
#[derive(Clone, Debug)]
pub struct Ec2 {
    pub(super) client: Client,
    pub(super) caller: Caller,
    /// In MiB, by type. `None` of one that AWS did not tell when it was asked.
    pub(super) memory_mib: Arc<Mutex<BTreeMap<String, Option<u32>>>>,
}

impl Ec2 {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller, memory_mib: Arc::default() }
    }
}

/// Hands members on that have one name and one type where they come from and in a request. Lists are none of them:
/// their setters add.
macro_rules! handed_on {
    ($from:expr => $request:expr, $($member:ident)+) => {{
        let request = $request;
        $(let request = match $from.$member.clone() {
            Some(value) => request.$member(value),
            None => request,
        };)+
        request
    }};
}

pub(super) use handed_on;
