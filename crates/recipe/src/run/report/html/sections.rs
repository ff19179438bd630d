//! The parts of the page, in its order.

use std::fmt::Write as _;

use super::{Page, escape, table};
use crate::curve::Figure;
use crate::events::{DataStatistics, Status};
use crate::history::StepPoint;
use crate::run::report::rows;

/// Answers shown; `summary.json` has them all.
const SAMPLES: usize = 50;

/// One curve: title, quantity, unit, and where its values are.
type Curve = (&'static str, &'static str, &'static str, fn(&StepPoint) -> f64);

const CURVES: [Curve; 4] = [
    ("Learning rate", "learning rate", "", |point| point.learning_rate),
    ("Gradient norm", "gradient norm", "before clipping", |point| point.grad_norm),
    ("Speed", "speed", "target tokens/s", |point| point.tokens_per_second),
    ("Memory", "memory", "MiB, most so far", |point| {
        point.memory_bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20))
    }),
];

impl Page<'_> {
    pub(super) fn lead(&self, html: &mut String) {
        let summary = self.summary;
        let status = match summary.status {
            Status::Succeeded => "finished",
            Status::Failed => "failed",
            Status::Cancelled | Status::Preempted => "stopped, to be resumed",
        };
        let trained = self.history.started.as_ref().map(|it| {
            let share = 100.0 * it.trainable_parameters as f64 / it.total_parameters.max(1) as f64;
            format!(
                " {} of {} parameters were trained ({share:.2} %).",
                it.trainable_parameters, it.total_parameters
            )
        });
        let _ = writeln!(
            html,
            "<p class=\"lead\">{} of <code>{}</code>: {status} after {} updates, {:.0} s.{}</p>",
            escape(self.method),
            escape(self.model),
            summary.steps,
            summary.seconds,
            trained.unwrap_or_default()
        );
    }

    pub(super) fn warnings(&self, html: &mut String) {
        let rows: Vec<_> = self.history.warnings.iter().map(|it| vec![it.clone()]).collect();
        table(html, "Warnings", "warnings", &[], &rows);
    }

    pub(super) fn result(&self, html: &mut String) {
        let rows = rows(&self.summary.base, &self.summary.tuned).into_iter();
        let rows: Vec<_> =
            rows.map(|(name, base, tuned)| vec![name.to_owned(), base, tuned]).collect();
        table(html, "Result", "figures", &["", "base", "tuned"], &rows);
    }

    pub(super) fn curves(&self, html: &mut String) {
        html.push_str("<h2>Curves</h2>\n<div class=\"curves\">\n");
        let (train, validation) = (self.history.curve(|it| it.loss), self.history.eval_curve());
        let loss = Figure {
            title: "Loss",
            quantity: "loss",
            unit: "nats per token",
            train: &train,
            validation: &validation,
            smooth: true,
        };
        html.push_str(&loss.svg());
        for (title, quantity, unit, of) in CURVES {
            let points = self.history.curve(of);
            if points.iter().any(|(_, value)| value.is_finite()) {
                let figure = Figure {
                    title,
                    quantity,
                    unit,
                    train: &points,
                    validation: &[],
                    smooth: false,
                };
                html.push_str(&figure.svg());
            }
        }
        html.push_str("</div>\n");
    }

    pub(super) fn samples(&self, html: &mut String) {
        let Some(tuned) = &self.summary.tuned.answers else { return };
        let base = self.summary.base.answers.as_ref();
        let _ = writeln!(
            html,
            "<h2>Answers</h2>\n<table class=\"samples\">\n<tr><th>question</th><th>wanted</th>\
             <th>base</th><th>tuned</th></tr>"
        );
        for (index, answer) in tuned.answers.iter().take(SAMPLES).enumerate() {
            let before = base.and_then(|it| it.answers.get(index));
            let before = before.filter(|it| it.question == answer.question);
            let cell = |given: Option<(&str, bool)>| match given {
                Some((text, true)) => format!("<td class=\"right\">{}</td>", escape(text)),
                Some((text, false)) => format!("<td class=\"wrong\">{}</td>", escape(text)),
                None => "<td>-</td>".to_owned(),
            };
            let _ = writeln!(
                html,
                "<tr><td>{}</td><td>{}</td>{}{}</tr>",
                escape(&answer.question),
                escape(&answer.wanted),
                cell(before.map(|it| (it.given.as_str(), it.is_exact()))),
                cell(Some((&answer.given, answer.is_exact())))
            );
        }
        html.push_str("</table>\n");
        let more = tuned.answers.len().saturating_sub(SAMPLES);
        if more > 0 {
            let _ = writeln!(html, "<p class=\"dim\">{more} more are in summary.json.</p>");
        }
    }

    pub(super) fn data(&self, html: &mut String) {
        let Some(data) = &self.history.data else { return };
        let mut rows = vec![
            ("training rows".to_owned(), data.train_rows.to_string()),
            ("validation rows".to_owned(), data.validation_rows.to_string()),
            ("tokens in training rows".to_owned(), data.total_tokens.to_string()),
            (
                "tokens trained on".to_owned(),
                format!("{} ({:.1} %)", data.target_tokens, 100.0 * data.target_share()),
            ),
            ("rows cut at the limit".to_owned(), data.truncated.to_string()),
            ("repeated rows".to_owned(), data.duplicates.to_string()),
        ];
        let rejected = data.rejected.iter();
        rows.extend(rejected.map(|(why, n)| (format!("rows left out: {why}"), n.to_string())));
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
        table(html, "Data", "figures", &[], &rows);
        lengths(html, data);
    }

    pub(super) fn environment(&self, html: &mut String) {
        let Some(about) = &self.history.environment else { return };
        let device = self.history.started.as_ref().map(|it| it.device.clone());
        let mut rows = vec![
            ("Rekindle", Some(about.version.clone())),
            ("device", device),
            ("system", Some(format!("{} on {}", about.os, about.arch))),
            ("processor", about.cpu.clone()),
            ("threads", about.threads.map(|it| it.to_string())),
        ];
        if !about.features.is_empty() {
            rows.push(("backends in the program", Some(about.features.join(", "))));
        }
        let rows: Vec<_> = rows
            .into_iter()
            .filter_map(|(name, value)| Some(vec![name.to_owned(), value?]))
            .collect();
        table(html, "Environment", "figures", &[], &rows);
    }

    pub(super) fn files(&self, html: &mut String) {
        let exports = self.history.exports.iter();
        let exports = exports.map(|(kind, path)| vec![kind.clone(), path.display().to_string()]);
        table(html, "Results", "files", &[], &exports.collect::<Vec<_>>());
        let hashes = self.hashes.iter().map(|(name, hash)| vec![name.clone(), hash.clone()]);
        table(html, "Hashes", "files", &["file", "BLAKE3"], &hashes.collect::<Vec<_>>());
    }
}

/// How long the rows are, as bars.
fn lengths(html: &mut String, data: &DataStatistics) {
    let Some(most) = data.lengths.iter().map(|bin| bin.rows).max() else { return };
    html.push_str("<h2>Length of training rows</h2>\n<table class=\"figures\">\n");
    html.push_str("<tr><th>tokens</th><th>rows</th><th></th></tr>\n");
    for bin in &data.lengths {
        let width = 20.0 * bin.rows as f64 / most.max(1) as f64;
        let _ = writeln!(
            html,
            "<tr><td>{}–{}</td><td>{}</td>\
             <td><span class=\"bar\" style=\"width:{width:.2}rem\"></span></td></tr>",
            bin.from, bin.to, bin.rows
        );
    }
    html.push_str("</table>\n");
}
