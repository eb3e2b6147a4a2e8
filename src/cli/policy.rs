//! `spot-relay policy`: the smallest IAM policy, as JSON on standard output; its basis, on standard error.
//!
//! It looks up this instance's owner and changes nothing; with `--for` it makes no calls.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::cli::environment::{complain, print, runtime, variable};
use crate::cloud::clock::Clock;
use crate::cloud::imds::Imds;
use crate::cloud::{Aws, Connection};
use crate::core::config::{Config, TargetGroups};
use crate::core::handover::asked_at_a_notice;
use crate::core::model::{LaunchTemplate, TargetGroupArn};
use crate::core::plan::{Clue, LaunchPlan, Plan, may_launch_first};
use crate::core::policy::{
    ArnScope, LaunchSource, OwnerKind, OwnerNeeds, PassedRole, Policy, Subject, TemplateNames, held_by, launched_into,
    reads_on_the_way,
};
use crate::daemon::{Parties, look_up, registrations};

/// The limit of a scan of all target groups; each takes a quarter to half a second.
const SCAN_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print what an owner of this kind may need, without asking anybody: what is not known becomes a wildcard
    #[arg(long = "for", value_name = "KIND", value_parser = owner_kinds())]
    kind: Option<OwnerKind>,
}

fn owner_kinds() -> impl TypedValueParser<Value = OwnerKind> {
    let names = OwnerKind::ALL.map(|(name, help, _)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|written| {
        let found = OwnerKind::ALL.into_iter().find(|(name, ..)| *name == written);
        found.map(|(_, _, kind)| kind).ok_or("there is no such kind of owner")
    })
}

/// The subject of the policy, and remarks for a person.
struct NotedSubject {
    subject: Subject,
    notes: Vec<String>,
}

