//! A recipe with every default filled and checked against its data: what is run and saved.

mod engine;
mod updates;

use std::path::{Path, PathBuf};

use rekindle_models::Arch;
use rekindle_models::arch::RopeSpec;
use rekindle_peft_core::{LoraConfig, LoraInit, Targets};
use rekindle_train::{Schedule, TrainPlan};
use serde_json::Value;

use crate::error::RunError;
use crate::model::longest_row;
use crate::recipe::{self, Batching, Length, Method, Packing, Problem, Recipe, TargetModules};

/// A run, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recipe with every default filled in.
    pub recipe: Recipe,
    /// The run's folder.
    pub run_dir: PathBuf,
}

impl Plan {
    /// Fills defaults and checks the recipe; `stem` names the run where the recipe does not.
    ///
    /// # Errors
    /// [`RunError::Problems`] with everything that is wrong, [`RunError::Output`] for a run folder
    /// that is the model's or a file.
    pub fn resolve(mut recipe: Recipe, stem: &str) -> Result<Self, RunError> {
        recipe.validate().map_err(RunError::Problems)?;
        let run_dir = recipe.output.clone().unwrap_or_else(|| Path::new("runs").join(stem));
        if same_place(&run_dir, &recipe.model) || run_dir.parent().is_none() {
            return Err(RunError::Output {
                path: run_dir,
                reason: "cannot be a run folder: it is the model's own or the root; set `output`"
                    .to_owned(),
            });
        }
        recipe.output = Some(run_dir.clone());
        recipe.train.micro_batch_size = Some(recipe.train.micro_batch_size());
        if !recipe.train.optimizer.has_relative_steps() {
            recipe.train.learning_rate = Some(recipe.learning_rate());
        }
        recipe.export.adapter = Some(recipe.exports_adapter());
        let mut plan = Self { recipe, run_dir };
        let name = plan.name();
        if let Some(mlflow) = &mut plan.recipe.report.mlflow {
            mlflow.run_name.get_or_insert(name);
        }
        Ok(plan)
    }

    /// The run's name: the last part of its folder.
    pub fn name(&self) -> String {
        self.run_dir.file_name().map_or_else(String::new, |it| it.to_string_lossy().into_owned())
    }

    /// The LoRA configuration, if the method is LoRA.
    pub fn lora(&self) -> Option<LoraConfig> {
        let Some(Method::Lora(lora)) = &self.recipe.method else { return None };
        Some(LoraConfig {
            r: lora.r,
            lora_alpha: lora.lora_alpha,
            lora_dropout: lora.lora_dropout,
            target_modules: match &lora.target_modules {
                TargetModules::AllLinear => Targets::default(),
                TargetModules::Regex(pattern) => Targets::Pattern(pattern.clone()),
                TargetModules::Suffixes(names) => Targets::Suffixes(names.clone()),
            },
            use_rslora: lora.use_rslora,
            init_lora_weights: match lora.init_lora_weights {
                recipe::LoraInit::Kaiming => LoraInit::Kaiming,
                recipe::LoraInit::Gaussian => LoraInit::Gaussian,
            },
        })
    }

