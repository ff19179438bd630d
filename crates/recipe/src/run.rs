//! A run from its plan to its report.

pub(crate) mod folder;
mod host;
mod observer;
pub mod report;
pub(crate) mod trackers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use rekindle_align::{Sft, SftSource};
use rekindle_data::{Layout, Loader, LoaderOptions, Order, Padding};
use rekindle_eval::{ExactMatch, Loss};
use rekindle_kernels::length_multiple;
use rekindle_models::{Decoder, Generation};
use rekindle_track::Credentials;
use rekindle_train::{Ended, StepSource, TrainError, TrainPlan, TrainState, fit};
use serde::{Deserialize, Serialize};

use crate::dataset::{self, Dataset, Rows};
use crate::error::RunError;
use crate::events::{Event, Status};
use crate::model::{OpenModel, TextSide};
use crate::plan::Plan;
use crate::recipe::{Batching, Packing, Recipe};

pub use folder::Resume;
use folder::RunFolder;
pub use host::Host;
use observer::{Log, RunObserver};

/// Rows of one forward pass while evaluating.
pub const EVAL_ROWS: usize = 8;

/// How a run is to be carried out, beside its plan.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Whether and from where the run continues.
    pub resume: Resume,
    /// Whether an earlier run in the same folder may be deleted.
    pub overwrite: bool,
    /// Becomes a signal's number when the run is to save and stop.
    pub stop: Arc<AtomicUsize>,
    /// Step after which the run saves and stops, to be resumed later.
    pub stop_after: Option<u64>,
    /// Whether to train on a base model with weights that are not finite.
    pub allow_nonfinite_base: bool,
    /// What the program says of itself and its machine.
    pub host: Host,
    /// Whether every byte of the base model is hashed, and not only either end of its weights.
    pub full_hash: bool,
    /// How `[report.mlflow]` logs in; it comes into no file and no message.
    pub credentials: Credentials,
}

/// A measurement of a model on the validation rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Loss and perplexity, if there are validation rows.
    pub loss: Option<Loss>,
    /// Greedy answers, if the recipe asks for them.
    pub answers: Option<ExactMatch>,
}

/// What a run made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// How it ended.
    pub status: Status,
    /// Updates done in all.
    pub steps: u64,
    /// Wall time of this part of the run, in seconds.
    pub seconds: f64,
    /// The model before training.
    pub base: Measured,
    /// The model after training.
    pub tuned: Measured,
    /// The adapter's folder, if one was written.
    pub adapter: Option<PathBuf>,
    /// The merged model's folder, if one was written.
    pub merged: Option<PathBuf>,
    /// The loss curve.
    pub curve: PathBuf,
    /// The report.
    pub report: PathBuf,
}

/// Everything a run needs, loaded.
struct Loaded {
    text: TextSide,
    dataset: Dataset,
    policy: Decoder,
    generation: Generation,
    padding: Padding,
    /// What the user should know of the model and the data.
    notes: Vec<String>,
    /// The plain device, where batches and evaluations live.
    device: Device,
}

/// Carries out `plan` on `device` and tells `listener` of every event.
///
/// `recipe_text` is kept in the run folder as it was typed.
///
/// # Errors
/// [`RunError`]; a run that stopped for a signal is no error but a [`Status`].
pub fn run(
    plan: &Plan,
    recipe_text: &str,
    device: &Device,
    options: &RunOptions,
    listener: &mut dyn FnMut(&Event),
) -> Result<RunSummary, RunError> {
    let started = Instant::now();
    let recipe = &plan.recipe;
    // Data come first: a mistake there must not cost the loading of a model.
    let rows = Rows::read(&recipe.data, recipe.seed)?;
    let data_hash = rows.hash.clone();
    let model = OpenModel::open(&recipe.model, recipe.init)?;
    plan.check_model(&model.arch, length_multiple(device))?;
    plan.check_device(device)?;
    let folder = RunFolder::open(plan, options)?;
    check_same(plan, &folder, &data_hash)?;
    let mut loaded = load(plan, &model, rows, device, options)?;
    let loader = loader(plan, &loaded.dataset)?;
    loaded.notes.extend(dataset::notes(plan, &loaded.dataset, &loader));
    let total_steps = plan.total_steps(loader.steps_per_epoch());
    plan.check_steps(total_steps)?;
    let mut source = SftSource::new(loader, loaded.padding, loaded.device.clone());
    let state = start(plan, &loaded, &folder, &mut source)?;
    let mut log = begin(plan, recipe_text, &folder, &loaded, state.step, listener)?;
    log.track(plan, &options.credentials, state.step);
    announce(&mut log, plan, &loaded, device, total_steps)?;
    let environment = options.host.with_model(&recipe.model, options.full_hash)?;
    log.surroundings(environment, &loaded.dataset, &data_hash)?;
    for warning in folder.warnings() {
        log.warn(warning)?;
    }
    let base = base(&folder, &loaded)?;
    if state.step == 0 {
        log.measured(0, &base)?;
    }
    let train_plan = plan.train_plan(total_steps, &data_hash);
    let steps = [state.step, total_steps];
    let mut observer = RunObserver::new(&mut log, &loaded, options, plan.best_metric(), steps);
    let objective = Sft { smoothing: plan.smoothing() };
    let outcome = fit(state, &objective, &mut source, &train_plan, &mut observer)
        .map_err(|error| observer.failed(error, started))?;
    if let Some(failure) = observer.failure.take() {
        return Err(failure);
    }
    let mut summary = RunSummary::new(plan, base, outcome.state.step);
    if outcome.ended == Ended::Stopped {
        summary.status = match options.stop.load(Ordering::SeqCst) {
            TERMINATE => Status::Preempted,
            _ => Status::Cancelled,
        };
    } else {
        conclude(plan, outcome.state, &train_plan, &loaded, &mut summary, &mut log)?;
    }
    summary.seconds = started.elapsed().as_secs_f64();
    let (status, steps, seconds) = (summary.status, summary.steps, summary.seconds);
    log.event(&Event::Finished { status, steps, seconds })?;
    report::write(plan, &summary)?;
    Ok(summary)
}

