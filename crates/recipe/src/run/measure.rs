//! Measurements on the validation rows, which give way to a request to stop.

use std::sync::atomic::Ordering;

use burn::module::Module;
use rekindle_eval::Loss;
use rekindle_models::Decoder;

use super::folder::RunFolder;
use super::{EVAL_ROWS, Loaded, Measured, RunOptions};
use crate::error::RunError;

/// How the base model does: as an earlier part of the run found, or measured now; `None` if the
/// run is asked to stop meanwhile.
pub(super) fn base(
    folder: &RunFolder,
    loaded: &Loaded,
    options: &RunOptions,
) -> Result<Option<Measured>, RunError> {
    if let Some(base) = folder.read_base()? {
        return Ok(Some(base));
    }
    match measure(&loaded.policy.valid(), loaded, options) {
        Err(RunError::Stopped { .. }) => Ok(None),
        base => {
            let base = base?;
            folder.write_base(&base)?;
            Ok(Some(base))
        }
    }
}

/// Loss and answers of `model`.
///
/// # Errors
/// [`RunError::Stopped`] if the run is asked to stop meanwhile.
pub(super) fn measure(
    model: &Decoder,
    loaded: &Loaded,
    options: &RunOptions,
) -> Result<Measured, RunError> {
    let Loaded { text, dataset, generation, .. } = loaded;
    let loss = validation_loss(model, loaded, options)?;
    let answers = match dataset.questions.as_slice() {
        [] => None,
        questions => {
            let go_on = || options.go_on().is_ok();
            let tokenizer = &text.tokenizer;
            let found =
                rekindle_eval::exact_match_while(model, tokenizer, questions, generation, &go_on)?;
            options.go_on()?;
            found
        }
    };
    Ok(Measured { loss, answers })
}

/// The loss of `model` alone.
pub(super) fn validation_loss(
    model: &Decoder,
    loaded: &Loaded,
    options: &RunOptions,
) -> Result<Option<Loss>, RunError> {
    let Loaded { dataset, padding, device, .. } = loaded;
    let rows = &dataset.validation;
    let go_on = || options.go_on().is_ok();
    rekindle_eval::loss_while(model, rows, EVAL_ROWS, *padding, device, &go_on)
        .map_err(|_| RunError::Stopped { signal: options.stop.load(Ordering::SeqCst) })
}