    /// The method's name.
    pub fn method_name(&self) -> &'static str {
        self.recipe.method.as_ref().map_or("none", Method::name)
    }

    /// Updates of the whole run over data with `steps_per_epoch`.
    pub fn total_steps(&self, steps_per_epoch: usize) -> u64 {
        match self.recipe.train.length() {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => ((epochs * steps_per_epoch as f64).ceil() as u64).max(1),
        }
    }

    /// What the loop is told.
    pub fn train_plan(&self, total_steps: u64, data_hash: &str) -> TrainPlan {
        let train = &self.recipe.train;
        let warmup_steps = train.schedule.warmup().steps(total_steps);
        TrainPlan {
            schedule: Schedule { decay: self.decay(total_steps), warmup_steps, total_steps },
            learning_rate: self.recipe.learning_rate(),
            max_grad_norm: (train.max_grad_norm > 0.0).then_some(train.max_grad_norm),
            eval_every: train.eval_steps,
            save_every: train.save_steps,
            keep_checkpoints: train.save_total_limit,
            seed: self.recipe.seed,
            max_nonfinite: 3,
            watchdog: self.watchdog(),
            metric: self.metric(),
            ema_decay: train.ema_decay,
            scale_losses: train.precision == recipe::Precision::F16,
            saving: self.saving(),
            run_dir: self.run_dir.clone(),
            extra: serde_json::json!({ "recipe": settings(&self.recipe), "data": data_hash }),
        }
    }

    /// Compares with what a checkpoint was made under.
    ///
    /// # Errors
    /// [`RunError::OtherSettings`] with each key that differs, [`RunError::DataChanged`].
    pub fn check_same(&self, extra: &Value, data_hash: &str) -> Result<(), RunError> {
        let mut differences = Vec::new();
        compare("", &extra["recipe"], &settings(&self.recipe), &mut differences);
        self.refuse(differences)?;
        if extra["data"].as_str() != Some(data_hash) {
            return Err(RunError::DataChanged { path: self.recipe.data.train.clone() });
        }
        Ok(())
    }

    /// Compares with the resolved recipe of a run that saved no checkpoint.
    ///
    /// # Errors
    /// [`RunError::OtherSettings`] with each key that differs.
    pub fn check_same_recipe(&self, old: &Recipe) -> Result<(), RunError> {
        let mut differences = Vec::new();
        compare("", &settings(old), &settings(&self.recipe), &mut differences);
        self.refuse(differences)
    }

    fn refuse(&self, differences: Vec<String>) -> Result<(), RunError> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(RunError::OtherSettings { path: self.run_dir.clone(), differences })
    }

    /// Checks the recipe against the model; rows are padded to a multiple of `multiple`.
    ///
    /// # Errors
    /// [`RunError::Problems`] where rows may be longer than the positions that the model learned,
    /// and where texts that share a row may want rotations of different lengths.
    pub fn check_model(&self, arch: &Arch, multiple: usize) -> Result<(), RunError> {
        let data = &self.recipe.data;
        let max_tokens = data.max_tokens;
        let refuse = |wanted: String| {
            let (key, found) = ("data.max_tokens".to_owned(), format!("`{max_tokens}`"));
            Err(RunError::Problems(vec![Problem { key, found, wanted }]))
        };
        if let Some(longest) = longest_row(arch, multiple).filter(|&it| it < max_tokens) {
            let positions = arch.max_positions;
            return refuse(format!(
                "at most `{longest}`: the model has learned {positions} positions"
            ));
        }
        let shared = data.packing != Packing::None || data.batching != Batching::Padded;
        let change = arch.rope.as_ref().and_then(RopeSpec::length_of_change);
        // Padding counts on from the last text of a row.
        let most = change.map(|it| it.saturating_sub(multiple)).filter(|_| shared);
        match most.filter(|&most| most < max_tokens) {
            Some(most) => refuse(format!(
                "at most `{most}`, or `data.packing = \"none\"` and `data.batching = \"padded\"`: \
                 the model rotates longer texts by other angles, and a row has one set of them"
            )),
            None => Ok(()),
        }
    }

    /// The resolved recipe as TOML.
    ///
    /// # Errors
    /// Never for a recipe that was parsed; the serializer's error otherwise.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.recipe)
    }
}

/// The settings a resumed run must share: the recipe without what may change freely.
fn settings(recipe: &Recipe) -> Value {
    let mut settings = serde_json::to_value(recipe).unwrap_or(Value::Null);
    for free in ["output", "eval", "export", "report"] {
        if let Some(map) = settings.as_object_mut() {
            map.remove(free);
        }
    }
    for free in ["eval_steps", "save_steps", "save_total_limit", "on_save_error"] {
        if let Some(map) = settings["train"].as_object_mut() {
            map.remove(free);
        }
    }
    settings
}

fn compare(key: &str, old: &Value, new: &Value, differences: &mut Vec<String>) {
    if let (Some(old_map), Some(new_map)) = (old.as_object(), new.as_object()) {
        let mut keys: Vec<&String> = old_map.keys().chain(new_map.keys()).collect();
        keys.sort();
        keys.dedup();
        for name in keys {
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            compare(&path, &old[name], &new[name], differences);
        }
    } else if old != new {
        differences.push(format!("  `{key}` was {old}, now {new}"));
    }
}