pub(super) fn main(arguments: &Arguments, config: &Config) -> anyhow::Result<ExitCode> {
    let found = match arguments.kind {
        Some(kind) => of_kind(kind, config),
        None => runtime()?.block_on(of_this_instance(config))?,
    };
    let policy = Policy::of(config, &found.subject);
    let text = serde_json::to_string_pretty(&policy).context("failed to write the policy")?;
    print(&text)?;
    for note in found.notes {
        complain(&format!("note: {note}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn of_kind(kind: OwnerKind, config: &Config) -> NotedSubject {
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
    let scope = ArnScope::new(None, region.as_deref().unwrap_or("*"), "*");
    let needs = OwnerNeeds::of_kind(kind, config);
    let mut notes = Vec::new();
    if region.is_none() {
        notes.push("this policy allows every region; to allow one, set AWS_REGION and print it again".to_owned());
    }
    notes.extend(placeholder(&needs));
    NotedSubject { subject: Subject::new(scope, needs), notes }
}

/// A note if the policy passes a role whose name is not known.
fn placeholder(needs: &OwnerNeeds) -> Option<String> {
    let role = match needs {
        OwnerNeeds::Launch(launch) => &launch.source.role,
        OwnerNeeds::Group(group) if group.launches_first() => &group.source.role,
        OwnerNeeds::Group(_) | OwnerNeeds::Fleet(_) | OwnerNeeds::Nobody => return None,
    };
    (*role == PassedRole::Unknown).then(|| {
        format!(
            "write the role of the launch template's instance profile in place of {}, or take that statement out if \
             the template has no instance profile",
            PassedRole::PLACEHOLDER
        )
    })
}

async fn of_this_instance(config: &Config) -> anyhow::Result<NotedSubject> {
    const ELSE: &str = "name the kind of its owner with --for instead";
    let endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let imds = Imds::new(endpoint.as_deref())?;
    let identity = imds.identity().await;
    let identity = identity.with_context(|| format!("failed to find out which instance this is; {ELSE}"))?;
    let connection = Connection::with_metadata_of(&imds, &identity.region, Clock::default());
    let aws = Aws::connect(connection).await.context("failed to set up the AWS clients")?;
    let asked = &Parties::new(Arc::new(aws), Arc::new(imds), identity, Arc::new(config.clone()));
    let tags = look_up::find_tags(asked).await.with_context(|| {
        format!(
            "failed to read this instance's tags, which tell of its owner (allow ec2:DescribeTags, or show the tags in \
             its metadata); {ELSE}"
        )
    })?;
    let clue = look_up::find_clue(asked, &tags).await.context("failed to find this instance's owner")?;
    let scope = arn_scope(asked).await;
    match look_up::certain_plan_of(asked, &tags, clue.clone()).await {
        Ok(plan) => {
            let on_the_way = reads_on_the_way(&clue, &tags, &plan, config);
            let mut found = planned(asked, plan, scope).await?;
            found.subject.on_the_way = on_the_way;
            found.subject.held_by = held_by(&clue, &tags, config);
            Ok(found)
        }
        Err(failure) => {
            let needs = OwnerNeeds::of_clue(&clue, &scope, config);
            let held_by = held_by(&clue, &tags, config);
            let note = format!(
                "{} could not be looked up ({failure}), so this is everything that such an owner may need; once it is \
                 allowed, run this again for less",
                in_words(&clue)
            );
            let notes = std::iter::once(note).chain(placeholder(&needs)).collect();
            Ok(NotedSubject { subject: Subject { held_by, ..Subject::new(scope, needs) }, notes })
        }
    }
}

fn in_words(clue: &Clue) -> String {
    match clue {
        Clue::Fleet(..) => format!("{clue} (taken for one of type maintain)"),
        Clue::Nobody(why) => why.clone(),
        Clue::AutoScalingGroup(_) | Clue::LaunchTemplate(_) => clue.to_string(),
    }
}

async fn planned(asked: &Parties, plan: Plan, scope: ArnScope) -> anyhow::Result<NotedSubject> {
    let config = &asked.config;
    let asks = asked_at_a_notice(&plan, config.leave.when);
    let mut notes = vec![format!(
        "on a notice this instance is to {asks}; print the policy again when its owner or the configuration changes"
    )];
    let scan = registrations::find_registrations(asked, None, &[]);
    let registered_in: Vec<TargetGroupArn> = match tokio::time::timeout(SCAN_LIMIT, scan).await {
        Ok(Ok(found)) => found.registrations.into_iter().map(|registration| registration.target_group).collect(),
        Ok(Err(failure)) => {
            notes.push(format!("the target groups could not be looked up ({failure}), so it allows every one"));
            Vec::new()
        }
        Err(_) => {
            notes
                .push("the account has too many target groups to ask them all; list yours in target-groups".to_owned());
            Vec::new()
        }
    };
    let mut target_groups: Vec<String> =
        registered_in.iter().chain(plan.owners_target_groups()).map(ToString::to_string).collect();
    if registered_in.is_empty() {
        target_groups.clear();
    } else if config.target_groups == TargetGroups::Discover {
        notes.push("the policy names the target groups of today: print it again after adding one".to_owned());
    }
    let needs = needs_of(asked, &plan, &registered_in).await;
    notes.extend(launches_first(&plan, &needs, config));
    notes.extend(placeholder(&needs));
    Ok(NotedSubject { subject: Subject { target_groups, ..Subject::new(scope, needs) }, notes })
}

/// A note on LaunchInstances, if the group may be asked for it.
fn launches_first(plan: &Plan, needs: &OwnerNeeds, config: &Config) -> Option<String> {
    match (plan, needs) {
        (_, OwnerNeeds::Group(group)) if group.launches_first() => Some(
            "the policy allows LaunchInstances, by which the group launches the successor before this instance leaves"
                .to_owned(),
        ),
        (Plan::Group { group, how }, _)
            if may_launch_first(config, *how) && group.launches_none_first().is_none() => Some(
            "the policy leaves LaunchInstances out, so AWS will refuse that; [leave] when = \"successor-healthy\" grants it"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The partition, region and account of this instance, as ARNs name them.
pub(super) async fn arn_scope(asked: &Parties) -> ArnScope {
    let partition = asked.imds.partition().await.ok().flatten();
    ArnScope::new(partition.as_deref(), &asked.aws.region, &asked.identity.account_id)
}

/// The permissions for this plan, with the names in its launch templates.
pub(super) async fn needs_of(asked: &Parties, plan: &Plan, registered_in: &[TargetGroupArn]) -> OwnerNeeds {
    let mut needs = OwnerNeeds::of_plan(plan, registered_in, &asked.config);
    let launch = match plan {
        Plan::Launch(launch) => Some(launch),
        _ => None,
    };
    let templates: Vec<LaunchTemplate> = match (plan, &needs) {
        (Plan::Launch(launch), _) => {
            launch.launch_configurations().map(|configuration| configuration.template.clone()).collect()
        }
        (Plan::Group { group, .. }, OwnerNeeds::Group(of_group)) if of_group.launches_first() => {
            let templates = asked.aws.autoscaling.launch_templates(&group.name).await.unwrap_or_default();
            if let OwnerNeeds::Group(of_group) = &mut needs {
                let ids = templates.iter().map(|template| template.id_or_name.clone());
                of_group.source.templates = ids.filter(|id| id.starts_with("lt-")).collect();
            }
            templates
        }
        _ => Vec::new(),
    };
    if let Some(source) = needs.source_mut() {
        read_templates(asked, templates, launch, source).await;
    }
    needs
}

/// Adds the names in the templates. A template that cannot be read may name anything.
async fn read_templates(
    asked: &Parties,
    mut templates: Vec<LaunchTemplate>,
    launch: Option<&LaunchPlan>,
    source: &mut LaunchSource,
) {
    templates.sort_by(|a, b| (&a.id_or_name, &a.version).cmp(&(&b.id_or_name, &b.version)));
    templates.dedup();
    let (mut named, mut profiles, mut own_subnets) = (TemplateNames::default(), BTreeSet::new(), BTreeMap::new());
    if templates.is_empty() {
        return;
    }
    for template in &templates {
        let Ok(Some(facts)) = asked.aws.ec2.describe_launch_template(template).await else { return };
        own_subnets.extend(facts.subnet_id.map(|subnet| (template.id_or_name.clone(), subnet)));
        named = named.and(facts.names);
        profiles.insert(facts.instance_profile);
    }
    match launch {
        Some(launch) => {
            source.subnets = launched_into(launch, &own_subnets);
            named = launch.pools().fold(named, |named, pool| named.and(TemplateNames::of_override(pool)));
        }
        // A group launches into its own subnets, or into its template's.
        None if !source.subnets.is_empty() => source.subnets.extend(own_subnets.into_values()),
        None => {}
    }
    source.named = Some(named);
    let profiles: Vec<String> = profiles.into_iter().flatten().collect();
    source.role = match profiles.as_slice() {
        [] => PassedRole::None,
        [profile] => passed_role(&asked.imds, profile).await,
        _ => PassedRole::Unknown,
    };
}

/// The role of the template's instance profile. Most often this is the instance's own profile, whose role the metadata
/// names. The role of another profile is unknown here.
async fn passed_role(imds: &Imds, profile: &str) -> PassedRole {
    let ours = imds.instance_profile().await.ok().flatten();
    let is_ours = ours.is_some_and(|ours| ours == profile || ours.rsplit('/').next() == Some(profile));
    match imds.role().await {
        Ok(Some(role)) if is_ours => PassedRole::Named(role),
        _ => PassedRole::Unknown,
    }
}
