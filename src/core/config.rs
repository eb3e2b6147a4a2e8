//! Settings: the TOML file of the contract, every key optional. Pure: text in, settings or an error out.
//!
//! Invariant: an unknown key, a bad value or a bad duration is an error. It names file, line, column and key, and says
//! what would be right. Nothing that this version does not do is accepted silently.

mod aws_name;
mod keys;
mod read;
mod sample;
mod settings;
mod suggestion;
mod unknown_key;
mod unwise;
mod value;
mod wrong;

pub use keys::{Key, TABLES, Table};
pub use sample::sample;
pub use settings::{
    Arrive, BalanceZones, Config, Hooks, Leave, ListedTargetGroup, Metrics, Notify, OwnerChoice, Rebalance,
    ScheduledEvents, Successor, Survive, TargetGroups, TemplateChoice, Then, Watch, When,
};
pub use unwise::Unwise;
pub use wrong::ConfigError;

impl Config {
    /// Reads the text of `file`; the name is only used in errors.
    ///
    /// # Errors
    /// Everything that is wrong in the text: no TOML, an unknown key, a value of a wrong kind or out of its range.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        read::read(text, file)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::model::Readiness;
    use crate::core::words::Words;

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
        fn names<T: Words>() -> Vec<&'static str> {
            T::all().iter().map(|choice| choice.word()).collect()
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
