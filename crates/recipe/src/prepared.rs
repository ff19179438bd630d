//! All that is known of a run before weights are read: model files, text side and samples.

use crate::dataset::{Dataset, Rows};
use crate::error::RunError;
use crate::model::{OpenModel, TextSide};
use crate::plan::Plan;
use crate::run::samples;

/// The model's files, its text side and the samples of a recipe.
pub struct Prepared {
    /// The model's files, opened.
    pub model: OpenModel,
    /// Tokenizer and template.
    pub text: TextSide,
    /// The rows, rendered.
    pub dataset: Dataset,
}

impl Prepared {
    /// Reads the rows and opens the model of `plan`; rows will be padded to a multiple of
    /// `multiple`.
    ///
    /// # Errors
    /// [`RunError`] where rows, model or tokenizer cannot be used, or do not fit each other.
    pub fn of(plan: &Plan, multiple: usize) -> Result<Self, RunError> {
        let recipe = &plan.recipe;
        // Data come first: a mistake there must not cost the opening of a model.
        let rows = Rows::read(&recipe.data, recipe.seed)?;
        let model = OpenModel::open(&recipe.model, recipe.init)?;
        plan.check_model(&model.arch, multiple)?;
        let text = model.text(recipe.data.template.as_deref())?.at(recipe.data.clock());
        let dataset = samples(plan, &text, rows)?;
        Ok(Self { model, text, dataset })
    }
}
