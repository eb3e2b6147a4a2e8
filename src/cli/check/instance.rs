//! The metadata options of this instance, from EC2.

use super::finding::Finding;
use crate::cloud::instances::MetadataOptions;
use crate::daemon::Parties;

const MODIFY: &str = "aws ec2 modify-instance-metadata-options --instance-id";

/// The least hop limit with which a container reaches the metadata service.
const HOPS_OF_A_CONTAINER: i32 = 2;

pub(super) async fn look(parties: &Parties) -> Vec<Finding> {
    let id = &parties.identity.instance_id;
    match parties.aws.ec2.metadata_options(id).await {
        Ok(Some(options)) => vec![tokens(&options, id.as_str()), hops(&options, id.as_str())],
        Ok(None) => vec![unknown("EC2 does not tell them of this instance")],
        Err(failure) => vec![unknown(&failure.to_string())],
    }
}

fn unknown(why: &str) -> Finding {
    Finding::warn("metadata-options", format!("not known: {why}"))
        .meaning("this check does not know whether the old metadata service (IMDSv1) is open, also to containers")
        .remedy("allow ec2:DescribeInstances, or look yourself")
}

fn tokens(options: &MetadataOptions, id: &str) -> Finding {
    match options.tokens_required {
        true => Finding::ok("imds-v1", "the metadata service wants session tokens (IMDSv2)"),
        false => Finding::warn("imds-v1", "the metadata service also answers without a session token (IMDSv1)")
            .meaning("spot-relay always sends a token, but a forged request through the web server gets this role's credentials")
            .remedy(format!("{MODIFY} {id} --http-tokens required")),
    }
}

fn hops(options: &MetadataOptions, id: &str) -> Finding {
    match options.hop_limit {
        Some(hops) if hops >= HOPS_OF_A_CONTAINER => {
            Finding::warn("hop-limit", format!("the metadata's answers travel {hops} hops"))
                .meaning("containers on this instance reach the metadata service, and with it this role's credentials")
                .remedy(format!(
                    "unless spot-relay or another program needs it in a container: {MODIFY} {id} \
                     --http-put-response-hop-limit 1"
                ))
        }
        _ => Finding::ok("hop-limit", "the metadata's answers do not leave this machine"),
    }
}
