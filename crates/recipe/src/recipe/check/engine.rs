//! Checks of how the engine computes, what it keeps and when it gives up.

use super::Problems;
use crate::recipe::{BestMetric, Method, OnSpike, Recipe, Recompute};

pub(super) fn check(recipe: &Recipe, problems: &mut Problems) {
    check_memory(recipe, problems);
    check_loss(recipe, problems);
    check_course(recipe, problems);
}

fn check_memory(recipe: &Recipe, problems: &mut Problems) {
    let train = &recipe.train;
    if train.recompute == Recompute::Every(0) {
        problems.add("train.recompute", "`0`", "`\"none\"`, `\"all\"` or a number of 1 or more");
    }
    if train.recompute_offload && train.recompute.every() == 0 {
        let wanted = "`false`, or blocks whose inputs can be moved: set `train.recompute`";
        problems.add("train.recompute_offload", "`true`", wanted);
    }
    if let Some(Method::Full(full)) = &recipe.method
        && full.freeze_layers == 0
        && full.freeze_embeddings
        && recipe.init == crate::recipe::Init::Random
    {
        let wanted = "`false`: random embeddings that are never trained say nothing";
        problems.add("method.full.freeze_embeddings", "`true`", wanted);
    }
}

fn check_loss(recipe: &Recipe, problems: &mut Problems) {
    let train = &recipe.train;
    let smoothing = train.label_smoothing;
    let holds = (0.0..1.0).contains(&smoothing);
    problems.require(holds, "train.label_smoothing", smoothing, "0 or more and below 1");
    let z_loss = train.z_loss;
    let holds = z_loss >= 0.0 && z_loss.is_finite();
    problems.require(holds, "train.z_loss", z_loss, "0 or a small number above it, such as 1e-4");
    if let Some(alpha) = train.neftune_noise_alpha {
        let holds = alpha > 0.0 && alpha.is_finite();
        problems.require(holds, "train.neftune_noise_alpha", alpha, "a number above 0, such as 5");
    }
}

fn check_course(recipe: &Recipe, problems: &mut Problems) {
    let train = &recipe.train;
    if let Some(decay) = train.ema_decay {
        let holds = (0.0..1.0).contains(&decay);
        problems.require(holds, "train.ema_decay", decay, "0 or more and below 1, such as 0.999");
    }
    let evaluations = "evaluations: set `train.eval_steps`";
    problems.at_least_one(
        "train.early_stopping_patience",
        train.early_stopping_patience.map(u64::from),
    );
    if train.early_stopping_patience.is_some() && train.eval_steps.is_none() {
        problems.add("train.early_stopping_patience", "given", evaluations);
    }
    let threshold = train.early_stopping_threshold;
    let holds = threshold >= 0.0 && threshold.is_finite();
    problems.require(holds, "train.early_stopping_threshold", threshold, "0 or more");
    if threshold > 0.0 && train.early_stopping_patience.is_none() {
        let wanted = "`0`, or `train.early_stopping_patience` beside it";
        problems.add("train.early_stopping_threshold", format!("`{threshold}`"), wanted);
    }
    if train.load_best_model_at_end && train.eval_steps.is_none() {
        problems.add("train.load_best_model_at_end", "`true`", evaluations);
    }
    if train.metric_for_best_model == BestMetric::ExactMatch && recipe.eval.generate == 0 {
        let wanted = "answers to compare: set `eval.generate`";
        problems.add("train.metric_for_best_model", "`\"exact_match\"`", wanted);
    }
    match train.loss_watchdog_threshold {
        Some(threshold) => {
            let holds = threshold > 0.0 && threshold.is_finite();
            let key = "train.loss_watchdog_threshold";
            problems.require(holds, key, threshold, "a loss in nats above 0, such as 5");
        }
        None if train.on_spike != OnSpike::Stop => {
            let wanted = "`train.loss_watchdog_threshold` beside it";
            problems.add("train.on_spike", "`\"rollback\"`", wanted);
        }
        None => {}
    }
    if train.on_spike == OnSpike::Rollback && train.save_steps.is_none() {
        let wanted = "checkpoints to go back to: set `train.save_steps`";
        problems.add("train.on_spike", "`\"rollback\"`", wanted);
    }
}
