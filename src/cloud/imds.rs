//! The instance metadata service: one keep-alive connection, a session token (IMDSv2), and looks at paths.
//!
//! It returns bodies and the identity; it does not interpret a notice. It repeats only a request whose token was
//! refused. Invariant: no request goes without a token or through a proxy, takes longer than its limit, or holds more
//! than [`BODY_LIMIT`].

mod connection;
mod identity;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{DATE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::clock::since_boot;
use crate::core::notice::parse_http_date;
use connection::{Broken, Idle};

/// The limit of a request, from connecting to the last byte of the body, where the service answers in time.
pub const LIMIT: Duration = Duration::from_secs(1);
/// After several timeouts in a row the limit grows to this many times [`LIMIT`], for a slow service.
const GROWS_TO: u32 = 3;
/// The longest body that is read. Our items have a few KiB at most; user data, the largest item, ends at 16 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";
/// The variable that chooses one of the two if no address is named.
const MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
/// The longest life of a token that AWS grants: six hours.
const TOKEN_TTL: Duration = Duration::from_secs(21_600);
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL_SECONDS: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

/// The client. Successive requests share a connection; a request beside another one has its own short-lived connection.
#[derive(Debug)]
pub struct Imds {
    /// The addresses, at least one. By default there are two, and the first that answers is kept.
    endpoints: Vec<String>,
    asked: AtomicUsize,
    has_answered: AtomicBool,
    /// Timeouts since the last answer within [`LIMIT`], up to [`GROWS_TO`] less one.
    timeouts: AtomicU32,
    idle: Idle,
    token: Mutex<Option<Token>>,
}

/// The answer for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The body; `None` for a 404: the item is absent, which is normal for a notice.
    pub body: Option<String>,
    /// The answer's `Date`: AWS's time, in whole seconds.
    pub date: Option<Timestamp>,
}

