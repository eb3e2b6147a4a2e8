//! The credentials of the instance profile. Our own metadata client reads them: it renews a refused session token, and
//! everything from outside is checked before it is used.
//!
//! It keeps nothing. Invariant: it returns credentials that can sign, or an error that says why there are none.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use jiff::Timestamp;
use serde_json::Value;

use super::clock::Clock;
use super::imds::{Imds, ImdsError};

/// The variable that turns the metadata off for credentials, as in every SDK.
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
/// A bound of ours; IAM allows 64 letters in a role's name.
const LONGEST_ROLE: usize = 128;
/// A bound of ours; a session token has about 1.5 KiB, and grows.
const LONGEST_PART: usize = 16 * 1024;
/// The life of credentials whose expiry cannot be read.
const LASTS_UNREAD: Duration = Duration::from_secs(60 * 60);
/// The longest life that is believed; credentials of an instance profile last some six hours.
const LONGEST_LIFE: Duration = Duration::from_secs(36 * 60 * 60);
/// The provider's name, by which its failures are known.
pub(super) const NAME: &str = "instance profile";

/// The reason why there are no credentials of the instance profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoProfile {
    #[error("{DISABLED} is set to true, so the instance profile is not asked for credentials; unset it")]
    Disabled,
    #[error(
        "no credentials: the instance has no instance profile, or the profile no role; attach one with the permissions that \
         `spot-relay policy` prints"
    )]
    NoRole,
    #[error("the metadata names a role that cannot be right ({0})")]
    RoleUnusable(String),
    #[error("the metadata gave no credentials for the role")]
    NoCredentials,
    #[error("the metadata gave no credentials for the role: {0}")]
    Refused(String),
    #[error("the metadata gave credentials that cannot sign: {0}")]
    Unusable(&'static str),
    /// The message of a failed load for which another call waited.
    #[error("{0}")]
    OfOtherCall(String),
    #[error("the metadata gave no credentials")]
    Metadata(#[source] ImdsError),
}

/// A handle; its copies share a metadata client.
#[derive(Clone, Debug)]
pub(super) struct InstanceProfile {
    imds: Arc<Imds>,
    clock: Clock,
}

impl InstanceProfile {
    pub(super) fn new(imds: Imds, clock: Clock) -> Self {
        Self { imds: Arc::new(imds), clock }
    }

    /// Reads the credentials that the metadata has now.
    pub(super) async fn provide(&self) -> provider::Result {
        self.load().await.map_err(|why| match why {
            NoProfile::NoRole | NoProfile::Disabled => CredentialsError::not_loaded(why),
            why => CredentialsError::provider_error(why),
        })
    }

    async fn load(&self) -> Result<Credentials, NoProfile> {
        if std::env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(NoProfile::Disabled);
        }
        let names = self.get("latest/meta-data/iam/security-credentials/").await?.ok_or(NoProfile::NoRole)?;
        let role = names.lines().map(str::trim).find(|name| !name.is_empty()).ok_or(NoProfile::NoRole)?;
        if !is_role(role) {
            let beginning: String = role.chars().take(40).collect();
            return Err(NoProfile::RoleUnusable(format!("{beginning:?}")));
        }
        let path = format!("latest/meta-data/iam/security-credentials/{role}");
        parse(&self.get(&path).await?.ok_or(NoProfile::NoCredentials)?, self.clock.now())
    }

    async fn get(&self, path: &str) -> Result<Option<String>, NoProfile> {
        let look = self.imds.get(path).await.map_err(NoProfile::Metadata)?;
        if let Some(date) = look.date {
            self.clock.learn(date);
        }
        Ok(look.body)
    }
}

/// Tells whether the name has only letters that IAM allows in a role's name, so that it is safe in a path.
fn is_role(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    name.len() <= LONGEST_ROLE && name.bytes().all(is_letter) && name.bytes().any(|byte| byte != b'.')
}

