//! Log lines on standard error: text for people, JSON for machines.
//!
//! Invariant: a log that nobody reads any more (a closed pipe, a journal restarting) is never a reason to end.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::LogFormat;

/// Starts logging as `RUST_LOG` says (`level` or `target=level,...`; `info` unless set).
pub(super) fn start(log_format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let targets = wanted.as_deref().and_then(|text| text.parse::<Targets>().ok());
    let unreadable = wanted.filter(|_| targets.is_none());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let layer = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let layer = match log_format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        // The journal writes the time itself.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            layer.with_target(false).with_ansi(false).without_time().fmt_fields(format::debug_fn(for_people)).boxed()
        }
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer = layer.with_target(false).with_ansi(colour).with_timer(SystemTime);
            layer.fmt_fields(format::debug_fn(for_people)).boxed()
        }
    };
    tracing_subscriber::registry().with(targets).with(layer).init();
    if let Some(text) = unreadable {
        tracing::warn!("RUST_LOG is {text:?}, which cannot be read; write a level such as debug, or spot_relay=debug");
    }
}

/// The sentence, and how much time is left; the other fields are for machines.
fn for_people(writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        "seconds_left" => write!(writer, " ({value:?} s left)"),
        _ => Ok(()),
    }
}
