//! Settings: the TOML file of the contract, every key optional. Pure: text in, settings or an error out.
//!
//! Invariant: an unknown key, a bad value or a bad duration is an error that names file, line and key and says what would
//! be right; nothing that this version does not do is accepted silently.

use core::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::model::Readiness;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
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

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Watch {
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    pub rebalance: Rebalance,
    /// Hand over when the Auto Scaling group terminates this instance.
    pub lifecycle: bool,
    pub scheduled_events: ScheduledEvents,
}

/// What a rebalance recommendation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebalance {
    Ignore,
    /// Look everything up anew.
    Prepare,
    /// Successor first, and leave when it is healthy.
    HandOver,
}

/// What a scheduled event (maintenance, retirement, reboot) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduledEvents {
    Ignore,
    /// Say it, once.
    Report,
    /// Shortly before it begins, with its beginning as the deadline.
    HandOver,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Leave {
    pub when: When,
    #[serde(deserialize_with = "duration")]
    pub quiet_for: Duration,
    #[serde(deserialize_with = "duration")]
    pub reserve: Duration,
}

/// When to leave the target groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    AtOnce,
    /// Serve on until the successor does, but never too late to drain.
    SuccessorHealthy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Successor {
    pub owner: OwnerChoice,
    #[serde(deserialize_with = "launch_template")]
    pub launch_template: Option<TemplateChoice>,
    pub subnets: Vec<String>,
    pub instance_types: Vec<String>,
    pub on_demand_fallback: bool,
    pub balance_zones: BalanceZones,
}

/// How this instance comes into service by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Arrive {
    pub register: bool,
    /// Asked before every registration of this instance, also one that puts it back.
    #[serde(deserialize_with = "readiness")]
    pub ready: Readiness,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Survive {
    pub then: Then,
}

/// What an instance does that lives on although it was to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    #[default]
    Reinstate,
    StayOut,
    /// Itself, and only if it has handed over.
    Terminate,
}

/// Commands of the user's, as argument lists; an empty one is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Hooks {
    #[serde(deserialize_with = "command")]
    pub notice: Vec<String>,
    #[serde(deserialize_with = "command")]
    pub drained: Vec<String>,
    #[serde(deserialize_with = "hook_timeout")]
    pub timeout: Duration,
}

/// Where milestones are posted to. Its `Debug` does not show the URL, which may hold a secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Notify {
    #[serde(deserialize_with = "text")]
    pub webhook: Option<String>,
    /// A file with the template of the body.
    #[serde(deserialize_with = "text")]
    pub template: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let webhook = self.webhook.as_ref().map(|_| "...");
        f.debug_struct("Notify").field("webhook", &webhook).field("template", &self.template).finish()
    }
}

/// Where metrics are served for Prometheus, if anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Metrics {
    /// Port 0 is any that is free.
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
}

/// `true` unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct BalanceZones(pub bool);

impl Default for BalanceZones {
    fn default() -> Self {
        Self(true)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerChoice {
    #[default]
    Discover,
    AutoScalingGroup,
    #[serde(rename = "ec2-fleet")]
    Ec2Fleet,
    SpotFleet,
    LaunchTemplate,
    None,
}

/// `lt-0123` or a name, with an optional `:version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoice {
    pub id_or_name: String,
    pub version: Option<String>,
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
        Self { when: When::AtOnce, quiet_for: Duration::from_secs(3), reserve: Duration::from_secs(10) }
    }
}

/// Why a configuration cannot be used: where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConfigError {
    pub file: String,
    problem: String,
}

impl ConfigError {
    /// The file that was named is not there or cannot be read.
    pub fn unreadable(file: &str, error: &std::io::Error) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            problem: format!("this file of the configuration cannot be read: {error}"),
        }
    }

    /// What only its reader finds out: a template, a URL.
    pub fn wrong(file: &str, problem: &str) -> ConfigError {
        ConfigError { file: file.to_owned(), problem: problem.to_owned() }
    }
}

impl Config {
    /// Reads the text of `file`, whose name only serves the error.
    ///
    /// # Errors
    /// No TOML, an unknown key, a value of a wrong kind or out of its range.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let error = |problem: String| ConfigError { file: file.to_owned(), problem: problem.trim_end().to_owned() };
        let config: Config = toml::from_str(text).map_err(|cause| error(cause.to_string()))?;
        match config.out_of_range() {
            Some(problem) => Err(error(problem)),
            None => Ok(config),
        }
    }

    fn out_of_range(&self) -> Option<String> {
        let two_minutes = crate::notice::TWO_MINUTES;
        if self.watch.interval < Duration::from_millis(100) || self.watch.interval > Duration::from_secs(60) {
            return Some(format!(
                "[watch] interval is {:?}; it must lie between 100ms and 60s (AWS advises 5s, the default is 1s)",
                self.watch.interval
            ));
        }
        if self.leave.quiet_for + self.leave.reserve >= two_minutes {
            return Some(format!(
                "[leave] quiet-for ({:?}) and reserve ({:?}) together leave nothing of the two minutes; \
                 their defaults are 3s and 10s",
                self.leave.quiet_for, self.leave.reserve
            ));
        }
        if self.arrive.register && self.target_groups == TargetGroups::Discover {
            return Some(
                "[arrive] register is true, but target-groups does not say where: list them, as in \
                 target-groups = [\"web\", \"api:8080\"]"
                    .to_owned(),
            );
        }
        if self.notify.template.is_some() && self.notify.webhook.is_none() {
            return Some("[notify] template is given, but no webhook to post to".to_owned());
        }
        None
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let signed: SignedDuration = text
        .parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is no duration: write \"3s\", \"500ms\" or \"2m\"")))?;
    Duration::try_from(signed).map_err(|_| D::Error::custom(format!("{text:?}: a duration cannot be negative")))
}

