//! The metadata service: whether it answers, which instance this is, and whether there is a notice already.

use super::finding::Finding;
use crate::cloud::clock::Clock;
use crate::cloud::imds::{Imds, ImdsError};
use crate::core::error_chain::error_chain;
use crate::core::model::{Identity, LifeCycle};

/// The metadata's answers, for the other checks.
pub(super) struct MetadataFacts {
    pub(super) identity: Identity,
    /// Taught by the metadata's date.
    pub(super) clock: Clock,
}

/// The address cannot be used.
pub(super) fn unusable(error: &anyhow::Error) -> Finding {
    Finding::fail("metadata", format!("{error:#}")).remedy("correct AWS_EC2_METADATA_SERVICE_ENDPOINT, or unset it")
}

/// Checks the metadata; no facts if it does not say which instance this is.
pub(super) async fn look(imds: &Imds) -> (Vec<Finding>, Option<MetadataFacts>) {
    let first = imds.endpoint();
    let identity = match imds.identity().await {
        Ok(identity) => identity,
        Err(error) => return (vec![unanswered(first, &error)], None),
    };
    // This is now the first address that answered.
    let endpoint = imds.endpoint();
    let answers = format!(
        "{endpoint} answers: {} ({}, {})",
        identity.instance_id, identity.instance_type, identity.availability_zone
    );
    let clock = Clock::default();
    let (notice, tags) = tokio::join!(of_notice(imds, &clock), of_tags(imds));
    let findings = vec![Finding::ok("metadata", answers), of_life_cycle(&identity), notice, tags];
    (findings, Some(MetadataFacts { identity, clock }))
}

fn unanswered(endpoint: &str, error: &ImdsError) -> Finding {
    let remedy = match error {
        ImdsError::TurnedOff => {
            "turn it on: aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled --http-tokens \
             required"
        }
        ImdsError::TimedOut(_) | ImdsError::TokenRefused(_) | ImdsError::Unreachable(_) => {
            "run this on the EC2 instance itself; in a container its hop limit has to be 2: aws ec2 \
             modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2"
        }
        _ => "look for a proxy or a firewall between this machine and the metadata service",
    };
    let why = error_chain(error);
    Finding::fail("metadata", format!("{endpoint}: {why}")).meaning("no notice can be seen").remedy(remedy)
}

fn of_life_cycle(identity: &Identity) -> Finding {
    match identity.life_cycle {
        LifeCycle::Spot => Finding::ok("life-cycle", "a Spot instance"),
        LifeCycle::OnDemand => Finding::warn("life-cycle", "an on-demand instance")
            .meaning("AWS gives no Spot notice for it; a scheduled event can still come, or its group can terminate it")
            .remedy("nothing, if that is intended"),
    }
}

async fn of_notice(imds: &Imds, clock: &Clock) -> Finding {
    match imds.instance_action().await {
        Ok(look) => {
            if let Some(date) = look.date {
                // If the wall clock is wrong the first date is not believed; a second one decides.
                if !clock.learn(date)
                    && let Ok(again) = imds.instance_action().await
                    && let Some(date) = again.date
                {
                    clock.learn(date);
                }
            }
            match look.body {
                None => Finding::ok("notice", "there is no notice, and the metadata says so"),
                Some(body) => Finding::warn("notice", format!("a notice stands: {}", body.trim()))
                    .meaning("this instance is going, or its interruption was withdrawn")
                    .remedy("see what the daemon does: spot-relay status"),
            }
        }
        Err(error) => Finding::fail("notice", error_chain(&error))
            .meaning("a notice would not be seen")
            .remedy("see what answers for spot/instance-action in place of the metadata service"),
    }
}

async fn of_tags(imds: &Imds) -> Finding {
    match imds.instance_tags(&[]).await {
        Ok(Some(_)) => Finding::ok("metadata-tags", "the metadata shows this instance's tags"),
        Ok(None) | Err(_) => Finding::warn("metadata-tags", "the metadata does not show this instance's tags")
            .meaning("ec2:DescribeTags tells its owner instead: one more call and one more permission")
            .remedy(
                "aws ec2 modify-instance-metadata-options --instance-id ID --instance-metadata-tags enabled, or \
                 MetadataOptions in the launch template",
            ),
    }
}
