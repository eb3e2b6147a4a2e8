//! Writes the XML of answers: elements in order, text escaped, nothing else.

use std::fmt::Display;

/// The inside of an element.
#[derive(Clone, Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    pub(crate) fn new() -> Xml {
        Xml::default()
    }

    pub(crate) fn text(mut self, name: &str, value: impl Display) -> Xml {
        let value = escape(&value.to_string());
        self.0.push_str(&format!("<{name}>{value}</{name}>"));
        self
    }

    pub(crate) fn option(self, name: &str, value: Option<impl Display>) -> Xml {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    pub(crate) fn nest(mut self, name: &str, inside: Xml) -> Xml {
        self.0.push_str(&format!("<{name}>{}</{name}>", inside.0));
        self
    }

    /// `<name><item>...</item><item>...</item></name>`
    pub(crate) fn list(self, name: &str, item: &str, insides: impl IntoIterator<Item = Xml>) -> Xml {
        let all = insides.into_iter().fold(Xml::new(), |all, inside| all.nest(item, inside));
        self.nest(name, all)
    }

    pub(crate) fn texts(self, name: &str, item: &str, values: impl IntoIterator<Item = impl Display>) -> Xml {
        let all = values.into_iter().fold(Xml::new(), |all, value| all.text(item, value));
        self.nest(name, all)
    }

    /// Appends the other's elements.
    pub(crate) fn and(mut self, other: Xml) -> Xml {
        self.0.push_str(&other.0);
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_an_empty_list_is_still_an_element() {
        let xml = Xml::new().text("a", "<&>").texts("b", "item", [1, 2]).list("c", "item", []);
        assert_eq!(xml.as_str(), "<a>&lt;&amp;&gt;</a><b><item>1</item><item>2</item></b><c></c>");
    }
}
