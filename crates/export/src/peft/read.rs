//! The way back: the adapter of a PEFT folder onto a model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use rekindle_models::error::Problems;
use rekindle_models::load::hf;
use rekindle_models::{Decoder, WeightSource};
use rekindle_peft_core::{Lora, LoraConfig, PeftError};

use super::{CONFIG, PREFIX, WEIGHTS, config};
use crate::ExportError;

/// Puts the adapter of a PEFT folder on `model` and returns both it and its configuration.
///
/// Every tensor of the file must have its place and every place its tensor. The file's header is
/// checked as a model's is, and nothing is allocated before all shapes are known to fit.
///
/// # Errors
/// [`ExportError`] where a file is missing or damaged, the method is not LoRA, a feature is asked
/// for that is not supported, or the adapter does not fit the model.
pub fn read_adapter(folder: &Path, model: Decoder) -> Result<(Decoder, LoraConfig), ExportError> {
    let config_path = folder.join(CONFIG);
    let config = config::read(&config_path)?;
    let unfit = |source| ExportError::Peft { path: config_path.clone(), source };
    let wanted = tensors(&model, &config).map_err(unfit)?;
    let path = folder.join(WEIGHTS);
    let file = hf::open_safetensors(&path)?;
    let names = names_in_model(&path, &file)?;
    let problems = disagreements(&wanted, &names, &file);
    if !problems.is_empty() {
        return Err(ExportError::Mismatch { path, problems: Problems(problems) });
    }
    let mut values = HashMap::new();
    for (name, shape) in wanted {
        values.insert(name.clone(), (file.read_f32(&names[&name])?, shape));
    }
    let device = model.device();
    let adapted = model.with_adapters(&config, |module, _| {
        let mut take = |part: &str| {
            let name = format!("{module}.{part}.weight");
            let (values, shape) = values.remove(&name).expect("all wanted tensors were read");
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        Ok(Lora::new(take("lora_A"), take("lora_B"), config.scale(), config.lora_dropout))
    });
    Ok((adapted.map_err(unfit)?, config))
}

/// The tensors that `config` calls for and their shapes: of each targeted map, `A [rank, d_in]` and
/// `B [d_out, rank]`.
fn tensors(model: &Decoder, config: &LoraConfig) -> Result<Vec<(String, [usize; 2])>, PeftError> {
    let projections = model.projections();
    let names: Vec<&str> = projections.iter().map(|(name, _)| name.as_str()).collect();
    let chosen = config.target_modules.select(&names)?;
    let mut tensors = Vec::new();
    for (name, projection) in projections.iter().filter(|(name, _)| chosen.contains(&name.as_str()))
    {
        let (rank, [d_out, d_in]) = (config.r, projection.base().dims());
        let most = d_in.min(d_out);
        if rank > most {
            let wanted = format!("at most {most} for `{name}`, a [{d_out}, {d_in}] weight");
            return Err(PeftError::OutOfRange { key: "r", found: rank.to_string(), wanted });
        }
        tensors.push((format!("{name}.lora_A.weight"), [rank, d_in]));
        tensors.push((format!("{name}.lora_B.weight"), [d_out, rank]));
    }
    Ok(tensors)
}

/// The file's names by their names in the model, which lack PEFT's prefix.
fn names_in_model(
    path: &Path,
    file: &impl WeightSource,
) -> Result<BTreeMap<String, String>, ExportError> {
    let mut names = BTreeMap::new();
    for name in file.names() {
        let short = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
        if let Some(first) = names.insert(short, name.clone()) {
            let reason = format!("`{first}` and `{name}` are the same tensor; keep one of them");
            return Err(ExportError::Invalid { path: path.to_owned(), reason });
        }
    }
    Ok(names)
}

/// Missing, unexpected and misshapen tensors.
fn disagreements(
    wanted: &[(String, [usize; 2])],
    names: &BTreeMap<String, String>,
    file: &impl WeightSource,
) -> Vec<String> {
    let known: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let missing = wanted
        .iter()
        .filter(|(name, _)| !names.contains_key(name))
        .map(|(name, shape)| format!("missing: `{name}` {shape:?}"));
    let unexpected = names
        .keys()
        .filter(|name| !known.contains(name.as_str()))
        .map(|name| format!("unexpected: `{name}`"));
    let misshapen = wanted.iter().filter_map(|(name, shape)| {
        let found = file.shape(names.get(name)?).filter(|found| found != shape)?;
        Some(format!("wrong shape: `{name}` is {found:?}, wanted {shape:?}"))
    });
    missing.chain(unexpected).chain(misshapen).collect()
}
