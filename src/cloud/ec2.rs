//! EC2: instances, fleets of both kinds, launch templates and launches. Each has a file with its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::Client;
use jiff::Timestamp;

use super::caller::Caller;
use crate::core::model::InstanceId;

/// A handle; its copies share what was learned before.
#[derive(Clone, Debug)]
pub struct Ec2 {
    pub(super) client: Client,
    pub(super) caller: Caller,
    /// The memory in MiB, by type; `None` where AWS was asked and did not answer with one.
    pub(super) memory_mib: Arc<Mutex<BTreeMap<String, Option<u32>>>>,
    /// The instances that AWS takes without a date, and when that was first seen.
    pub(super) taken_undated: Arc<Mutex<BTreeMap<InstanceId, Timestamp>>>,
}

impl Ec2 {
    pub(super) fn new(client: Client, caller: Caller) -> Self {
        Self { client, caller, memory_mib: Arc::default(), taken_undated: Arc::default() }
    }
}

/// Copies members with the same name and type from `$from` to a request. It cannot copy lists: their setters add an
/// item.
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
