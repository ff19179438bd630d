//! Ranges, exclusive keys and missing keys of a recipe.

mod engine;
mod report;
mod schedule;
mod updates;

use std::fmt::{self, Display};

use super::{Batching, DataSection, Method, Packing, Recipe, TargetModules, TooLong, TrainSection};

/// One value of a recipe that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key with its sections, such as `train.learning_rate`.
    pub key: String,
    /// The value that was found.
    pub found: String,
    /// What would do instead.
    pub wanted: String,
}

impl Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` is {}, wanted {}", self.key, self.found, self.wanted)
    }
}

pub(super) fn check(recipe: &Recipe) -> Result<(), Vec<Problem>> {
    let mut problems = Problems(Vec::new());
    if recipe.model.as_os_str().is_empty() {
        problems.missing("model", "a Hugging Face folder or a GGUF file");
    }
    if recipe.output.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        problems.add("output", "empty", "a folder");
    }
    check_data(recipe, &mut problems);
    check_method(recipe, &mut problems);
    check_train(&recipe.train, &mut problems);
    engine::check(recipe, &mut problems);
    updates::check(recipe, &mut problems);
    schedule::check(recipe, &mut problems);
    report::check(recipe, &mut problems);
    check_purpose(recipe, &mut problems);
    if problems.0.is_empty() { Ok(()) } else { Err(problems.0) }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: &str, found: impl Into<String>, wanted: impl Into<String>) {
        self.0.push(Problem { key: key.into(), found: found.into(), wanted: wanted.into() });
    }

    fn missing(&mut self, key: &str, wanted: &str) {
        self.add(key, "missing", wanted);
    }

    fn require(&mut self, holds: bool, key: &str, found: impl Display, wanted: &str) {
        if !holds {
            self.add(key, format!("`{found}`"), wanted);
        }
    }

    /// A share of something: 0 or more and below 1.
    fn below_one(&mut self, key: &str, found: f64) {
        self.require((0.0..1.0).contains(&found), key, found, "0 or more and below 1");
    }

    fn above_zero(&mut self, key: &str, found: f64) {
        self.require(found > 0.0 && found.is_finite(), key, found, "a number above 0");
    }

    fn learning_rate(&mut self, key: &str, found: Option<f64>) {
        if let Some(rate) = found {
            self.require(rate > 0.0 && rate < 1.0, key, rate, "above 0 and below 1");
        }
    }

    fn at_least_one(&mut self, key: &str, found: Option<u64>) {
        if found == Some(0) {
            self.add(key, "`0`", "a whole number, 1 or more");
        }
    }

    fn exclusive(&mut self, given: &[(&str, bool)]) {
        let given: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if let [first, others @ ..] = given.as_slice() {
            for other in others {
                self.add(other, format!("given beside `{first}`"), "only one of the two");
            }
        }
    }
}

fn check_data(recipe: &Recipe, problems: &mut Problems) {
    let data = &recipe.data;
    if data.train.as_os_str().is_empty() {
        problems.missing("data.train", "a JSONL or JSON file");
    } else if data.validation.as_ref() == Some(&data.train) {
        let found = format!("the training file `{}`", data.train.display());
        problems.add("data.validation", found, "other rows, or `data.validation_rows`");
    }
    if data.validation.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        problems.add("data.validation", "empty", "a JSONL or JSON file");
    }
    problems.exclusive(&[
        ("data.validation", data.validation.is_some()),
        ("data.validation_rows", data.validation_rows.is_some()),
        ("data.validation_fraction", data.validation_fraction.is_some()),
    ]);
    problems.at_least_one("data.validation_rows", data.validation_rows);
    if let Some(fraction) = data.validation_fraction {
        let holds = fraction > 0.0 && fraction < 1.0;
        problems.require(holds, "data.validation_fraction", fraction, "above 0 and below 1");
    }
    if data.template.as_deref() == Some("") {
        problems.add("data.template", "empty", "a Jinja file or `chatml`");
    }
    if let (Some(now), None) = (&data.now, data.clock()) {
        problems.add("data.now", now, "a date and time such as 2026-11-25T12:00:00");
    }
    // A target needs a token before it.
    problems.require(data.max_tokens >= 2, "data.max_tokens", data.max_tokens, "2 or more");
    let share = data.max_truncated;
    problems.require((0.0..=1.0).contains(&share), "data.max_truncated", share, "from 0 to 1");
    check_rows(data, problems);
}

/// Keys on how samples share rows, of which some leave others nothing to do.
fn check_rows(data: &DataSection, problems: &mut Problems) {
    let packed = data.packing == Packing::Bfd;
    let padding_free = data.batching == Batching::PaddingFree;
    if packed && padding_free {
        let wanted = "`\"padded\"` beside `data.packing`: packed rows are all but full";
        problems.add("data.batching", "`\"padding_free\"`", wanted);
    }
    if data.group_by_length && (packed || padding_free) {
        let other = if packed { "data.packing" } else { "data.batching" };
        let wanted = format!("`false` beside `{other}`, which leaves no padding to save");
        problems.add("data.group_by_length", "`true`", wanted);
    }
    if data.max_truncated < 1.0 && data.too_long == TooLong::Error {
        let wanted = "`1.0` beside `data.too_long = \"error\"`, which stops at the first long row";
        problems.add("data.max_truncated", format!("`{}`", data.max_truncated), wanted);
    }
}

