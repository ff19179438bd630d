//! Reference values written by other tools.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

/// A safetensors file below the repository's `fixtures/` folder.
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    /// The file at `relative` below `fixtures/`, such as `train/adamw.safetensors`.
    ///
    /// # Panics
    ///
    /// If the file cannot be read or is not safetensors.
    #[track_caller]
    pub fn open(relative: &str) -> Self {
        let path = fixtures().join(relative);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => panic!("`{}` cannot be read: {error}", path.display()),
        };
        let golden = Self { path, bytes };
        golden.parsed();
        golden
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.parsed().names().into_iter().map(String::from).collect();
        names.sort();
        names
    }

    /// The tensor `name` on `device`, in the type it is stored in (f64 becomes f32).
    ///
    /// # Panics
    ///
    /// If there is no such float tensor of rank `D`.
    #[track_caller]
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let shape = self.shape(name);
        assert_eq!(shape.len(), D, "`{name}` has the shape {shape:?}, rank {D} is wanted");
        let (dtype, bytes) = self.view(name);
        let data = match dtype {
            Dtype::F16 => TensorData::from_bytes_vec(bytes, shape, DType::F16),
            Dtype::BF16 => TensorData::from_bytes_vec(bytes, shape, DType::BF16),
            _ => TensorData::new(self.floats(name), shape),
        };
        let dtype = data.dtype();
        Tensor::from_data(data, (device, dtype))
    }

    /// The elements of the integer tensor `name`, row by row.
    ///
    /// # Panics
    ///
    /// If there is no such tensor of i64, i32, u8 or bool.
    #[track_caller]
    pub fn ints(&self, name: &str) -> Vec<i64> {
        let (dtype, bytes) = self.view(name);
        match dtype {
            Dtype::I64 => chunks(&bytes).map(i64::from_le_bytes).collect(),
            Dtype::I32 => chunks(&bytes).map(|it| i64::from(i32::from_le_bytes(it))).collect(),
            Dtype::U8 | Dtype::BOOL => bytes.into_iter().map(i64::from).collect(),
            other => panic!("`{name}` holds {other:?}, an integer type is wanted"),
        }
    }

    /// The elements of the float tensor `name`, row by row, as f32.
    ///
    /// # Panics
    ///
    /// If there is no such tensor of f64, f32, f16 or bf16.
    #[track_caller]
    pub fn floats(&self, name: &str) -> Vec<f32> {
        let (dtype, bytes) = self.view(name);
        match dtype {
            Dtype::F64 => chunks(&bytes).map(|it| f64::from_le_bytes(it) as f32).collect(),
            Dtype::F32 => chunks(&bytes).map(f32::from_le_bytes).collect(),
            Dtype::F16 => widen(bytes, DType::F16),
            Dtype::BF16 => widen(bytes, DType::BF16),
            other => panic!("`{name}` holds {other:?}, a float type is wanted"),
        }
    }

    /// The shape of the tensor `name`.
    ///
    /// # Panics
    ///
    /// If there is no such tensor.
    #[track_caller]
    pub fn shape(&self, name: &str) -> Vec<usize> {
        match self.parsed().tensor(name) {
            Ok(view) => view.shape().to_vec(),
            Err(_) => self.absent(name),
        }
    }

    #[track_caller]
    fn view(&self, name: &str) -> (Dtype, Vec<u8>) {
        match self.parsed().tensor(name) {
            Ok(view) => (view.dtype(), view.data().to_vec()),
            Err(_) => self.absent(name),
        }
    }

    #[track_caller]
    fn absent(&self, name: &str) -> ! {
        panic!("`{}` has no tensor `{name}`; it has {:?}", self.path.display(), self.names())
    }

    #[track_caller]
    fn parsed(&self) -> SafeTensors<'_> {
        match SafeTensors::deserialize(&self.bytes) {
            Ok(parsed) => parsed,
            Err(error) => panic!("`{}` is not safetensors: {error}", self.path.display()),
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|it| it.try_into().expect("chunks_exact gives N bytes"))
}

fn widen(bytes: Vec<u8>, dtype: DType) -> Vec<f32> {
    let shape = [bytes.len() / 2];
    let data = TensorData::from_bytes_vec(bytes, shape, dtype).convert::<f32>();
    data.try_to_vec().expect("just converted to f32")
}
