//! Settings: the TOML file of the contract, every key optional. Pure: text in, settings or an error out.
//!
//! Invariant: an unknown key, a bad value or a bad duration is an error that names file, line, column and key and says what
//! would be right; nothing that this version does not do is accepted silently.

mod keys;
mod meant;
mod read;
mod sample;
mod unwise;
mod value;
mod wrong;

use core::net::SocketAddr;
use std::time::Duration;

use crate::core::model::{Readiness, TargetGroupArn};
use value::Choice;

pub use keys::{Key, TABLES, Table};
pub use sample::sample;
pub use unwise::Unwise;
pub use wrong::ConfigError;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub target_groups: TargetGroups,
    pub watch: Watch,
    pub leave: Leave,
    pub successor: Successor,
    pub arrive: Arrive,
    pub survive: Survive,
    pub hooks: Hooks,
    pub notify: Notify,
    pub metrics: Metrics,
}

/// In which target groups to look for this instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetGroups {
    #[default]
    Discover,
    Listed(Vec<ListedTargetGroup>),
}

/// A target group as a person lists it: `ARN`, `NAME`, `ARN:PORT` or `NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTargetGroup {
    pub arn_or_name: String,
    pub port: Option<u16>,
}

impl ListedTargetGroup {
    pub fn names(&self, target_group: &TargetGroupArn) -> bool {
        self.arn_or_name == target_group.as_str() || self.arn_or_name == target_group.name()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub interval: Duration,
    pub rebalance: Rebalance,
    /// Hand over when the Auto Scaling group terminates this instance.
    pub lifecycle: bool,
    pub scheduled_events: ScheduledEvents,
}

/// The effect of a rebalance recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    Ignore,
    /// Look everything up anew.
    Prepare,
    /// Successor first, and leave when it is healthy.
    HandOver,
}

/// The effect of a scheduled event (maintenance, retirement, reboot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledEvents {
    Ignore,
    /// Say it, once.
    Report,
    /// Shortly before it begins, with its beginning as the deadline.
    HandOver,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub when: When,
    /// After the accepted deregistration nothing counts as quiet for so long.
    pub settle: Duration,
    pub quiet_for: Duration,
    pub reserve: Duration,
}

/// When to leave the target groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Serve on where the owner launches a successor first, and leave at once elsewhere.
    Auto,
    AtOnce,
    /// Serve on until the successor does, but never too late to drain.
    SuccessorHealthy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Successor {
    pub owner: OwnerChoice,
    pub launch_template: Option<TemplateChoice>,
    pub subnets: Vec<String>,
    pub instance_types: Vec<String>,
    pub on_demand_fallback: bool,
    pub balance_zones: BalanceZones,
}

impl Successor {
    /// Who launches a successor is known without a look at the instance's tags.
    pub fn names_the_owner(&self) -> bool {
        match self.owner {
            OwnerChoice::None => true,
            OwnerChoice::LaunchTemplate => self.launch_template.is_some(),
            _ => false,
        }
    }
}

/// How this instance comes into service by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrive {
    pub register: bool,
    /// Asked before every registration of this instance, also one that puts it back.
    pub ready: Readiness,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survive {
    pub then: Then,
}

/// The conduct of an instance that lives on although it was to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    #[default]
    Reinstate,
    StayOut,
    /// Itself, and only if it has handed over.
    Terminate,
}

/// Commands of the user's, as argument lists; an empty one is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    pub notice: Vec<String>,
    pub drained: Vec<String>,
    pub timeout: Duration,
}

/// Where milestones are posted to. Its `Debug` does not show the URL, which may hold a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub webhook: Option<String>,
    /// A file that holds the URL: a path, or a credential of systemd's by its name.
    pub webhook_file: Option<String>,
    /// A file with the template of the body.
    pub template: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let webhook = self.webhook.as_ref().map(|_| "...");
        f.debug_struct("Notify")
            .field("webhook", &webhook)
            .field("webhook_file", &self.webhook_file)
            .field("template", &self.template)
            .finish()
    }
}

