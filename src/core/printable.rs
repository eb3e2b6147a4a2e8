//! Makes text from outside printable: no control character of it reaches a terminal, a log or the journal.
//!
//! Error messages, event ids, keys of a configuration and names of roles come from outside. Each output (the log, the
//! journal, the terminal, the webhook) makes what it writes printable at one place.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes every character that would not show as itself: controls, ends of lines, and those that turn or hide their
/// neighbours. To escape the result again changes nothing.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    without(text, &[])
}

/// Escapes text of several lines: ends of lines and tabs stay.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    without(text, &['\n', '\t'])
}

/// Escapes a JSON document, in which such a character can only stand within a string.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|letter| is_hidden(letter) && letter != '\n') {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if !is_hidden(letter) || letter == '\n' {
            shown.push(letter);
            continue;
        }
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

fn without<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_to_go = |letter: char| is_hidden(letter) && !kept.contains(&letter);
    if !text.chars().any(is_to_go) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_to_go(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// Controls (C0, DEL, C1), the ends of lines and paragraphs, and what has no width or changes the direction of writing.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_ends_a_line_is_shown_as_what_it_is() {
        for (text, shown) in [
            ("plain text, ünïcödé, 日本", "plain text, ünïcödé, 日本"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{1b}[2J\u{7}\0", "\\u{1b}[2J\\u{7}\\u{0}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}gnp.exe\u{2028}\u{feff}", "\\u{202e}gnp.exe\\u{2028}\\u{feff}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown, "once is enough");
        }
        assert_eq!(printable_lines("a\n\tb\u{1b}\r"), "a\n\tb\\u{1b}\\r");
    }

    #[test]
    fn a_json_document_says_the_same_and_shows_nothing_hidden() {
        let text = "\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}\n\"";
        let json = serde_json::to_string(text).expect("json");
        let shown = printable_json(&json);
        assert!(shown.chars().all(|letter| !is_hidden(letter)), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).expect("json"), text);
    }
}
