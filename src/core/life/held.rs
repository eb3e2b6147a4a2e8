//! The last incident of this instance, and the handover of this process that it is lent to.

use crate::core::handover::Handover;
use crate::core::incident::Incident;

/// The one incident, wherever it is: a handover keeps it as long as it lasts.
#[derive(Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    /// The handover of this incident is another process's, or is over.
    Incident(Box<Incident>),
    Handover(Box<Handover>),
}

impl Held {
    pub(super) fn incident(&self) -> Option<&Incident> {
        match self {
            Held::Nothing => None,
            Held::Incident(incident) => Some(incident),
            Held::Handover(handover) => Some(handover.incident()),
        }
    }

    pub(super) fn incident_mut(&mut self) -> Option<&mut Incident> {
        match self {
            Held::Nothing => None,
            Held::Incident(incident) => Some(incident),
            Held::Handover(handover) => Some(handover.incident_mut()),
        }
    }

    pub(super) fn handover(&self) -> Option<&Handover> {
        if let Held::Handover(handover) = self { Some(handover) } else { None }
    }

    pub(super) fn handover_mut(&mut self) -> Option<&mut Handover> {
        if let Held::Handover(handover) = self { Some(handover) } else { None }
    }

    /// The handover that is not over.
    pub(super) fn open_handover(&mut self) -> Option<&mut Handover> {
        self.handover_mut().filter(|handover| handover.outcome().is_none())
    }

    /// Takes the incident back from its handover.
    pub(super) fn end_handover(&mut self) {
        *self = match std::mem::take(self) {
            Held::Handover(handover) => Held::Incident(Box::new(handover.into_incident())),
            other => other,
        };
    }
}