impl RunSummary {
    fn new(plan: &Plan, base: Measured, steps: u64) -> Self {
        Self {
            run_dir: plan.run_dir.clone(),
            status: Status::Succeeded,
            steps,
            seconds: 0.0,
            base,
            tuned: Measured::default(),
            adapter: None,
            merged: None,
            curve: plan.run_dir.join("loss.svg"),
            report: plan.run_dir.join("report.md"),
        }
    }
}

/// Refuses to continue a run under other settings or with other data than it began with.
fn check_same(plan: &Plan, folder: &RunFolder, data_hash: &str) -> Result<(), RunError> {
    match (&folder.checkpoint, folder.earlier_recipe()?) {
        (Some(found), _) => plan.check_same(&found.saved.extra, data_hash),
        (None, Some(recipe)) => plan.check_same_recipe(&recipe),
        (None, None) => Ok(()),
    }
}

/// The state to train from: fresh, or the checkpoint's, with `source` at its place in the data.
fn start(
    plan: &Plan,
    loaded: &Loaded,
    folder: &RunFolder,
    source: &mut SftSource,
) -> Result<TrainState<Decoder>, RunError> {
    let optimizer = plan.optimizer()?;
    plan.check_groups(&optimizer, &loaded.policy)?;
    let state = TrainState::new(loaded.policy.clone(), optimizer);
    let Some(found) = &folder.checkpoint else { return Ok(state) };
    let (state, saved) = state.restore(&found.path)?;
    StepSource::<Decoder, _>::seek(source, saved.cursor).map_err(TrainError::from)?;
    Ok(state)
}

/// The first that is written or removed: a run that cannot start leaves its folder alone.
fn begin<'l>(
    plan: &Plan,
    recipe_text: &str,
    folder: &RunFolder,
    loaded: &Loaded,
    step: u64,
    listener: &'l mut dyn FnMut(&Event),
) -> Result<Log<'l>, RunError> {
    folder.make_room()?;
    folder.write_plan(plan, recipe_text)?;
    folder.write_rejects(&loaded.dataset.rejects)?;
    Ok(Log::new(folder.event_log(step)?, listener))
}

/// How the base model does: as an earlier part of the run found, or measured now.
fn base(folder: &RunFolder, loaded: &Loaded) -> Result<Measured, RunError> {
    if let Some(base) = folder.read_base()? {
        return Ok(base);
    }
    let base = measure(&loaded.policy.valid(), loaded)?;
    folder.write_base(&base)?;
    Ok(base)
}

/// Measures and exports what the run has made.
fn conclude(
    plan: &Plan,
    state: TrainState<Decoder>,
    train_plan: &TrainPlan,
    loaded: &Loaded,
    summary: &mut RunSummary,
    log: &mut Log<'_>,
) -> Result<(), RunError> {
    let tuned = chosen(state, train_plan, log)?.valid();
    summary.tuned = measure(&tuned, loaded)?;
    log.measured(summary.steps, &summary.tuned)?;
    report::export(plan, &tuned, &loaded.text, summary, log)
}

