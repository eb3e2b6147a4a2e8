//! The clients of AWS: one struct for each service, over shared connections, credentials and a clock.
//!
//! A file here speaks to one service and decides nothing: each function is one API call (or its pages), named after it.
//! Invariant: each call is one attempt within its limit; only a name's first look-up may take longer.

pub mod autoscaling;
pub mod client;
pub mod clock;
pub(crate) mod credentials;
pub(crate) mod ec2;
mod ec2_fleet;
pub mod elb;
pub(crate) mod fleets;
pub mod imds;
mod instance_requirements;
mod instance_types;
pub(crate) mod instances;
pub(crate) mod launch_template;
mod spot_fleet;
pub(crate) mod tally;

mod caller;
mod failure;
mod http;
mod instance_profile;
mod launch_configuration;
pub(crate) mod names;
mod run_instances;

use std::time::Duration;

use anyhow::Context as _;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_sdk_ec2::config::{IdentityCache, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use self::autoscaling::AutoScaling;
use self::caller::Caller;
use self::clock::Clock;
use self::credentials::Credentials;
use self::ec2::Ec2;
use self::elb::Elb;
use self::http::Http;
use self::imds::Imds;
use self::instance_profile::InstanceProfile;
use self::names::Names;
use self::tally::Tally;

/// The default time limit of a call: see [`Aws::within`].
pub const LIMIT: Duration = Duration::from_secs(3);

/// The variable that names the metadata service, in every SDK.
const METADATA_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// The parameters of the clients. `AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>`,
/// `AWS_CA_BUNDLE` and the proxy variables keep their meaning.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The instance's region, used where neither the environment nor the profile names one.
    pub region: String,
    /// AWS's time; the metadata client's answers may teach it too.
    pub clock: Clock,
    /// One endpoint for all services, which overrides the variables: a stand-in for AWS on loopback.
    pub endpoint_url: Option<String>,
    /// The metadata service for credentials, which overrides `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub metadata_endpoint: Option<String>,
    /// The counter of the calls.
    pub tally: Tally,
}

impl Connection {
    pub fn new(region: impl Into<String>, clock: Clock) -> Self {
        Self { region: region.into(), clock, endpoint_url: None, metadata_endpoint: None, tally: Tally::default() }
    }

    /// Makes parameters with credentials from the metadata address that answered last, so none is tried again.
    pub fn with_metadata_of(imds: &Imds, region: impl Into<String>, clock: Clock) -> Self {
        Self { metadata_endpoint: Some(imds.endpoint().to_owned()), ..Self::new(region, clock) }
    }
}

/// The clients of all services. Making them calls nothing and loads no credentials.
#[derive(Clone, Debug)]
pub struct Aws {
    pub region: String,
    pub clock: Clock,
    pub tally: Tally,
    pub credentials: Credentials,
    pub elb: Elb,
    pub autoscaling: AutoScaling,
    pub ec2: Ec2,
}

impl Aws {
    /// Makes the clients. Errs when the metadata endpoint cannot be used.
    pub async fn connect(connection: Connection) -> anyhow::Result<Self> {
        let Connection { region, clock, endpoint_url, metadata_endpoint, tally } = connection;
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(region))
            .region()
            .await
            .context("no region")?;
        let names = Names::default();
        let http = Http::from_env(clock.clone(), names.clone());
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .app_name(AppName::new("spot-relay").context("failed to name ourselves")?)
            .http_client(SharedHttpClient::new(http.clone()))
            .no_credentials()
            .identity_cache(IdentityCache::no_cache())
            .time_source(clock.clone())
            // Our clock corrects the skew already; two corrections would add up.
            .disable_clock_skew_correction(true)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let config = match endpoint_url {
            Some(url) => loader.endpoint_url(url).load().await,
            None => loader.load().await,
        };
        let (sdk, time) = (config.clone(), clock.clone());
        let of_credentials = move || {
            ProviderConfig::without_region()
                .with_region(sdk.region().cloned())
                .with_http_client(http.clone())
                .with_time_source(time.clone())
                .with_use_fips(sdk.use_fips())
                .with_use_dual_stack(sdk.use_dual_stack())
        };
        let metadata_endpoint = metadata_endpoint.or_else(|| std::env::var(METADATA_ENDPOINT).ok());
        let instance_profile = InstanceProfile::new(Imds::new(metadata_endpoint.as_deref())?, clock.clone());
        let credentials = Credentials::new(Box::new(of_credentials), instance_profile, names.clone(), clock.clone());
        let provider = SharedCredentialsProvider::new(credentials.clone());
        let config = config.into_builder().credentials_provider(provider).build();
        let caller = Caller { limit: LIMIT, credentials: credentials.clone(), clock: clock.clone(), names, tally };
        Ok(Self {
            region: region.to_string(),
            clock,
            tally: caller.tally.clone(),
            credentials,
            elb: Elb::new(aws_sdk_elasticloadbalancingv2::Client::new(&config), caller.clone()),
            autoscaling: AutoScaling::new(aws_sdk_autoscaling::Client::new(&config), caller.clone()),
            ec2: Ec2::new(aws_sdk_ec2::Client::new(&config), caller),
        })
    }

    /// Copies the clients with another limit for each call.
    pub fn within(&self, limit: Duration) -> Self {
        let mut aws = self.clone();
        for caller in [&mut aws.elb.caller, &mut aws.autoscaling.caller, &mut aws.ec2.caller] {
            caller.limit = limit;
        }
        aws
    }
}