/// Where metrics are served for Prometheus, if anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Port 0 is any that is free.
    pub listen: Option<SocketAddr>,
}

/// `true` unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceZones(pub bool);

impl Default for BalanceZones {
    fn default() -> Self {
        Self(true)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerChoice {
    #[default]
    Discover,
    AutoScalingGroup,
    Ec2Fleet,
    SpotFleet,
    LaunchTemplate,
    None,
}

impl OwnerChoice {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, choice)| *choice == self).map_or("", |(name, _)| name)
    }
}

/// `lt-0123` or a name, with an optional `:version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoice {
    pub id_or_name: String,
    pub version: Option<String>,
}

impl Choice for Rebalance {
    const ALL: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("prepare", Self::Prepare), ("hand-over", Self::HandOver)];
}

impl Choice for ScheduledEvents {
    const ALL: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("report", Self::Report), ("hand-over", Self::HandOver)];
}

impl Choice for When {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("at-once", Self::AtOnce), ("successor-healthy", Self::SuccessorHealthy)];
}

impl Choice for Then {
    const ALL: &'static [(&'static str, Self)] =
        &[("reinstate", Self::Reinstate), ("stay-out", Self::StayOut), ("terminate", Self::Terminate)];
}

impl Choice for OwnerChoice {
    const ALL: &'static [(&'static str, Self)] = &[
        ("discover", Self::Discover),
        ("auto-scaling-group", Self::AutoScalingGroup),
        ("ec2-fleet", Self::Ec2Fleet),
        ("spot-fleet", Self::SpotFleet),
        ("launch-template", Self::LaunchTemplate),
        ("none", Self::None),
    ];
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            rebalance: Rebalance::Prepare,
            lifecycle: true,
            scheduled_events: ScheduledEvents::Report,
        }
    }
}

impl Default for Arrive {
    fn default() -> Self {
        Self { register: false, ready: Readiness::AtOnce }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self { notice: Vec::new(), drained: Vec::new(), timeout: Duration::from_secs(20) }
    }
}

