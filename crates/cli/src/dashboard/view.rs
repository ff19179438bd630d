//! Draws a dashboard, whatever size the terminal has.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Gauge, Paragraph, Tabs, Wrap};
use rekindle_recipe::history::Sample;

use super::chart::{Curve, Look};
use super::{Dashboard, Pane};
use crate::words;

/// Below this size there are lines of figures alone.
const SMALL: (u16, u16) = (44, 14);

/// From this size on all curves are shown at once.
const LARGE: (u16, u16) = (100, 30);

/// Columns of the figures beside the main area.
const FIGURES: u16 = 28;

const KEYS: &str = "q, Ctrl-C   save a checkpoint and stop; once more: end at once
Tab, → ←    next, previous pane
↑ ↓         older, newer lines
?           this list

A checkpoint can also be had by `train.save_steps`.";

/// Draws the dashboard into the whole frame.
pub fn draw(frame: &mut Frame<'_>, dashboard: &Dashboard, color: bool) {
    let look = Look { marker: Marker::Braille, color };
    let area = frame.area();
    if area.width < SMALL.0 || area.height < SMALL.1 {
        small(frame, area, dashboard);
    } else {
        let events = if area.height >= 22 { area.height / 5 } else { 0 };
        let rows = [1, 1, 1, 0, events, 1].map(Constraint::Length);
        let mut rows = rows.to_vec();
        rows[3] = Constraint::Fill(1);
        let parts = Layout::vertical(rows).split(area);
        header(frame, parts[0], dashboard, look);
        gauge(frame, parts[1], dashboard, look);
        tabs(frame, parts[2], dashboard, look);
        body(frame, parts[3], dashboard, look);
        if events > 0 {
            log(frame, parts[4], dashboard, 0);
        }
        footer(frame, parts[5], dashboard, look);
    }
    if dashboard.help {
        help(frame, area);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, look: Look) {
    let text = match &dashboard.history.started {
        Some(it) => format!("{}  {} of {} on {}", it.run, it.method, it.model, it.device),
        None => "reading the data and the model".to_owned(),
    };
    let style = look.style(Color::Cyan).add_modifier(Modifier::BOLD);
    frame.render_widget(Span::styled(words::clean(&text), style), area);
}

fn gauge(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, look: Look) {
    let (step, total) = (dashboard.history.step(), dashboard.history.total_steps());
    let part = (step as f64 / total.max(1) as f64).clamp(0.0, 1.0);
    let gauge = Gauge::default().ratio(part).label(progress(dashboard));
    let style = match look.color {
        true => Style::new().fg(Color::Blue).bg(Color::DarkGray),
        // Reversed cells are the bar where there is no colour.
        false => Style::new(),
    };
    frame.render_widget(gauge.gauge_style(style), area);
}

fn progress(dashboard: &Dashboard) -> String {
    let history = &dashboard.history;
    let (step, total) = (history.step(), history.total_steps());
    let percent = 100.0 * step as f64 / total.max(1) as f64;
    let left = history.seconds_left().filter(|_| history.ended.is_none());
    let eta = left.map(|it| format!("  eta {}", words::duration(it))).unwrap_or_default();
    format!("step {step}/{total} ({percent:.0} %){eta}")
}

fn tabs(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, look: Look) {
    let selected = Pane::ALL.iter().position(|pane| *pane == dashboard.pane);
    let style = look.style(Color::Yellow).add_modifier(Modifier::REVERSED);
    let tabs = Tabs::new(Pane::ALL.map(Pane::name)).select(selected).highlight_style(style);
    frame.render_widget(tabs, area);
}

fn body(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, look: Look) {
    let wide = area.width >= 2 * FIGURES;
    let columns = [Constraint::Fill(1), Constraint::Length(if wide { FIGURES } else { 0 })];
    let [main, figures_area] = Layout::horizontal(columns).areas(area);
    if wide {
        let width = usize::from(FIGURES) - 2;
        let lines: Vec<Line<'_>> =
            figures(dashboard).iter().map(|it| Line::from(across(it, width))).collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered()), figures_area);
    }
    match dashboard.pane {
        Pane::Events => log(frame, main, dashboard, dashboard.scroll),
        Pane::Samples => samples(frame, main, dashboard),
        pane => {
            let size = frame.area();
            let all = size.width >= LARGE.0 && size.height >= LARGE.1;
            charts(frame, main, dashboard, look, (pane, all));
        }
    }
}

/// The selected curve, and the others below it where there is room.
fn charts(
    frame: &mut Frame<'_>,
    area: Rect,
    dashboard: &Dashboard,
    look: Look,
    (pane, all): (Pane, bool),
) {
    let below = if all { area.height / 3 } else { 0 };
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    curve(dashboard, pane).draw(frame, top, look);
    if all {
        let others = Pane::ALL.into_iter().filter(|it| it.is_chart() && *it != pane);
        let columns = Layout::horizontal([Constraint::Fill(1); 3]).split(bottom);
        for (other, column) in others.zip(columns.iter()) {
            curve(dashboard, other).draw(frame, *column, look);
        }
    }
}

