//! The daemon's tasks as data: the purpose of each, and what it comes back with.

use std::time::Duration;

use super::identify::Connected;
use super::prepare::Findings;
use super::watch::{Glanced, Looked};
use crate::cloud::elb::FoundRegistrations;
use crate::core::call::Answer;
use crate::core::life::Ticket;
use crate::core::model::{BootInstant, Identity};
use crate::core::retry::Failure;
use crate::telemetry::webhook::PostError;

/// The result of a task.
pub(super) enum Event {
    Looked(Looked),
    /// The identity, with new AWS clients if a connection was needed.
    Identified(Result<(Identity, Option<Box<Connected>>), String>),
    Prepared(Box<Findings>),
    Scanned(Result<FoundRegistrations, Failure>, Duration),
    Renewed(Result<Option<Duration>, Failure>),
    Glanced(Glanced, BootInstant),
    Answered(Ticket, Answer),
    /// The files that could not be written.
    Written(Vec<String>),
    /// The result of a POST to the webhook.
    Posted(Result<(), PostError>),
}

/// The purpose of a task, which is known also when the task dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    Glance,
    Identify,
    Prepare,
    Scan,
    Renew,
    /// `until` is the instant at which the answer has to be back.
    Call {
        ticket: Ticket,
        until: BootInstant,
    },
    /// The flags and the status.
    Write,
    WriteRecord,
    Post,
}