/// Whether two paths lead to the same file or folder.
pub(crate) fn same_place(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, RunError> {
        let text = format!("model = \"m\"\ndata.train = \"t\"\n[method.lora]\n{text}");
        Plan::resolve(Recipe::parse(&text, "r.toml").unwrap(), "r")
    }

    #[test]
    fn the_resolved_plan_reads_back_as_itself() {
        let plan = plan("r = 4\n").unwrap();
        let text = plan.to_toml().unwrap();
        assert_eq!(Recipe::parse(&text, "plan.toml").unwrap(), plan.recipe);
        assert_eq!(plan.run_dir, Path::new("runs/r"));
    }

    #[test]
    fn a_resumed_run_names_the_settings_that_differ() {
        let (old, new) = (plan("r = 4\n").unwrap(), plan("r = 8\n").unwrap());
        let extra = old.train_plan(10, "hash").extra;
        assert!(old.check_same(&extra, "hash").is_ok());
        let error = new.check_same(&extra, "hash").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("`method.lora.r` was 4, now 8"), "{error}");
        let error = old.check_same(&extra, "other").unwrap_err();
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn rows_longer_than_the_learned_positions_are_refused() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/families/gpt2");
        let mut arch = rekindle_models::load::open(Path::new(folder)).unwrap().arch().unwrap();
        let check = |max_tokens: usize, multiple, arch: &Arch| {
            let text = format!("r = 4\n[data]\ntrain = \"t\"\nmax_tokens = {max_tokens}\n");
            let text = format!("model = \"m\"\n[method.lora]\n{text}");
            let recipe = Recipe::parse(&text, "r.toml").unwrap();
            Plan::resolve(recipe, "r").unwrap().check_model(arch, multiple)
        };
        assert!(check(64, 1, &arch).is_ok());
        let error = check(65, 1, &arch).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let wanted = "`data.max_tokens` is `65`, wanted at most `64`: the model has learned 64";
        assert!(error.to_string().contains(wanted), "{error}");
        // Of 80 positions 64 are a multiple of 32; the last token needs none.
        arch.max_positions = 80;
        assert!(check(65, 32, &arch).is_ok());
        assert!(check(66, 32, &arch).is_err());
        arch.rope = Some(RopeSpec {
            theta: 10_000.0,
            dims: 8,
            scaling: rekindle_models::arch::RopeScaling::None,
        });
        assert!(check(66, 32, &arch).is_ok());
    }

    #[test]
    fn texts_of_other_angles_share_no_row() {
        let family = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/families");
            rekindle_models::load::open(&Path::new(folder).join(name)).unwrap().arch().unwrap()
        };
        let check = |name: &str, data: &str| {
            let text = format!("model = \"m\"\n[method.lora]\n[data]\ntrain = \"t\"\n{data}");
            let recipe = Recipe::parse(&text, "r.toml").unwrap();
            Plan::resolve(recipe, "r").unwrap().check_model(&family(name), 1)
        };
        for name in ["phi3_longrope", "llama_dynamic"] {
            let change = family(name).rope.unwrap().length_of_change().unwrap();
            for layout in ["packing = \"bfd\"", "batching = \"padding_free\""] {
                let data = |max: usize| format!("max_tokens = {max}\n{layout}\n");
                assert!(check(name, &data(change - 1)).is_ok(), "{name}, {layout}");
                let error = check(name, &data(change)).unwrap_err();
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().contains("by other angles"), "{error}");
            }
            assert!(check(name, &format!("max_tokens = {change}\n")).is_ok());
        }
        assert!(check("llama3", "max_tokens = 9999\npacking = \"bfd\"\n").is_ok());
    }

    #[test]
    fn what_may_change_on_resume_does_not_count() {
        let old = plan("r = 4\n[train]\nsave_steps = 5\n").unwrap();
        let new = plan("r = 4\n[train]\nsave_steps = 7\n[export]\nmerged = true\n[report.mlflow]")
            .unwrap();
        assert!(new.check_same(&old.train_plan(10, "hash").extra, "hash").is_ok());
    }
}
