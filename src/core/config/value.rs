//! Reads each kind of setting from its written value; an error says what is wrong and what would be right.
//!
//! Nothing here knows in which key the value stands.

use core::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use jiff::SignedDuration;
use toml::Spanned;
use toml::de::DeValue;

use super::aws_name::{AwsName, LAUNCH_TEMPLATE, TARGET_GROUP, is_version};
use super::settings::{ListedTargetGroup, TargetGroups, TemplateChoice};
use super::suggestion::nearest;
use crate::core::model::Readiness;
use crate::core::words::Words;

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// The error of a value, with an example of a right one.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    /// The part of the value that is at fault.
    pub(super) span: Range<usize>,
}

fn wrong(value: &Value<'_>, what: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), span: value.span() }
}

/// The error as in "expected a string, as "3s", found the integer 3". A string is never shown: it may be a secret.
fn unexpected(value: &Value<'_>, expected: &str) -> Wrong {
    let found = match value.get_ref() {
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => format!("{truth}"),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    wrong(value, format!("expected {expected}, found {found}"))
}

fn text<'a>(value: &'a Value<'_>, example: &str) -> Result<&'a str, Wrong> {
    value.get_ref().as_str().ok_or_else(|| unexpected(value, &format!("a string, as {example:?}")))
}

pub(super) fn truth(value: &Value<'_>) -> Result<bool, Wrong> {
    value.get_ref().as_bool().ok_or_else(|| unexpected(value, "true or false, without quotes"))
}

pub(super) fn choice<T: Words>(value: &Value<'_>) -> Result<T, Wrong> {
    let names: Vec<&str> = T::all().iter().map(|choice| choice.word()).collect();
    let list = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let written = value.get_ref().as_str().ok_or_else(|| unexpected(value, &format!("one of {list}")))?;
    let found = T::all().iter().copied().find(|choice| choice.word() == written);
    found.ok_or_else(|| match nearest(written, &names) {
        Some(name) => wrong(value, format!("{written:?} is not one of {list}; did you mean {name:?}?")),
        None => wrong(value, format!("{written:?} is not one of {list}")),
    })
}

/// `hint` says what is usual.
pub(super) fn duration(value: &Value<'_>, range: &RangeInclusive<Duration>, hint: &str) -> Result<Duration, Wrong> {
    let written = text(value, "3s")?;
    let signed: SignedDuration = written
        .parse()
        .map_err(|_| wrong(value, format!("{written:?} is no duration: write \"3s\", \"500ms\" or \"2m\"")))?;
    let duration = Duration::try_from(signed)
        .map_err(|_| wrong(value, format!("{written:?}: a duration cannot be negative; {hint}")))?;
    if !range.contains(&duration) {
        let (least, most) = (shown(*range.start()), shown(*range.end()));
        return Err(wrong(value, format!("{written:?}: it must lie between {least} and {most} ({hint})")));
    }
    Ok(duration)
}

fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds > 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{duration:?}"),
    }
}

/// Reads a URL or a path; an empty text means none.
pub(super) fn address(value: &Value<'_>, example: &str) -> Result<Option<String>, Wrong> {
    text(value, example).map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// `example` is the whole list.
pub(super) fn names(value: &Value<'_>, kind: &AwsName, example: &str) -> Result<Vec<String>, Wrong> {
    let list = value.get_ref().as_array();
    let list = list.ok_or_else(|| match value.get_ref().as_str() {
        Some(word) if !word.is_empty() => wrong(value, format!("expected a list, found one string: write [{word:?}]")),
        _ => unexpected(value, &format!("a list, as {example}")),
    })?;
    let entry = |entry: &Value<'_>| match entry.get_ref().as_str() {
        Some("") => Err(wrong(entry, "an entry of the list is empty: leave it out")),
        Some(text) => kind.check(text).map(|()| text.to_owned()).map_err(|what| wrong(entry, what)),
        None => Err(unexpected(entry, &format!("a string in a list, as {example}"))),
    };
    list.iter().map(entry).collect()
}

pub(super) fn listen(value: &Value<'_>) -> Result<Option<SocketAddr>, Wrong> {
    const EXAMPLE: &str = "127.0.0.1:9105";
    let text = text(value, EXAMPLE)?;
    if text.is_empty() {
        return Ok(None);
    }
    let no_address = || wrong(value, format!("{text:?}: write an address and a port, as {EXAMPLE:?}"));
    text.parse().map(Some).map_err(|_| no_address())
}

pub(super) fn command(value: &Value<'_>) -> Result<Vec<String>, Wrong> {
    const EXAMPLE: &str = "[\"/usr/local/bin/drain\", \"--now\"]";
    let arguments = match value.get_ref() {
        DeValue::String(line) => {
            return Err(wrong(
                value,
                format!(
                    "{line:?}: no shell reads it; write a list of arguments, as {EXAMPLE}, or [\"/bin/sh\", \"-c\", {line:?}]"
                ),
            ));
        }
        DeValue::Array(arguments) => arguments,
        _ => return Err(unexpected(value, &format!("a list of arguments, as {EXAMPLE}"))),
    };
    let argument = |one: &Value<'_>| match one.get_ref().as_str() {
        Some(text) if text.contains('\0') => {
            Err(wrong(one, "an argument cannot hold a NUL: no program can be given one"))
        }
        Some(text) => Ok(text.to_owned()),
        None => Err(unexpected(one, "a string: each argument stands in quotes")),
    };
    let written = arguments.iter().map(argument).collect::<Result<Vec<String>, Wrong>>()?;
    match (written.first(), arguments.first()) {
        (Some(program), Some(first)) if program.is_empty() => {
            Err(wrong(first, "the first argument is empty: it is the program"))
        }
        _ => Ok(written),
    }
}

