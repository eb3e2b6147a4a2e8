//! The common parts of every call to AWS: a time limit, a count, credentials, DryRun answers and pages.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::Timestamp;

use super::clock::Clock;
use super::credentials::Credentials;
use super::failure::failure;
use super::names::Names;
use super::tally::Tally;
use crate::core::notice::plausible;
use crate::core::retry::{Failure, FailureKind};

/// The limit of pages in one listing. None of AWS's listings has so many, and a server that never ends one must not
/// block us.
pub(super) const MOST_PAGES: usize = 100;

/// Makes calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The time limit of a call; see [`Aws::within`].
    pub(super) limit: Duration,
    pub(super) credentials: Credentials,
    pub(super) clock: Clock,
    pub(super) names: Names,
    pub(super) tally: Tally,
}

impl Caller {
    /// Returns the answer if it comes within the limit. Only the first look-up of a name may take longer ([`Names`]).
    /// If AWS rejects the credentials, the next call loads them again.
    pub(super) async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let counted = self.tally.begin::<E>();
        let Some(answer) = self.names.within(self.limit, call).await else {
            return Err(Failure::unanswered(format!("no answer within {:?}", self.limit)));
        };
        let answer = answer.map_err(|error| failure(&error));
        self.credentials.learn(answer.as_ref().err());
        counted.end(answer.as_ref().err().map(|failure| failure.kind));
        answer
    }

    /// Makes a call whose answer tells nothing beyond its status.
    pub(super) async fn accepted<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<(), Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let by_status = async {
            match call.await {
                Err(error) if error.raw_response().is_some_and(|answer| answer.status().is_success()) => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.call(by_status).await
    }

    /// The items of all pages of a listing. `page` requests the page of a token; `items` returns a page's items and the
    /// next token. A page that names its own token as the next is the last.
    pub(super) async fn pages<A, E, T, F>(
        &self,
        page: impl Fn(Option<String>) -> F,
        items: impl Fn(A) -> (Option<Vec<T>>, Option<String>),
    ) -> Result<Vec<T>, Failure>
    where
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = Result<A, SdkError<E, HttpResponse>>>,
    {
        let (mut all, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let (found, following) = items(self.call(page(token.clone())).await?);
            all.extend(found.unwrap_or_default());
            let following = next(following.as_deref());
            if following.is_none() || following == token {
                break;
            }
            token = following;
        }
        Ok(all)
    }
}

/// Reads the answer to a call with DryRun: `Ok` if the call would be allowed.
pub(super) fn would_be_done<T>(answer: Result<T, Failure>) -> Result<(), Failure> {
    match answer {
        Err(failure) if failure.has_code(&["DryRunOperation"]) => Ok(()),
        Err(failure) => Err(failure),
        Ok(_) => {
            let message = "AWS answered as if DryRun had not been asked for".to_owned();
            Err(Failure::of(FailureKind::Rejected, message))
        }
    }
}

/// The token of the next page, if there is one.
pub(super) fn next(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Converts a time of AWS's; `None` if it is out of range.
pub(super) fn timestamp(time: &aws_smithy_types::DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok().and_then(plausible)
}
