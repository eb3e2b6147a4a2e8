//! The webhook: whoever wants each milestone as JSON, by HTTP POST.
//!
//! It makes the body and posts it once; which, when and how often is the daemon's business. Invariants: nothing takes
//! longer than [`LIMIT`]; of the URL only scheme, host and port are ever shown, in no error, no log and no `Debug` more
//! (its path is what Slack takes for a password); no redirect is followed; of an answer no more than [`BODY_LIMIT`] is
//! read.
//!
//! HTTPS trusts the system's certificates, which are read at the first POST.

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

/// The limit from connecting to the last byte of the answer.
pub const LIMIT: Duration = Duration::from_secs(3);
/// An answer is read up to here; a person gets to see [`SHOWN`] characters of it.
pub const BODY_LIMIT: usize = 16 * 1024;
const SHOWN: usize = 200;

/// A pause that is asked for with `Retry-After` counts up to here.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The reason why a webhook did not take a POST, and for how long it asks to be left alone.
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

/// Makes the client that posts, of which `true` asks for HTTPS.
pub type MakeClient = fn(bool) -> BoxFuture<'static, anyhow::Result<Client>>;

pub struct Webhook {
    url: Url,
    origin: String,
    template: Option<Template>,
    make_client: MakeClient,
    /// Made at the first POST, because reading the system's certificates takes time and memory.
    line: OnceCell<WebhookClient>,
}

struct WebhookClient {
    http: Client,
    /// The secrets that an answer may repeat and nobody may see.
    secrets: Vec<String>,
}

impl Webhook {
    /// `template` is a template's text. No request is made and no certificate read.
    ///
    /// # Errors
    /// The URL is not an http or https one with a host; the template is wrong, with the line. Neither is shown.
    pub fn new(url: &str, template: Option<&str>, make_client: MakeClient) -> anyhow::Result<Self> {
        const WANTED: &str =
            "it must be https://HOST/PATH or http://HOST/PATH (it is not shown, because it is a secret)";
        let hint = if url.is_ascii() { "" } else { "; a HOST with letters beyond ASCII is written as xn--" };
        let wrong = |error| anyhow::anyhow!("the webhook is no URL, {error}: {WANTED}{hint}");
        let url = Url::parse(url).map_err(wrong)?;
        // The scheme is not shown: of `user:password@host` without one, it is the user.
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            "the webhook is no http or https URL: {WANTED}"
        );
        let template = template.map(Template::new).transpose().context("the webhook's template is wrong")?;
        Ok(Self { origin: url.origin().ascii_serialization(), url, template, make_client, line: OnceCell::new() })
    }

    /// Scheme, host and port: all of the URL that may be shown.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The body to post: the announcement itself, or what the template makes of it; `None` where that is nothing.
    ///
    /// # Errors
    /// The template fails for it, or what it makes is not valid JSON.
    pub fn render(&self, announcement: &Announcement) -> anyhow::Result<Option<String>> {
        let body = match &self.template {
            Some(template) => template.render(announcement).context("the webhook's template is wrong")?,
            None => Some(serde_json::to_string(announcement)?),
        };
        // As JSON escapes them, control characters of others reach a reader as they were.
        Ok(body.map(|body| printable_json(&body).into_owned()))
    }

    /// Posts it once, within [`LIMIT`]. Any 2xx is success, whatever follows it.
    ///
    /// # Errors
    /// `Rejected`: 3xx and 4xx, a repeat brings the same. `Throttled`: 408 and 429. `Fault`: 5xx. `Unanswered`: the rest.
    /// `retry_after` is what a 408, a 429 or a 5xx says of it, in seconds or as a date.
    pub async fn post(&self, body: String) -> Result<(), PostError> {
        let until = Instant::now() + LIMIT;
        let late = || Failure::unanswered(format!("no answer within {} s", LIMIT.as_secs()));
        let (line, answer) = timeout_at(until, self.send(body)).await.unwrap_or_else(|_| Err(late()))?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), Timestamp::now());
        let location = answer.headers().get(LOCATION).and_then(|to| self.url.join(to.to_str().ok()?).ok());
        // Read also where it is not wanted: then the next milestone has a connection.
        let body = read(answer, until).await;
        if status.is_success() {
            return Ok(());
        }
        let mut message = format!("it answered HTTP {}", status.as_u16());
        if status.is_redirection() {
            let to = location.map_or_else(String::new, |to| format!(" to {}", to.origin().ascii_serialization()));
            message
                .push_str(&format!(", a redirect{to}, which is not followed: the webhook must be the address itself"));
        } else if let Some(said) = said(&body, &line.secrets) {
            message.push_str(&format!(" ({said})"));
        }
        let failure = Failure::of(kind(status), message);
        let retry_after = retry_after.filter(|_| failure.kind != FailureKind::Rejected);
        Err(PostError { failure, retry_after })
    }

    async fn send(&self, body: String) -> Result<(&WebhookClient, Response), Failure> {
        let line = self.line.get_or_try_init(|| connect(&self.url, self.make_client));
        let line = line.await.map_err(|error| unanswered(&error))?;
        let answer = request(&line.http, &self.url).body(body).send().await;
        let answer = answer.map_err(|error| unanswered(&anyhow::Error::from(error.without_url())))?;
        Ok((line, answer))
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

/// Userinfo in the URL becomes basic authentication.
fn request(http: &Client, url: &Url) -> RequestBuilder {
    let user_agent = concat!("spot-relay/", env!("CARGO_PKG_VERSION"));
    http.post(url.clone()).header(CONTENT_TYPE, "application/json").header(USER_AGENT, user_agent)
}

/// The client, without a connection yet.
async fn connect(url: &Url, make_client: MakeClient) -> anyhow::Result<WebhookClient> {
    let http = make_client(url.scheme() == "https").await?;
    let sample = request(&http, url).build().map_err(reqwest::Error::without_url)?;
    let authorization = sample.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secrets = secrets(url, authorization);
    Ok(WebhookClient { http, secrets })
}

/// The pause that `Retry-After` asks for: seconds or an HTTP date (RFC 9110, 10.2.3). What is neither counts for nothing. A
/// date is meant by the clock of whoever answers, which the answer's own date shows; `now` is ours.
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

/// The part of the answer that a person gets to see. Servers like to repeat what was asked for (`Cannot POST
/// /services/...`), so one that does is not shown at all: a secret that is cut in two cannot be recognised.
fn said(body: &[u8], secrets: &[String]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    if secrets.iter().any(|secret| body.contains(secret.as_str())) {
        return Some("what it said is not shown, because it repeats the webhook's URL".to_owned());
    }
    let shown: String = body.trim().chars().filter(|letter| !letter.is_control()).take(SHOWN).collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

/// The path and the query as wholes, those parts of them that look like a key, and what authenticates.
fn secrets(url: &Url, authorization: Option<&str>) -> Vec<String> {
    let query = url.query().unwrap_or_default();
    let words = url.path().split('/').chain(query.split(['&', '='])).filter(|word| looks_like_a_key(word));
    let path = Some(url.path()).filter(|path| *path != "/");
    let user = Some(url.username()).filter(|user| looks_like_a_key(user));
    let basic = authorization.map(|value| value.trim_start_matches("Basic "));
    let wholes = [path, Some(query), user, url.password(), basic].into_iter().flatten();
    wholes.chain(words).filter(|secret| !secret.is_empty()).map(str::to_owned).collect()
}

/// `services` and `v2` are words that an answer may well use.
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
