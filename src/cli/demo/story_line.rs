//! One event of the demo, as a line for people.

use std::time::Duration;

use crate::cli::screen::{Paint, Tone, wrap};
use crate::core::notice::TWO_MINUTES;

/// The width of the column with the source.
const WHO: usize = 10;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoryLine {
    /// The time after the notice; `None` before it.
    at: Option<Duration>,
    who: &'static str,
    text: String,
    tone: Tone,
}

impl StoryLine {
    pub(super) fn new(at: Option<Duration>, who: &'static str, tone: Tone, text: &str) -> StoryLine {
        StoryLine { at, who, text: shortened(text), tone }
    }

    /// The line, wrapped at `width`: seconds after the notice, seconds left, source, text.
    pub(super) fn rendered(&self, width: usize, paint: Paint) -> Vec<String> {
        let (times, margin) = match self.at {
            Some(at) => {
                let left = TWO_MINUTES.saturating_sub(at).as_secs_f64();
                (format!("  {:>6.2}  {left:>4.0}  ", at.as_secs_f64()), 16)
            }
            None => ("  ".to_owned(), 2),
        };
        let text_width = width.saturating_sub(margin + WHO).max(20);
        let paragraphs = wrap(&self.text, text_width).into_iter().enumerate();
        let lines = paragraphs.map(|(number, text)| match number {
            0 => {
                let who = paint.with(Tone::Faint, &format!("{:WHO$}", self.who));
                format!("{}{who}{}", paint.with(Tone::Faint, &times), paint.with(self.tone, &text))
            }
            _ => format!("{}{}", " ".repeat(margin + WHO), paint.with(self.tone, &text)),
        });
        lines.collect()
    }
}

/// Shortens fleet ids, which are too long to read, to their first eight digits.
fn shortened(text: &str) -> String {
    let is_id = |part: &str| part.len() == 28 && part.chars().all(|one| one == '-' || one.is_ascii_hexdigit());
    let mut rest = text;
    let mut short = String::new();
    while let Some(at) = ["fleet-", "sfr-"].iter().filter_map(|kind| Some(rest.find(kind)? + kind.len())).min() {
        let (before, after) = rest.split_at(at);
        short.push_str(before);
        let cut = after.get(8..36).filter(|part| is_id(part)).and_then(|_| Some((after.get(..8)?, after.get(36..)?)));
        rest = match cut {
            Some((digits, after)) => {
                short.push_str(digits);
                short.push('…');
                after
            }
            None => after,
        };
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_fleets_are_shortened() {
        let id = "1715609f-7c74-4c69-abcb-652190787c9d";
        assert_eq!(shortened(&format!("raise fleet-{id} and sfr-{id}")), "raise fleet-1715609f… and sfr-1715609f…");
        assert_eq!(shortened("a fleet-wide change, ModifyFleet fleet-1"), "a fleet-wide change, ModifyFleet fleet-1");
    }
}