fn curve(dashboard: &Dashboard, pane: Pane) -> Curve<'static> {
    let history = &dashboard.history;
    let train = history.curve(|point| match pane {
        Pane::LearningRate => point.learning_rate,
        Pane::GradNorm => point.grad_norm,
        Pane::Speed => point.tokens_per_second,
        Pane::Loss | Pane::Events | Pane::Samples => point.loss,
    });
    let validation = if pane == Pane::Loss { history.eval_curve() } else { Vec::new() };
    Curve { title: pane.name(), train, validation }
}

/// The newest figures by name.
fn figures(dashboard: &Dashboard) -> Vec<(&'static str, String)> {
    let history = &dashboard.history;
    let last = history.steps.last();
    let of = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), words::number);
    let eval = history.evals.last();
    let spent: f64 = history.steps.iter().map(|point| point.seconds).sum();
    let memory = last.and_then(|point| point.memory_bytes);
    let mut rows = vec![
        ("loss", of(last.map(|point| point.loss))),
        ("eval loss", of(eval.map(|point| point.loss))),
        ("learning rate", of(last.map(|point| point.learning_rate))),
        ("gradient norm", of(last.map(|point| point.grad_norm))),
        ("tokens/s", of(last.map(|point| point.tokens_per_second))),
        ("  mean", of(history.mean_tokens_per_second())),
        ("memory", memory.map_or_else(|| "-".to_owned(), words::bytes)),
        ("time", words::duration(spent)),
        ("checkpoints", history.checkpoints.len().to_string()),
        ("warnings", history.warnings.len().to_string()),
    ];
    if let Some(exact) = history.evals.iter().rev().find_map(|point| point.exact_match) {
        rows.insert(2, ("exact match", format!("{:.1} %", 100.0 * exact)));
    }
    let skipped = history.steps.iter().filter(|point| point.skipped).count();
    if skipped > 0 {
        rows.push(("steps left out", skipped.to_string()));
    }
    rows
}

/// The last lines that fit; `scroll` lines older than the newest.
fn log(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, scroll: usize) {
    let room = usize::from(area.height.saturating_sub(2));
    let end = dashboard.log.len() - scroll.min(dashboard.log.len().saturating_sub(room));
    let lines: Vec<Line<'_>> = dashboard
        .log
        .range(end.saturating_sub(room)..end)
        .map(|line| Line::from(words::clean(line)))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("Events")), area);
}

/// Answers of the newest evaluation that made any, beside the base model's.
fn samples(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let all = &dashboard.history.samples;
    let newest = all.last().map_or(0, |sample| sample.step);
    let mut lines = Vec::new();
    for sample in all.iter().filter(|sample| sample.step == newest) {
        let base = |it: &&Sample| it.step == 0 && it.question == sample.question;
        let base = all.iter().find(base).filter(|_| newest > 0);
        let mark = if sample.given.trim() == sample.wanted.trim() { "=" } else { "≠" };
        lines.push(format!("> {}", words::clean(&sample.question)));
        lines.push(format!("  wanted {}", words::clean(&sample.wanted)));
        lines.extend(base.map(|it| format!("  base   {}", words::clean(&it.given))));
        lines.push(format!("{mark} given  {}", words::clean(&sample.given)));
        lines.push(String::new());
    }
    let title = format!("Samples at step {newest}");
    if lines.is_empty() {
        lines.push("none yet; `eval.generate` sets how many are asked".to_owned());
    }
    let offset = dashboard.scroll.min(lines.len().saturating_sub(1)) as u16;
    let text = Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>());
    let block = Block::bordered().title(title);
    frame.render_widget(text.wrap(Wrap { trim: false }).scroll((offset, 0)).block(block), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard, look: Look) {
    let (text, style) = match dashboard.stopping {
        false => ("q stop   tab pane   ↑↓ scroll   ? keys", Style::new()),
        true => (
            "stopping after this step; q again ends at once, without a checkpoint",
            look.style(Color::Red).add_modifier(Modifier::BOLD),
        ),
    };
    frame.render_widget(Span::styled(text, style), area);
}

/// A name and its value at the two ends of a line.
fn across((name, value): &(&str, String), width: usize) -> String {
    let rest = width.saturating_sub(name.len());
    format!("{name}{value:>rest$}")
}

fn small(frame: &mut Frame<'_>, area: Rect, dashboard: &Dashboard) {
    let history = &dashboard.history;
    let left = history.seconds_left().filter(|_| history.ended.is_none());
    let mut rows = vec![("step", format!("{}/{}", history.step(), history.total_steps()))];
    rows.extend(left.map(|it| ("time left", words::duration(it))));
    if dashboard.stopping {
        rows.insert(0, ("stopping", String::new()));
    }
    rows.extend(figures(dashboard));
    let lines: Vec<Line<'_>> =
        rows.iter().map(|it| Line::from(across(it, usize::from(area.width)))).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (66.min(area.width), 8.min(area.height));
    let middle = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(KEYS).block(Block::bordered().title("Keys")), middle);
}
