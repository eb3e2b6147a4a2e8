//! The configuration and the files that it names: the webhook's template, the hooks' programs. No network.

use std::path::Path;

use super::finding::Finding;
use crate::cli::configuration::{is_unreadable, load};
use crate::cli::run::{is_program, webhook};
use crate::core::config::{Config, OwnerChoice, Successor};

/// Checks the configuration, and returns it if it can be used.
pub(super) fn look(named: Option<&Path>) -> (Option<Config>, Vec<Finding>) {
    let loaded = match load(named) {
        Ok(loaded) => loaded,
        Err(error) => return (None, vec![unusable(&error.into())]),
    };
    let found = match loaded.text.is_empty() {
        true => format!("{} is not there, or empty: every key has its default", loaded.file),
        false => format!("{} can be used", loaded.file),
    };
    let mut findings = vec![Finding::ok("configuration", found)];
    let unwise = loaded.config.unwise().into_iter();
    findings.extend(unwise.map(|unwise| Finding::warn("configuration", unwise.what).of(unwise.key)));
    match webhook(&loaded.config.notify) {
        Ok(None) => {}
        Ok(Some(_)) => {
            findings.push(Finding::ok("webhook", "its address and its template can be used; nothing was posted"));
        }
        Err(error) if is_unreadable(&error) => findings.push(
            Finding::fail("webhook", format!("{error:#}"))
                .meaning("the daemon works without the webhook, and nobody is told there")
                .remedy("put the file in its place and restart the service"),
        ),
        Err(error) => findings.push(wrong("webhook", &loaded.placed(error))),
    }
    findings.extend(subnets(&loaded.config.successor));
    findings.extend(of_hooks(&loaded.config));
    (Some(loaded.config), findings)
}

fn unusable(error: &anyhow::Error) -> Finding {
    if !is_unreadable(error) {
        return wrong("configuration", error);
    }
    let meaning = "the daemon ends with exit code 75, and the service starts it again every two seconds until the file can be read";
    Finding::fail("configuration", format!("{error:#}")).meaning(meaning).remedy("put the file in its place")
}

fn wrong(check: &'static str, error: &anyhow::Error) -> Finding {
    let remedy = "correct what is said above: the daemon ends with exit code 78 at its start";
    Finding::fail(check, format!("{error:#}")).remedy(remedy)
}

/// Mentions several listed subnets. Only AWS knows which of them are in one zone.
fn subnets(successor: &Successor) -> Option<Finding> {
    let launches = matches!(successor.owner, OwnerChoice::Discover | OwnerChoice::LaunchTemplate);
    let count = successor.subnets.len();
    (launches && count > 1).then(|| {
        let found =
            format!("{count} are listed; of several in one zone a launch uses one at a time, and they take turns");
        Finding::ok("subnets", found)
    })
}

fn of_hooks(config: &Config) -> Vec<Finding> {
    let hooks = [("notice", &config.hooks.notice), ("drained", &config.hooks.drained)];
    let named = hooks.into_iter().filter_map(|(key, command)| Some((key, command.first()?)));
    named
        .map(|(key, program)| match is_program(program) {
            true => Finding::ok("hook", format!("{program} can be run")).of(key),
            false => Finding::fail("hook", format!("{program} is no program that can be run here"))
                .of(key)
                .meaning("every handover will be partial")
                .remedy(format!("install it, make it executable, or put [hooks] {key} right")),
        })
        .collect()
}