pub(super) fn readiness(value: &Value<'_>) -> Result<Readiness, Wrong> {
    let text = text(value, "tcp://127.0.0.1:80")?;
    let no_address = || {
        wrong(
            value,
            format!("{text:?}: write \"tcp://127.0.0.1:80\" or \"http://127.0.0.1/healthz\", or \"\" for at once"),
        )
    };
    if text.is_empty() {
        return Ok(Readiness::AtOnce);
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        let port = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        return port.map(|_| Readiness::Tcp(address.to_owned())).ok_or_else(no_address);
    }
    let host = text.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']));
    let host = host.filter(|rest| has_possible_authority(rest));
    host.map(|_| Readiness::Http(text.to_owned())).ok_or_else(no_address)
}

/// False for an impossible port or a host with a space: no request can be made to such a URL.
fn has_possible_authority(after_scheme: &str) -> bool {
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let after_address = host_and_port.rsplit(']').next().unwrap_or_default();
    let port = after_address.split_once(':').map(|(_, port)| port);
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
    port.is_none_or(is_port) && !authority.contains(char::is_whitespace)
}

pub(super) fn launch_template(value: &Value<'_>) -> Result<Option<TemplateChoice>, Wrong> {
    let text = text(value, "lt-0123456789abcdef0:7")?;
    let (id_or_name, version) = match text.split_once(':') {
        Some((id_or_name, version)) => (id_or_name, Some(version)),
        None => (text, None),
    };
    match (id_or_name, version) {
        ("", None) => Ok(None),
        ("", Some(_)) => Err(wrong(value, format!("{text:?} names no template before the colon"))),
        (name, Some("")) => Err(wrong(value, format!("{text:?} names no version: write {name:?} or \"{name}:7\""))),
        (name, Some(version)) if !is_version(version) => Err(wrong(
            value,
            format!(
                "{text:?}: {version:?} is no version: write \"{name}:7\", \"{name}:$Latest\" or \"{name}:$Default\""
            ),
        )),
        (id_or_name, version) => {
            LAUNCH_TEMPLATE.check(id_or_name).map_err(|what| wrong(value, what))?;
            Ok(Some(TemplateChoice { id_or_name: id_or_name.to_owned(), version: version.map(str::to_owned) }))
        }
    }
}

pub(super) fn target_groups(value: &Value<'_>) -> Result<TargetGroups, Wrong> {
    let list = match value.get_ref() {
        DeValue::String(word) if word == "discover" => return Ok(TargetGroups::Discover),
        DeValue::String(word) => {
            return Err(wrong(value, format!("{word:?}: write \"discover\" or a list, [{word:?}]")));
        }
        DeValue::Array(list) => list,
        _ => return Err(unexpected(value, "\"discover\" or a list of target group ARNs or names")),
    };
    if list.is_empty() {
        return Err(wrong(value, "the list is empty: write \"discover\", or name the groups"));
    }
    let entry = |entry: &Value<'_>| match entry.get_ref().as_str() {
        Some(text) => listed(text).map_err(|what| wrong(entry, what)),
        None => Err(unexpected(entry, "a target group's ARN or name in quotes")),
    };
    list.iter().map(entry).collect::<Result<_, _>>().map(TargetGroups::Listed)
}

fn listed(entry: &str) -> Result<ListedTargetGroup, String> {
    if entry.is_empty() {
        return Err("an entry is empty: write an ARN or a name".to_owned());
    }
    let is_arn = entry.starts_with("arn:");
    let is_of_elb = entry.split(':').nth(2) == Some("elasticloadbalancing") && entry.contains(":targetgroup/");
    if is_arn && !is_of_elb {
        return Err(format!(
            "{entry:?} is no target group's ARN, which looks like \
             \"arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID\""
        ));
    }
    let port = match is_arn {
        true => entry.rsplit_once('/').and_then(|(_, hash)| hash.split_once(':')),
        false => entry.split_once(':'),
    };
    let port = port.map(|(_, port)| port);
    let without = |port| entry.strip_suffix(port).and_then(|rest: &str| rest.strip_suffix(':')).unwrap_or(entry);
    let arn_or_name = port.map_or(entry, without);
    if !is_arn {
        TARGET_GROUP.check(arn_or_name)?;
    }
    let listed = |port| ListedTargetGroup { arn_or_name: arn_or_name.to_owned(), port };
    let Some(port) = port else { return Ok(listed(None)) };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(listed(Some(port))),
        _ => Err(format!("{entry:?}: {port:?} is no port; write {arn_or_name:?} or \"{arn_or_name}:8080\"")),
    }
}
