//! The situation and the news that the duties of a comeback exchange.

use crate::core::duty::Course;
use crate::core::model::{BootInstant, Registration};

/// The comeback as a list of duties.
pub(super) enum ComingBack {}

impl Course for ComingBack {
    type Situation<'a> = Situation;
    type News = News;
}

/// The meaning of an answer for the other duties, and for a person.
#[derive(Default)]
pub(super) struct News {
    /// The registrations that this instance is to make.
    pub(super) wanted: Vec<Registration>,
    /// AWS no longer knows this target group.
    pub(super) is_gone: bool,
    pub(super) remarks: Vec<String>,
}

pub(super) struct Situation {
    pub(super) now: BootInstant,
}