/// Between one second and what two minutes can hold.
fn hook_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let timeout = duration(deserializer)?;
    if (Duration::from_secs(1)..=crate::notice::TWO_MINUTES).contains(&timeout) {
        return Ok(timeout);
    }
    Err(D::Error::custom(format!("{timeout:?} is no timeout of a hook: it must lie between 1s and 2m (default: 20s)")))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let Some(text) = text(deserializer)? else { return Ok(None) };
    let wrong = || D::Error::custom(format!("listen is {text:?}: write an address and a port, as \"127.0.0.1:9105\""));
    text.parse().map(Some).map_err(|_| wrong())
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of arguments, as [\"/usr/local/bin/drain\", \"--now\"]")]
    enum Written {
        Line(String),
        Arguments(Vec<String>),
    }
    match Written::deserialize(deserializer)? {
        Written::Line(line) => Err(D::Error::custom(format!(
            "{line:?}: no shell reads it; write a list of arguments, as [\"/usr/local/bin/drain\", \"--now\"], \
             or [\"/bin/sh\", \"-c\", {line:?}]"
        ))),
        Written::Arguments(arguments) if arguments.first().is_some_and(String::is_empty) => {
            Err(D::Error::custom("the first argument is empty: it is the program"))
        }
        Written::Arguments(arguments) => Ok(arguments),
    }
}

fn readiness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Readiness, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || {
        D::Error::custom(format!(
            "ready is {text:?}: write \"tcp://127.0.0.1:80\" or \"http://127.0.0.1/healthz\", or \"\" for at once"
        ))
    };
    if text.is_empty() {
        return Ok(Readiness::AtOnce);
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        let port = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        return port.map(|_| Readiness::Tcp(address.to_owned())).ok_or_else(wrong);
    }
    let host = text.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']));
    host.map(|_| Readiness::Http(text.clone())).ok_or_else(wrong)
}

fn launch_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TemplateChoice>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(match text.split_once(':') {
        _ if text.is_empty() => None,
        Some((id_or_name, version)) => {
            Some(TemplateChoice { id_or_name: id_or_name.to_owned(), version: Some(version.to_owned()) })
        }
        None => Some(TemplateChoice { id_or_name: text, version: None }),
    })
}

impl<'de> Deserialize<'de> for TargetGroups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"discover\" or a list of target group ARNs or names")]
        enum Written {
            Word(String),
            List(Vec<String>),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "discover" => Ok(Self::Discover),
            Written::Word(word) => {
                Err(D::Error::custom(format!("target-groups is {word:?}: write \"discover\" or a list, [{word:?}]")))
            }
            Written::List(list) if list.is_empty() => {
                Err(D::Error::custom("target-groups is an empty list: write \"discover\", or name the groups"))
            }
            Written::List(list) => list
                .iter()
                .map(|entry| listed(entry).map_err(D::Error::custom))
                .collect::<Result<_, _>>()
                .map(Self::Listed),
        }
    }
}

fn listed(entry: &str) -> Result<ListedTargetGroup, String> {
    if entry.is_empty() {
        return Err("an entry of target-groups is empty: write an ARN or a name".to_owned());
    }
    let name_and_port = if entry.starts_with("arn:") {
        entry.rsplit_once('/').and_then(|(_, hash)| hash.split_once(':')).map(|(_, port)| port)
    } else {
        entry.split_once(':').map(|(_, port)| port)
    };
    let Some(port) = name_and_port else {
        return Ok(ListedTargetGroup { arn_or_name: entry.to_owned(), port: None });
    };
    let arn_or_name = entry.strip_suffix(port).and_then(|rest| rest.strip_suffix(':')).unwrap_or(entry);
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(ListedTargetGroup { arn_or_name: arn_or_name.to_owned(), port: Some(port) }),
        _ => Err(format!("{entry:?}: {port:?} is no port; write {arn_or_name:?} or \"{arn_or_name}:8080\"")),
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
        assert_eq!(config.leave.when, When::AtOnce);
        assert_eq!((config.leave.quiet_for, config.leave.reserve), (Duration::from_secs(3), Duration::from_secs(10)));
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
            ("[hooks]\ntimeout = \"10m\"", "between 1s and 2m"),
            ("[notify]\ntemplate = \"/x\"", "no webhook"),
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
}
