//! Turns a call's error, in the SDK's many shapes, into one [`Failure`].
//!
//! It decides nothing. Invariant: every bad answer becomes a failure, even a page of HTML.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use tracing::debug;

use super::instance_profile::NoProfile;
use crate::core::error_chain::{causes, error_chain};
use crate::core::retry::{Failure, FailureKind};

/// Codes of <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html> and of the common errors of
/// Elastic Load Balancing and Auto Scaling.
const THROTTLED: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "SlowDown",
    "EC2ThrottledException",
];
/// The credentials have expired or are not valid. EC2 says `RequestExpired` for an expired session token.
const WORN_OUT: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "UnrecognizedClientException",
    "AuthFailure",
];
/// The signature was rejected; a wrong clock is the usual reason.
const UNSIGNED: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "RequestTimeTooSkewed",
    "RequestInTheFuture",
    "MissingAuthenticationToken",
];
const DENIED: &[&str] =
    &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "OptInRequired"];
const FAULT: &[&str] =
    &["InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Unavailable", "ServerInternal"];

/// Reads an error of the SDK. An unreadable answer is a fault of the server: the call may have been done.
pub(super) fn failure<E>(error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(failure) = of_credentials(error) {
        return failure;
    }
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().filter(|code| !code.is_empty()).map(str::to_owned);
    let kind = match (&code, status) {
        (Some(code), status) => kind_of(code, status),
        (None, Some(status)) => kind_of_status(status),
        (None, None) if matches!(error, SdkError::ConstructionFailure(_)) => FailureKind::Rejected,
        (None, None) => FailureKind::Unanswered,
    };
    let message = match (error.message(), status) {
        (Some(message), _) if kind == FailureKind::Denied => {
            debug!("denied: {message}");
            denial(message)
        }
        (Some(message), _) => message.to_owned(),
        (None, Some(200..=299)) => {
            let why = causes(error).last().map(ToString::to_string).unwrap_or_default();
            format!("an answer whose contents cannot be read ({why}){}", beginning(error))
        }
        (None, Some(status)) if code.is_none() => {
            format!("HTTP {status} without an error that could be read{}", beginning(error))
        }
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => error_chain(error),
    };
    Failure { kind, code, message }
}

/// Shortens AWS's long denial: who may not call what, on what, and why. `debug` logs the whole text.
fn denial(message: &str) -> String {
    // It has some thousand letters. Only someone who may call sts:DecodeAuthorizationMessage can read them.
    let message = message.split(" Encoded authorization failure message").next().unwrap_or(message);
    in_few_words(message).unwrap_or_else(|| message.to_owned())
}

