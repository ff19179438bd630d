//! A run from its plan to its report.

pub(crate) mod folder;
mod finish;
mod host;
mod measure;
mod observer;
pub mod report;
pub(crate) mod trackers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use rekindle_align::{Sft, SftSource};
use rekindle_data::{Layout, Loader, LoaderOptions, Order, Padding};
use rekindle_eval::{ExactMatch, Loss};
use rekindle_kernels::length_multiple;
use rekindle_models::{Decoder, Generation};
use rekindle_track::Credentials;
use rekindle_train::{Ended, Found, OnSaveError, StepSource, TrainError, TrainState, fit};
use serde::{Deserialize, Serialize};

use crate::dataset::{self, Dataset, Rows};
use crate::error::RunError;
use crate::events::{Event, Status};
use crate::model::{OpenModel, TextSide};
use crate::plan::Plan;
use crate::recipe::{Batching, Packing, Recipe};

use finish::Finished;
pub use folder::Resume;
use folder::RunFolder;
pub use host::Host;
use measure::base;
use observer::{Log, Patience, RunObserver};

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
    /// Becomes true when the run is to save a checkpoint and go on.
    pub save: Arc<AtomicBool>,
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

impl RunOptions {
    /// Fails once the run is to stop.
    fn go_on(&self) -> Result<(), RunError> {
        match self.stop.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(RunError::Stopped { signal }),
        }
    }

    /// How a run ends that was stopped.
    fn stopped_status(&self) -> Status {
        match self.stop.load(Ordering::SeqCst) {
            TERMINATE => Status::Preempted,
            _ => Status::Cancelled,
        }
    }
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

/// SIGTERM's number.
pub(crate) const TERMINATE: usize = 15;

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
    options.go_on()?;
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
    let mut source = SftSource::new(loader, loaded.padding, loaded.device.clone())
        .with_names(loaded.dataset.train_rows.clone());
    let state = start(plan, &loaded, &folder, &mut source)?;
    options.go_on()?;
    let begun = Begun { plan, folder: &folder, loaded: &loaded, options, device };
    let mut log = begun.log(recipe_text, &data_hash, &state, total_steps, listener)?;
    // Without it, the loop is asked to stop before its first step, and saves what there is.
    let base = base(&folder, &loaded, options)?;
    if let (0, Some(base)) = (state.step, &base) {
        log.measured(0, base)?;
    }
    let mut train_plan = plan.train_plan(total_steps, &data_hash);
    train_plan.extra[folder::DEVICE] = format!("{device:?}").into();
    let steps = [state.step, total_steps];
    let mut observer = RunObserver::new(&mut log, &loaded, options, plan.best_metric(), steps);
    let objective = Sft { smoothing: plan.smoothing() };
    let outcome = fit(state, &objective, &mut source, &train_plan, &mut observer)
        .map_err(|error| observer.failed(error, started))?;
    if let Some(failure) = observer.failure.take() {
        return Err(failure);
    }
    let mut summary = RunSummary::new(plan, base.unwrap_or_default(), outcome.state.step);
    if outcome.ended == Ended::Stopped {
        summary.status = options.stopped_status();
    } else {
        let finished = Finished { plan, train_plan: &train_plan, loaded: &loaded, options };
        let cursor = StepSource::<Decoder, _>::cursor(&source);
        finished.conclude(outcome.state, cursor, &mut summary, &mut log)?;
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

/// A run that is able to start.
struct Begun<'a> {
    plan: &'a Plan,
    folder: &'a RunFolder,
    loaded: &'a Loaded,
    options: &'a RunOptions,
    device: &'a Device,
}

impl Begun<'_> {
    /// Writes what the run was told and opens its log.
    ///
    /// Nothing is written or removed before this: a run that cannot start leaves its folder alone.
    fn log<'l>(
        &self,
        recipe_text: &str,
        data_hash: &str,
        state: &TrainState<Decoder>,
        total_steps: u64,
        listener: &'l mut dyn FnMut(&Event),
    ) -> Result<Log<'l>, RunError> {
        let Self { plan, folder, loaded, options, device } = *self;
        folder.make_room()?;
        folder.write_plan(plan, recipe_text)?;
        folder.write_rejects(&loaded.dataset.rejects)?;
        let file = folder.event_log(state.step)?;
        let untold = folder.checkpoint.as_ref().filter(|_| !file.tells_of_checkpoint());
        let mut log = Log::new(file, listener, log_patience(plan, options));
        log.track(plan, &options.credentials, state.step);
        if let Some(Found { path, .. }) = untold {
            log.event(&Event::Checkpoint { step: state.step, path: path.clone() })?;
        }
        announce(&mut log, plan, loaded, device, total_steps)?;
        let environment = options.host.with_model(&plan.recipe.model, options.full_hash)?;
        log.surroundings(environment, &loaded.dataset, data_hash)?;
        for warning in folder.warnings().iter().chain(&folder.changes(device)) {
            log.warn(warning)?;
        }
        Ok(log)
    }
}

/// Whether and until when the log waits for its disk.
fn log_patience(plan: &Plan, options: &RunOptions) -> Option<Patience> {
    let saving = plan.saving();
    let pauses = saving.on_error == OnSaveError::Pause;
    pauses.then(|| Patience { every: saving.retry_every, stop: Arc::clone(&options.stop) })
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
    let dataset = samples_while(plan, &text, rows, &|| options.go_on())?;
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
    samples_while(plan, text, rows, &|| Ok(()))
}

fn samples_while(
    plan: &Plan,
    text: &TextSide,
    rows: Rows,
    go_on: &dyn Fn() -> Result<(), RunError>,
) -> Result<Dataset, RunError> {
    let recipe = &plan.recipe;
    let renderer = text.renderer(recipe.data.max_tokens, dataset::too_long(recipe.data.too_long));
    rows.render_while(&recipe.data, &renderer, recipe.eval.generate, go_on)
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
