//! The Query protocol's parameters: a flat form with numbered lists (`Targets.member.1.Id`, `InstanceId.1`).
//!
//! It only reads. Errors are in AWS's words.

use std::collections::BTreeMap;

use super::refusal::Refusal;

#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    parameters: BTreeMap<String, String>,
    /// The first page of a listing is empty but has a token.
    pub(crate) begins_empty: bool,
}

impl Query {
    fn of(parameters: BTreeMap<String, String>) -> Query {
        Query { parameters, begins_empty: false }
    }

    /// Parses a form (`a=1&b=x%20y`); a piece without `=` has an empty value.
    pub(crate) fn parse(form: &str) -> Query {
        let pairs = form.split('&').filter(|piece| !piece.is_empty());
        let pairs = pairs.map(|piece| piece.split_once('=').unwrap_or((piece, "")));
        Query::of(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    pub(crate) fn beginning_empty(self, begins_empty: bool) -> Query {
        Query { begins_empty, ..self }
    }

    pub(crate) fn take(&mut self, key: &str) -> String {
        self.parameters.remove(key).unwrap_or_default()
    }

    pub(crate) fn flat(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str)
    }

    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.parameters.get(key).cloned()
    }

    pub(crate) fn required(&self, key: &str) -> Result<String, Refusal> {
        self.string(key).ok_or_else(|| Refusal::missing_parameter(key))
    }

    /// The number; `None` if it is absent, an error if it is not a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, key: &str) -> Result<Option<N>, Refusal> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Refusal::malformed(key, text))
    }

    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Refusal::malformed(key, other)),
        }
    }

    /// The values of `prefix.1`, `prefix.2`, ... in their order.
    pub(crate) fn list(&self, prefix: &str) -> Vec<String> {
        (1..).map_while(|number| self.string(&format!("{prefix}.{number}"))).collect()
    }

    /// The structures below `prefix.1.`, `prefix.2.`, ..., without the prefix in their names.
    pub(crate) fn structures(&self, prefix: &str) -> Vec<Query> {
        (1..)
            .map(|number| self.structure(&format!("{prefix}.{number}")))
            .take_while(|one| !one.parameters.is_empty())
            .collect()
    }

    /// The parameters below `prefix.`.
    pub(crate) fn structure(&self, prefix: &str) -> Query {
        let prefix = format!("{prefix}.");
        let below = self
            .parameters
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())));
        Query::of(below.collect())
    }

    /// EC2's filters: `Filter.1.Name` with `Filter.1.Value.1`, ...
    pub(crate) fn filters(&self) -> Vec<Filter> {
        let filters = self.structures("Filter").into_iter();
        filters.map(|one| Filter { name: one.string("Name").unwrap_or_default(), values: one.list("Value") }).collect()
    }

    /// EC2's tags: `prefix.1.Key` with `prefix.1.Value`.
    pub(crate) fn tags(&self, prefix: &str) -> Vec<(String, String)> {
        let tags = self.structures(prefix).into_iter();
        tags.map(|tag| (tag.string("Key").unwrap_or_default(), tag.string("Value").unwrap_or_default())).collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) values: Vec<String>,
}

impl Filter {
    /// Tells whether a value of the filter is `value`; `*` at its end stands for anything.
    pub(crate) fn admits(&self, value: &str) -> bool {
        self.values.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => value.starts_with(beginning),
            None => wanted == value,
        })
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next(), rest.next()].into_iter().flatten();
                let digits = digits.filter_map(|digit| char::from(digit).to_digit(16));
                bytes.push(digits.fold(0, |value, digit| value << 4 | u8::try_from(digit).unwrap_or(0)));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded() {
        let query = Query::parse("Name=a%20b+c&Empty=&Umlaut=%C3%BC");
        assert_eq!(query.get("Name"), Some("a b c"));
        assert_eq!(query.get("Empty"), Some(""));
        assert_eq!(query.get("Umlaut"), Some("ü"));
    }

    #[test]
    fn numbered_lists_end_at_the_first_gap() {
        let query = Query::parse("Id.1=a&Id.2=b&Id.4=d&T.member.1.Id=x&T.member.1.Port=80&T.member.2.Id=y");
        assert_eq!(query.list("Id"), ["a", "b"]);
        let targets = query.structures("T.member");
        assert_eq!(targets.len(), 2);
        assert_eq!(targets[0].get("Port"), Some("80"));
        assert_eq!(targets[1].get("Port"), None);
    }
}
