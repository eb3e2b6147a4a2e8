//! The webhook: each milestone as JSON, by HTTP POST.
//!
//! It makes the body and posts it once; the daemon decides which, when and how often. Invariants: nothing takes longer
//! than its limit; errors, logs and `Debug` show only scheme, host and port of the URL (for Slack its path is the
//! password); no redirect is followed; at most [`BODY_LIMIT`] of an answer is read.
//!
//! HTTPS trusts the system's certificates, which the first POST reads.

mod announcement;
mod template;

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::core::notice::parse_http_date;
use crate::core::printable::printable_json;
use crate::core::retry::{Failure, FailureKind};
use template::Template;

pub use announcement::Announcement;

/// The limit of the first POST, from connecting to the last byte of the answer.
pub const LIMIT: Duration = Duration::from_secs(3);
/// The bytes of an answer that are read. A person sees [`SHOWN`] characters of it.
pub const BODY_LIMIT: usize = 16 * 1024;
const SHOWN: usize = 200;

/// The longest pause that `Retry-After` may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The reason why a POST failed, and the pause that the webhook asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostError {
    pub failure: Failure,
    pub retry_after: Option<Duration>,
}

impl From<Failure> for PostError {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None }
    }
}

/// Makes the client that posts; the argument is whether the URL is HTTPS.
pub type MakeClient = fn(bool) -> BoxFuture<'static, anyhow::Result<Client>>;

pub struct Webhook {
    url: Url,
    origin: String,
    template: Option<Template>,
    make_client: MakeClient,
    /// The client, made at the first POST, because reading the certificates takes time and memory.
    client: OnceCell<WebhookClient>,
}

struct WebhookClient {
    http: Client,
    /// The secrets of the URL. An answer that repeats one is not shown.
    secrets: Vec<String>,
}

impl Webhook {
    /// `template` is the template's text. This makes no request and reads no certificate.
    ///
    /// # Errors
    /// The URL is not http or https with a host, or the template is wrong, with its line. The error shows neither text.
    pub fn new(url: &str, template: Option<&str>, make_client: MakeClient) -> anyhow::Result<Self> {
        const WANTED: &str =
            "it must be https://HOST/PATH or http://HOST/PATH (it is not shown, because it is a secret)";
        let hint = if url.is_ascii() { "" } else { "; a HOST with letters beyond ASCII is written as xn--" };
        let wrong = |error| anyhow::anyhow!("the webhook is no URL, {error}: {WANTED}{hint}");
        let url = Url::parse(url).map_err(wrong)?;
        // The scheme is not shown: in `user:password@host` the parser takes the user for the scheme.
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            "the webhook is no http or https URL: {WANTED}"
        );
        let template = template.map(Template::new).transpose().context("the webhook's template is wrong")?;
        Ok(Self { origin: url.origin().ascii_serialization(), url, template, make_client, client: OnceCell::new() })
    }

    /// The scheme, host and port: the only parts of the URL that may be shown.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The body to post: the announcement itself, or the template's result; `None` if that is empty.
    ///
    /// # Errors
    /// The template fails for this announcement, or its result is not valid JSON.
    pub fn render(&self, announcement: &Announcement) -> anyhow::Result<Option<String>> {
        let body = match &self.template {
            Some(template) => template.render(announcement).context("the webhook's template is wrong")?,
            None => Some(serde_json::to_string(announcement)?),
        };
        // JSON escapes of control characters would reach a reader's terminal as these characters.
        Ok(body.map(|body| printable_json(&body).into_owned()))
    }

    /// Posts the body once, within the limit. Any 2xx is success, whatever follows it.
    ///
    /// # Errors
    /// `Rejected`: 3xx and 4xx, where a repeat would change nothing. `Throttled`: 408 and 429. `Fault`: 5xx.
    /// `Unanswered`: the rest. `retry_after` is the pause that a 408, a 429 or a 5xx asks for, in seconds or as a date.
    pub async fn post(&self, body: String, limit: Duration) -> Result<(), PostError> {
        let until = Instant::now() + limit;
        let late = || Failure::unanswered(format!("no answer within {} s", limit.as_secs()));
        let (client, answer) = timeout_at(until, self.send(body)).await.unwrap_or_else(|_| Err(late()))?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), Timestamp::now());
        let location = answer.headers().get(LOCATION).and_then(|to| self.url.join(to.to_str().ok()?).ok());
        // The body is read in any case, so that the next milestone can use this connection.
        let body = read(answer, until).await;
        if status.is_success() {
            return Ok(());
        }
        let mut message = format!("it answered HTTP {}", status.as_u16());
        if status.is_redirection() {
            let to = location.map_or_else(String::new, |to| format!(" to {}", to.origin().ascii_serialization()));
            message
                .push_str(&format!(", a redirect{to}, which is not followed: the webhook must be the address itself"));
        } else if let Some(excerpt) = excerpt(&body, &client.secrets) {
            message.push_str(&format!(" ({excerpt})"));
        }
        let failure = Failure::of(kind(status), message);
        let retry_after = retry_after.filter(|_| failure.kind != FailureKind::Rejected);
        Err(PostError { failure, retry_after })
    }

    async fn send(&self, body: String) -> Result<(&WebhookClient, Response), Failure> {
        let client = self.client.get_or_try_init(|| connect(&self.url, self.make_client));
        let client = client.await.map_err(|error| unanswered(&error))?;
        let answer = request(&client.http, &self.url).body(body).send().await;
        let answer = answer.map_err(|error| unanswered(&anyhow::Error::from(error.without_url())))?;
        Ok((client, answer))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", self.origin)
    }
}

