//! Changes to a recipe that make it need less memory.

use rekindle_data::Sample;
use rekindle_models::Arch;
use serde::Serialize;

use super::{Forecast, Machine};
use crate::dataset::Dataset;
use crate::error::RunError;
use crate::plan::Plan;
use crate::recipe::{Method, Precision, Recompute, RecomputeBlocks};

/// A change to the recipe and what it brings.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The change, as `--set` takes it.
    pub set: String,
    /// What it costs.
    pub cost: &'static str,
    /// Most memory held at once with it, in bytes.
    pub peak_bytes: u64,
}

/// A way to need less, from what costs least to what costs most.
struct Way {
    cost: &'static str,
    apply: fn(&mut Plan) -> Option<String>,
}

const WAYS: [Way; 6] = [
    Way { cost: "the same gradient in more passes", apply: halve_micro },
    Way { cost: "the same gradient, a step takes about a quarter longer", apply: recompute },
    Way { cost: "the optimizer's state waits on the host: slower updates", apply: offload },
    Way { cost: "products in bfloat16, where the device has it", apply: bf16 },
    Way { cost: "rows are cut at half the length", apply: shorter },
    Way { cost: "adapters are trained in place of all weights", apply: lora },
];

fn halve_micro(plan: &mut Plan) -> Option<String> {
    let train = &mut plan.recipe.train;
    let half = train.micro_batch_size() / 2;
    train.micro_batch_size = (half > 0).then_some(half);
    (half > 0).then(|| format!("train.micro_batch_size={half}"))
}

fn recompute(plan: &mut Plan) -> Option<String> {
    let train = &mut plan.recipe.train;
    let all = Recompute::Named(RecomputeBlocks::All);
    let gain = train.recompute.every() != 1;
    train.recompute = all;
    gain.then(|| "train.recompute=all".to_owned())
}

fn offload(plan: &mut Plan) -> Option<String> {
    let optimizer = &mut plan.recipe.train.optimizer;
    let gain = !optimizer.offload();
    optimizer.set_offload();
    gain.then(|| format!("train.optimizer.{}.offload=true", optimizer.name()))
}

fn bf16(plan: &mut Plan) -> Option<String> {
    let train = &mut plan.recipe.train;
    let gain = train.precision == Precision::F32;
    train.precision = Precision::Bf16;
    gain.then(|| "train.precision=bf16".to_owned())
}

fn shorter(plan: &mut Plan) -> Option<String> {
    let data = &mut plan.recipe.data;
    data.max_tokens /= 2;
    (data.max_tokens >= 2).then(|| format!("data.max_tokens={}", data.max_tokens))
}

fn lora(plan: &mut Plan) -> Option<String> {
    let gain = matches!(plan.recipe.method, Some(Method::Full(_)));
    plan.recipe.method = Some(Method::Lora(Default::default()));
    gain.then(|| "method.lora={}".to_owned())
}

impl Forecast {
    /// The three cheapest changes that bring the peak under `budget` bytes, each alone or, where
    /// none does alone, each on top of those before it.
    ///
    /// # Errors
    /// As [`Forecast::of`].
    pub fn cheaper(
        &self,
        plan: &Plan,
        arch: &Arch,
        dataset: &Dataset,
        machine: Machine,
        budget: u64,
    ) -> Result<Vec<Change>, RunError> {
        let forecast = |plan: &Plan| Self::of(plan, arch, &cut(plan, dataset), machine);
        let mut alone = Vec::new();
        for way in &WAYS {
            let mut changed = plan.clone();
            let Some(set) = (way.apply)(&mut changed) else { continue };
            let peak_bytes = forecast(&changed)?.peak_bytes;
            if peak_bytes < self.peak_bytes {
                alone.push(Change { set, cost: way.cost, peak_bytes });
            }
        }
        let enough: Vec<_> = alone.iter().filter(|it| it.peak_bytes <= budget).cloned().collect();
        if !enough.is_empty() {
            return Ok(enough.into_iter().take(3).collect());
        }
        let (mut changed, mut together) = (plan.clone(), Vec::<Change>::new());
        for way in &WAYS {
            let before = together.last().map_or(self.peak_bytes, |it| it.peak_bytes);
            let earlier = changed.clone();
            let Some(set) = (way.apply)(&mut changed) else {
                changed = earlier;
                continue;
            };
            let peak_bytes = forecast(&changed)?.peak_bytes;
            if peak_bytes >= before {
                changed = earlier;
                continue;
            }
            together.push(Change { set, cost: way.cost, peak_bytes });
            if peak_bytes <= budget || together.len() == 3 {
                break;
            }
        }
        Ok(together)
    }
}

/// The samples cut at the plan's longest row.
fn cut(plan: &Plan, dataset: &Dataset) -> Dataset {
    let max = plan.recipe.data.max_tokens;
    let cut = |samples: &[Sample]| {
        let cut = |sample: &Sample| Sample {
            tokens: sample.tokens.iter().take(max).copied().collect(),
            target: sample.target.iter().take(max).copied().collect(),
            ..sample.clone()
        };
        samples.iter().map(cut).collect()
    };
    Dataset {
        train: cut(&dataset.train),
        train_rows: dataset.train_rows.clone(),
        validation: cut(&dataset.validation),
        questions: dataset.questions.clone(),
        target_tokens: dataset.target_tokens,
        total_tokens: dataset.total_tokens,
        lengths: dataset.lengths.clone(),
        rejects: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
