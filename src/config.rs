//! Settings: the TOML file of the contract, every key optional. Pure: text in, settings or an error out.
//!
//! Invariant: an unknown key, a bad value or a bad duration is an error that names file, line and key and says what would
//! be right; nothing that this version does not do is accepted silently.

use std::time::Duration;

use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    pub target_groups: TargetGroups,
    pub watch: Watch,
    pub leave: Leave,
    pub successor: Successor,
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
}

/// What a rebalance recommendation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebalance {
    Ignore,
    /// Look everything up anew.
    Prepare,
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
        Self { interval: Duration::from_secs(1), rebalance: Rebalance::Prepare }
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
        ConfigError { file: file.to_owned(), problem: format!("the configuration cannot be read: {error}") }
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
            rebalance = "ignore"
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
        "#;
        let config = Config::parse(sample, "x").expect("a config");
        let group = |arn_or_name: &str, port| ListedTargetGroup { arn_or_name: arn_or_name.to_owned(), port };
        let arn = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/x/73e2";
        let groups = vec![group("web", None), group("api", Some(8080)), group(arn, Some(81))];
        assert_eq!(config.target_groups, TargetGroups::Listed(groups));
        assert_eq!(config.watch, Watch { interval: Duration::from_millis(500), rebalance: Rebalance::Ignore });
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
    fn values_that_leave_no_time_are_refused() {
        assert!(problem("[watch]\ninterval = \"0s\"").contains("between 100ms and 60s"));
        assert!(problem("[leave]\nquiet-for = \"100s\"\nreserve = \"20s\"").contains("two minutes"));
    }
}
