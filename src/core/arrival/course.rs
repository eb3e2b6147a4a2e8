//! The terms in which the duties of a comeback speak: what they know of the others, and what they tell them.

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
    /// This instance is to serve there.
    pub(super) wanted: Vec<Registration>,
    /// AWS knows this target group no more.
    pub(super) is_gone: bool,
    pub(super) remarks: Vec<String>,
}

pub(super) struct Situation {
    pub(super) now: BootInstant,
}
