//! The credentials, loaded before they are needed. So no call of the two minutes waits for them.
//!
//! They come from the SDK's standard chain (environment, profile, web identity, container, instance profile). Our
//! metadata client reads the instance profile. The daemon decides when to renew. Invariants: a call waits for a load
//! only without usable credentials; a load goes on if its caller stops waiting; credentials that cannot sign are never
//! held.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_smithy_async::time::TimeSource;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use super::clock::Clock;
use super::failure::credentials_failure;
use super::instance_profile::{InstanceProfile, NoProfile, cannot_sign};
use super::names::{Names, on_a_thread};
use crate::core::retry::{Failure, FailureKind};

/// The limit of the whole chain. For the instance profile it covers a token, the role's name and its credentials. After
/// each load in a row that took too long it is twice as long, up to [`LOAD_GROWS`] times: another source may be slow.
const LOAD_LIMIT: Duration = Duration::from_secs(2);
const LOAD_GROWS: u32 = 4;

/// The longest wait for a renewal, the look-up of a name included. A disk that holds the files may never answer.
const RENEW_LIMIT: Duration = Duration::from_secs(25);

/// The pause after a failed load, during which calls use the credentials that are held.
const LOAD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Makes the parameters of the sources.
pub(super) type MakeConfig = Box<dyn Fn() -> ProviderConfig + Send + Sync>;

/// A handle; its copies share the credentials.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<CredentialsHolder>,
}

/// The state of the credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsState {
    /// Credentials are held.
    pub loaded: bool,
    /// The time at which they expire, by AWS's clock; `None` if they never do, or none are held.
    pub expires: Option<Timestamp>,
    /// The reason why calls fail, or soon will.
    pub trouble: Option<String>,
}

struct CredentialsHolder {
    make_config: MakeConfig,
    instance_profile: InstanceProfile,
    names: Names,
    clock: Clock,
    hand: Mutex<Hand>,
    /// Allows one load at a time. Calls that wait for it take its result, good or bad.
    loading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Hand {
    credentials: Option<aws_credential_types::Credentials>,
    /// AWS rejects the credentials. They are used again only if no others can be loaded.
    is_worn_out: bool,
    /// The reason why the last load failed.
    not_loaded: Option<String>,
    /// The number of loads that have ended.
    loads: u64,
    /// The number of loads in a row that took too long.
    timeouts: u32,
    /// The instant at which the last load failed.
    failed_at: Option<Instant>,
    /// AWS's refusal of the credentials at the last call.
    refused: Option<String>,
}

impl Credentials {
    pub(super) fn new(make_config: MakeConfig, instance_profile: InstanceProfile, names: Names, clock: Clock) -> Self {
        let (hand, loading) = (Mutex::default(), Arc::default());
        Self { shared: Arc::new(CredentialsHolder { make_config, instance_profile, names, clock, hand, loading }) }
    }

    /// Loads the credentials again and returns their expiry, `None` if they never expire. On failure the old ones stay.
    pub async fn renew(&self) -> Result<Option<SystemTime>, Failure> {
        let renewing = async {
            let one_at_a_time = Arc::clone(&self.shared.loading).lock_owned().await;
            self.shared.load(one_at_a_time).await
        };
        let renewed = tokio::time::timeout(RENEW_LIMIT, renewing).await;
        let renewed = renewed.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(RENEW_LIMIT)));
        Ok(renewed.map_err(|error| credentials_failure(&error))?.expiry())
    }

    /// Marks the credentials as rejected by AWS: the next call loads others.
    pub fn forget(&self) {
        self.shared.hand().is_worn_out = true;
    }

    pub fn standing(&self) -> CredentialsState {
        let hand = self.shared.hand();
        let expires = hand.credentials.as_ref().and_then(|it| Timestamp::try_from(it.expiry()?).ok());
        let loaded = hand.credentials.is_some();
        CredentialsState { loaded, expires, trouble: hand.not_loaded.clone().or_else(|| hand.refused.clone()) }
    }

    /// Learns from the result of a call whether AWS accepts the credentials.
    pub(super) fn learn(&self, failure: Option<&Failure>) {
        match failure {
            None => self.shared.hand().refused = None,
            Some(failure) if failure.kind == FailureKind::Credentials && failure.code.is_some() => {
                let mut hand = self.shared.hand();
                hand.refused = Some(format!("AWS refuses the credentials: {failure}"));
                // Also after a rejected signature: credentials that arrived garbled are not kept until they expire.
                hand.is_worn_out = true;
                drop(hand);
                // A wrong clock is the usual reason.
                self.shared.clock.confirm();
            }
            // AWS accepted the credentials before it looked at the permissions.
            Some(failure) if failure.kind == FailureKind::Denied => self.shared.hand().refused = None,
            Some(_) => {}
        }
    }
}

