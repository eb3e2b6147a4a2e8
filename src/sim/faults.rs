//! Faults on request, for the nth call of an action of AWS or the metadata.
//!
//! A fault counts the matching requests since it was added. If several match one request the oldest wins; the others
//! count it, too.

use std::time::Duration;

use serde::Deserialize;

use super::clock::duration_text;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `metadata`, `elasticloadbalancing`, `ec2`, `autoscaling`, `sts`; `None` for any.
    #[serde(default)]
    pub service: Option<String>,
    /// An API action, or the beginning of a metadata path without `latest/meta-data/` (`spot/instance-action`,
    /// `dynamic/instance-identity`), or `token`; `*` for any.
    pub action: String,
    #[serde(default)]
    pub nth: Nth,
    pub kind: FaultKind,
}

/// Selects among the matching requests, counted from one.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nth {
    First(u32),
    Exactly(u32),
    From(u32),
    #[default]
    All,
}

impl Nth {
    fn holds(self, count: u32) -> bool {
        match self {
            Nth::First(last) => count <= last,
            Nth::Exactly(one) => count == one,
            Nth::From(first) => count >= first,
            Nth::All => true,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// Answers with an error in the service's form; nothing is done.
    Status { status: u16, code: String, message: String },
    /// Answers with this body; nothing is done.
    Body { status: u16, body: String },
    /// Performs the request late.
    #[serde(with = "duration_text")]
    Delay(Duration),
    /// Never answers and does nothing; the connection stays open.
    Hang,
    /// Closes the connection without an answer; nothing is done.
    Drop,
    /// Performs the request, but closes the connection without an answer.
    LostReply,
    /// Answers 200 with an endless body.
    EndlessBody,
    /// Redirects to this address with 302.
    Redirect(String),
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Fault, u32)>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts the request, and returns its fault, if any.
    pub(crate) fn meet(&mut self, service: &str, action: &str) -> Option<FaultKind> {
        let mut met = None;
        for (fault, count) in &mut self.0 {
            if !matches(fault, service, action) {
                continue;
            }
            *count += 1;
            if met.is_none() && fault.nth.holds(*count) {
                met = Some(fault.kind.clone());
            }
        }
        met
    }
}

fn matches(fault: &Fault, service: &str, action: &str) -> bool {
    if fault.service.as_deref().is_some_and(|wanted| wanted != service) {
        return false;
    }
    if fault.action == "*" {
        return true;
    }
    if service != "metadata" {
        return fault.action == action;
    }
    match action.split_once(" /latest/") {
        Some(("PUT", "api/token")) => fault.action == "token",
        Some((_, path)) => {
            path.starts_with(&fault.action)
                || path.strip_prefix("meta-data/").is_some_and(|path| path.starts_with(&fault.action))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hang(action: &str, nth: Nth) -> Fault {
        Fault { service: None, action: action.to_owned(), nth, kind: FaultKind::Hang }
    }

    fn hangs(faults: &mut Faults, service: &str, action: &str) -> bool {
        faults.meet(service, action).is_some()
    }

    #[test]
    fn the_second_call_alone_meets_a_fault_for_exactly_two() {
        let mut faults = Faults::default();
        faults.add(hang("DetachInstances", Nth::Exactly(2)));
        let met: Vec<bool> = (0..3).map(|_| hangs(&mut faults, "autoscaling", "DetachInstances")).collect();
        assert_eq!(met, [false, true, false]);
    }

    #[test]
    fn a_metadata_fault_knows_its_path_by_how_it_begins() {
        let mut faults = Faults::default();
        faults.add(hang("spot/", Nth::All));
        faults.add(hang("dynamic/instance-identity", Nth::All));
        assert!(hangs(&mut faults, "metadata", "GET /latest/meta-data/spot/instance-action"));
        assert!(hangs(&mut faults, "metadata", "GET /latest/dynamic/instance-identity/document"));
        assert!(!hangs(&mut faults, "metadata", "GET /latest/meta-data/instance-id"));
        assert!(!hangs(&mut faults, "metadata", "PUT /latest/api/token"));
    }

    #[test]
    fn the_token_is_a_name_of_its_own() {
        let mut faults = Faults::default();
        faults.add(hang("token", Nth::First(1)));
        assert!(hangs(&mut faults, "metadata", "PUT /latest/api/token"));
        assert!(!hangs(&mut faults, "metadata", "PUT /latest/api/token"));
    }

    #[test]
    fn faults_read_from_json() {
        let text = r#"{"action": "CreateFleet", "nth": {"first": 2}, "kind": {"delay": "150ms"}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert!(matches!(fault.kind, FaultKind::Delay(delay) if delay == Duration::from_millis(150)));
        assert!(matches!(fault.nth, Nth::First(2)));
    }
}
