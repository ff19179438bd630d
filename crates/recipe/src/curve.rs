//! Curves of a run as SVG drawings.

mod ticks;

use std::fmt::Write as _;

use ticks::Ticks;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 450.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 52.0;

/// Weight of the past in the smoothed line: a mean over about the last ten steps.
const SMOOTHING: f64 = 0.9;

/// Most characters of the title that fit beside the legend.
const MAX_TITLE: usize = 50;

/// Most points drawn of one line; more would be finer than a pixel.
const MAX_POINTS: usize = 2000;

/// Rules for the classes of a drawing, for a page that holds several.
// Greys at half strength and middle tones are legible on white and on black.
pub const STYLE: &str = "\
svg text{font:12px system-ui,sans-serif;fill:#808080}\
svg .title{font-size:15px;font-weight:600}\
.grid{stroke:#808080;stroke-opacity:.22}\
.axis{stroke:#808080;stroke-opacity:.7}\
.raw{fill:none;stroke:#4c86d8;stroke-opacity:.32;stroke-width:1}\
.train{fill:none;stroke:#4c86d8;stroke-width:2;stroke-linejoin:round}\
.val{fill:none;stroke:#e0792b;stroke-width:1.5;stroke-dasharray:4 3}\
.dot{fill:#e0792b}\
.dot1{fill:#4c86d8}";

/// Draws the loss over the steps: training as a faint line with its smoothed course over it,
/// validation as points.
///
/// Points are (step, loss in nats per token). Losses that are not finite are left out; with no
/// points at all the drawing says so. The smoothed course is the exponential mean with weight 0.9,
/// divided by the sum of its weights, so that it does not start at zero.
pub fn loss_curve_svg(train: &[(u64, f64)], validation: &[(u64, f64)], title: &str) -> String {
    let figure =
        Figure { title, quantity: "loss", unit: "nats per token", train, validation, smooth: true };
    figure.draw(&format!("<style>{STYLE}</style>\n"))
}

/// One quantity over the steps, as points (step, value).
#[derive(Clone, Copy, Debug)]
pub struct Figure<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// What is drawn.
    pub quantity: &'a str,
    /// Its unit; empty for a plain number.
    pub unit: &'a str,
    /// Values of the updates.
    pub train: &'a [(u64, f64)],
    /// Values of the evaluations.
    pub validation: &'a [(u64, f64)],
    /// Whether the smoothed course of the updates is drawn over them.
    pub smooth: bool,
}

impl Figure<'_> {
    /// The drawing as an element of a page that has the rules of [`STYLE`].
    pub fn svg(&self) -> String {
        self.draw("")
    }

    fn draw(&self, style: &str) -> String {
        let (train, validation) = (finite(self.train), finite(self.validation));
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n<title>{title}</title>\n\
             {style}<text class=\"title\" x=\"{LEFT}\" y=\"26\">{heading}</text>\n",
            title = escape(self.title),
            heading = escape(&heading(self.title))
        );
        match Frame::around(train.iter().chain(&validation)) {
            None => {
                let (x, y) = (WIDTH / 2.0, HEIGHT / 2.0);
                let _ = writeln!(
                    svg,
                    "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">no finite {}</text>",
                    escape(self.quantity)
                );
            }
            Some(frame) => {
                frame.draw_axes(&mut svg, &self.label());
                draw_train(&mut svg, &frame, &train, self.smooth);
                draw_validation(&mut svg, &frame, &validation);
                draw_legend(&mut svg, self.smooth && !train.is_empty(), !validation.is_empty());
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn label(&self) -> String {
        match self.unit {
            "" => escape(self.quantity),
            unit => escape(&format!("{} ({unit})", self.quantity)),
        }
    }
}

/// The title, cut to what fits.
fn heading(title: &str) -> String {
    match title.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title.to_owned(),
    }
}

fn finite(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    // Beyond 1e300 the span of the axis would overflow.
    let usable = points.iter().filter(|(_, loss)| loss.abs() < 1e300);
    usable.map(|&(step, loss)| (step as f64, loss)).collect()
}

/// The drawn ranges, each between two ticks.
struct Frame {
    steps: Ticks,
    losses: Ticks,
}

impl Frame {
    fn around<'p>(points: impl Iterator<Item = &'p (f64, f64)>) -> Option<Self> {
        let start = (f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY);
        let (first, last, low, high) = points.fold(start, |(first, last, low, high), &(x, y)| {
            (first.min(x), last.max(x), low.min(y), high.max(y))
        });
        first.is_finite().then(|| {
            let steps = match first < last {
                true => Ticks::around(first.min(0.0), last, 8.0, 1.0),
                false => Ticks::around((first - 1.0).max(0.0), first + 1.0, 2.0, 1.0),
            };
            Self { steps, losses: Ticks::around(low, high, 6.0, 0.0) }
        })
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + self.steps.part(step) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, loss: f64) -> f64 {
        HEIGHT - BOTTOM - self.losses.part(loss) * (HEIGHT - TOP - BOTTOM)
    }

    fn draw_axes(&self, svg: &mut String, label: &str) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for index in 0..self.losses.count {
            let y = self.y(self.losses.at(index));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                self.losses.label(index)
            );
        }
        for index in 0..self.steps.count {
            let x = self.x(self.steps.at(index));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                self.steps.label(index)
            );
        }
        let middle = (TOP + bottom) / 2.0;
        let _ = writeln!(
            svg,
            "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>\n\
             <text x=\"16\" y=\"{middle}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 16 {middle})\">{label}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 12.0
        );
    }
}

