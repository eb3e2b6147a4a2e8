//! Reads `handover.json` of this version and of earlier ones: an upgrade goes on where the earlier version has stopped.
//!
//! Schema 1 had no number.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Closed, Incident, LaunchStep, Outcome, Phase, Registrations, Start, Takes};
use crate::core::call::HookKind;
use crate::core::model::{BootInstant, IncidentId, Milestone, MilestoneKind, Registration, Signal, TargetGroupArn};
use crate::core::plan::Plan;

impl Incident {
    /// Reads `handover.json` of this version or of an earlier one.
    ///
    /// # Errors
    /// The text is no incident, or one of a later version.
    pub fn read(text: &str) -> serde_json::Result<Incident> {
        let json: serde_json::Value = serde_json::from_str(text)?;
        let mut incident: Incident = match json.get("schema") {
            Some(_) => serde_json::from_value(json)?,
            None => serde_json::from_value::<Schema1>(json)?.into(),
        };
        // The process that wrote the file has told its milestones.
        incident.told = incident.milestones.len();
        Ok(incident)
    }
}

/// The layout of schema 1.
#[derive(Deserialize)]
struct Schema1 {
    incident: IncidentId,
    #[serde(default)]
    signal: Signal,
    #[serde(default)]
    terminating: bool,
    time: Option<Timestamp>,
    event: Option<String>,
    begun_at: Timestamp,
    begun: BootInstant,
    deadline: BootInstant,
    known: Known1,
    #[serde(default)]
    planned_before: bool,
    #[serde(default)]
    begun_by_notice: bool,
    milestones: Vec<Milestone>,
    outcome: Option<Outcome>,
    /// An interruption was announced, or the instance left its target groups all the same.
    #[serde(default = "yes")]
    certain: bool,
    #[serde(default)]
    survived: bool,
    #[serde(default)]
    recommended: bool,
    #[serde(default)]
    launched_first: bool,
    closed: Option<Closed>,
}

#[derive(Deserialize)]
struct Known1 {
    registrations: Option<Vec<Registration>>,
    #[serde(default)]
    found: Vec<Registration>,
    plan: Option<Plan>,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    unclear: Vec<TargetGroupArn>,
    #[serde(default)]
    hooks_ended: Vec<HookKind>,
    launch: Option<LaunchStep>,
}

fn yes() -> bool {
    true
}

impl From<Schema1> for Incident {
    fn from(old: Schema1) -> Incident {
        let deregistered = old.milestones.iter().find(|it| it.milestone == MilestoneKind::Deregistered);
        let is_open = old.signal == Signal::RebalanceRecommendation && !old.terminating;
        let left = || deregistered.map(|it| it.at).or(is_open.then_some(old.begun));
        let leaving_since = if old.certain { left() } else { None };
        let phase = match (old.closed, old.survived, &old.outcome) {
            (Some(how), ..) => Phase::Closed(how),
            (None, true, _) => Phase::ComingBack,
            (None, false, Some(_)) => Phase::Left,
            (None, false, None) if leaving_since.is_some() => Phase::Leaving,
            (None, false, None) => Phase::Waiting,
        };
        Incident {
            group_takes: old.terminating.then_some(Takes::ToItsEnd),
            time: old.time,
            event: old.event,
            begun_at: old.begun_at,
            begun: old.begun,
            phase,
            leaving_since,
            registrations: match old.known.registrations {
                Some(all) => Registrations::All(all),
                None => Registrations::SoFar(old.known.found),
            },
            plan: old.known.plan,
            planned_before: old.planned_before,
            begun_by_notice: old.begun_by_notice,
            missing: old.known.missing,
            unclear: old.known.unclear,
            hooks_ended: old.known.hooks_ended,
            launch: old.known.launch,
            recommended: old.recommended,
            launched_first: old.launched_first,
            milestones: old.milestones,
            outcome: old.outcome,
            ..Incident::new(old.incident, old.signal, old.deadline, Start::default())
        }
    }
}