/// The reason why a request failed. A caller distinguishes "turned off" and "overloaded"; a person reads the text.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    #[error("the metadata service did not answer within {} s (it drops packets above 1024 a second)", .0.as_secs())]
    TimedOut(Duration),
    #[error("cannot reach the metadata service")]
    Unreachable(#[source] Broken),
    #[error("the metadata service is turned off for this instance (HTTP 403); turn on its metadata options")]
    TurnedOff,
    #[error("the metadata service is overloaded (HTTP 503)")]
    Overloaded,
    #[error(
        "the metadata service gave no session token (HTTP {0}); is IMDSv2 supported, and its hop limit high enough?"
    )]
    TokenRefused(u16),
    #[error("the metadata service gave a session token that cannot be used")]
    TokenUnusable,
    #[error("the metadata service redirected (HTTP {0}): something stands between it and this instance")]
    Redirected(u16),
    #[error("the metadata service answered HTTP {0}")]
    Status(u16),
    #[error("the metadata service answered with more than {} KiB", BODY_LIMIT / 1024)]
    TooLong,
    #[error("the metadata service answered with bytes that are no text")]
    NotText,
    #[error("the {0} is not JSON")]
    NotJson(&'static str, #[source] serde_json::Error),
    #[error("the metadata has no {0}")]
    Missing(&'static str),
    #[error("the metadata has a {0} that cannot be right")]
    Odd(&'static str),
}

#[derive(Clone, Debug)]
struct Token {
    value: HeaderValue,
    /// The time of renewal on the boot clock, which also counts while a hibernated machine sleeps.
    renew_at: Duration,
}

impl Imds {
    /// Makes the client, but no request. `endpoint` is the value of `AWS_EC2_METADATA_SERVICE_ENDPOINT`. If that is
    /// empty or absent `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` chooses the IPv4 or the IPv6 address. Without either it
    /// is the IPv4 address, or the IPv6 address if IPv4 does not answer. Errs when one of the two cannot be used.
    pub fn new(endpoint: Option<&str>) -> anyhow::Result<Self> {
        let mode = std::env::var(MODE).unwrap_or_default();
        match (endpoint.filter(|endpoint| !endpoint.is_empty()), mode.trim().to_ascii_lowercase().as_str()) {
            (Some(endpoint), _) => Self::among(&[endpoint]),
            (None, "ipv4") => Self::among(&[IPV4]),
            (None, "ipv6") => Self::among(&[IPV6]),
            (None, "") => Self::among(&[IPV4, IPV6]),
            (None, _) => anyhow::bail!("{MODE} is {mode:?}: write IPv4 or IPv6"),
        }
    }

    /// Makes a client for the first of these addresses that answers. Errs when one is not an http URL with only a host.
    pub fn among(endpoints: &[&str]) -> anyhow::Result<Self> {
        let endpoints = endpoints.iter().copied().map(address).collect::<anyhow::Result<Vec<String>>>()?;
        let (asked, has_answered) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (timeouts, idle, token) = (AtomicU32::new(0), Idle::default(), Mutex::new(None));
        Ok(Self { endpoints, asked, has_answered, timeouts, idle, token })
    }

    /// The address that is asked now.
    pub fn endpoint(&self) -> &str {
        let asked = self.asked.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        self.endpoints.get(asked).map_or(IPV4, String::as_str)
    }

    /// Gets a path such as `latest/meta-data/spot/instance-action`. An old token is renewed first. If the service
    /// refuses the token (HTTP 401) it is renewed and the request repeated once.
    pub async fn get(&self, path: &str) -> Result<Look, ImdsError> {
        let path = path.trim_start_matches('/');
        let (status, look) = self.look(path).await?;
        if status != StatusCode::UNAUTHORIZED {
            return answer(status, look);
        }
        self.drop_token();
        match self.look(path).await? {
            (StatusCode::UNAUTHORIZED, _) => Err(ImdsError::TokenRefused(401)),
            (status, look) => answer(status, look),
        }
    }

    /// The body of `latest/meta-data/spot/instance-action`: the notice.
    pub async fn instance_action(&self) -> Result<Look, ImdsError> {
        self.get("latest/meta-data/spot/instance-action").await
    }

    /// The body of `latest/meta-data/events/recommendations/rebalance`.
    pub async fn rebalance_recommendation(&self) -> Result<Look, ImdsError> {
        self.get("latest/meta-data/events/recommendations/rebalance").await
    }

    /// The body of `latest/meta-data/autoscaling/target-lifecycle-state`.
    pub async fn target_lifecycle_state(&self) -> Result<Look, ImdsError> {
        self.get("latest/meta-data/autoscaling/target-lifecycle-state").await
    }

    /// The body of `latest/meta-data/events/maintenance/scheduled`.
    pub async fn scheduled_events(&self) -> Result<Look, ImdsError> {
        self.get("latest/meta-data/events/maintenance/scheduled").await
    }

    /// The values of these instance tags; `None` if the instance does not show its tags in the metadata (the default).
    pub async fn instance_tags(&self, keys: &[&str]) -> Result<Option<BTreeMap<String, String>>, ImdsError> {
        let Some(listing) = self.get("latest/meta-data/tags/instance/").await?.body else {
            return Ok(None);
        };
        let mut tags = BTreeMap::new();
        for key in listing.lines().map(str::trim).filter(|key| keys.contains(key)) {
            if let Some(value) = self.get(&format!("latest/meta-data/tags/instance/{key}")).await?.body {
                tags.insert(key.to_owned(), value);
            }
        }
        Ok(Some(tags))
    }

    /// The ARN of the instance profile, from `iam/info`; `None` without a profile.
    pub async fn instance_profile(&self) -> Result<Option<String>, ImdsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            instance_profile_arn: Option<String>,
        }
        let Some(info) = self.get("latest/meta-data/iam/info").await?.body else { return Ok(None) };
        let info: Info =
            serde_json::from_str(&info).map_err(|error| ImdsError::NotJson("instance profile's description", error))?;
        Ok(info.instance_profile_arn)
    }

    /// The name of the instance profile's role; `None` without a role.
    pub async fn role(&self) -> Result<Option<String>, ImdsError> {
        let names = self.get("latest/meta-data/iam/security-credentials/").await?.body;
        Ok(names.and_then(|names| names.lines().map(str::trim).find(|name| !name.is_empty()).map(str::to_owned)))
    }

    /// The item `services/partition`, such as `aws-cn`: the second part of every ARN. `None` if it has another form.
    pub async fn partition(&self) -> Result<Option<String>, ImdsError> {
        let is_name = |text: &str| {
            let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
            text.starts_with("aws") && text.len() <= 32 && text.chars().all(is_part)
        };
        let body = self.get("latest/meta-data/services/partition").await?.body;
        Ok(body.map(|body| body.trim().to_owned()).filter(|text| is_name(text)))
    }

    async fn look(&self, path: &str) -> Result<(StatusCode, Look), ImdsError> {
        let token = self.token().await?;
        let (response, body) = self.exchange(Method::GET, path, TOKEN, token).await?;
        let body = match response.status {
            StatusCode::OK => Some(String::from_utf8(body?).map_err(|_| ImdsError::NotText)?),
            _ => None,
        };
        Ok((response.status, Look { body, date: response.date }))
    }

    /// The current token, or a new one.
    async fn token(&self) -> Result<HeaderValue, ImdsError> {
        let standing = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = standing.filter(|token| since_boot() < token.renew_at) {
            return Ok(token.value);
        }
        let token = self.new_token().await?;
        let value = token.value.clone();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(value)
    }

    async fn new_token(&self) -> Result<Token, ImdsError> {
        let asked_at = since_boot();
        let ttl = HeaderValue::from(TOKEN_TTL.as_secs());
        let (response, body) = self.exchange(Method::PUT, "latest/api/token", TOKEN_TTL_SECONDS, ttl).await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(ImdsError::TurnedOff),
            StatusCode::SERVICE_UNAVAILABLE => return Err(ImdsError::Overloaded),
            status if status.is_redirection() => return Err(ImdsError::Redirected(status.as_u16())),
            status => return Err(ImdsError::TokenRefused(status.as_u16())),
        }
        let mut value = HeaderValue::from_bytes(body?.trim_ascii()).map_err(|_| ImdsError::TokenUnusable)?;
        if value.is_empty() {
            return Err(ImdsError::TokenUnusable);
        }
        value.set_sensitive(true);
        // Renewed a twentieth early, so that a token never expires between two requests.
        let ttl = response.token_ttl.unwrap_or(TOKEN_TTL).min(TOKEN_TTL);
        Ok(Token { value, renew_at: asked_at + ttl * 19 / 20 })
    }

    /// Sends one request. Until some address has answered, each failure moves on to the next address.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        name: HeaderName,
        value: HeaderValue,
    ) -> Result<(Head, Result<Vec<u8>, ImdsError>), ImdsError> {
        let endpoint = self.endpoint();
        let host = endpoint.strip_prefix("http://").unwrap_or(endpoint);
        let request = Request::builder().method(method).uri(format!("/{path}")).header(HOST, host).header(name, value);
        let request = request.header(USER_AGENT, concat!("spot-relay/", env!("CARGO_PKG_VERSION"))).body(Empty::new());
        let request = request.map_err(|error| ImdsError::Unreachable(error.into()))?;
        let answer = self.answer_to(endpoint, request).await;
        if answer.is_ok() {
            self.has_answered.store(true, Ordering::Relaxed);
        } else if !self.has_answered.load(Ordering::Relaxed) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Returns the answer within its limit, with the body as a result of its own: a status counts even if the body does
    /// not end. The body is always read, so that the connection can be used again.
    async fn answer_to(
        &self,
        endpoint: &str,
        request: Request<Empty<Bytes>>,
    ) -> Result<(Head, Result<Vec<u8>, ImdsError>), ImdsError> {
        let (began, timeouts) = (Instant::now(), self.timeouts.load(Ordering::Relaxed));
        let limit = LIMIT * (timeouts + 1);
        let until = began + limit;
        let timed_out = |_| {
            self.timeouts.store((timeouts + 1).min(GROWS_TO - 1), Ordering::Relaxed);
            ImdsError::TimedOut(limit)
        };
        let answer = timeout_at(until, self.idle.send(endpoint, request)).await.map_err(timed_out)?;
        let (mut connection, response) = answer.map_err(ImdsError::Unreachable)?;
        let head = Head {
            status: response.status(),
            date: header(&response, &DATE).and_then(parse_http_date),
            token_ttl: header(&response, &TOKEN_TTL_SECONDS).and_then(|ttl| ttl.parse().ok().map(Duration::from_secs)),
        };
        let body = match timeout_at(until, connection.read(response.into_body(), BODY_LIMIT)).await {
            Ok(Ok(Some(body))) => {
                self.idle.keep(connection);
                Ok(body)
            }
            Ok(Ok(None)) => Err(ImdsError::TooLong),
            Ok(Err(broken)) => Err(ImdsError::Unreachable(broken)),
            Err(late) => Err(timed_out(late)),
        };
        if began.elapsed() <= LIMIT {
            self.timeouts.store(0, Ordering::Relaxed);
        }
        Ok((head, body))
    }

    fn drop_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Checks an address of the metadata service, and returns it as it stands in a URL.
fn address(endpoint: &str) -> anyhow::Result<String> {
    let url = Url::parse(endpoint).with_context(|| format!("the metadata service's address is no URL: {endpoint}"))?;
    anyhow::ensure!(
        url.scheme() == "http" && url.has_host(),
        "the metadata service's address must be http://HOST, not {endpoint}"
    );
    anyhow::ensure!(
        url.path().trim_matches('/').is_empty() && url.query().is_none(),
        "the metadata service's address must have no path: {endpoint}"
    );
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn answer(status: StatusCode, look: Look) -> Result<Look, ImdsError> {
    match status {
        StatusCode::OK | StatusCode::NOT_FOUND => Ok(look),
        StatusCode::FORBIDDEN => Err(ImdsError::TurnedOff),
        StatusCode::SERVICE_UNAVAILABLE => Err(ImdsError::Overloaded),
        status if status.is_redirection() => Err(ImdsError::Redirected(status.as_u16())),
        status => Err(ImdsError::Status(status.as_u16())),
    }
}

struct Head {
    status: StatusCode,
    date: Option<Timestamp>,
    token_ttl: Option<Duration>,
}

fn header<'a>(response: &'a Response<Incoming>, name: &HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