fn parse(body: &str, now: Timestamp) -> Result<Credentials, NoProfile> {
    let parsed: Value = serde_json::from_str(body).map_err(|_| NoProfile::Unusable("they are no JSON"))?;
    let text = |key: &str| parsed.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    if let Some(code) = text("Code").filter(|code| *code != "Success") {
        let words: String = [code, text("Message").unwrap_or_default()].join(" ").chars().take(200).collect();
        return Err(NoProfile::Refused(words));
    }
    let key = text("AccessKeyId").ok_or(NoProfile::Unusable("they have no AccessKeyId"))?;
    let secret = text("SecretAccessKey").ok_or(NoProfile::Unusable("they have no SecretAccessKey"))?;
    let token = text("Token").ok_or(NoProfile::Unusable("they have no Token"))?;
    // This time only schedules the renewal: AWS may accept the credentials for longer, or for less.
    let expiry = text("Expiration").and_then(|time| time.parse::<Timestamp>().ok());
    let (unread, longest) = (now.saturating_add(LASTS_UNREAD), now.saturating_add(LONGEST_LIFE));
    let expiry = expiry.unwrap_or_else(|| unread.unwrap_or(now)).min(longest.unwrap_or(now));
    let credentials = Credentials::new(key, secret, Some(token.to_owned()), Some(SystemTime::from(expiry)), NAME);
    cannot_sign(&credentials).map_or(Ok(credentials), |why| Err(NoProfile::Unusable(why)))
}

/// The reason why these credentials cannot sign a request: a header takes printable ASCII only.
pub(super) fn cannot_sign(credentials: &Credentials) -> Option<&'static str> {
    let is_sound =
        |text: &str| !text.is_empty() && text.len() <= LONGEST_PART && text.bytes().all(|it| it.is_ascii_graphic());
    match (credentials.access_key_id(), credentials.secret_access_key(), credentials.session_token()) {
        (key, _, _) if !is_sound(key) || key.contains(['/', ',', '=']) => Some("the access key id is none"),
        (_, secret, _) if !is_sound(secret) => Some("the secret access key is none"),
        (_, _, Some(token)) if !is_sound(token) => Some("the session token is none"),
        _ => None,
    }
}

/// The provider for a profile that names the instance's metadata as its source.
impl ProvideCredentials for InstanceProfile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.provide().await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAX", "SecretAccessKey": "s/+=",
        "Token": "t/+==", "Expiration": "2030-01-01T00:00:00Z", "LastUpdated": "x"}"#;

    #[test]
    fn credentials_are_read() {
        let now: Timestamp = "2029-12-31T20:00:00Z".parse().expect("a time");
        let credentials = parse(GOOD, now).expect("credentials");
        assert_eq!((credentials.access_key_id(), credentials.session_token()), ("ASIAX", Some("t/+==")));
        for (time, seconds) in [
            ("2030-01-01T00:00:00Z", 4 * 3600),
            ("2999-01-01T00:00:00Z", 36 * 3600),
            ("9999-12-31T23:59:59Z", 3600),
            ("soon", 3600),
            ("", 3600),
            ("2016-12-31T23:59:60Z", -410_212_801),
        ] {
            let credentials = parse(&GOOD.replace("2030-01-01T00:00:00Z", time), now).expect(time);
            let expiry = Timestamp::try_from(credentials.expiry().expect("a time")).expect("a time");
            assert_eq!(expiry.duration_since(now).as_secs(), seconds, "{time}");
        }
    }

    #[test]
    fn those_that_cannot_sign_are_refused() {
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        let long = "x".repeat(LONGEST_PART + 1);
        for (body, why) in [
            (String::new(), "no JSON"),
            ("<html>".to_owned(), "no JSON"),
            ("[".repeat(60_000), "no JSON"),
            ("null".to_owned(), "no AccessKeyId"),
            ("[]".to_owned(), "no AccessKeyId"),
            (with("\"ASIAX\"", "7"), "no AccessKeyId"),
            (with("ASIAX", ""), "no AccessKeyId"),
            (with("ASIAX", "AS\\u0000IAX"), "access key id"),
            (with("ASIAX", "AS\\nIAX"), "access key id"),
            (with("ASIAX", "ÄSIAX"), "access key id"),
            (with("ASIAX", "A/b"), "access key id"),
            (with("s/+=", "s s"), "secret"),
            (with("t/+==", "t\\r\\nX-Evil: 1"), "session token"),
            (with("t/+==", &long), "session token"),
            (with("\"t/+==\"", "null"), "no Token"),
            (with("Success", "AssumeRoleUnauthorizedAccess"), "AssumeRoleUnauthorizedAccess"),
        ] {
            let error = parse(&body, Timestamp::UNIX_EPOCH).expect_err(&body).to_string();
            assert!(error.contains(why), "{why:?} in {error:?}");
        }
    }

    #[test]
    fn a_name_of_a_role_is_one_that_iam_takes() {
        assert!(is_role("web-server_1+a=b,c.d@e"));
        for name in ["<html>", "a b", "a/b", "..", ".", "a?b", "a#b", "ä", "a\0b", &"x".repeat(129)] {
            assert!(!is_role(name), "{name:?}");
        }
    }
}
