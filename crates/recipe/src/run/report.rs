//! What is written when a run has ended: exports, loss curve, reports.

mod html;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use rekindle_export::{MergedDtype, adapter_notes, write_adapter, write_merged};
use rekindle_models::Decoder;

use super::folder;
use super::observer::Log;
use super::{Measured, RunSummary};
use crate::curve::loss_curve_svg;
use crate::error::RunError;
use crate::events::Event;
use crate::history::History;
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
fn replace(path: &Path) -> Result<(), RunError> {
    if path.is_dir() {
        let io = |source| RunError::Io { path: path.to_owned(), source };
        std::fs::remove_dir_all(path).map_err(io)?;
    }
    Ok(())
}

/// Writes the curve, the reports and the summary from the run's log.
pub(super) fn write(plan: &Plan, summary: &RunSummary) -> Result<(), RunError> {
    let history = History::read(plan.run_dir.join("events.jsonl"))?;
    let (train, validation) = (history.curve(|point| point.loss), history.eval_curve());
    let curve = loss_curve_svg(&train, &validation, &plan.name());
    folder::write(&summary.curve, curve.as_bytes())?;
    folder::write(&summary.report, markdown(plan, summary).as_bytes())?;
    let page = html::Page {
        name: &plan.name(),
        method: plan.method_name(),
        model: &plan.recipe.model.display().to_string(),
        plan: &plan.to_toml().unwrap_or_default(),
        history: &history,
        summary,
        hashes: &hashes(&history),
    };
    folder::write(&plan.run_dir.join("report.html"), page.render().as_bytes())?;
    let json = serde_json::to_vec_pretty(summary).unwrap_or_default();
    folder::write(&plan.run_dir.join("summary.json"), &json)
}

/// The hashes that are known without reading a file for them: of the data, of the last checkpoint.
fn hashes(history: &History) -> Vec<(String, String)> {
    let data = history.data.as_ref().and_then(|data| data.blake3.as_deref());
    let mut hashes = match data {
        // The hash of the validation file follows that of the training file, if there is one.
        Some(both) if both.len() == 128 && both.is_ascii() => vec![
            ("training data".to_owned(), both[..64].to_owned()),
            ("validation data".to_owned(), both[64..].to_owned()),
        ],
        Some(hash) => vec![("data".to_owned(), hash.to_owned())],
        None => Vec::new(),
    };
    if let Some((step, path)) = history.checkpoints.last() {
        let files = manifest(path).unwrap_or_default().into_iter();
        hashes
            .extend(files.map(|(name, hash)| (format!("checkpoint of step {step}: {name}"), hash)));
    }
    hashes
}

fn manifest(checkpoint: &Path) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read(checkpoint.join("manifest.json")).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let hash = |(name, entry): (&String, &serde_json::Value)| {
        Some((name.clone(), entry["blake3"].as_str()?.to_owned()))
    };
    manifest["files"].as_object()?.iter().map(hash).collect()
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
