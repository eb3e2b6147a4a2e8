//! Reads the configuration file for a command; the exit codes of a file that cannot be used.

use std::path::Path;

use crate::core::config::{Config, ConfigError};
use crate::host::text_file;

/// The configuration is wrong (`EX_CONFIG` of sysexits.h): the unit does not restart.
pub(super) const EXIT_CONFIG: u8 = 78;
/// A file of the configuration is missing or cannot be read (`EX_TEMPFAIL`): the unit restarts.
pub(super) const EXIT_UNREADABLE: u8 = 75;
pub(super) const DEFAULT_CONFIG: &str = "/etc/spot-relay/config.toml";

/// A value of the configuration, such as `notify.webhook`, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {what}")]
pub(super) struct WrongValue {
    pub(super) key: &'static str,
    pub(super) what: String,
}

/// A configuration with its text.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) text: String,
    pub(super) file: String,
}

/// Loads the named file, or the default one, which may be absent.
pub(super) fn load(named: Option<&Path>) -> Result<Loaded, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIG));
    let file = path.display().to_string();
    let text = match text_file::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
        Err(error) => return Err(ConfigError::unreadable(&file, &error)),
    };
    Ok(Loaded { config: Config::parse(&text, &file)?, text, file })
}

/// Tells whether the error is an unreadable file of the configuration, which may be temporary.
pub(super) fn is_unreadable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_unreadable)
}

impl Loaded {
    /// Adds the line of the value to a [`WrongValue`]; other errors stay as they are.
    pub(super) fn placed(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<WrongValue>() {
            Ok(wrong) => ConfigError::of_value(&self.file, &self.text, wrong.key, &wrong.what).into(),
            Err(error) => error,
        }
    }
}
