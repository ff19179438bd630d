//! The recipe as it was typed: every section, its keys and their defaults.

mod check;
mod data;
mod engine;
mod method;
mod optimizer;
mod output;
pub(crate) mod report;
mod schedule;
mod train;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::Problem;
pub use data::{Batching, DataSection, OnBadRow, Packing, RowFormat, TooLong};
pub use engine::{BestMetric, OnSaveError, OnSpike, Precision, Recompute, RecomputeBlocks};
pub use method::{FullMethod, LoraInit, LoraMethod, Method, TargetModules};
pub use optimizer::{
    AdafactorOptimizer, AdamW8bitOptimizer, AdamWOptimizer, AdjustLr, GroupSection, LionOptimizer,
    MuonOptimizer, Optimizer, SgdOptimizer,
};
pub use output::{EvalSection, ExportSection};
pub use report::{MlflowReport, ReportSection, TensorBoardReport};
pub use schedule::{
    ConstantSchedule, CosineSchedule, CosineWithRestartsSchedule, DecayType, InverseSqrtSchedule,
    LinearSchedule, PolynomialSchedule, Schedule, Span, WsdSchedule,
};
pub use train::{Length, TrainSection};

use crate::{
    explain,
    source_error::{self, SourceError},
};

/// Tables of which exactly one sub-table is given: `[method.lora]`, `[train.schedule.cosine]`.
pub(crate) const VARIANT_TABLES: [&[&str]; 3] =
    [&["method"], &["train", "optimizer"], &["train", "schedule"]];

/// A fine-tuning run as the user wrote it: one model, one data set, one method.
///
/// Every key is optional to the parser, so that [`Recipe::validate`] can name all that is missing
/// at once; `model`, `data.train` and `method` have to be given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The model to start from: a Hugging Face folder or a GGUF file.
    pub model: PathBuf,
    /// Where the first weights come from: the model's own, or random numbers.
    pub init: Init,
    /// The run folder; `runs/` and the recipe's file stem if not given.
    pub output: Option<PathBuf>,
    /// Seed of every random choice: split, order, initial adapter, dropout.
    pub seed: u64,
    /// The rows to train and to validate on.
    pub data: DataSection,
    /// What is trained: `[method.lora]` or `[method.full]`, exactly one.
    #[schemars(with = "Method")]
    pub method: Option<Method>,
    /// Length, batch, optimizer and learning rate.
    pub train: TrainSection,
    /// What is measured beside the loss.
    pub eval: EvalSection,
    /// What is written when training has ended.
    pub export: ExportSection,
    /// Where the run is told beside its own folder.
    pub report: ReportSection,
}

/// Where the first weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// The weights of the model: fine-tuning.
    #[default]
    Pretrained,
    /// Random weights of the shape in config.json: pre-training from scratch.
    Random,
}

impl Recipe {
    /// Reads a recipe from TOML; `name` is the file's name as shown in messages.
    ///
    /// A byte order mark and CRLF line ends are accepted.
    ///
    /// # Errors
    /// The text is not TOML, is larger than 10 MiB, or has an unknown key, a value of the wrong
    /// type or a repeated key. Values out of range are the business of [`Recipe::validate`].
    pub fn parse(text: &str, name: &str) -> Result<Self, SourceError> {
        let text = source_error::without_bom(text);
        source_error::check_size(text, name)?;
        explain::check_sections(text, name)?;
        toml::from_str(text).map_err(|error| SourceError::from_toml(text, name, &error))
    }