fn check_method(recipe: &Recipe, problems: &mut Problems) {
    let lora = match &recipe.method {
        None => return problems.missing("method", "`[method.lora]` or `[method.full]`"),
        Some(Method::Full(_)) => return,
        Some(Method::Lora(lora)) => lora,
    };
    problems.at_least_one("method.lora.r", Some(lora.r as u64));
    let alpha = lora.lora_alpha;
    let holds = alpha > 0.0 && alpha.is_finite();
    problems.require(holds, "method.lora.lora_alpha", alpha, "a number above 0");
    let dropout = lora.lora_dropout;
    let holds = (0.0..1.0).contains(&dropout);
    problems.require(holds, "method.lora.lora_dropout", dropout, "0 or more and below 1");
    let empty = match &lora.target_modules {
        TargetModules::AllLinear => false,
        TargetModules::Regex(pattern) => pattern.is_empty(),
        TargetModules::Suffixes(suffixes) => {
            suffixes.is_empty() || suffixes.iter().any(String::is_empty)
        }
    };
    if empty {
        let wanted = "`\"all-linear\"`, a regular expression or name endings";
        problems.add("method.lora.target_modules", "empty", wanted);
    }
}

fn check_train(train: &TrainSection, problems: &mut Problems) {
    problems.exclusive(&[
        ("train.max_steps", train.max_steps.is_some()),
        ("train.num_epochs", train.num_epochs.is_some()),
    ]);
    problems.at_least_one("train.max_steps", train.max_steps);
    if let Some(epochs) = train.num_epochs {
        let holds = epochs > 0.0 && epochs.is_finite();
        problems.require(holds, "train.num_epochs", epochs, "a number above 0");
    }
    problems.at_least_one("train.batch_size", Some(train.batch_size as u64));
    if let Some(micro) = train.micro_batch_size {
        problems.at_least_one("train.micro_batch_size", Some(micro as u64));
        if micro > train.batch_size {
            let wanted = format!("at most the `batch_size` of `{}`", train.batch_size);
            problems.add("train.micro_batch_size", format!("`{micro}`"), wanted);
        }
    }
    let norm = train.max_grad_norm;
    let holds = norm >= 0.0 && norm.is_finite();
    problems.require(holds, "train.max_grad_norm", norm, "a number above 0, or 0 for no clipping");
    problems.at_least_one("train.eval_steps", train.eval_steps);
    problems.at_least_one("train.save_steps", train.save_steps);
    problems.at_least_one("train.save_total_limit", Some(train.save_total_limit as u64));
}

/// Keys that would have no effect.
fn check_purpose(recipe: &Recipe, problems: &mut Problems) {
    let validation = "validation rows: set `data.validation` or `data.validation_rows`";
    if let Some(steps) = recipe.train.eval_steps
        && !recipe.data.has_validation()
    {
        problems.add("train.eval_steps", format!("`{steps}`"), validation);
    }
    let generate = recipe.eval.generate;
    if generate > 0 && !recipe.data.has_validation() {
        problems.add("eval.generate", format!("`{generate}`"), validation);
    }
    problems.at_least_one("eval.max_new_tokens", Some(recipe.eval.max_new_tokens as u64));
    if recipe.export.adapter == Some(true) && matches!(recipe.method, Some(Method::Full(_))) {
        let wanted = "`false`: `[method.full]` trains no adapter, set `export.merged`";
        problems.add("export.adapter", "`true`", wanted);
    }
}

#[cfg(test)]
mod tests;