impl CredentialsHolder {
    /// Nothing panics while this lock is held.
    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_expired(&self, credentials: &aws_credential_types::Credentials) -> bool {
        credentials.expiry().is_some_and(|expiry| TimeSource::now(&self.clock) >= expiry)
    }

    /// The credentials, unless they have expired by AWS's clock or AWS has rejected them.
    fn usable(&self) -> Option<aws_credential_types::Credentials> {
        let hand = self.hand();
        let credentials = hand.credentials.clone().filter(|_| !hand.is_worn_out)?;
        (!self.has_expired(&credentials)).then_some(credentials)
    }

    /// Loads on a thread of its own, because the sources read their files in place, from whatever disk.
    async fn load(self: &Arc<Self>, one_at_a_time: OwnedMutexGuard<()>) -> provider::Result {
        let (shared, runtime) = (Arc::clone(self), Handle::current());
        let loading = on_a_thread("credentials", move || {
            let _one_at_a_time = one_at_a_time;
            runtime.block_on(shared.load_here())
        });
        loading.await.unwrap_or_else(|error| Err(CredentialsError::provider_error(error)))
    }

    async fn load_here(&self) -> provider::Result {
        let limit = LOAD_LIMIT * 2_u32.saturating_pow(self.hand().timeouts).min(LOAD_GROWS);
        let loaded = self.names.within(limit, self.provide()).await;
        let timeouts = if loaded.is_some() { 0 } else { self.hand().timeouts.saturating_add(1) };
        let loaded = loaded.unwrap_or_else(|| Err(CredentialsError::provider_timed_out(limit)));
        let loaded = loaded.and_then(|credentials| match cannot_sign(&credentials) {
            Some(why) => Err(CredentialsError::invalid_configuration(NoProfile::Unusable(why))),
            None => Ok(credentials),
        });
        let mut hand = self.hand();
        hand.loads = hand.loads.wrapping_add(1);
        hand.timeouts = timeouts;
        hand.failed_at = loaded.is_err().then(Instant::now);
        match &loaded {
            Ok(credentials) => {
                hand.not_loaded = self.has_expired(credentials).then(|| {
                    "the credentials have expired, and there are no newer ones; AWS may take them all the same"
                        .to_owned()
                });
                hand.credentials = Some(credentials.clone());
                hand.is_worn_out = false;
            }
            Err(error) => hand.not_loaded = Some(credentials_failure(error).message),
        }
        loaded
    }

    /// Makes all sources but the instance profile. They keep what they have read for good, also a profile that cannot be
    /// used. So each load makes them again, and reads the files as they are now.
    fn chain(&self) -> CredentialsProviderChain {
        let config = &(self.make_config)();
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(config)
            .with_custom_provider("Ec2InstanceMetadata", self.instance_profile.clone());
        CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("Profile", profile.build())
            .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(config).build())
            .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(config).build())
    }

    async fn provide(&self) -> provider::Result {
        match self.chain().provide_credentials().await {
            Err(CredentialsError::CredentialsNotLoaded(_)) => self.instance_profile.provide().await,
            result => result,
        }
    }

    async fn load_unless_usable(self: &Arc<Self>) -> provider::Result {
        let loads = self.hand().loads;
        // AWS may accept expired ones: it extends those of an instance profile when it cannot renew them.
        if let Some(in_hand) = self.in_hand_after_a_failure() {
            return Ok(in_hand);
        }
        let one_at_a_time = Arc::clone(&self.loading).lock_owned().await;
        if let Some(usable) = self.usable() {
            return Ok(usable);
        }
        let has_waited_for_a_load = self.hand().loads != loads;
        let failed = match has_waited_for_a_load {
            true => CredentialsError::provider_error(NoProfile::OfOtherCall(
                self.hand().not_loaded.clone().unwrap_or_default(),
            )),
            false => match self.load(one_at_a_time).await {
                Ok(loaded) => return Ok(loaded),
                Err(error) => error,
            },
        };
        self.hand().credentials.clone().ok_or(failed)
    }

    /// The credentials that are held, soon after a failed load: the caller does not wait for another load.
    fn in_hand_after_a_failure(&self) -> Option<aws_credential_types::Credentials> {
        let hand = self.hand();
        let failed_lately = hand.failed_at.is_some_and(|failed_at| failed_at.elapsed() < LOAD_AGAIN_AFTER);
        hand.credentials.clone().filter(|_| failed_lately)
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
