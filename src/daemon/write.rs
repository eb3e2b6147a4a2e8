//! The files to write, detached from the daemon: those that path units and people read, and the record.
//!
//! Invariant: the two are written by tasks of their own: they lie on two disks, and the record's may not answer.

use crate::core::incident::Incident;
use crate::host::files::{Files, Flag, Status};

/// The flags and the status.
pub(super) struct WriteRuntime {
    pub(super) files: Files,
    pub(super) status: Status,
    /// `None` leaves the flags as they are.
    pub(super) notice_stands: Option<bool>,
    pub(super) is_drained: bool,
}

pub(super) struct WriteRecord {
    pub(super) files: Files,
    pub(super) record: Incident,
}

impl WriteRuntime {
    /// Writes everything; returns what could not be written. Blocks as long as the disk does.
    pub(super) fn perform(self) -> Vec<String> {
        let flag = |flag: Flag, stands: bool| if stands { self.files.raise(flag) } else { self.files.lower(flag) };
        let mut failures = Vec::new();
        // The flags come first, because they start units of a user's.
        if let Some(notice_stands) = self.notice_stands {
            failures.extend(failed("the notice flag", flag(Flag::Notice, notice_stands)));
            failures.extend(failed("the drained flag", flag(Flag::Drained, self.is_drained)));
        }
        let path = self.files.status_path().display().to_string();
        failures.extend(failed(&path, self.files.write_status(&self.status)));
        failures
    }
}

impl WriteRecord {
    /// Writes the record; returns what could not be written.
    pub(super) fn perform(self) -> Vec<String> {
        let path = self.files.record_path().display().to_string();
        failed(&path, self.files.write_record(&self.record)).into_iter().collect()
    }
}

fn failed(what: &str, result: std::io::Result<()>) -> Option<String> {
    result.err().map(|error| format!("{what}: {error}"))
}
