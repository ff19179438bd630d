//! What the user should know of the rows before they are trained on.

use rekindle_data::Loader;

use super::Dataset;
use crate::plan::Plan;
use crate::recipe::Packing;

/// One sentence for each thing about `dataset`, and the steps made of it, that may surprise.
pub(crate) fn notes(plan: &Plan, dataset: &Dataset, loader: &Loader) -> Vec<String> {
    let mut notes = Vec::new();
    let rows = dataset.train.len();
    if !dataset.rejects.is_empty() {
        let count = dataset.rejects.len();
        notes.push(format!("{count} rows were left out; rejects.jsonl says which and why"));
    }
    let duplicates = dataset.duplicates();
    if duplicates > 0 {
        notes.push(format!("{duplicates} of {rows} training rows repeat an earlier row"));
    }
    let data = &plan.recipe.data;
    if dataset.lengths.too_long() > 0 {
        let max = data.max_tokens;
        notes.push(format!("with `data.max_tokens = {max}`, {}", dataset.lengths));
    }
    let (batch, found) = (plan.recipe.train.batch_size, loader.rows_per_epoch());
    if batch > found {
        let what = match data.packing {
            Packing::None => "training rows",
            Packing::Bfd => "packed rows",
        };
        notes.push(format!(
            "`train.batch_size` is {batch}, but there are only {found} {what}, so every update \
             has {found}"
        ));
    }
    notes
}
