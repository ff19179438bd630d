//! A curve in character cells.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LegendPosition, Widget};

use crate::words;

/// Most points of a line; more would be finer than the dots of a wide terminal.
const MAX_POINTS: usize = 1000;

/// A curve: values by step, and those of evaluations over it.
pub struct Curve<'a> {
    /// What stands in its frame.
    pub title: &'a str,
    /// Values of the updates.
    pub train: Vec<(u64, f64)>,
    /// Values of the evaluations.
    pub validation: Vec<(u64, f64)>,
}

/// How a curve is drawn.
#[derive(Clone, Copy)]
pub struct Look {
    /// What a line is made of.
    pub marker: Marker,
    /// Whether there are colours.
    pub color: bool,
}

impl Look {
    /// `color` as a style, where there are colours.
    pub fn style(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }
}

impl Curve<'_> {
    /// Draws the curve into a part of a frame.
    pub fn draw(&self, frame: &mut Frame<'_>, area: Rect, look: Look) {
        self.render(area, frame.buffer_mut(), look);
    }

    /// The curve as lines of text.
    pub fn lines(&self, width: u16, height: u16, ascii: bool) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let marker = if ascii { Marker::Dot } else { Marker::Braille };
        self.render(area, &mut buffer, Look { marker, color: false });
        let row = |y: u16| {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            let text: String = cells.map(|it| if ascii { plain(it) } else { it }).collect();
            text.trim_end().to_owned()
        };
        (0..height).map(row).collect()
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, look: Look) {
        let (train, validation) = (points(&self.train), points(&self.validation));
        let block = Block::bordered().title(self.title);
        let Some([first, last, low, high]) = bounds(train.iter().chain(&validation)) else {
            let inner = block.inner(area);
            block.render(area, buffer);
            "nothing yet".render(inner, buffer);
            return;
        };
        let mut sets = vec![
            Dataset::default()
                .name("train")
                .marker(look.marker)
                .graph_type(GraphType::Line)
                .style(look.style(Color::Cyan))
                .data(&train),
        ];
        if !validation.is_empty() {
            let dots = Dataset::default().name("eval •").marker(Marker::Dot);
            sets.push(
                dots.graph_type(GraphType::Scatter)
                    .style(look.style(Color::Yellow))
                    .data(&validation),
            );
        }
        let middle = f64::midpoint(low, high);
        let steps = [format!("{first:.0}"), format!("{last:.0}")];
        Chart::new(sets)
            .block(block)
            .legend_position((!validation.is_empty()).then_some(LegendPosition::TopRight))
            .x_axis(Axis::default().bounds([first, last]).labels(steps))
            .y_axis(
                Axis::default().bounds([low, high]).labels([low, middle, high].map(words::number)),
            )
            .render(area, buffer);
    }
}

/// Finite values, thinned.
fn points(values: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let usable = values.iter().filter(|(_, value)| value.abs() < 1e300);
    let usable: Vec<_> = usable.map(|&(step, value)| (step as f64, value)).collect();
    let stride = usable.len().div_ceil(MAX_POINTS).max(1);
    let last = usable.last().filter(|_| !(usable.len() - 1).is_multiple_of(stride));
    usable.iter().step_by(stride).chain(last).copied().collect()
}

/// First and last step, lowest and highest value, each pair apart.
fn bounds<'p>(points: impl Iterator<Item = &'p (f64, f64)>) -> Option<[f64; 4]> {
    let start = [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY];
    let [first, last, low, high] = points.fold(start, |[first, last, low, high], &(x, y)| {
        [first.min(x), last.max(x), low.min(y), high.max(y)]
    });
    if !first.is_finite() {
        return None;
    }
    let margin = if high > low { 0.05 * (high - low) } else { 0.05 * high.abs().max(1e-6) };
    // A quantity without negative values needs no axis below zero.
    let bottom = if low >= 0.0 { (low - margin).max(0.0) } else { low - margin };
    Some([first, last.max(first + 1.0), bottom, high + margin])
}

/// A symbol in ASCII.
fn plain(symbol: &str) -> &str {
    match symbol {
        "•" => "*",
        "│" => "|",
        "─" => "-",
        "┌" | "┐" | "└" | "┘" => "+",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(train: Vec<(u64, f64)>, validation: Vec<(u64, f64)>) -> Curve<'static> {
        Curve { title: "Loss", train, validation }
    }

    #[test]
    fn a_falling_loss_falls_on_the_screen() {
        let falling = curve((1..=40).map(|step| (step, 4.0 / step as f64)).collect(), Vec::new());
        let lines = falling.lines(40, 10, true);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
        let star = |line: &String| line.chars().position(|it| it == '*');
        let stars: Vec<_> = lines.iter().filter_map(star).collect();
        assert!(stars.len() >= 5 && stars.windows(2).all(|two| two[0] <= two[1]), "{lines:#?}");
        let braille = falling.lines(40, 10, false).concat();
        assert!(braille.chars().any(|it| ('\u{2801}'..='\u{28ff}').contains(&it)), "{braille}");
    }

    #[test]
    fn odd_values_are_drawn_or_left_out() {
        let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, 1e-300, f64::MAX, -3.0, 1e299];
        let odd: Vec<_> = (0..).zip(odd).collect();
        for train in [vec![], vec![(5, 2.0)], vec![(u64::MAX, 1.0), (u64::MAX, 2.0)], odd.clone()] {
            for (width, height) in [(0, 0), (1, 1), (3, 2), (10, 200), (200, 3), (80, 24)] {
                curve(train.clone(), odd.clone()).lines(width, height, false);
            }
        }
        assert!(
            curve(vec![(1, f64::NAN)], vec![]).lines(30, 5, false).concat().contains("nothing yet")
        );
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_last_point() {
        let thin = points(&(0..50_001).map(|step| (step, 1.0)).collect::<Vec<_>>());
        assert!(thin.len() <= MAX_POINTS + 1);
        assert_eq!(thin.last(), Some(&(50_000.0, 1.0)));
    }
}
