//! The credentials, held in hand: loaded before they are needed, so that no call of the two minutes waits for them.
//!
//! Where they come from is the SDK's standard chain (environment, profile, web identity, container, instance metadata);
//! when they are renewed is the daemon's. Invariant: a call waits for a load only when there is nothing usable in hand,
//! and never longer than [`LOAD_LIMIT`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_smithy_async::time::TimeSource;
use aws_types::region::Region;

use super::clock::Clock;
use super::failure::{credentials_failure, wore_out};
use super::http::Http;
use crate::core::retry::Failure;

/// For the whole chain: at the metadata service that is a token, the role's name and its credentials.
pub const LOAD_LIMIT: Duration = Duration::from_secs(2);
const METADATA_LIMIT: Duration = Duration::from_secs(1);

/// A handle; its copies share what is in hand.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    chain: DefaultCredentialsChain,
    clock: Clock,
    in_hand: Mutex<Option<aws_credential_types::Credentials>>,
    /// One load at a time: those that come meanwhile take its result.
    loading: tokio::sync::Mutex<()>,
}

impl Credentials {
    pub(super) async fn new(
        http: Http,
        region: Region,
        clock: Clock,
        metadata_endpoint: Option<&str>,
    ) -> anyhow::Result<Self> {
        let config = ProviderConfig::without_region()
            .with_region(Some(region.clone()))
            .with_http_client(http)
            .with_time_source(clock.clone());
        let metadata = imds::Client::builder()
            .configure(&config)
            .max_attempts(1)
            .connect_timeout(METADATA_LIMIT)
            .read_timeout(METADATA_LIMIT)
            .operation_timeout(METADATA_LIMIT);
        let metadata = match metadata_endpoint {
            Some(endpoint) => metadata.endpoint(endpoint).map_err(anyhow::Error::from_boxed)?,
            None => metadata,
        };
        let chain = DefaultCredentialsChain::builder()
            .configure(config)
            .region(region)
            .imds_client(metadata.build())
            .build()
            .await;
        let shared = Shared { chain, clock, in_hand: Mutex::new(None), loading: tokio::sync::Mutex::new(()) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Loads them anew and returns when they expire, `None` if never. On failure those in hand stay. While the metadata
    /// service fails, the SDK's provider hands out what it last got from there, and that is no failure.
    pub async fn renew(&self) -> Result<Option<SystemTime>, Failure> {
        let _one_at_a_time = self.shared.loading.lock().await;
        let credentials = self.shared.load().await.map_err(|error| credentials_failure(&error))?;
        Ok(credentials.expiry())
    }

    /// Lets go of those in hand: AWS would not have them. The next call loads anew.
    pub fn forget(&self) {
        *self.shared.in_hand() = None;
    }

    /// Lets go of them if that is what `failure` says of them.
    pub(super) fn learn(&self, failure: &Failure) {
        if wore_out(failure) {
            self.forget();
        }
    }
}

impl Shared {
    fn in_hand(&self) -> std::sync::MutexGuard<'_, Option<aws_credential_types::Credentials>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those in hand, if they have not expired by AWS's time.
    fn usable(&self) -> Option<aws_credential_types::Credentials> {
        let now = TimeSource::now(&self.clock);
        self.in_hand().clone().filter(|credentials| credentials.expiry().is_none_or(|expiry| now < expiry))
    }

    async fn load(&self) -> provider::Result {
        let loaded = tokio::time::timeout(LOAD_LIMIT, self.chain.provide_credentials())
            .await
            .unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD_LIMIT)))?;
        *self.in_hand() = Some(loaded.clone());
        Ok(loaded)
    }

    async fn load_unless_usable(&self) -> provider::Result {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(usable) = self.usable() {
            return Ok(usable);
        }
        match self.load().await {
            Ok(loaded) => Ok(loaded),
            // Expired ones may still be taken: AWS lengthens the life of an instance's when it cannot renew them.
            Err(error) => self.in_hand().clone().ok_or(error),
        }
    }
}

impl ProvideCredentials for Credentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.shared.usable() {
            Some(usable) => future::ProvideCredentials::ready(Ok(usable)),
            None => future::ProvideCredentials::new(self.shared.load_unless_usable()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}