/// The model that is measured and exported: the best checkpoint's, where that is kept, or the last
/// one's; with averaged weights where they are averaged.
fn chosen(
    state: TrainState<Decoder>,
    plan: &TrainPlan,
    log: &mut Log<'_>,
) -> Result<Decoder, RunError> {
    let best = state.best.filter(|_| plan.metric.is_some_and(|it| it.keep_best));
    let Some(best) = best.filter(|best| best.step != state.step) else {
        return Ok(state.averaged());
    };
    let path = plan.checkpoint_dir(best.step);
    let (state, _) = state.restore(&path).map_err(TrainError::from)?;
    log.warn(&format!("the model is that of step {}, the best evaluation", best.step))?;
    Ok(state.averaged())
}

/// SIGTERM's number.
const TERMINATE: usize = 15;

/// Renders the rows, reads the weights and puts the method on them.
fn load(
    plan: &Plan,
    model: &OpenModel,
    rows: Rows,
    device: &Device,
    options: &RunOptions,
) -> Result<Loaded, RunError> {
    let recipe = &plan.recipe;
    let text = model.text(recipe.data.template.as_deref())?.at(recipe.data.clock());
    let dataset = samples(plan, &text, rows)?;
    let tracked = device.clone().autodiff();
    let (decoder, non_finite) = model.watched_decoder(plan, &tracked)?;
    let mut notes = model.notes();
    if let Some(found) = non_finite {
        if !options.allow_nonfinite_base {
            return Err(RunError::NonFiniteBase { path: recipe.model.clone(), found });
        }
        notes.push(format!("{found}; the run goes on, as `--allow-nonfinite-base` asks"));
    }
    let policy = plan.prepare(decoder)?;
    let generation = Generation::greedy(text.stop_ids.clone(), recipe.eval.max_new_tokens);
    let padding = Padding::new(&text.tokenizer, length_multiple(device));
    let device = device.clone().inner();
    Ok(Loaded { text, dataset, policy, generation, padding, notes, device })
}

/// The rows of `plan` as samples, rendered with the tokenizer and the template of `text`.
///
/// # Errors
/// As [`Rows::render`].
pub fn samples(plan: &Plan, text: &TextSide, rows: Rows) -> Result<Dataset, RunError> {
    let recipe = &plan.recipe;
    let renderer = text.renderer(recipe.data.max_tokens, dataset::too_long(recipe.data.too_long));
    rows.render(&recipe.data, &renderer, recipe.eval.generate)
}

/// The steps that `plan` trains on, in order: its rows of `dataset`, shuffled by its seed, packed
/// or grouped as its data section says.
///
/// # Errors
/// [`RunError`] where the dataset has no rows to train on.
pub fn loader(plan: &Plan, dataset: &Dataset) -> Result<Loader, RunError> {
    let Recipe { data, train, seed, .. } = &plan.recipe;
    let options = LoaderOptions {
        batch: train.batch_size,
        micro: train.micro_batch_size(),
        seed: *seed,
        epochs: None,
        order: if data.group_by_length { Order::ByLength } else { Order::Shuffled },
        layout: match (data.packing, data.batching) {
            (Packing::Bfd, _) => Layout::Packed { max_tokens: data.max_tokens },
            (Packing::None, Batching::PaddingFree) => Layout::PaddingFree,
            (Packing::None, Batching::Padded) => Layout::Padded,
        },
    };
    let loader = Loader::new(dataset.train.clone(), options);
    Ok(loader.map_err(rekindle_data::DataError::from)?)
}

fn announce(
    log: &mut Log<'_>,
    plan: &Plan,
    loaded: &Loaded,
    device: &Device,
    total_steps: u64,
) -> Result<(), RunError> {
    let dataset = &loaded.dataset;
    log.event(&Event::RunStarted {
        run: plan.name(),
        model: plan.recipe.model.display().to_string(),
        method: plan.method_name().to_owned(),
        trainable_parameters: observer::trainable(&loaded.policy),
        total_parameters: loaded.policy.num_params() as u64,
        device: format!("{device:?}"),
        train_rows: dataset.train.len() as u64,
        validation_rows: dataset.validation.len() as u64,
        target_tokens: dataset.target_tokens,
        total_steps,
    })?;
    for note in &loaded.notes {
        log.warn(note)?;
    }
    if !plan.recipe.exports_adapter() && !plan.recipe.export.merged {
        log.warn("no model will be written; set `export.merged = true` to keep the result")?;
    }
    Ok(())
}

fn measure(model: &Decoder, loaded: &Loaded) -> Result<Measured, RunError> {
    let Loaded { text, dataset, generation, padding, device, .. } = loaded;
    let loss = rekindle_eval::loss(model, &dataset.validation, EVAL_ROWS, *padding, device);
    let answers = match dataset.questions.as_slice() {
        [] => None,
        questions => {
            Some(rekindle_eval::exact_match(model, &text.tokenizer, questions, generation)?)
        }
    };
    Ok(Measured { loss, answers })
}
