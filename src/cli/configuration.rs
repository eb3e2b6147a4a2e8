//! The configuration file as a command reads it, and the exit codes of one that cannot be used.

use std::path::Path;

use crate::core::config::{Config, ConfigError};
use crate::host::text_file;

/// The configuration is wrong (`EX_CONFIG` of sysexits.h): the unit does not restart on it.
pub(super) const EXIT_CONFIG: u8 = 78;
/// A file of the configuration cannot be read, or is not there yet (`EX_TEMPFAIL`): the unit starts again and tries again.
pub(super) const EXIT_UNREADABLE: u8 = 75;
pub(super) const DEFAULT_CONFIG: &str = "/etc/spot-relay/config.toml";

/// A value of the configuration, as in `notify.webhook`, that its user refuses.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {what}")]
pub(super) struct WrongValue {
    pub(super) key: &'static str,
    pub(super) what: String,
}

/// A configuration with the text that it was written as.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) text: String,
    pub(super) file: String,
}

/// The file that is named, or the one of the contract, which may be absent.
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

/// Tells whether it is a file of the configuration that cannot be read, which may pass.
pub(super) fn is_unreadable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_unreadable)
}

impl Loaded {
    /// An error that only the user of a value finds is told with the line that it was written in.
    pub(super) fn placed(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<WrongValue>() {
            Ok(wrong) => ConfigError::of_value(&self.file, &self.text, wrong.key, &wrong.what).into(),
            Err(error) => error,
        }
    }
}
