//! What the program says of its configuration.

use crate::scenario::{Scenario, world};

#[test]
fn an_unwise_setting_is_warned_of_once_at_start_and_used() {
    let scenario = Scenario::new(world()).config("[leave]\nquiet-for = \"0s\"\n[hooks]\nnotice = [\"true\"]\n");
    let daemon = scenario.start();
    daemon.wait_for_line("ready; on a notice");
    for key in ["leave.quiet-for: 0s", "hooks.notice: true"] {
        let line = daemon.wait_for_line(key);
        assert!(line.contains("\"WARN\""), "{line}");
    }
    let warned = daemon.lines_with("leave.quiet-for").len();
    assert_eq!(warned, 1, "{:?}", daemon.lines());
}

#[test]
fn what_only_the_webhook_finds_out_is_told_with_its_line_and_without_its_secret() {
    for (config, expected) in [
        (
            "[notify]\nwebhook = \"hooks.example.org/secret\"\n",
            "line 2, column 11: notify.webhook: the webhook is no URL",
        ),
        (
            "[notify]\nwebhook = \"https://x/secret\"\n\ntemplate = \"/no/such/file\"\n",
            "line 4, column 12: notify.template: /no/such/file cannot be read: No such file",
        ),
    ] {
        let output = Scenario::new(world()).config(config).command().output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(expected) && text.contains("config.toml: line") && !text.contains("/secret"), "{text}");
    }
}
