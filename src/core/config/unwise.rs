//! Settings that are legal and unwise: they cost requests or money, or tell a secret.
//!
//! Pure: only the settings are read, so nothing here depends on the machine. The defaults raise no remark.

use core::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::settings::{Config, Hooks, Leave, OwnerChoice, Rebalance, ScheduledEvents, Successor, Then, Watch};
use crate::core::notice::TWO_MINUTES;

/// AWS's advice for the time between two looks at the metadata.
const ADVISED_INTERVAL: Duration = Duration::from_secs(5);

/// A legal value that its owner may not have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwise {
    /// The key's path, as in `leave.quiet-for`.
    pub key: &'static str,
    /// The setting, its consequence, and the remedy.
    pub what: String,
}

fn unwise(is_so: bool, key: &'static str, what: impl Into<String>) -> Option<Unwise> {
    is_so.then(|| Unwise { key, what: what.into() })
}

impl Config {
    /// Everything that is unwise, in the order of the keys; empty for the defaults.
    pub fn unwise(&self) -> Vec<Unwise> {
        let found = self.unwise_signals().into_iter().chain(self.unwise_leave());
        found.chain(self.unwise_successor()).chain(self.unwise_rest()).flatten().collect()
    }

    fn unwise_signals(&self) -> [Option<Unwise>; 3] {
        let Watch { interval, rebalance, scheduled_events, .. } = self.watch;
        [
            unwise(
                interval > ADVISED_INTERVAL,
                "watch.interval",
                format!(
                    "{interval:?}: so much of the two minutes may be over before the notice is seen; \
                     AWS advises {ADVISED_INTERVAL:?} at most, and \"1s\" costs nothing"
                ),
            ),
            unwise(
                rebalance == Rebalance::HandOver && self.survive.then == Then::Reinstate,
                "watch.rebalance",
                "hand-over with [survive] then = \"reinstate\": most recommendations end in no interruption, and \
                 then this instance comes back beside its successor, which is paid for too; write then = \"terminate\"",
            ),
            unwise(
                scheduled_events == ScheduledEvents::HandOver && self.has_no_owner(),
                "watch.scheduled-events",
                "hand-over with [successor] owner = \"none\": this instance leaves its target groups ten minutes before \
                 the event, and nothing takes its place; make sure that something does, or write \"report\"",
            ),
        ]
    }

    fn unwise_leave(&self) -> [Option<Unwise>; 4] {
        let Leave { settle, quiet_for, reserve, .. } = self.leave;
        let waited = settle.max(quiet_for);
        [
            unwise(
                settle.is_zero(),
                "leave.settle",
                "0s: a load balancer goes on sending new requests for up to 25 s after the deregistration, and none of \
                 them is waited for; write \"20s\"",
            ),
            unwise(
                quiet_for.is_zero(),
                "leave.quiet-for",
                "0s: a connection counts as quiet between two packets of an answer, so the instance may be called \
                 drained while a request is open; write \"15s\"",
            ),
            unwise(
                reserve.is_zero(),
                "leave.reserve",
                "0s: as long as a connection is busy, nothing of the notice is left for the hook `drained` and for the \
                 last calls; write \"10s\"",
            ),
            unwise(
                waited + reserve > TWO_MINUTES / 2,
                "leave.reserve",
                format!(
                    "settle or quiet-for ({waited:?}) and reserve ({reserve:?}) take more than half of the two minutes, of which \
                     requests have only the rest to be answered; their defaults are 20s, 15s and 10s"
                ),
            ),
        ]
    }

    fn unwise_successor(&self) -> [Option<Unwise>; 2] {
        let Successor { owner, subnets, instance_types, on_demand_fallback, .. } = &self.successor;
        let launches = !matches!(owner, OwnerChoice::None | OwnerChoice::AutoScalingGroup);
        let is_one_pool = subnets.len() == 1 && instance_types.len() <= 1 && !on_demand_fallback;
        [
            unwise(
                launches && is_one_pool,
                "successor.subnets",
                "one subnet and one instance type are one pool of Spot capacity, and perhaps the one that is being \
                 reclaimed; name subnets in other zones, more instance-types, or write on-demand-fallback = true",
            ),
            unwise(
                self.survive.then == Then::Terminate && self.has_no_owner(),
                "survive.then",
                "terminate with [successor] owner = \"none\": a withdrawn interruption costs an instance in whose place \
                 nothing was launched; write \"reinstate\"",
            ),
        ]
    }

    fn unwise_rest(&self) -> [Option<Unwise>; 5] {
        let (Hooks { notice, drained, timeout }, reserve) = (&self.hooks, self.leave.reserve);
        [
            program_without_path("hooks.notice", notice),
            program_without_path("hooks.drained", drained),
            unwise(
                !drained.is_empty() && reserve < *timeout && !reserve.is_zero(),
                "leave.reserve",
                format!(
                    "{reserve:?} is shorter than the {timeout:?} that the hook `drained` may take ([hooks] timeout): where \
                     connections stay busy to the end, it is killed before; make reserve longer or timeout shorter"
                ),
            ),
            unwise(
                self.notify.webhook.as_deref().is_some_and(is_read_on_the_way),
                "notify.webhook",
                "plain http: whoever sees the traffic reads the address, which often is a secret, and what is posted; \
                 write https://",
            ),
            self.metrics.listen.and_then(open_metrics),
        ]
    }

