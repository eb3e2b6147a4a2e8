//! Standard output: plain lines on a pipe; on a terminal colours, and below the lines a picture that is redrawn.
//!
//! Invariant: without a terminal, or with `NO_COLOR`, no line has an escape code; no line is wider than the terminal.

use std::io::{self, IsTerminal, Write};

use crate::core::printable::printable;
use crate::core::words::words;
use crate::telemetry::logging::refuses_colour;

/// The width without a terminal.
const WIDTH: usize = 80;
/// The range of widths: longer lines are hard to read.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

const ESCAPE: char = '\u{1b}';

words! {
    /// The meaning of a part of a line. The word is the code of its colour.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Tone {
        Plain = "",
        Strong = "1",
        Faint = "2",
        Good = "32",
        Call = "36",
        Alarm = "1;33",
        Bad = "1;31",
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) coloured: bool,
}

impl Paint {
    /// Escapes all control characters but those of [`Paint::with`].
    fn printable(self, line: &str) -> String {
        if !self.coloured {
            return printable(line).into_owned();
        }
        let mut shown = String::with_capacity(line.len());
        for (number, part) in line.split(ESCAPE).enumerate() {
            if number == 0 {
                shown.push_str(&printable(part));
                continue;
            }
            let is_ours = |code: &str| Tone::ALL.iter().any(|tone| code == tone.as_str() && *tone != Tone::Plain);
            let ours = part.split_once('m');
            let ours = ours.filter(|(code, _)| *code == "[0" || code.strip_prefix('[').is_some_and(is_ours));
            match ours {
                Some((code, rest)) => shown.push_str(&format!("{ESCAPE}{code}m{}", printable(rest))),
                None => shown.push_str(&printable(&format!("{ESCAPE}{part}"))),
            }
        }
        shown
    }

    pub(super) fn with(self, tone: Tone, text: &str) -> String {
        let code = tone.as_str();
        if !self.coloured || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Wraps `text` at `width`, but never inside a word, or between a number and its unit of seconds.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let unit = words.next_if(|next| word.ends_with(|end: char| end.is_ascii_digit()) && is_seconds(next));
        let word = unit.map_or_else(|| word.to_owned(), |unit| format!("{word} {unit}"));
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Tells whether the word is a unit of seconds: `s`, `s)` or `s;`.
fn is_seconds(word: &str) -> bool {
    word.strip_prefix('s').is_some_and(|rest| rest.chars().all(|one| one.is_ascii_punctuation()))
}

pub(super) struct Screen {
    pub(super) paint: Paint,
    pub(super) width: usize,
    /// True if the picture below the lines can be redrawn.
    is_live: bool,
    /// The most lines of a picture: the cursor must reach its first line.
    pub(super) height: usize,
    /// The number of lines of the present picture.
    drawn: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        let is_live = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mut screen = Screen {
            paint: Paint { coloured: is_live && !refuses_colour() },
            width: WIDTH,
            is_live,
            height: usize::MAX,
            drawn: 0,
        };
        screen.measure();
        screen
    }

    /// Tells whether pictures are drawn.
    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Reads the present size of the terminal.
    pub(super) fn measure(&mut self) {
        let Some(size) = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0) else {
            return;
        };
        self.width = usize::from(size.ws_col).clamp(*WIDTHS.start(), *WIDTHS.end());
        if size.ws_row > 1 {
            self.height = usize::from(size.ws_row) - 1;
        }
    }

    /// Writes lines, and the picture below them.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) fn show(&mut self, lines: &[String], picture: &[String]) -> io::Result<()> {
        let picture = if self.is_live { cut(picture, self.height) } else { Vec::new() };
        if lines.is_empty() && picture.is_empty() && self.drawn == 0 {
            return Ok(());
        }
        let mut text = String::new();
        if self.drawn > 0 {
            // This moves to the picture's first line and clears from there.
            text.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        for line in lines {
            text.push_str(&self.paint.printable(line));
            text.push('\n');
        }
        if !picture.is_empty() {
            // A terminal that became narrower cuts the picture's lines, instead of breaking them.
            text.push_str("\x1b[?7l");
            for line in &picture {
                text.push_str(&self.paint.printable(line));
                text.push('\n');
            }
            text.push_str("\x1b[?7h");
        }
        self.drawn = picture.len();
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }
}

/// Cuts a picture that is too high, and says so in its last line.
fn cut(picture: &[String], height: usize) -> Vec<String> {
    if picture.len() <= height {
        return picture.to_vec();
    }
    let shown = picture.iter().take(height.saturating_sub(1)).cloned();
    shown.chain(["  … this terminal is too low for the rest".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colour_means_no_escape_code() {
        assert_eq!(Paint { coloured: false }.with(Tone::Bad, "x"), "x");
        assert_eq!(Paint { coloured: true }.with(Tone::Good, "x"), "\x1b[32mx\x1b[0m");
        assert_eq!(Paint { coloured: true }.with(Tone::Plain, "x"), "x");
    }

    #[test]
    fn what_is_not_ours_does_not_move_the_cursor() {
        let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m";
        for paint in [Paint { coloured: false }, Paint { coloured: true }] {
            let line = paint.printable(&format!("{} {hostile}", paint.with(Tone::Alarm, "x")));
            assert!(line.starts_with(&paint.with(Tone::Alarm, "x")), "{line:?}");
            assert!(line.ends_with("\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{9b}31m"), "{line:?}");
        }
    }

    #[test]
    fn a_picture_that_is_too_high_ends_where_it_can_be_reached() {
        let picture = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(cut(&picture, 3), picture);
        assert_eq!(cut(&picture, 2), ["a", "  … this terminal is too low for the rest"]);
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrap("leave web at once", 9), ["leave web", "at once"]);
        assert_eq!(wrap("a verylongword b", 4), ["a", "verylongword", "b"]);
        assert_eq!(wrap("after 300 s) so far", 10), ["after", "300 s) so", "far"]);
        assert!(wrap("", 10).is_empty());
    }
}
