//! A merged model as a Hugging Face folder.

use std::path::Path;

use rekindle_models::{Decoder, MergedTensor};
use serde_json::json;

use crate::ExportError;
use crate::companions::{Companions, pretty};
use crate::folder::Pending;
use crate::weights::{self, HostTensor};

pub use crate::weights::MergedDtype;

/// Writes `model` with its adapters merged to `target`, which must be absent or empty.
///
/// Files: `config.json`, `model.safetensors`, `generation_config.json` and the `companions`.
/// Merging is done in f32: `W + s·B·A`, rounded once to `dtype`.
///
/// # Errors
/// [`ExportError`]; nothing is left under `target` then.
pub fn write_merged(
    target: &Path,
    model: &Decoder,
    dtype: MergedDtype,
    companions: &Companions,
) -> Result<(), ExportError> {
    let folder = Pending::new(target)?;
    let tensors: Vec<HostTensor> = model
        .merged_tensors()
        .into_iter()
        .map(|(name, tensor)| match tensor {
            MergedTensor::Vector(vector) => HostTensor::new(name, vector, dtype),
            MergedTensor::Matrix(matrix) => HostTensor::new(name, matrix, dtype),
        })
        .collect();
    weights::write(&folder.path("model.safetensors"), &tensors)?;
    let mut config = model.arch().to_hf_config();
    if let Some(config) = config.as_object_mut() {
        let name = match dtype {
            MergedDtype::F32 => "float32",
            MergedDtype::Bf16 => "bfloat16",
        };
        config.insert("dtype".to_owned(), json!(name));
        config.insert("torch_dtype".to_owned(), json!(name));
    }
    folder.write("config.json", pretty(&config).as_bytes())?;
    folder.write("generation_config.json", pretty(&companions.generation_config()).as_bytes())?;
    companions.write(&folder)?;
    folder.finish()
}
