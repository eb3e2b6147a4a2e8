//! The means with which every part of `check` asks.

use std::sync::Arc;

use crate::cloud::Aws;
use crate::cloud::imds::Imds;
use crate::core::config::Config;
use crate::core::model::Identity;

/// The clients and facts that every part asks with.
#[derive(Clone)]
pub(super) struct Inspection {
    pub(super) aws: Arc<Aws>,
    pub(super) imds: Arc<Imds>,
    pub(super) identity: Identity,
    pub(super) config: Arc<Config>,
}