impl Default for Leave {
    fn default() -> Self {
        Self {
            when: When::Auto,
            settle: Duration::from_secs(20),
            quiet_for: Duration::from_secs(15),
            reserve: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads the text of `file`, whose name only serves the error.
    ///
    /// # Errors
    /// No TOML, an unknown key, a value of a wrong kind or out of its range: all of them that are in the text.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        read::read(text, file)
    }

    /// Values that are right each by itself and wrong together: the keys, and what is wrong.
    fn contradictions(&self) -> Vec<(&'static [&'static str], String)> {
        let mut found: Vec<(&'static [&'static str], String)> = Vec::new();
        let Leave { settle, quiet_for, reserve, .. } = &self.leave;
        if *settle.max(quiet_for) + *reserve >= crate::core::notice::TWO_MINUTES {
            found.push((
                &["leave.reserve", "leave.quiet-for", "leave.settle"],
                format!(
                    "settle ({settle:?}) or quiet-for ({quiet_for:?}), with reserve ({reserve:?}), leaves nothing of the \
                     two minutes; their defaults are 20s, 15s and 10s"
                ),
            ));
        }
        if self.arrive.register && self.target_groups == TargetGroups::Discover {
            found.push((
                &["arrive.register"],
                "it is true, but target-groups does not say where: list them, as in \
                 target-groups = [\"web\", \"api:8080\"]"
                    .to_owned(),
            ));
        }
        if self.notify.webhook.is_some() && self.notify.webhook_file.is_some() {
            found.push((
                &["notify.webhook-file", "notify.webhook"],
                "webhook and webhook-file both say where to post: keep one of them".to_owned(),
            ));
        }
        if self.notify.template.is_some() && self.notify.webhook.is_none() && self.notify.webhook_file.is_none() {
            found.push((&["notify.template"], "a template is given, but no webhook to post to".to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Config::parse(text, "/etc/spot-relay/config.toml").expect_err(text).to_string()
    }

    #[test]
    fn an_empty_file_gives_the_defaults_of_the_contract() {
        let config = Config::parse("", "x").expect("defaults");
        assert_eq!(config, Config::default());
        assert_eq!(config.watch.interval, Duration::from_secs(1));
        assert_eq!(config.leave.when, When::Auto);
        let Leave { settle, quiet_for, reserve, .. } = config.leave;
        assert_eq!([settle, quiet_for, reserve], [20, 15, 10].map(Duration::from_secs));
        assert!(config.successor.balance_zones.0 && !config.successor.on_demand_fallback);
    }

    #[test]
    fn every_key_of_the_sample_is_read() {
        let sample = r#"
            target-groups = ["web", "api:8080", "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/x/73e2:81"]
            [watch]
            interval = "500ms"
            rebalance = "hand-over"
            lifecycle = false
            scheduled-events = "hand-over"
            [leave]
            when = "successor-healthy"
            quiet-for = "5s"
            reserve = "1m"
            [successor]
            owner = "ec2-fleet"
            launch-template = "lt-0abc:7"
            subnets = ["subnet-1"]
            instance-types = ["m5.large"]
            on-demand-fallback = true
            balance-zones = false
            [arrive]
            register = true
            ready = "http://127.0.0.1:8080/healthz"
            [survive]
            then = "stay-out"
            [hooks]
            notice = ["/usr/local/bin/pause", "queue"]
            drained = ["/bin/true"]
            timeout = "30s"
            [notify]
            webhook = "https://user:secret@hooks.example.org/x"
            template = "/etc/spot-relay/slack.json.j2"
            [metrics]
            listen = "127.0.0.1:9105"
        "#;
        let config = Config::parse(sample, "x").expect("a config");
        let group = |arn_or_name: &str, port| ListedTargetGroup { arn_or_name: arn_or_name.to_owned(), port };
        let arn = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/x/73e2";
        let groups = vec![group("web", None), group("api", Some(8080)), group(arn, Some(81))];
        assert_eq!(config.target_groups, TargetGroups::Listed(groups));
        let watch = Watch {
            interval: Duration::from_millis(500),
            rebalance: Rebalance::HandOver,
            lifecycle: false,
            scheduled_events: ScheduledEvents::HandOver,
        };
        assert_eq!(config.watch, watch);
        let ready = Readiness::Http("http://127.0.0.1:8080/healthz".to_owned());
        assert_eq!(config.arrive, Arrive { register: true, ready });
        assert_eq!(config.survive.then, Then::StayOut);
        assert_eq!(config.hooks.notice, ["/usr/local/bin/pause", "queue"]);
        assert_eq!(config.hooks.timeout, Duration::from_secs(30));
        assert_eq!(config.notify.template.as_deref(), Some("/etc/spot-relay/slack.json.j2"));
        assert!(!format!("{config:?}").contains("secret"), "a URL may hold a secret");
        assert_eq!(config.metrics.listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9105"));
        assert_eq!(config.leave.reserve, Duration::from_secs(60));
        assert_eq!(config.successor.owner, OwnerChoice::Ec2Fleet);
        let template = TemplateChoice { id_or_name: "lt-0abc".to_owned(), version: Some("7".to_owned()) };
        assert_eq!(config.successor.launch_template, Some(template));
        assert!(!config.successor.balance_zones.0);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_would_be_right() {
        let problem = problem("[leave]\nquite-for = \"3s\"\n");
        for part in ["/etc/spot-relay/config.toml", "line 2", "quite-for", "quiet-for"] {
            assert!(problem.contains(part), "{part:?} in {problem}");
        }
    }

    #[test]
    fn a_bad_duration_is_named_with_its_line_and_what_would_be_right() {
        for (written, right) in [("\"3\"", "\"3s\""), ("\"-3s\"", "negative"), ("3", "string")] {
            let problem = problem(&format!("[leave]\nquiet-for = {written}\n"));
            for part in ["line 2", "quiet-for", right] {
                assert!(problem.contains(part), "{part:?} in {problem}");
            }
        }
    }

    #[test]
    fn a_bad_target_group_says_what_would_be_right() {
        assert!(problem("target-groups = \"web\"").contains("[\"web\"]"));
        assert!(problem("target-groups = []").contains("discover"));
        assert!(problem("target-groups = [\"\"]").contains("empty"));
        assert!(problem("target-groups = [\"web:http\"]").contains("web:8080"));
        assert!(problem("target-groups = [\"web:0\"]").contains("no port"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_would_be_right() {
        for (text, right) in [
            ("[arrive]\nregister = true", "target-groups = ["),
            ("[arrive]\nready = \"127.0.0.1:80\"", "tcp://127.0.0.1:80"),
            ("[arrive]\nready = \"tcp://127.0.0.1\"", "tcp://127.0.0.1:80"),
            ("[arrive]\nready = \"https://127.0.0.1\"", "http://127.0.0.1/healthz"),
            ("[hooks]\nnotice = \"/bin/true --now\"", "list of arguments"),
            ("[hooks]\nnotice = [\"\"]", "is the program"),
            ("[hooks]\nnotice = [\"/bin/true\", \"a\\u0000b\"]", "NUL"),
            ("[hooks]\ntimeout = \"10m\"", "between 1s and 2m"),
            ("[notify]\ntemplate = \"/x\"", "no webhook"),
            ("[notify]\nwebhook = \"https://a/b\"\nwebhook-file = \"webhook\"", "keep one of them"),
            ("[metrics]\nlisten = \"localhost:9105\"", "127.0.0.1:9105"),
            ("[metrics]\nlisten = \"9105\"", "127.0.0.1:9105"),
            ("[watch]\nrebalance = \"hand-ower\"", "hand-over"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(right), "{right:?} in {problem}");
        }
    }

    #[test]
    fn values_that_leave_no_time_are_refused() {
        assert!(problem("[watch]\ninterval = \"0s\"").contains("between 100ms and 60s"));
        assert!(problem("[leave]\nquiet-for = \"100s\"\nreserve = \"20s\"").contains("two minutes"));
    }

    #[test]
    fn the_sample_is_the_defaults_and_names_every_key() {
        let sample = sample();
        assert_eq!(Config::parse(&sample, "sample"), Ok(Config::default()));
        for table in &TABLES {
            for key in table.keys {
                let written = format!("{} = {}", key.name, key.default);
                assert!(sample.lines().any(|line| line.starts_with(&written)), "{written}");
                assert!(key.meaning.ends_with('.') && !key.meaning.contains("  "), "{}", table.path_of(key.name));
            }
        }
        let longest = sample.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(120), "{longest:?}");
    }

    #[test]
    fn the_table_of_keys_tells_every_word_that_a_key_takes() {
        fn names<T: Choice>() -> Vec<&'static str> {
            T::ALL.iter().map(|(name, _)| *name).collect()
        }
        for (table, key, words) in [
            ("watch", "rebalance", names::<Rebalance>()),
            ("watch", "scheduled-events", names::<ScheduledEvents>()),
            ("leave", "when", names::<When>()),
            ("successor", "owner", names::<OwnerChoice>()),
            ("survive", "then", names::<Then>()),
        ] {
            let table = TABLES.iter().find(|one| one.name == table).expect(table);
            let key = table.key(key).expect(key);
            for word in words {
                assert!(
                    key.note.contains(word) && key.meaning.contains(&format!("\"{word}\"")),
                    "{}: {word}",
                    key.name
                );
            }
        }
    }
}
