//! The timeline as bars: pure, from milestones to lines.
//!
//! A bar begins where its duty began and ends at its milestone; the scale is the whole handover. A separate line shows
//! the time left.

use std::time::Duration;

use super::screen::{Paint, Tone};

/// The least width of the labels, as far as the page allows.
const LABEL: usize = 24;
/// The widths of the other columns: the seconds, and a margin and a gap.
const SECONDS: usize = 9;
const GAPS: usize = 2 + 2;

/// One duty, with its begin and end as times after the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) tone: Tone,
}

/// The whole time at the beginning, and a label for the rest of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) label: &'static str,
    pub(super) whole: Duration,
}

/// The widths of the columns.
#[derive(Clone, Copy)]
struct Columns {
    label: usize,
    bars: usize,
}

impl Columns {
    fn of(bars: &[Bar], width: usize) -> Columns {
        let longest = bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or_default();
        let free = width.saturating_sub(GAPS + SECONDS);
        let label = longest.max(LABEL).min(free * 3 / 5);
        Columns { label, bars: (free - label).max(10) }
    }

    fn label(self, text: &str) -> String {
        let label = self.label;
        let cut = match text.chars().count() > label {
            true => text.chars().take(label.saturating_sub(1)).chain(['…']).collect(),
            false => text.to_owned(),
        };
        format!("  {cut:label$}")
    }
}

/// The lines, none wider than `width`; empty without bars.
pub(super) fn lines(bars: &[Bar], budget: Option<Budget>, width: usize, paint: Paint) -> Vec<String> {
    let Some(end) = bars.iter().map(|bar| bar.until).max().filter(|end| !end.is_zero()) else {
        return Vec::new();
    };
    let columns = Columns::of(bars, width);
    let mut lines: Vec<String> = bars.iter().map(|bar| line(bar, end, columns, paint)).collect();
    lines.push(axis(end, columns, paint));
    if let Some(budget) = budget {
        lines.push(String::new());
        lines.push(left(end, budget, columns, paint));
    }
    lines
}

fn line(bar: &Bar, end: Duration, columns: Columns, paint: Paint) -> String {
    let (space, drawn) = strokes(bar.from, bar.until, end, columns.bars);
    let seconds = format!("{:>7.2} s", bar.until.as_secs_f64());
    format!(
        "{}{}  {}{}",
        columns.label(&bar.label),
        paint.with(Tone::Strong, &seconds),
        " ".repeat(space),
        paint.with(bar.tone, &drawn)
    )
}

/// The number of empty cells, and the bar after them, in half cells. Even a moment is half a cell.
fn strokes(from: Duration, until: Duration, end: Duration, cells: usize) -> (usize, String) {
    let halves = cells * 2;
    let at = |time: Duration| {
        let part = time.as_secs_f64() / end.as_secs_f64();
        ((part * halves as f64).round() as usize).min(halves)
    };
    let first = at(from).min(halves - 1);
    let last = at(until).clamp(first + 1, halves);
    let mut drawn = String::new();
    let mut half = first;
    if half % 2 == 1 {
        drawn.push('╺');
        half += 1;
    }
    while half + 2 <= last {
        drawn.push('━');
        half += 2;
    }
    if half < last {
        drawn.push('╸');
    }
    (first / 2, drawn)
}

/// The axis, such as `0 s          6 s          12 s`; a narrow one has no middle.
fn axis(end: Duration, columns: Columns, paint: Paint) -> String {
    let cells = columns.bars;
    let label = |part: f64| format!("{:.1} s", end.as_secs_f64() * part);
    let (first, middle, last) = ("0".to_owned(), label(0.5), label(1.0));
    let before_middle = (cells / 2).saturating_sub(first.len() + middle.len() / 2);
    let after_middle = cells.saturating_sub(first.len() + before_middle + middle.len() + last.len());
    let scale = match before_middle.min(after_middle) {
        0 | 1 => format!("{first}{}{last}", " ".repeat(cells.saturating_sub(first.len() + last.len()))),
        _ => format!("{first}{}{middle}{}{last}", " ".repeat(before_middle), " ".repeat(after_middle)),
    };
    format!("{}{}", " ".repeat(columns.label + SECONDS + GAPS), paint.with(Tone::Faint, &scale))
}

