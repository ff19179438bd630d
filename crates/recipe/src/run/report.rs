//! What is written when a run has ended: exports, loss curve, report.

use std::fmt::Write;

use rekindle_export::{MergedDtype, adapter_notes, write_adapter, write_merged};
use rekindle_models::Decoder;

use super::folder;
use super::observer::Log;
use super::{Measured, RunSummary};
use crate::curve::loss_curve_svg;
use crate::error::RunError;
use crate::events::{self, Event};
use crate::model::TextSide;
use crate::plan::Plan;

/// Wrong answers shown in the report.
const SHOWN: usize = 10;

/// Writes what the recipe's export section asks for.
pub(super) fn export(
    plan: &Plan,
    model: &Decoder,
    text: &TextSide,
    summary: &mut RunSummary,
    log: &mut Log<'_>,
) -> Result<(), RunError> {
    let recipe = &plan.recipe;
    if let (true, Some(config)) = (recipe.exports_adapter(), plan.lora()) {
        let path = plan.run_dir.join("adapter");
        replace(&path)?;
        write_adapter(&path, model, &config, &recipe.model.display().to_string())?;
        log.event(&Event::Exported { kind: "adapter".to_owned(), path: path.clone() })?;
        for note in adapter_notes(model, &config) {
            log.warn(&note)?;
        }
        summary.adapter = Some(path);
    }
    if recipe.export.merged {
        let path = plan.run_dir.join("merged");
        replace(&path)?;
        let companions = text.companions(model.arch())?;
        write_merged(&path, model, MergedDtype::F32, &companions)?;
        log.event(&Event::Exported { kind: "merged".to_owned(), path: path.clone() })?;
        summary.merged = Some(path);
    }
    Ok(())
}

/// A resumed run may find the exports of an earlier end of it.
fn replace(path: &std::path::Path) -> Result<(), RunError> {
    if path.is_dir() {
        let io = |source| RunError::Io { path: path.to_owned(), source };
        std::fs::remove_dir_all(path).map_err(io)?;
    }
    Ok(())
}

/// Writes the curve, the report and the summary from the run's log.
pub(super) fn write(plan: &Plan, summary: &RunSummary) -> Result<(), RunError> {
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for record in events::read(plan.run_dir.join("events.jsonl"))? {
        match record.event {
            Event::Step { step, loss, .. } => train.push((step, loss)),
            Event::Eval { step, loss, .. } => validation.push((step, loss)),
            _ => {}
        }
    }
    let curve = loss_curve_svg(&train, &validation, &plan.name());
    folder::write(&summary.curve, curve.as_bytes())?;
    folder::write(&summary.report, markdown(plan, summary).as_bytes())?;
    let json = serde_json::to_vec_pretty(summary).unwrap_or_default();
    folder::write(&plan.run_dir.join("summary.json"), &json)
}

fn markdown(plan: &Plan, summary: &RunSummary) -> String {
    let mut text = format!(
        "# {}\n\n{} of `{}`, {} updates, {:.0} s.\n\n| | base | tuned |\n| --- | --- | --- |\n",
        plan.name(),
        plan.method_name(),
        plan.recipe.model.display(),
        summary.steps,
        summary.seconds
    );
    for (name, base, tuned) in rows(&summary.base, &summary.tuned) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {base} | {tuned} |");
    }
    let wrong = summary.tuned.answers.iter().flat_map(|it| &it.answers).filter(|it| !it.is_exact());
    let wrong: Vec<_> = wrong.take(SHOWN).collect();
    if !wrong.is_empty() {
        text.push_str("\nAnswers that were not as wanted:\n\n| question | wanted | given |\n| --- | --- | --- |\n");
        for answer in wrong {
            let cells = [&answer.question, &answer.wanted, &answer.given].map(|it| cell(it));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text.push_str("\n![loss](loss.svg)\n");
    text
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The figures of base and tuned side by side, as text; `-` where one is missing.
pub fn rows(base: &Measured, tuned: &Measured) -> Vec<(&'static str, String, String)> {
    let pair = |name, value: &dyn Fn(&Measured) -> Option<String>| {
        let of = |measured| value(measured).unwrap_or_else(|| "-".to_owned());
        (name, of(base), of(tuned))
    };
    let mut rows = vec![
        pair("validation loss", &|it| it.loss.map(|loss| format!("{:.4}", loss.loss))),
        pair("perplexity", &|it| it.loss.map(|loss| format!("{:.3}", loss.perplexity))),
    ];
    if base.answers.is_some() || tuned.answers.is_some() {
        rows.push(pair("exact match", &|it| {
            let answers = it.answers.as_ref()?;
            let (right, all) = (answers.right(), answers.answers.len());
            Some(format!("{right}/{all} ({:.1} %)", 100.0 * answers.rate()))
        }));
    }
    rows
}
