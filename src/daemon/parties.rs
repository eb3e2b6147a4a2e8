//! The parties that look-ups and calls ask, and the instance for which they ask.

use std::sync::Arc;

use super::gap::Tempo;
use crate::cloud::Aws;
use crate::cloud::imds::Imds;
use crate::core::config::Config;
use crate::core::model::Identity;
use crate::core::retry::Failure;

#[derive(Clone)]
pub(crate) struct Parties {
    pub(crate) aws: Arc<Aws>,
    pub(crate) imds: Arc<Imds>,
    pub(crate) identity: Identity,
    pub(crate) config: Arc<Config>,
    /// The tempo of the calls: others may ask in the same moment, at a start or a recommendation.
    pub(super) tempo: Tempo,
}

impl Parties {
    pub(crate) fn new(aws: Arc<Aws>, imds: Arc<Imds>, identity: Identity, config: Arc<Config>) -> Parties {
        Parties { aws, imds, identity, config, tempo: Tempo::AtOnce }
    }

    /// See [`Tempo::first`].
    pub(super) async fn first<T, F>(&self, call: impl Fn() -> F, fellows: impl Fn(&T) -> usize) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.tempo.first(&self.identity, call, fellows).await
    }

    /// See [`Tempo::patiently`].
    pub(crate) async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.tempo.patiently(&self.identity, call).await
    }
}
