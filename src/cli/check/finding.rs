//! One result of a check: its level, what was found, what that means, and what to do. Data.

use serde::Serialize;

use crate::core::words::words;

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "lowercase")]
    pub(super) enum Level {
        Ok = "ok",
        Warn = "warn",
        Fail = "fail",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The stable name of the check, such as `hop-limit`.
    pub(super) check: &'static str,
    /// The subject among several, such as a target group's name or an action.
    pub(super) subject: Option<String>,
    pub(super) level: Level,
    pub(super) found: String,
    #[serde(rename = "means")]
    pub(super) meaning: Option<String>,
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Level::Ok, found)
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Level::Warn, found)
    }

    pub(super) fn fail(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Level::Fail, found)
    }

    fn new(check: &'static str, level: Level, found: impl Into<String>) -> Finding {
        Finding { check, subject: None, level, found: found.into(), meaning: None, remedy: None }
    }

    pub(super) fn of(mut self, subject: impl Into<String>) -> Finding {
        self.subject = Some(subject.into());
        self
    }

    pub(super) fn meaning(mut self, meaning: impl Into<String>) -> Finding {
        self.meaning = Some(meaning.into());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}
