//! Builds one manual page: headings, sentences, terms, examples.
//!
//! Text between backquotes is bold. Each sentence starts a new line, as roff wants.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::cli::screen::wrap;

/// The day on which the pages were last reviewed.
const DATE: &str = "2026-11-26";
/// The width of the source, less what escapes add.
const WIDTH: usize = 64;

pub(super) struct ManualPage {
    roff: Roff,
    /// True if there is no text below the last heading yet.
    is_fresh: bool,
}

impl ManualPage {
    /// Begins a page; `about` is the line that whatis(1) shows.
    pub(super) fn new(name: &str, section: &str, about: &str) -> ManualPage {
        let mut page = ManualPage { roff: Roff::new(), is_fresh: true };
        let source = concat!("spot-relay ", env!("CARGO_PKG_VERSION"));
        let manual = if section == "8" { "System Manager's Manual" } else { "File Formats Manual" };
        page.roff.control("TH", [name.to_uppercase().as_str(), section, DATE, source, manual]);
        page.heading("NAME");
        page.roff.text([roman(format!("{name} -"))]);
        page.sentences(about);
        page
    }

    pub(super) fn heading(&mut self, name: &str) {
        self.roff.control("SH", [name]);
        self.is_fresh = true;
    }

    pub(super) fn subheading(&mut self, name: &str) {
        self.roff.control("SS", [name]);
        self.is_fresh = true;
    }

    /// Adds a paragraph. Line breaks in `text` do not matter.
    pub(super) fn paragraph(&mut self, text: &str) {
        if !self.is_fresh {
            self.roff.control("PP", []);
        }
        self.sentences(text);
    }

    /// Adds sentences to the present paragraph.
    fn sentences(&mut self, text: &str) {
        self.is_fresh = false;
        for line in sentences(text).iter().flat_map(|sentence| lines(sentence)) {
            self.roff.text(marked(&line));
        }
    }

    pub(super) fn term(&mut self, term: Vec<Inline>, text: &str) {
        self.is_fresh = false;
        self.roff.control("TP", []);
        self.roff.text(term);
        self.sentences(text);
    }

    /// Adds lines as they are, indented and without bold.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.roff.control("PP", []);
        self.roff.control("RS", ["4"]);
        self.roff.control("nf", []);
        for line in text.lines() {
            self.roff.text([roman(if line.is_empty() { " " } else { line })]);
        }
        self.roff.control("fi", []);
        self.roff.control("RE", []);
    }

    pub(super) fn line(&mut self, line: Vec<Inline>) {
        self.is_fresh = false;
        self.roff.text(line);
    }

    pub(super) fn render(&self) -> String {
        self.roff.render()
    }
}

/// Splits a text after each full stop, question mark or exclamation mark with a space.
fn sentences(text: &str) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = Vec::new();
    let mut rest = text.as_str();
    while let Some(end) = [". ", "? ", "! "].iter().filter_map(|end| rest.find(end)).min() {
        let (sentence, after) = rest.split_at(end + 1);
        sentences.push(sentence.to_owned());
        rest = after.trim_start();
    }
    sentences.push(rest.to_owned());
    sentences
}

/// Breaks a sentence into lines, but not at a space between backquotes.
fn lines(sentence: &str) -> Vec<String> {
    const HARD: &str = "\u{1}";
    let parts = sentence.split('`').enumerate();
    let kept: Vec<String> =
        parts.map(|(n, part)| if n % 2 == 1 { part.replace(' ', HARD) } else { part.to_owned() }).collect();
    wrap(&kept.join("`"), WIDTH).into_iter().map(|line| line.replace(HARD, " ")).collect()
}

fn marked(line: &str) -> Vec<Inline> {
    let parts = line.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(n, part)| if n % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_a_line_and_what_is_quoted_stays_together() {
        let mut page = ManualPage { roff: Roff::new(), is_fresh: true };
        page.sentences("See `spot-relay status`. It's\n  told by `.toml`.");
        let expected = "See \\fBspot\\-relay status\\fR.\nIt\\*(Aqs told by \\fB.toml\\fR.\n";
        assert!(page.render().ends_with(expected), "{}", page.render());
        let long = format!("{} `a quoted part` b", "x".repeat(WIDTH - 10));
        assert_eq!(lines(&long).get(1).map(String::as_str), Some("`a quoted part` b"));
    }
}