fn left(end: Duration, budget: Budget, columns: Columns, paint: Paint) -> String {
    let (bar, rest) = countdown(end, budget.whole, columns.bars);
    let left = budget.whole.saturating_sub(end).as_secs_f64();
    format!(
        "{}{left:>7.1} s  {}{}",
        columns.label(budget.label),
        paint.with(Tone::Plain, &bar),
        paint.with(Tone::Good, &rest)
    )
}

/// The past part and the rest, together `room` cells.
pub(super) fn countdown(gone: Duration, whole: Duration, room: usize) -> (String, String) {
    let part = (gone.as_secs_f64() / whole.as_secs_f64()).clamp(0.0, 1.0);
    let cells = ((part * room as f64).round() as usize).min(room);
    ("━".repeat(cells), "╌".repeat(room - cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { coloured: false };
    const COLOURED: Paint = Paint { coloured: true };

    fn bars() -> Vec<Bar> {
        let bar = |label: &str, from: u64, until: u64| Bar {
            label: label.to_owned(),
            from: Duration::from_millis(from),
            until: Duration::from_millis(until),
            tone: Tone::Good,
        };
        vec![
            bar("notice seen", 0, 400),
            bar("out of the load balancer", 400, 410),
            bar("successor serves", 410, 12_000),
        ]
    }

    fn rendered(width: usize, paint: Paint) -> Vec<String> {
        let budget = Budget { label: "left of the two minutes", whole: Duration::from_secs(120) };
        lines(&bars(), Some(budget), width, paint)
    }

    #[test]
    fn at_80_columns_labels_seconds_and_bars_are_aligned() {
        let expected = [
            "  notice seen                0.40 s  ━╸",
            "  out of the load balancer   0.41 s   ╺",
            "  successor serves          12.00 s   ╺━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
            "                                     0                  6.0 s             12.0 s",
            "",
            "  left of the two minutes   108.0 s  ━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌",
        ];
        assert_eq!(rendered(80, PLAIN), expected);
    }

    #[test]
    fn lines_fill_the_width_and_never_exceed_it() {
        for width in [40, 41, 60, 80, 120] {
            let longest = rendered(width, PLAIN).iter().map(|line| line.chars().count()).max();
            assert_eq!(longest, Some(width));
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colours() {
        let coloured = rendered(120, COLOURED);
        assert!(coloured[0].contains("\x1b[32m━"));
        let stripped = coloured.iter().map(|line| {
            let parts = line.split('\x1b').enumerate();
            parts.map(|(n, part)| if n == 0 { part } else { part.split_once('m').map_or("", |it| it.1) }).collect()
        });
        assert_eq!(stripped.collect::<Vec<String>>(), rendered(120, PLAIN));
    }

    #[test]
    fn at_40_columns_labels_are_cut_and_bars_are_left() {
        let expected = [
            "  notice seen        0.40 s  ╸",
            "  out of the load…   0.41 s  ╺",
            "  successor serves  12.00 s  ╺━━━━━━━━━━",
            "                             0    12.0 s",
        ];
        assert_eq!(rendered(40, PLAIN)[..4], expected);
    }

    #[test]
    fn a_moment_is_still_a_stroke_at_either_end() {
        let second = Duration::from_secs(1);
        assert_eq!(strokes(Duration::ZERO, Duration::ZERO, second, 10), (0, "╸".to_owned()));
        assert_eq!(strokes(second, second, second, 10), (9, "╺".to_owned()));
        assert_eq!(strokes(Duration::ZERO, second, second, 3), (0, "━━━".to_owned()));
    }

    #[test]
    fn no_milestone_no_chart() {
        assert!(lines(&[], None, 80, PLAIN).is_empty());
    }
}
