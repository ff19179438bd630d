//! Files of weights: written from the host, read back, compared bit by bit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::Tensor;
use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::ExportError;

/// One tensor on the host.
pub(crate) struct HostTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergedDtype {
    /// 32 bits: what was trained, bit for bit.
    #[default]
    F32,
    /// bfloat16, rounded to nearest even.
    Bf16,
}

impl HostTensor {
    pub(crate) fn new<const D: usize>(name: String, tensor: Tensor<D>, dtype: MergedDtype) -> Self {
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data();
        let values = values.iter::<f32>();
        let (dtype, bytes) = match dtype {
            MergedDtype::F32 => (Dtype::F32, values.flat_map(f32::to_le_bytes).collect()),
            MergedDtype::Bf16 => {
                let rounded = values.map(bf16::from_f32).flat_map(bf16::to_le_bytes);
                (Dtype::BF16, rounded.collect())
            }
        };
        Self { name, shape, dtype, bytes }
    }
}

/// Writes `tensors` to `path` with PyTorch's format mark, syncs, reads back and compares.
pub(crate) fn write(path: &Path, tensors: &[HostTensor]) -> Result<(), ExportError> {
    let io = |source| ExportError::Io { path: path.to_owned(), source };
    let invalid = |reason: String| ExportError::Invalid { path: path.to_owned(), reason };
    let views = tensors.iter().map(|it| {
        TensorView::new(it.dtype, it.shape.clone(), &it.bytes).map(|view| (it.name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| invalid(e.to_string()))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|error| invalid(error.to_string()))?;
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(io)?;
    let bytes = fs::read(path).map_err(io)?;
    let read = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    for tensor in tensors {
        let same = read.tensor(&tensor.name).is_ok_and(|view| {
            view.dtype() == tensor.dtype
                && view.shape() == tensor.shape
                && view.data() == tensor.bytes
        });
        if !same {
            let (path, name) = (path.to_owned(), tensor.name.clone());
            return Err(ExportError::ReadBack { path, name });
        }
    }
    Ok(())
}
