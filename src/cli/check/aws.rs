//! The checks that need AWS: the credentials, who launches the successor, the target groups, and every permission.

use std::sync::Arc;

use super::finding::Finding;
use super::metadata::MetadataFacts;
use super::report::CheckReport;
use super::{instance, leave, owner, permissions, target_groups};
use crate::cli::environment::variable;
use crate::cloud::imds::Imds;
use crate::cloud::{Aws, Connection};
use crate::core::config::Config;
use crate::core::model::Identity;
use crate::daemon::Parties;

pub(super) async fn look(
    config: &Config,
    imds: Imds,
    known: MetadataFacts,
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    report.looking("the credentials")?;
    let MetadataFacts { identity, clock } = known;
    let connection = Connection::with_metadata_of(&imds, &identity.region, clock.clone());
    let aws = match Aws::connect(connection).await {
        Ok(aws) => Arc::new(aws),
        Err(error) => {
            let remedy = "correct the variable that it names";
            return Ok(report.add(vec![Finding::fail("credentials", format!("{error:#}")).remedy(remedy)])?);
        }
    };
    let imds = Arc::new(imds);
    let (credentials, usable) = credentials(&aws, &imds).await;
    report.add(credentials.into_iter().chain(region(&aws, &identity)).collect())?;
    if !usable {
        let what = "owner, target groups and permissions are not looked at: AWS answers no call without credentials";
        return Ok(report.add(vec![Finding::fail("aws", what).remedy("correct the credentials, then check again")])?);
    }
    let parties = Parties::new(aws, imds, identity, Arc::new(config.clone()));
    report.looking("who launches a successor")?;
    let (options, (findings, planned)) = tokio::join!(instance::look(&parties), owner::look(&parties));
    report.add(options)?;
    report.add(findings)?;
    let plan = planned.as_ref().map(|planned| &planned.plan);
    report.looking("the target groups")?;
    let (findings, registrations) = target_groups::look(&parties, plan).await;
    report.add(findings)?;
    if let (Some(plan), Some(registrations)) = (plan, &registrations) {
        report.add(leave::look(config, plan, registrations))?;
    }
    report.looking("the permissions")?;
    report.add(permissions::look(&parties, planned.as_ref(), registrations.as_deref()).await)?;
    Ok(report.add(vec![of_clock(&parties)])?)
}

async fn credentials(aws: &Aws, imds: &Imds) -> (Vec<Finding>, bool) {
    let finding = match aws.credentials.renew().await {
        Ok(expiry) => {
            let role = imds.role().await.ok().flatten().map(|role| format!("the instance profile's role is {role}"));
            let role = role.unwrap_or_else(|| "there is no instance profile: they come from elsewhere".to_owned());
            let expiry = expiry.and_then(|expiry| jiff::Timestamp::try_from(expiry).ok());
            let until = expiry.map_or_else(|| "for ever".to_owned(), |expiry| format!("until {expiry:.0}"));
            let mut found = vec![match aws.credentials.standing().trouble {
                None => Finding::ok("credentials", format!("there are credentials, valid {until}; {role}")),
                Some(trouble) => Finding::warn("credentials", format!("valid {until}: {trouble}; {role}"))
                    .meaning("while AWS still takes them calls work; once it does not, a handover does nothing")
                    .remedy("see that the metadata service renews them, or put the provider right that they come from"),
            }];
            found.extend(other_credentials());
            return (found, true);
        }
        Err(failure) => Finding::fail("credentials", failure.to_string()),
    };
    let meaning = "nothing can be deregistered, and no successor can be requested";
    let remedy = "attach an instance profile whose role has the policy that spot-relay policy prints";
    (vec![finding.meaning(meaning).remedy(remedy)], false)
}

/// Warns of variables that name other credentials: the service does not have the variables of this shell.
fn other_credentials() -> Option<Finding> {
    const BRINGS: [&str; 4] =
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
    let set = BRINGS.into_iter().find(|name| variable(name).is_some())?;
    Some(
        Finding::warn(
            "credentials",
            format!("{set} is set here: the checks below use the credentials that it provides"),
        )
        .meaning("the service uses those of the instance profile, which may allow less, or more")
        .remedy(format!("check again without it: env -u {set} spot-relay check")),
    )
}

fn region(aws: &Aws, identity: &Identity) -> Option<Finding> {
    (aws.region != identity.region).then(|| {
        Finding::warn(
            "region",
            format!("calls go to AWS in {}, and this instance runs in {}", aws.region, identity.region),
        )
        .meaning("target groups and owner are looked for in the wrong region")
        .remedy("unset AWS_REGION, or the region of the profile")
    })
}

fn of_clock(parties: &Parties) -> Finding {
    let offset = parties.aws.clock.offset();
    if offset.is_zero() {
        return Finding::ok("clock", "agrees with AWS's clock to two seconds");
    }
    let (seconds, which) = (offset.as_secs().abs(), if offset.is_negative() { "ahead of" } else { "behind" });
    Finding::warn("clock", format!("{seconds} s {which} AWS's clock"))
        .meaning(
            "spot-relay signs and counts by AWS's time, but other programs' calls are refused from five minutes on, and \
             the log's times are wrong",
        )
        .remedy("correct the clock: chronyc makestep, and see that chrony or systemd-timesyncd runs")
}
