//! IAM 2010-05-08: what the role of our instance may do. Its policy allows everything but what the settings deny, on every
//! resource.

use super::aws::{Answer, Failure};
use super::query::Query;
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<Answer> {
    Some(match action {
        "SimulatePrincipalPolicy" => simulate_principal_policy(world, query),
        _ => return None,
    })
}

/// One result for each action on each resource.
fn simulate_principal_policy(world: &World, query: &Query) -> Answer {
    let source = query.required("PolicySourceArn")?;
    let role = world.settings.role.as_ref().map(|role| format!("arn:aws:iam::{}:role/{role}", world.settings.account));
    if role.as_ref() != Some(&source) {
        let name = source.rsplit('/').next().unwrap_or_default();
        let message = format!("The role with name {name} cannot be found.");
        return Err(Failure::with_status(404, "NoSuchEntity", message));
    }
    let actions = query.list("ActionNames.member");
    if actions.is_empty() {
        return Err(Failure::missing_parameter("ActionNames"));
    }
    let resources = match query.list("ResourceArns.member") {
        none if none.is_empty() => vec!["*".to_owned()],
        some => some,
    };
    let result = |action: &str, resource: &String| {
        Xml::new()
            .text("EvalActionName", action)
            .text("EvalResourceName", resource)
            .text("EvalDecision", if world.denies(action) { "implicitDeny" } else { "allowed" })
            .list("MatchedStatements", "member", [])
            .list("MissingContextValues", "member", [])
    };
    let results = actions.iter().flat_map(|action| resources.iter().map(move |resource| result(action, resource)));
    Ok(Xml::new().list("EvaluationResults", "member", results).text("IsTruncated", false))
}
