//! A line for the log, made before anybody decides whether it is written.

use tracing::{info, warn};

#[derive(Clone, PartialEq, Eq)]
pub(super) enum LogLine {
    Info(String),
    Warn(String),
}

impl LogLine {
    pub(super) fn log(&self) {
        match self {
            LogLine::Info(text) => info!("{text}"),
            LogLine::Warn(text) => warn!("{text}"),
        }
    }
}