fn unanswered(error: &anyhow::Error) -> Failure {
    Failure::unanswered(format!("{error:#}"))
}

/// Makes the request. Userinfo in the URL becomes basic authentication.
fn request(http: &Client, url: &Url) -> RequestBuilder {
    let user_agent = concat!("spot-relay/", env!("CARGO_PKG_VERSION"));
    http.post(url.clone()).header(CONTENT_TYPE, "application/json").header(USER_AGENT, user_agent)
}

/// Makes the client, without a connection yet.
async fn connect(url: &Url, make_client: MakeClient) -> anyhow::Result<WebhookClient> {
    let http = make_client(url.scheme() == "https").await?;
    let sample = request(&http, url).build().map_err(reqwest::Error::without_url)?;
    let authorization = sample.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secrets = secrets(url, authorization);
    Ok(WebhookClient { http, secrets })
}

/// The pause that `Retry-After` asks for: seconds or an HTTP date (RFC 9110, 10.2.3); `None` if it is neither. A date
/// is relative to the answer's own `Date`, or else to `now`, our clock.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = parse_http_date(text)?;
            let now = headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?)).unwrap_or(now);
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_RETRY_AFTER))
}

fn kind(status: StatusCode) -> FailureKind {
    match status.as_u16() {
        408 | 429 => FailureKind::Throttled,
        300..=499 => FailureKind::Rejected,
        500..=599 => FailureKind::Fault,
        _ => FailureKind::Unanswered,
    }
}

/// Reads the body within the bound and the time.
async fn read(mut answer: Response, until: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(until, answer.chunk()).await {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_LIMIT {
            body.truncate(BODY_LIMIT);
            break;
        }
    }
    body
}

/// The part of the answer that a person sees. Servers often repeat the request (`Cannot POST /services/...`). Such an
/// answer is not shown at all, because a secret that is cut in two could not be recognised.
fn excerpt(body: &[u8], secrets: &[String]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    if secrets.iter().any(|secret| body.contains(secret.as_str())) {
        return Some("what it said is not shown, because it repeats the webhook's URL".to_owned());
    }
    let shown: String = body.trim().chars().filter(|letter| !letter.is_control()).take(SHOWN).collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

/// The path and the query, their parts that look like a key, and the user, password and basic authentication.
fn secrets(url: &Url, authorization: Option<&str>) -> Vec<String> {
    let query = url.query().unwrap_or_default();
    let words = url.path().split('/').chain(query.split(['&', '='])).filter(|word| looks_like_a_key(word));
    let path = Some(url.path()).filter(|path| *path != "/");
    let user = Some(url.username()).filter(|user| looks_like_a_key(user));
    let basic = authorization.map(|value| value.trim_start_matches("Basic "));
    let wholes = [path, Some(query), user, url.password(), basic].into_iter().flatten();
    wholes.chain(words).filter(|secret| !secret.is_empty()).map(str::to_owned).collect()
}

/// Tells whether the word may be a key. Words such as `services` and `v2` may well occur in an answer.
fn looks_like_a_key(word: &str) -> bool {
    let mixed = word.contains(|letter: char| letter.is_ascii_digit() || letter.is_ascii_uppercase());
    word.len() >= 20 || (word.len() >= 8 && mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_in_seconds_and_as_a_date_and_is_bounded() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(of("30"), Some(30));
        assert_eq!(of("Sat, 31 Jan 2026 12:00:40 GMT"), Some(40));
        assert_eq!(of("Sat, 31 Jan 2026 11:00:00 GMT"), Some(0), "a date that has passed");
        assert_eq!(of("Saturday, 31-Jan-26 12:00:40 GMT"), Some(40));
        let (until, date) = ("Sat, 31 Jan 2026 15:00:40 GMT", "Sat, 31 Jan 2026 15:00:00 GMT");
        let headers = HeaderMap::from_iter([(RETRY_AFTER, until.parse().unwrap()), (DATE, date.parse().unwrap())]);
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(40)), "by the clock of whoever answers");
        assert_eq!(of("99999999999"), Some(3600));
        for nonsense in ["", "soon", "-3", "1.5", "18446744073709551616"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