    fn has_no_owner(&self) -> bool {
        self.successor.owner == OwnerChoice::None
    }
}

/// Tells whether the webhook is plain HTTP to another machine.
fn is_read_on_the_way(webhook: &str) -> bool {
    let Some(rest) = webhook.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let host = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    !address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

fn program_without_path(key: &'static str, command: &[String]) -> Option<Unwise> {
    let program = command.first()?;
    unwise(
        !program.starts_with('/'),
        key,
        format!(
            "{program} is looked for in the PATH or the directory of the daemon, which under systemd are not a login's; \
             write the whole path"
        ),
    )
}

fn open_metrics(listen: SocketAddr) -> Option<Unwise> {
    unwise(
        !listen.ip().is_loopback(),
        "metrics.listen",
        format!(
            "whoever reaches {listen} can read the metrics; listen on 127.0.0.1, or see to it that only Prometheus gets \
                 there (security group)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(&'static str, String)> {
        let config = Config::parse(text, "x").expect(text);
        config.unwise().into_iter().map(|unwise| (unwise.key, unwise.what)).collect()
    }

    #[test]
    fn the_defaults_and_a_careful_configuration_are_wise() {
        assert_eq!(Config::default().unwise(), []);
        let careful = r#"
            target-groups = ["web", "web:8080"]
            [watch]
            interval = "5s"
            rebalance = "hand-over"
            [leave]
            when = "successor-healthy"
            reserve = "20s"
            [successor]
            owner = "launch-template"
            launch-template = "lt-1"
            subnets = ["subnet-1"]
            on-demand-fallback = true
            [survive]
            then = "terminate"
            [hooks]
            drained = ["/usr/local/bin/flush"]
            [notify]
            webhook = "http://user@127.0.0.1:9/x"
            [metrics]
            listen = "[::1]:9105"
        "#;
        assert_eq!(of(careful), []);
    }

    #[test]
    fn what_is_unwise_is_named_with_what_to_do() {
        for (text, key, advice) in [
            ("[watch]\ninterval = \"6s\"", "watch.interval", "\"1s\" costs nothing"),
            ("[watch]\nrebalance = \"hand-over\"", "watch.rebalance", "then = \"terminate\""),
            (
                "[watch]\nscheduled-events = \"hand-over\"\n[successor]\nowner = \"none\"",
                "watch.scheduled-events",
                "report",
            ),
            ("[leave]\nquiet-for = \"0s\"", "leave.quiet-for", "write \"15s\""),
            ("[leave]\nsettle = \"0s\"", "leave.settle", "write \"20s\""),
            ("[leave]\nreserve = \"0s\"", "leave.reserve", "write \"10s\""),
            ("[leave]\nquiet-for = \"1s\"\nreserve = \"1m\"", "leave.reserve", "more than half"),
            ("[successor]\nsubnets = [\"subnet-1\"]", "successor.subnets", "other zones"),
            ("[successor]\nowner = \"none\"\n[survive]\nthen = \"terminate\"", "survive.then", "reinstate"),
            ("[hooks]\nnotice = [\"pause\"]", "hooks.notice", "whole path"),
            ("[leave]\nreserve = \"20s\"\n[hooks]\ndrained = [\"bin/flush\"]", "hooks.drained", "whole path"),
            ("[hooks]\ndrained = [\"/bin/flush\"]", "leave.reserve", "make reserve longer"),
            ("[notify]\nwebhook = \"http://hooks.example.org/127.0.0.1\"", "notify.webhook", "https://"),
            ("[notify]\nwebhook = \"http://localhost.example.org/x\"", "notify.webhook", "https://"),
            ("[notify]\nwebhook = \"http://127.example.org\"", "notify.webhook", "https://"),
            ("[metrics]\nlisten = \"0.0.0.0:9105\"", "metrics.listen", "127.0.0.1"),
        ] {
            let [(found, what)] = of(text).try_into().expect(text);
            assert!(found == key && what.contains(advice), "{text:?}: {found}: {what}");
        }
    }

    #[test]
    fn a_webhook_on_this_machine_is_read_by_nobody_on_the_way() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.2", "127.0.0.1:9", "[::1]", "[::1]:9", "user:1@127.0.0.1:9"]
        {
            assert_eq!(of(&format!("[notify]\nwebhook = \"http://{host}/x\"")), [], "{host}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let found = of("[notify]\nwebhook = \"http://user:secret@hooks.example.org/secret\"");
        assert!(found.len() == 1 && !format!("{found:?}").contains("user"), "{found:?}");
    }
}
