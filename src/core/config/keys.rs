//! The keys of the configuration in one table. It is used to read a file, to write the sample and spot-relay.toml(5),
//! and to suggest the right key for a misspelt one.
//!
//! Invariant: every key of this table is read, and no other; its default is the one of [`Config`].

use std::ops::RangeInclusive;
use std::time::Duration;

use super::aws_name::{INSTANCE_TYPE, SUBNET};
use super::settings::{BalanceZones, Config, Hooks};
use super::value::{self, Value, Wrong};
use crate::core::notice::TWO_MINUTES;

/// A `[table]` of the file; the first has no name and no header.
pub struct Table {
    pub name: &'static str,
    /// The subject of its keys, as a sentence.
    pub meaning: &'static str,
    pub keys: &'static [Key],
}

pub struct Key {
    pub name: &'static str,
    /// The default as it is written in TOML.
    pub default: &'static str,
    /// The comment beside it in the sample; may be empty.
    pub note: &'static str,
    /// Its effect and its values: sentences for the manual page.
    pub meaning: &'static str,
    pub(super) read: fn(&mut Config, &Value<'_>) -> Result<(), Wrong>,
}

impl Table {
    /// The key's path, as in `leave.quiet-for`.
    pub fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// A hook has to fit into the two minutes.
const HOOK_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=TWO_MINUTES;

/// Reads a part of the two minutes; [`Config::parse`] checks the sum of the parts.
fn part_of_the_notice(value: &Value<'_>, default: &str) -> Result<Duration, Wrong> {
    value::duration(value, &(Duration::ZERO..=TWO_MINUTES), &format!("the default is {default}"))
}

/// Every table with every key, in the order of the sample.
pub static TABLES: [Table; 9] = [TARGET_GROUPS, WATCH, LEAVE, SUCCESSOR, ARRIVE, SURVIVE, HOOKS, NOTIFY, METRICS];

const TARGET_GROUPS: Table = Table {
    name: "",
    meaning: "Where this instance serves.",
    keys: &[Key {
        name: "target-groups",
        default: r#""discover""#,
        note: r#"or a list of ARNs or names: [ "web", "api:8080" ]"#,
        meaning: "The target groups that this instance is taken out of. With \"discover\" those of the owner are \
            found at the start, and others of the account in this region by a search, which is slow where the owner names one. A list of names or ARNs spares that search; an entry \
            with :PORT means this instance's target on that port, one without means all of its ports there.",
        read: |config, value| value::target_groups(value).map(|read| config.target_groups = read),
    }],
};

const WATCH: Table = Table {
    name: "watch",
    meaning: "Which metadata is read, and what each signal does.",
    keys: &[
        Key {
            name: "interval",
            default: r#""1s""#,
            note: "time between two looks at the metadata, 100ms to 60s",
            meaning: "The time between two looks for a notice, from 100ms to 60s. The recommendation and the lifecycle state \
                are looked at after every fifth look, scheduled events after every thirtieth; with an interval of 2s or more, about \
                every 5s and every 30s, and at most after every look.",
            read: |config, value| {
                let hint = "AWS advises 5s, the default is 1s";
                value::duration(value, &INTERVALS, hint).map(|read| config.watch.interval = read)
            },
        },
        Key {
            name: "rebalance",
            default: r#""prepare""#,
            note: "ignore | prepare: look everything up again | hand-over: successor first, then leave",
            meaning: "What a rebalance recommendation does. \"ignore\": nothing. \"prepare\": identity, owner, registrations \
                and credentials are looked up again. \"hand-over\": the successor is launched first, and this instance leaves \
                its target groups once the successor is healthy; for an hour at most, and once a boot.",
            read: |config, value| value::choice(value).map(|read| config.watch.rebalance = read),
        },
        Key {
            name: "lifecycle",
            default: "true",
            note: "leave and drain when the Auto Scaling group terminates this instance",
            meaning: "With true this instance leaves its target groups when its Auto Scaling group terminates it, and \
                completes the termination hook when it is quiet. With false the group is left to itself.",
            read: |config, value| value::truth(value).map(|read| config.watch.lifecycle = read),
        },
        Key {
            name: "scheduled-events",
            default: r#""report""#,
            note: "ignore | report | hand-over",
            meaning: "What a scheduled event (maintenance, retirement, reboot) does. \"ignore\": nothing. \"report\": a line \
                when it is announced, and one when it has ended or was cancelled. \"hand-over\": from ten minutes before its beginning \
                the successor first, and then this instance leaves.",
            read: |config, value| value::choice(value).map(|read| config.watch.scheduled_events = read),
        },
    ],
};

const LEAVE: Table = Table {
    name: "leave",
    meaning: "How this instance leaves its target groups.",
    keys: &[
        Key {
            name: "when",
            default: r#""auto""#,
            note: "auto: serve on where a successor can come first | at-once | successor-healthy",
            meaning: "\"auto\": this instance serves on until the successor is healthy where the owner launches one without \
                taking this instance out: a launch template, an EC2 Fleet, a Spot Fleet, a group with Capacity Rebalancing. \
                Any other Auto Scaling group is asked once to launch one more first (LaunchInstances); where AWS refuses \
                that, as it does with the policy that spot-relay prints for \"auto\", this instance leaves at once. \
                Without an owner it leaves at once too. \"at-once\": it leaves as soon as it has seen that another target \
                serves, and waits 2.5s at most for that answer. \"successor-healthy\": as \"auto\", and the policy grants \
                LaunchInstances. Serving on ends in time to drain: at the deadline less reserve and less the longer of \
                settle and the deregistration delay, of which at most 30s are counted. With each of the three, an instance \
                stays until the reserve where no other target of one of its groups is healthy and staying.",
            read: |config, value| value::choice(value).map(|read| config.leave.when = read),
        },
        Key {
            name: "settle",
            default: r#""20s""#,
            note: "least time after the deregistration before anything counts as quiet",
            meaning: "For so long after the last accepted deregistration nothing counts as quiet, because a load balancer goes \
                on sending new requests for a while. Together with reserve it has to be less than two minutes.",
            read: |config, value| part_of_the_notice(value, "20s").map(|read| config.leave.settle = read),
        },
        Key {
            name: "quiet-for",
            default: r#""15s""#,
            note: "connections that stay open are quiet once nothing has moved on them for so long",
            meaning: "Connections to the target ports that stay open are quiet when each has been still for so long, the last \
                thing that moved on it was an answer, and nothing waits in its queues. It runs within settle, not after \
                it. Together with reserve it has to be less than two minutes.",
            read: |config, value| part_of_the_notice(value, "15s").map(|read| config.leave.quiet_for = read),
        },
        Key {
            name: "reserve",
            default: r#""10s""#,
            note: "the end of the notice, kept for the hook drained and the last calls",
            meaning: "The end of the notice that is kept for the hook drained and for the last calls: when only so much is \
                left, open requests are waited for no longer.",
            read: |config, value| part_of_the_notice(value, "10s").map(|read| config.leave.reserve = read),
        },
    ],
};

const SUCCESSOR: Table = Table {
    name: "successor",
    meaning: "Who launches the instance that takes this one's place, and from what.",
    keys: &[
        Key {
            name: "owner",
            default: r#""discover""#,
            note: "discover | auto-scaling-group | ec2-fleet | spot-fleet | launch-template | none",
            meaning: "Who is asked for the successor. \"discover\" reads it from the instance's tags. \
                \"auto-scaling-group\", \"ec2-fleet\", \"spot-fleet\" or \"launch-template\" names which of the tags counts. \
                With \"none\" nobody is asked.",
            read: |config, value| value::choice(value).map(|read| config.successor.owner = read),
        },
        Key {
            name: "launch-template",
            default: r#""""#,
            note: "lt-... or a name, with an optional :version",
            meaning: "The launch template that the successor is launched from, where no group and no fleet owns this \
                instance: an id or a name, with :VERSION where it is not the default version. Empty: the template of the \
                instance's tags.",
            read: |config, value| value::launch_template(value).map(|read| config.successor.launch_template = read),
        },
        Key {
            name: "subnets",
            default: "[]",
            note: "where the successor may go; empty: the template's, or this instance's subnet",
            meaning: "The subnets that a successor may be launched in from a template. Empty: the template's own, else the \
                subnet of this instance, which lies in the zone that is being reclaimed.",
            read: |config, value| {
                value::names(value, &SUBNET, r#"["subnet-0123", "subnet-4567"]"#)
                    .map(|read| config.successor.subnets = read)
            },
        },
        Key {
            name: "instance-types",
            default: "[]",
            note: "empty: this instance's type",
            meaning: "The instance types that a successor launched from a template may have. Empty: the type of this \
                instance.",
            read: |config, value| {
                value::names(value, &INSTANCE_TYPE, r#"["m7g.large", "m6g.large"]"#)
                    .map(|read| config.successor.instance_types = read)
            },
        },
        Key {
            name: "on-demand-fallback",
            default: "false",
            note: "launch on demand when no Spot capacity is found",
            meaning: "With true the last attempt to launch from a template is on demand, which costs more than Spot and is \
                not reclaimed.",
            read: |config, value| value::truth(value).map(|read| config.successor.on_demand_fallback = read),
        },
        Key {
            name: "balance-zones",
            default: "true",
            note: "prefer the zones with the fewest running members",
            meaning: "With true the first attempt to launch from a template goes to the zones with the fewest running \
                instances of it.",
            read: |config, value| value::truth(value).map(|read| config.successor.balance_zones = BalanceZones(read)),
        },
    ],
};

const ARRIVE: Table = Table {
    name: "arrive",
    meaning: "How this instance comes into service.",
    keys: &[
        Key {
            name: "register",
            default: "false",
            note: "register this instance in the target groups listed above once it is ready",
            meaning: "With true this instance registers itself at every start of the daemon in the listed target-groups, on the listed \
                ports or else on each group's own. It needs that list. An instance that stays out ([survive] then = \"stay-out\") \
                registers itself again after its next boot.",
            read: |config, value| value::truth(value).map(|read| config.arrive.register = read),
        },
        Key {
            name: "ready",
            default: r#""""#,
            note: "tcp://127.0.0.1:80 or http://127.0.0.1/healthz; empty: at once",
            meaning: "A TCP address that has to accept a connection, or an http URL that has to answer with 2xx, before this \
                instance is registered anywhere: at a start with register, and when it lives on after a handover. It is asked \
                every second. Empty: nothing is waited for.",
            read: |config, value| value::readiness(value).map(|read| config.arrive.ready = read),
        },
    ],
};

const SURVIVE: Table = Table {
    name: "survive",
    meaning: "What an instance does that lives on after a notice.",
    keys: &[Key {
        name: "then",
        default: r#""reinstate""#,
        note: "reinstate | stay-out | terminate",
        meaning: "\"reinstate\": it goes back into every target group that it left. \"stay-out\": it stays out, runs on, and \
            is paid for. \"terminate\": it terminates itself if the handover was complete, and goes back otherwise.",
        read: |config, value| value::choice(value).map(|read| config.survive.then = read),
    }],
};

const HOOKS: Table = Table {
    name: "hooks",
    meaning: "Programs of yours that run during a handover. Each is a list of arguments, which no shell reads; an empty list \
        is none. Their environment tells everything that is known (SPOT_RELAY_ACTION, SPOT_RELAY_SECONDS_LEFT and so on).",
    keys: &[
        Key {
            name: "notice",
            default: "[]",
            note: r#"as [ "/usr/local/bin/stop-taking-jobs", "--now" ]"#,
            meaning: "Runs once this instance is certain to leave: at the notice, when its group terminates it, when the handover of a scheduled event begins; at a recommendation when it leaves.",
            read: |config, value| value::command(value).map(|read| config.hooks.notice = read),
        },
        Key {
            name: "drained",
            default: "[]",
            note: "once no request is open, or the reserve is reached",
            meaning: "Runs once no request is open, or when the reserve is reached.",
            read: |config, value| value::command(value).map(|read| config.hooks.drained = read),
        },
        Key {
            name: "timeout",
            default: r#""20s""#,
            note: "1s to 2m",
            meaning: "A hook may run this long, from 1s to 2m; then its process group gets SIGTERM, and SIGKILL two seconds \
                later. The deadline ends it in any case.",
            read: |config, value| {
                let read = value::duration(value, &HOOK_TIMEOUTS, "the default is 20s");
                read.map(|timeout| config.hooks = Hooks { timeout, ..std::mem::take(&mut config.hooks) })
            },
        },
    ],
};

const NOTIFY: Table = Table {
    name: "notify",
    meaning: "Who is told of a handover while it goes on.",
    keys: &[
        Key {
            name: "webhook",
            default: r#""""#,
            note: "https://... : POST of each milestone as JSON",
            meaning: "A URL that gets a POST of every milestone as JSON. It often is a secret: of it no more than scheme and \
                host is ever logged. Everybody who can read the configuration can read it, so prefer webhook-file. Empty: \
                nobody is told.",
            read: |config, value| value::address(value, "https://...").map(|read| config.notify.webhook = read),
        },
        Key {
            name: "webhook-file",
            default: r#""""#,
            note: "a file that holds the URL",
            meaning: "A file that holds the webhook's URL and nothing else. A name without a slash is a credential that \
                systemd passes to the service (LoadCredential=NAME:/path in a drop-in), which nobody else can read. Not \
                together with webhook. Empty: there is none.",
            read: |config, value| {
                let read = value::address(value, "webhook");
                read.map(|read| config.notify.webhook_file = read)
            },
        },
        Key {
            name: "template",
            default: r#""""#,
            note: "a file that makes another body of it",
            meaning: "A file in Jinja syntax that makes the body of the POST out of the milestone's keys: JSON, or nothing, \
                and then nothing is posted.",
            read: |config, value| {
                value::address(value, "/etc/spot-relay/slack.json.j2").map(|read| config.notify.template = read)
            },
        },
    ],
};

const METRICS: Table = Table {
    name: "metrics",
    meaning: "What the daemon counts, for Prometheus.",
    keys: &[Key {
        name: "listen",
        default: r#""""#,
        note: r#""127.0.0.1:9105": served for Prometheus there"#,
        meaning: "An address and a port, as 127.0.0.1:9105, on which /metrics is served. Empty: nowhere.",
        read: |config, value| value::listen(value).map(|read| config.metrics.listen = read),
    }],
};