/// `None` if the message has not AWS's usual form.
fn in_few_words(message: &str) -> Option<String> {
    let (user, rest) = message.split_once("User: ")?.1.split_once(" is not authorized to perform: ")?;
    let (action, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (resource, why) = match rest.strip_prefix("on resource: ") {
        Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
        None => ("*", rest),
    };
    let who = match (user.split_once(":assumed-role/"), user.split_once(":user/")) {
        (Some((_, role)), _) => format!("role {}", role.split('/').next().unwrap_or(role)),
        (None, Some((_, name))) => format!("user {}", name.rsplit('/').next().unwrap_or(name)),
        (None, None) => user.to_owned(),
    };
    // The end of an ARN says which resource it is.
    let on = resource.rsplit(':').next().filter(|name| *name != "*").map(|name| format!(" on {name}"));
    let why = why.trim_end_matches('.').replace(&format!("allows the {action} action"), "allows it");
    let why = if why.is_empty() { why } else { format!(", {why}") };
    Some(format!("{who} may not call {}{}{why}", action.trim_end_matches('.'), on.unwrap_or_default()))
}

/// Explains missing or unusable credentials to a person.
pub(super) fn credentials_failure(error: &CredentialsError) -> Failure {
    let of_profile = causes(error).find_map(|source| source.downcast_ref::<NoProfile>());
    let message = match (of_profile, error) {
        (Some(why), _) => error_chain(why),
        (None, CredentialsError::ProviderTimedOut(_)) => "loading the credentials took too long".to_owned(),
        (None, error) => error_chain(error),
    };
    Failure::of(FailureKind::Credentials, message)
}

/// The failure of the credentials provider. In the SDK's error it is a source.
fn of_credentials(error: &(dyn Error + 'static)) -> Option<Failure> {
    causes(error).find_map(|source| source.downcast_ref::<CredentialsError>()).map(credentials_failure)
}

fn kind_of(code: &str, status: Option<u16>) -> FailureKind {
    match code {
        code if THROTTLED.contains(&code) => FailureKind::Throttled,
        code if WORN_OUT.contains(&code) || UNSIGNED.contains(&code) => FailureKind::Credentials,
        code if DENIED.contains(&code) => FailureKind::Denied,
        // The endpoint lacks this call, as emulators do; the code may be any.
        _ if status == Some(501) => FailureKind::Rejected,
        code if FAULT.contains(&code) => FailureKind::Fault,
        // EC2 answers `InsufficientInstanceCapacity` with HTTP 500, but it is a clear rejection.
        code if code.starts_with("Insufficient") => FailureKind::Rejected,
        _ if status.is_some_and(|status| status >= 500) => FailureKind::Fault,
        _ => FailureKind::Rejected,
    }
}

fn kind_of_status(status: u16) -> FailureKind {
    match status {
        429 => FailureKind::Throttled,
        401 => FailureKind::Credentials,
        403 => FailureKind::Denied,
        408 => FailureKind::Unanswered,
        501 => FailureKind::Rejected,
        // The call behind an unreadable 2xx was most likely done.
        200..=299 | 500.. => FailureKind::Fault,
        _ => FailureKind::Rejected,
    }
}

/// The first words of an answer that is not AWS's, so that a person sees who answered.
fn beginning<E>(error: &SdkError<E, HttpResponse>) -> String {
    let Some(body) = error.raw_response().and_then(|response| response.body().bytes()) else {
        return String::new();
    };
    let text: String =
        String::from_utf8_lossy(body.get(..400).unwrap_or(body)).split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(80).map(|(end, _)| end) {
        _ if text.is_empty() => String::new(),
        Some(end) => format!(": {}...", text.get(..end).unwrap_or_default()),
        None => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::denial;

    #[test]
    fn a_denial_says_who_may_not_call_what_on_what_and_why_and_nothing_else() {
        let who = "User: arn:aws:sts::123456789012:assumed-role/web/i-0123456789abcdef0";
        let tags = "ec2:CreateTags on resource: arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0";
        let encoded = format!("Encoded authorization failure message: {}", "aZ09-_".repeat(200));
        for (message, told) in [
            (
                format!(
                    "You are not authorized to perform this operation. {who} is not authorized to perform: {tags} because no \
                     identity-based policy allows the ec2:CreateTags action. {encoded}"
                ),
                "role web may not call ec2:CreateTags on instance/i-0123456789abcdef0, because no identity-based policy allows it",
            ),
            (
                format!(
                    "{who} is not authorized to perform: autoscaling:DetachInstances on resource: arn:aws:autoscaling:eu-west-1:\
                     123456789012:autoScalingGroup:*:autoScalingGroupName/web with an explicit deny in a service control policy"
                ),
                "role web may not call autoscaling:DetachInstances on autoScalingGroupName/web, with an explicit deny in a service \
                 control policy",
            ),
            (
                "User: arn:aws:iam::123456789012:user/ops/ann is not authorized to perform: ec2:DescribeTags because no \
                 identity-based policy allows the ec2:DescribeTags action"
                    .to_owned(),
                "user ann may not call ec2:DescribeTags, because no identity-based policy allows it",
            ),
            (
                format!("You are not authorized to perform this operation. {encoded}"),
                "You are not authorized to perform this operation.",
            ),
            ("Access Denied".to_owned(), "Access Denied"),
        ] {
            assert_eq!(denial(&message), told);
        }
    }
}