    /// Checks ranges, exclusive keys and missing keys.
    ///
    /// # Errors
    /// All problems, in the order of the sections.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        check::check(self)
    }

    /// The peak learning rate: as given, or the method's default.
    ///
    /// 2e-4 for LoRA (QLoRA, Dettmers et al. 2023, arXiv:2305.14314, table 9) and 2e-5 for full
    /// fine-tuning (TRL `SFTConfig`). 1 where the optimizer's steps have a size of their own.
    pub fn learning_rate(&self) -> f64 {
        if self.train.optimizer.has_relative_steps() {
            return 1.0;
        }
        self.train.learning_rate.unwrap_or(match self.method {
            Some(Method::Lora(_)) => 2e-4,
            Some(Method::Full(_)) | None => 2e-5,
        })
    }

    /// Whether an adapter folder is written: as given, or for every method that has an adapter.
    pub fn exports_adapter(&self) -> bool {
        let has_adapter = matches!(self.method, Some(Method::Lora(_)));
        self.export.adapter.unwrap_or(has_adapter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const FULL_TEXT: &str = r#"
model = "models/smollm2.gguf"
init = "pretrained"
output = "runs/name"
seed = 7
[data]
train = "data/x.jsonl"
validation = "data/y.jsonl"
format = "prompt-completion"
template = "chatml"
max_tokens = 512
too_long = "drop"
max_truncated = 0.25
packing = "none"
batching = "padded"
group_by_length = true
on_bad_row = "skip"
[method.lora]
r = 16
lora_alpha = 32
lora_dropout = 0.05
target_modules = ["q_proj", "v_proj"]
use_rslora = true
init_lora_weights = "gaussian"
[train]
max_steps = 100
batch_size = 8
micro_batch_size = 3
learning_rate = 2e-4
max_grad_norm = 0
eval_steps = 50
save_steps = 100
save_total_limit = 3
loraplus_lr_ratio = 16
[[train.groups]]
match = ".*norm.*"
learning_rate = 1e-5
weight_decay = 0.05
[train.optimizer.adamw]
weight_decay = 0.0
beta1 = 0.9
beta2 = 0.95
epsilon = 1e-8
offload = true
[train.schedule.cosine]
warmup_steps = 10
min_lr_ratio = 0.1
[eval]
generate = 16
max_new_tokens = 32
[export]
adapter = true
merged = true
[report.tensorboard]
[report.mlflow]
tracking_uri = "http://localhost:5001"
experiment = "tiny models"
run_name = "lora, rank 16"
"#;

    #[test]
    fn every_documented_key_is_read() {
        let recipe = Recipe::parse(FULL_TEXT, "recipe.toml").unwrap();
        assert_eq!(recipe.validate(), Ok(()));
        let Some(Method::Lora(lora)) = &recipe.method else { panic!("wanted lora") };
        assert_eq!(lora.lora_alpha, 32.0);
        assert_eq!(
            lora.target_modules,
            TargetModules::Suffixes(vec!["q_proj".into(), "v_proj".into()])
        );
        assert_eq!(recipe.data.format, RowFormat::PromptCompletion);
        assert_eq!((recipe.data.max_truncated, recipe.data.group_by_length), (0.25, true));
        assert_eq!(recipe.train.length(), Length::Steps(100));
        assert_eq!(recipe.train.schedule.warmup(), Span::Steps(10));
        assert_eq!(recipe.train.micro_batch_size(), 3);
    }

    #[test]
    fn a_recipe_survives_being_written_and_read() {
        for text in [FULL_TEXT, "model = \"m\"\n[method.full]\n[train.schedule.linear]\n"] {
            let recipe = Recipe::parse(text, "recipe.toml").unwrap();
            let written = toml::to_string(&recipe).unwrap();
            assert_eq!(Recipe::parse(&written, "written.toml").unwrap(), recipe, "{written}");
        }
    }

    #[test]
    fn truncate_is_truncate_right() {
        let policy = |name| {
            let text = format!("data.too_long = \"{name}\"");
            Recipe::parse(&text, "a").unwrap().data.too_long
        };
        assert_eq!(policy("truncate"), policy("truncate_right"));
        assert_eq!(policy("truncate_left"), TooLong::TruncateLeft);
        assert_eq!(policy("split"), TooLong::Split);
    }

    #[test]
    fn bom_and_crlf_are_accepted() {
        let text = format!("\u{feff}{}", FULL_TEXT.replace('\n', "\r\n"));
        assert_eq!(Recipe::parse(&text, "a"), Recipe::parse(FULL_TEXT, "a"));
    }

    #[test]
    fn the_presets_are_valid() {
        for (text, learning_rate) in [
            (include_str!("../../../recipes/lora.toml"), 2e-4),
            (include_str!("../../../recipes/full.toml"), 2e-5),
        ] {
            let recipe = Recipe::parse(text, "preset.toml").unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(recipe.validate(), Ok(()));
            assert_eq!(recipe.learning_rate(), learning_rate);
        }
    }

    #[test]
    fn only_a_method_with_an_adapter_exports_one_unasked() {
        let exports = |method| Recipe::parse(method, "a").unwrap().exports_adapter();
        assert!(exports("[method.lora]"));
        assert!(!exports("[method.full]"));
        assert!(!exports("[method.lora]\n[export]\nadapter = false"));
    }
}
