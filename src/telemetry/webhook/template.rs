//! A template in Jinja syntax that turns an announcement into the JSON of some service.
//!
//! Invariant: the result is valid JSON, or an error. There are two ways to write a value: `"{{ message }}"` is escaped
//! text in the template's own quotes, and `{{ message | tojson }}` writes quotes, or null. A template may hold keys of
//! the service, so an error shows line numbers and names of the language, never the template's text.

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::de::IgnoredAny;

use super::announcement::Announcement;

const NAME: &str = "webhook";
/// The most steps of a template, so that an endless loop ends. A template for Slack takes some hundred.
const FUEL: u64 = 50_000;

pub(super) struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Errs when the text is no template, or does not make valid JSON of some [`Announcement::samples`]. So an error
    /// shows at start, not in the two minutes.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Custom("json".into()));
        environment.set_formatter(write_json);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| at_line(&error))?;
        let template = Self { environment };
        let mut posts = false;
        for sample in Announcement::samples() {
            posts |= template.render(&sample)?.is_some();
        }
        anyhow::ensure!(posts, "it makes nothing of any milestone, so nothing would be posted");
        Ok(template)
    }

    /// Renders the template; `None` if the result is empty, and then nothing is posted.
    pub(super) fn render(&self, announcement: &Announcement) -> anyhow::Result<Option<String>> {
        let template = self.environment.get_template(NAME).map_err(|error| at_line(&error))?;
        let text = template.render(Serde(announcement)).map_err(|error| at_line(&error))?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
            let milestone = &announcement.milestone;
            anyhow::anyhow!("what it makes of the milestone {milestone} is not valid JSON: {error} of the result")
        })?;
        Ok(Some(text.to_owned()))
    }
}

/// Writes a value as JSON, but a string without its quotes. Output of `tojson`, which is marked safe, stays as it is.
fn write_json(output: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str().filter(|_| value.is_safe()) {
        return Ok(output.write_str(text)?);
    }
    let json = serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "a value cannot be JSON").with_source(error))?;
    let without_quotes = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    Ok(output.write_str(without_quotes.unwrap_or(&json))?)
}

/// The filter `tojson`. It replaces minijinja's, which turns a misspelt name into null.
fn to_json(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "there is no such name"));
    }
    let json = serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "a value cannot be JSON").with_source(error))?;
    Ok(Value::from_safe_string(json))
}

fn at_line(error: &Error) -> anyhow::Error {
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    anyhow::anyhow!("{line}{}{detail}", error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, announcement: &Announcement) -> serde_json::Value {
        serde_json::from_str(&Template::new(text).unwrap().render(announcement).unwrap().unwrap()).unwrap()
    }

    fn refusal(text: &str) -> String {
        Template::new(text).err().unwrap().to_string()
    }

    #[test]
    fn text_between_quotes_is_escaped_and_tojson_brings_its_own() {
        let sample = Announcement::sample("quiet");
        let text = r#"{"a": "*{{ message }}*", "b": {{ message | tojson }}, "c": [{{ seconds_left }}]}"#;
        let made = rendered(text, &sample);
        assert_eq!(made["a"], format!("*{}*", sample.message));
        assert_eq!(made["b"], sample.message);
        assert_eq!(made["c"][0], 108.9);
    }

    #[test]
    fn a_null_is_null_bare_and_in_a_string() {
        let sparse = Announcement::sample("quiet").sparse();
        let made =
            rendered(r#"{"a": {{ seconds_left }}, "b": "{{ action }}", "c": "{{ action or 'none' }}"}"#, &sparse);
        assert_eq!(made, serde_json::json!({"a": null, "b": "null", "c": "none"}));
    }

    #[test]
    fn what_filters_and_blocks_make_is_escaped_once() {
        let sample = Announcement::sample("quiet");
        let text = r#"{% set all %}{{ message }}{% endset %}["{{ all }}", "{{ message | e }}", "{{ "x" ~ message }}"]"#;
        let made = rendered(text, &sample);
        assert_eq!(made, serde_json::json!([sample.message, sample.message, format!("x{}", sample.message)]));
    }

    #[test]
    fn what_is_wrong_is_found_at_start_with_its_line() {
        assert_eq!(refusal("{\n\"a\": \"{{ mesage }}\"\n}"), "line 2: undefined value");
        assert!(refusal("{\n\n{% if %}").starts_with("line 3: syntax error: "), "{}", refusal("{\n\n{% if %}"));
        assert!(refusal("{\n{{ message | shout }}}").starts_with("line 2: "));
    }

    #[test]
    fn what_is_wrong_for_one_milestone_or_for_a_null_alone_is_found_too() {
        let of_one = r#"{% if milestone == "reinstated" %}{{ outcom }}{% else %}{}{% endif %}"#;
        assert_eq!(refusal(of_one), "line 1: undefined value");
        let of_another = r#"{% if outcome == "partial" %}{{ outcom }}{% else %}{}{% endif %}"#;
        assert_eq!(refusal(of_another), "line 1: undefined value");
        assert!(refusal(r#"{"a": {{ seconds_left | round }}}"#).starts_with("line 1: "));
    }

    #[test]
    fn what_is_no_json_is_refused_without_showing_it() {
        for wrong in [r#"{"key": "SECRET", "a": {{ message }}}"#, r#"{"key": "SECRET", "a": "{{ message | safe }}"}"#] {
            let refusal = refusal(wrong);
            assert!(refusal.starts_with("what it makes of the milestone recommended is not valid JSON: "), "{refusal}");
            assert!(refusal.contains(" at line 1 column ") && !refusal.contains("SECRET"), "{refusal}");
        }
    }

    #[test]
    fn a_loop_without_an_end_is_found_at_start() {
        let began = std::time::Instant::now();
        for text in [
            "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}",
            "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        ] {
            assert!(refusal(text).starts_with("line 1: "), "{}", refusal(text));
        }
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn one_that_would_post_nothing_ever_is_refused() {
        assert_eq!(refusal("  "), "it makes nothing of any milestone, so nothing would be posted");
        let of_one = r#"{% if milestone == "survived" %}{"text": "{{ message }}"}{% endif %}"#;
        let template = Template::new(of_one).unwrap();
        assert!(template.render(&Announcement::sample("quiet")).unwrap().is_none());
        assert!(template.render(&Announcement::sample("survived")).unwrap().is_some());
    }
}
