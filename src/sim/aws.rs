//! The front of AWS: one port for all services, told apart by the version; who may call, how fast, and the envelopes in
//! which each service wraps answers and errors. What an action does stands in the services' own files.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::query::Query;
use super::settings::Settings;
use super::world::{Answered, World};
use super::xml::Xml;
use super::{api_auto_scaling, api_ec2, api_elb};

/// An error as AWS spells it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type Answer = Result<Xml, Failure>;

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Failure {
        Failure { status: 400, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn with_status(status: u16, code: &str, message: impl Into<String>) -> Failure {
        Failure { status, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Failure {
        Failure::new("ValidationError", message)
    }

    pub(crate) fn missing_parameter(name: &str) -> Failure {
        Failure::new("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    pub(crate) fn malformed(name: &str, value: &str) -> Failure {
        Failure::new("InvalidParameterValue", format!("Value ({value}) for parameter {name} is invalid."))
    }

    /// IAM's no, as each service spells it.
    pub(crate) fn denied(service: &str, settings: &Settings, action: &str) -> Failure {
        let role = settings.role.as_deref().unwrap_or("nobody");
        let who = format!("arn:aws:sts::{}:assumed-role/{role}/session", settings.account);
        let why = format!("because no identity-based policy allows the {action} action");
        let message = format!("User: {who} is not authorized to perform: {action} {why}");
        match service {
            "ec2" => {
                let message = format!("You are not authorized to perform this operation. {message}");
                Failure::with_status(403, "UnauthorizedOperation", message)
            }
            _ => Failure::with_status(403, "AccessDenied", message),
        }
    }

    /// Only EC2 has codes for parameters; the others call all of that a validation error.
    fn said_by(mut self, service: &str) -> Failure {
        if service != "ec2" && matches!(self.code.as_str(), "MissingParameter" | "InvalidParameterValue") {
            "ValidationError".clone_into(&mut self.code);
        }
        self
    }

    fn invalid_action(action: &str) -> Failure {
        Failure::new("InvalidAction", format!("The action {action} is not valid for this web service."))
    }
}

/// A call as it came over the wire.
pub(crate) struct Call {
    pub(crate) service: &'static str,
    pub(crate) action: String,
    pub(crate) query: Query,
}

impl Call {
    pub(crate) fn parse(form: &str) -> Call {
        let mut query = Query::parse(form);
        let action = query.take("Action");
        let service = match query.take("Version").as_str() {
            "2015-12-01" => "elasticloadbalancing",
            "2016-11-15" => "ec2",
            "2011-01-01" => "autoscaling",
            "2011-06-15" => "sts",
            _ => "unknown",
        };
        Call { service, action, query }
    }
}

/// Status and body of the answer to a call.
pub(crate) fn answer(world: &mut World, call: &Call, headers: &BTreeMap<String, String>) -> (u16, String) {
    let request_id = world.uuid();
    let answer = permitted(world, call, headers).and_then(|()| perform(world, call));
    match answer {
        Ok(inside) => (200, envelope(call, &inside, &request_id)),
        Err(failure) => (failure.status, error(call.service, &failure.said_by(call.service), &request_id)),
    }
}

fn perform(world: &mut World, call: &Call) -> Answer {
    let answer = match call.service {
        "elasticloadbalancing" => api_elb::perform(world, &call.action, &call.query),
        "ec2" => api_ec2::perform(world, &call.action, &call.query),
        "autoscaling" => api_auto_scaling::perform(world, &call.action, &call.query),
        "sts" if call.action == "GetCallerIdentity" => Some(Ok(caller_identity(world))),
        _ => None,
    };
    answer.unwrap_or_else(|| Err(Failure::invalid_action(&call.action)))
}

/// The caller's name is believed, but somebody must have signed, with keys that have not expired, and by a clock that is right.
fn permitted(world: &mut World, call: &Call, headers: &BTreeMap<String, String>) -> Result<(), Failure> {
    let ec2 = call.service == "ec2";
    let Some(authorization) = headers.get("authorization") else {
        return Err(Failure::with_status(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
    };
    let access_key_id =
        authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or("");
    if world.credentials.is_expired(access_key_id, world.now) {
        return Err(if ec2 {
            Failure::with_status(400, "RequestExpired", "Request has expired.")
        } else {
            Failure::with_status(403, "ExpiredToken", "The security token included in the request is expired")
        });
    }
    world.credentials.used(access_key_id);
    if headers.get("x-amz-date").is_none_or(|date| !in_time(world, date)) {
        return Err(if ec2 {
            Failure::with_status(400, "RequestExpired", "Request has expired.")
        } else {
            Failure::with_status(403, "SignatureDoesNotMatch", "Signature expired or not yet current")
        });
    }
    let action = format!("{}:{}", call.service, call.action);
    if world.denies(&action) {
        return Err(Failure::denied(call.service, &world.settings, &action));
    }
    if !world.buckets.take(call.service, &call.action, world.now) {
        return Err(if ec2 {
            Failure::with_status(503, "RequestLimitExceeded", "Request limit exceeded.")
        } else {
            Failure::new("Throttling", "Rate exceeded")
        });
    }
    Ok(())
}

/// AWS takes a signature that is five minutes off at most.
fn in_time(world: &World, date: &str) -> bool {
    let Ok(time) = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date) else { return false };
    let Ok(signed) = time.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()) else { return false };
    let now: Timestamp = world.clock.wall(world.now);
    now.duration_since(signed).abs() <= jiff::SignedDuration::from_mins(5)
}

/// The answer given before to the same token and parameters; an error if the parameters differ.
pub(crate) fn answered_before(world: &World, action: &str, query: &Query, token: &str) -> Result<Option<Xml>, Failure> {
    let Some(before) = world.answered.get(&(action.to_owned(), token.to_owned())) else { return Ok(None) };
    if &before.parameters != query.flat() {
        return Err(Failure::new("IdempotentParameterMismatch", "Client token already used before."));
    }
    Ok(Some(before.answer.clone()))
}

pub(crate) fn remember_answer(world: &mut World, action: &str, query: &Query, token: &str, answer: &Xml) {
    let answered = Answered { parameters: query.flat().clone(), answer: answer.clone() };
    world.answered.insert((action.to_owned(), token.to_owned()), answered);
}

/// A page of `all` and the marker of the next one. Markers are opaque; a wrong one is the caller's error.
pub(crate) fn page<T>(all: Vec<T>, marker: Option<&str>, size: Option<usize>) -> Option<(Vec<T>, Option<String>)> {
    let start = match marker {
        None => 0,
        Some(marker) => marker.strip_prefix("bWFya2Vy").and_then(|number| number.parse().ok())?,
    };
    let end = start + size.unwrap_or(usize::MAX - start);
    let next = (end < all.len()).then(|| format!("bWFya2Vy{end}"));
    Some((all.into_iter().take(end).skip(start).collect(), next))
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

fn envelope(call: &Call, inside: &Xml, request_id: &str) -> String {
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
pub(crate) fn error(service: &str, failure: &Failure, request_id: &str) -> String {
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