fn draw_train(svg: &mut String, frame: &Frame, train: &[(f64, f64)], smooth: bool) {
    if let [(step, loss)] = train {
        dot(svg, "dot1", frame.x(*step), frame.y(*loss));
    }
    if smooth {
        line(svg, "raw", frame, train);
        line(svg, "train", frame, &smoothed(train));
    } else {
        line(svg, "train", frame, train);
    }
}

fn draw_validation(svg: &mut String, frame: &Frame, validation: &[(f64, f64)]) {
    line(svg, "val", frame, validation);
    for (step, loss) in thinned(validation) {
        dot(svg, "dot", frame.x(step), frame.y(loss));
    }
}

fn dot(svg: &mut String, class: &str, x: f64, y: f64) {
    let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
}

fn line(svg: &mut String, class: &str, frame: &Frame, points: &[(f64, f64)]) {
    if points.len() < 2 {
        return;
    }
    let _ = write!(svg, "<polyline class=\"{class}\" points=\"");
    for (step, loss) in thinned(points) {
        let _ = write!(svg, "{:.1},{:.1} ", frame.x(step), frame.y(loss));
    }
    svg.push_str("\"/>\n");
}

/// Every n-th point and the last.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let stride = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.last().filter(|_| !(points.len() - 1).is_multiple_of(stride));
    points.iter().step_by(stride).chain(last).copied()
}

fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (mut mean, mut weight) = (0.0, 0.0);
    let smooth = |&(step, loss): &(f64, f64)| {
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
        weight = SMOOTHING * weight + (1.0 - SMOOTHING);
        (step, mean / weight)
    };
    points.iter().map(smooth).collect()
}

fn draw_legend(svg: &mut String, train: bool, validation: bool) {
    let y = 22.0;
    let mut x = WIDTH - RIGHT - 250.0;
    if train {
        let _ = writeln!(
            svg,
            "<path class=\"train\" d=\"M{x} {y}h24\"/>\
             <text x=\"{}\" y=\"{}\">train (smoothed)</text>",
            x + 30.0,
            y + 4.0
        );
        x += 150.0;
    }
    if validation {
        let _ = writeln!(
            svg,
            "<path class=\"val\" d=\"M{x} {y}h24\"/><circle class=\"dot\" cx=\"{}\" cy=\"{y}\" \
             r=\"3.5\"/><text x=\"{}\" y=\"{}\">validation</text>",
            x + 12.0,
            x + 30.0,
            y + 4.0
        );
    }
}

/// Text for XML and HTML: markup escaped, characters that XML cannot hold replaced.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that tags nest, attributes are quoted and all coordinates are numbers.
    fn check(svg: &str) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\"") && !svg.contains("inf,"), "{svg}");
    }

    #[test]
    fn any_points_give_a_whole_drawing() {
        let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 0.0, -0.0, 1e-300, f64::MAX, -3.0];
        let odd: Vec<_> = odd.into_iter().enumerate().map(|(i, loss)| (i as u64, loss)).collect();
        for train in [&[][..], &[(5, 2.0)], &[(0, 0.0)], &[(1, 2.0), (2, 2.0)], &odd] {
            for validation in [&[][..], &[(u64::MAX, 1.0)], &odd] {
                check(&loss_curve_svg(train, validation, "run"));
            }
        }
        assert!(loss_curve_svg(&[], &[(1, f64::NAN)], "run").contains("no finite loss"));
    }

    #[test]
    fn titles_cannot_break_out() {
        let svg = loss_curve_svg(&[], &[], "</title><script>\"&\u{1b}");
        check(&svg);
        assert!(svg.contains("&lt;/title&gt;&lt;script&gt;&quot;&amp;\u{fffd}"));
    }

    #[test]
    fn the_smoothed_line_starts_at_the_first_loss() {
        let smooth = smoothed(&[(1.0, 4.0), (2.0, 4.0), (3.0, 0.0)]);
        assert!((smooth[0].1 - 4.0).abs() < 1e-12 && (smooth[1].1 - 4.0).abs() < 1e-12);
        let expected = 4.0 * (1.0 - 0.1 / (1.0 - 0.9f64.powi(3)));
        assert!((smooth[2].1 - expected).abs() < 1e-12);
    }

    #[test]
    fn long_runs_stay_small_and_keep_their_last_point() {
        let train: Vec<_> = (0..100_000).map(|step| (step, 2.0)).collect();
        assert!(loss_curve_svg(&train, &[], "run").len() < 100_000);
        let points: Vec<_> = (0..5001).map(|i| (f64::from(i), 0.0)).collect();
        assert_eq!(thinned(&points).last(), Some((5000.0, 0.0)));
    }
}
