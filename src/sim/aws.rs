//! The front of AWS: one port for all services, which the version tells apart. It checks permissions and rates, and
//! wraps answers and errors in each service's envelope. The services' own files perform the actions.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::world::World;
use super::xml::Xml;
use super::{api_auto_scaling, api_ec2, api_elb};

/// A call as it arrived.
pub(crate) struct ApiCall {
    pub(crate) service: &'static str,
    pub(crate) action: String,
    pub(crate) query: Query,
}

impl ApiCall {
    pub(crate) fn parse(form: &str) -> ApiCall {
        let mut query = Query::parse(form);
        let action = query.take("Action");
        let service = match query.take("Version").as_str() {
            "2015-12-01" => "elasticloadbalancing",
            "2016-11-15" => "ec2",
            "2011-01-01" => "autoscaling",
            "2011-06-15" => "sts",
            _ => "unknown",
        };
        ApiCall { service, action, query }
    }
}

/// The status and body of the answer.
pub(crate) fn answer(world: &mut World, call: &ApiCall, headers: &BTreeMap<String, String>) -> (u16, String) {
    let request_id = world.uuid();
    let answer = permitted(world, call, headers).and_then(|()| perform(world, call));
    match answer {
        Ok(inside) => (200, envelope(call, &inside, &request_id)),
        Err(failure) => (failure.status, error(call.service, &failure.said_by(call.service), &request_id)),
    }
}

fn perform(world: &mut World, call: &ApiCall) -> ApiAnswer {
    let query = call.query.clone().beginning_empty(world.settings.first_pages_are_empty);
    let answer = match call.service {
        "elasticloadbalancing" => api_elb::perform(world, &call.action, &query),
        "ec2" => api_ec2::perform(world, &call.action, &query),
        "autoscaling" => api_auto_scaling::perform(world, &call.action, &query),
        "sts" if call.action == "GetCallerIdentity" => Some(Ok(caller_identity(world))),
        _ => None,
    };
    answer.unwrap_or_else(|| Err(Refusal::invalid_action(&call.action)))
}

/// Checks the signature, the permission and the rate. Any key is accepted, but a signature has to exist, with an
/// unexpired key and a correct time.
fn permitted(world: &mut World, call: &ApiCall, headers: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let ec2 = call.service == "ec2";
    let Some(authorization) = headers.get("authorization") else {
        return Err(Refusal::with_status(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
    };
    let access_key_id =
        authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or("");
    if world.credentials.is_expired(access_key_id, world.now) {
        return Err(if ec2 {
            Refusal::with_status(400, "RequestExpired", "Request has expired.")
        } else {
            Refusal::with_status(403, "ExpiredToken", "The security token included in the request is expired")
        });
    }
    world.credentials.used(access_key_id);
    if headers.get("x-amz-date").is_none_or(|date| !in_time(world, date)) {
        return Err(if ec2 {
            Refusal::with_status(400, "RequestExpired", "Request has expired.")
        } else {
            Refusal::with_status(403, "SignatureDoesNotMatch", "Signature expired or not yet current")
        });
    }
    let action = format!("{}:{}", call.service, call.action);
    if world.denies(&action) {
        return Err(Refusal::denied(call.service, &world.settings, &action));
    }
    if !world.buckets.take(call.service, &call.action, world.now) {
        return Err(if ec2 {
            Refusal::with_status(503, "RequestLimitExceeded", "Request limit exceeded.")
        } else {
            Refusal::new("Throttling", "Rate exceeded")
        });
    }
    Ok(())
}

/// Tells whether a signature's time is at most five minutes off.
fn in_time(world: &World, date: &str) -> bool {
    let Ok(time) = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date) else { return false };
    let Ok(signed) = time.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()) else { return false };
    let now: Timestamp = world.clock.wall(world.now);
    now.duration_since(signed).abs() <= jiff::SignedDuration::from_mins(5)
}

fn caller_identity(world: &World) -> Xml {
    let account = &world.settings.account;
    let role = world.settings.role.as_deref().unwrap_or("nobody");
    Xml::new()
        .text("Arn", format!("arn:aws:sts::{account}:assumed-role/{role}/{}", world.ours))
        .text("UserId", format!("AROASIMULATED:{}", world.ours))
        .text("Account", account)
}

fn namespace(service: &str) -> &'static str {
    match service {
        "elasticloadbalancing" => "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
        "autoscaling" => "http://autoscaling.amazonaws.com/doc/2011-01-01/",
        "sts" => "https://sts.amazonaws.com/doc/2011-06-15/",
        _ => "http://ec2.amazonaws.com/doc/2016-11-15/",
    }
}

fn envelope(call: &ApiCall, inside: &Xml, request_id: &str) -> String {
    let (action, namespace, inside) = (&call.action, namespace(call.service), inside.as_str());
    if call.service == "ec2" {
        return format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{namespace}\">\
             <requestId>{request_id}</requestId>{inside}</{action}Response>"
        );
    }
    format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{inside}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
}

/// The error document of a service: EC2's differs from the others'.
pub(crate) fn error(service: &str, failure: &Refusal, request_id: &str) -> String {
    let inside = Xml::new().text("Code", &failure.code).text("Message", &failure.message);
    let inside = inside.as_str();
    if service == "ec2" {
        return format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>{inside}</Error></Errors>\
             <RequestID>{request_id}</RequestID></Response>"
        );
    }
    let namespace = namespace(service);
    let who = if failure.status < 500 { "Sender" } else { "Receiver" };
    format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{who}</Type>{inside}</Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>"
    )
}
