//! The trained weights of two runs, tensor by tensor.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::error::RunError;

/// One file of trained weights in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// Its path in the run folder.
    pub file: String,
    /// Whether all of its tensors have the same bits.
    pub bit_equal: bool,
    /// Whether all of its tensors are within the tolerance.
    pub within: bool,
    /// The tensor that differs most, or the first that only one of the files has.
    pub tensor: Option<String>,
    /// Largest absolute difference; none where tensors cannot be compared.
    pub largest: Option<f64>,
    /// That difference over the largest weight of its tensor.
    pub largest_relative: Option<f64>,
}

impl Weights {
    fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            bit_equal: true,
            within: true,
            tensor: None,
            largest: Some(0.0),
            largest_relative: Some(0.0),
        }
    }

    /// Tensors that cannot be compared.
    fn unlike(file: &str, tensor: Option<String>) -> Self {
        Self {
            bit_equal: false,
            within: false,
            tensor,
            largest: None,
            largest_relative: None,
            ..Self::new(file)
        }
    }

    /// How it compares, in words.
    pub fn words(&self) -> String {
        match (self.bit_equal, self.largest, self.largest_relative) {
            (true, ..) => "bit-equal".to_owned(),
            (false, Some(largest), Some(relative)) => {
                format!("largest difference {largest:.3e}, relative {relative:.3e}")
            }
            _ => "one of the runs has not the same tensors".to_owned(),
        }
    }
}

/// Compares the adapter, the merged model and the last checkpoint, whichever the first run has.
pub(super) fn compare(a: &Path, b: &Path, tolerance: f64) -> Result<Vec<Weights>, RunError> {
    let mut found = Vec::new();
    for folder in ["adapter", "merged"].map(PathBuf::from).into_iter().chain(last_checkpoint(a)) {
        let Ok(entries) = fs::read_dir(a.join(&folder)) else { continue };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|it| it == "safetensors"));
        names.sort();
        for name in names {
            found.push(compare_files(a, b, &folder.join(name), tolerance)?);
        }
    }
    Ok(found)
}

/// The newest checkpoint of a run, relative to its folder; names sort by step.
fn last_checkpoint(run: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).ok()?;
    let is_whole = |path: &PathBuf| path.join("manifest.json").is_file();
    let newest = entries.flatten().map(|entry| entry.path()).filter(is_whole).max()?;
    Some(Path::new("checkpoints").join(newest.file_name()?))
}

fn compare_files(a: &Path, b: &Path, file: &Path, tolerance: f64) -> Result<Weights, RunError> {
    let name = file.display().to_string();
    if !b.join(file).is_file() {
        return Ok(Weights::unlike(&name, None));
    }
    let read = |path: PathBuf| fs::read(&path).map_err(|source| RunError::Io { path, source });
    let (bytes_a, bytes_b) = (read(a.join(file))?, read(b.join(file))?);
    if bytes_a == bytes_b {
        return Ok(Weights::new(&name));
    }
    let parse = |path: PathBuf, bytes| {
        SafeTensors::deserialize(bytes).map_err(|error| RunError::ModelPart {
            path,
            reason: format!("cannot be read as safetensors ({error}); it is damaged"),
        })
    };
    let of_a = parse(a.join(file), &bytes_a)?;
    let of_b = parse(b.join(file), &bytes_b)?;
    Ok(compare_tensors(&name, &of_a, &of_b, tolerance))
}

fn compare_tensors(
    file: &str,
    a: &SafeTensors<'_>,
    b: &SafeTensors<'_>,
    tolerance: f64,
) -> Weights {
    let mut found = Weights::new(file);
    let mut names = a.names();
    names.extend(b.names());
    names.sort();
    names.dedup();
    for name in names {
        let (Ok(of_a), Ok(of_b)) = (a.tensor(name), b.tensor(name)) else {
            return Weights::unlike(file, Some(name.to_owned()));
        };
        if of_a.shape() != of_b.shape() || of_a.dtype() != of_b.dtype() {
            return Weights::unlike(file, Some(name.to_owned()));
        }
        if of_a.data() == of_b.data() {
            continue;
        }
        found.bit_equal = false;
        let values = (values(of_a.dtype(), of_a.data()), values(of_b.dtype(), of_b.data()));
        let (Some(values_a), Some(values_b)) = values else {
            return Weights::unlike(file, Some(name.to_owned()));
        };
        let [difference, relative] = difference(&values_a, &values_b);
        found.within &= relative <= tolerance && tolerance > 0.0;
        if found.tensor.is_none() || Some(relative) > found.largest_relative {
            found.tensor = Some(name.to_owned());
            found.largest_relative = Some(relative);
        }
        found.largest = found.largest.map(|largest| largest.max(difference));
    }
    found
}

/// Largest absolute difference, and the same over the largest weight; infinite for NaN on one side.
fn difference(a: &[f64], b: &[f64]) -> [f64; 2] {
    let (mut largest, mut scale) = (0.0_f64, 0.0_f64);
    for (a, b) in a.iter().zip(b) {
        scale = scale.max(a.abs()).max(b.abs());
        if a.is_nan() != b.is_nan() {
            return [f64::INFINITY; 2];
        }
        // NaN on both sides is the same.
        largest = largest.max((a - b).abs());
    }
    [largest, if largest == 0.0 { 0.0 } else { largest / scale }]
}

/// Floats as f64; none for other types.
fn values(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    let halves = || data.as_chunks::<2>().0.iter().copied();
    Some(match dtype {
        Dtype::F32 => {
            data.as_chunks::<4>().0.iter().map(|it| f64::from(f32::from_le_bytes(*it))).collect()
        }
        Dtype::BF16 => halves().map(|it| bf16::from_le_bytes(it).to_f64()).collect(),
        Dtype::F16 => halves().map(|it| f16::from_le_bytes(it).to_f64()).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(folder: &Path, tensors: &[(&str, &[f32])]) {
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, values)| values.iter().flat_map(|it| it.to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, values), bytes)| {
            (*name, TensorView::new(Dtype::F32, vec![values.len()], bytes).unwrap())
        });
        fs::create_dir_all(folder.join("adapter")).unwrap();
        let bytes = safetensors::serialize(views, None).unwrap();
        fs::write(folder.join("adapter/a.safetensors"), bytes).unwrap();
    }

    fn check(a: &[(&str, &[f32])], b: &[(&str, &[f32])], tolerance: f64) -> Weights {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        file(one.path(), a);
        file(other.path(), b);
        compare(one.path(), other.path(), tolerance).unwrap().remove(0)
    }

    #[test]
    fn the_tensor_that_differs_most_is_named_with_its_difference() {
        let a: [(&str, &[f32]); 2] = [("x", &[1.0, 2.0]), ("y", &[4.0])];
        assert!(check(&a, &a, 0.0).bit_equal);
        let found = check(&a, &[("x", &[1.0, 2.25]), ("y", &[4.5])], 0.2);
        assert!(!found.bit_equal && found.within, "{found:?}");
        assert_eq!((found.tensor.as_deref(), found.largest), (Some("x"), Some(0.5)));
        assert!(!check(&a, &[("x", &[1.0, 2.25]), ("y", &[4.0])], 0.1).within);
    }

    #[test]
    fn other_tensors_and_missing_files_are_beyond_every_tolerance() {
        let a: [(&str, &[f32]); 1] = [("x", &[1.0, 2.0])];
        for b in [[("z", &[1.0_f32, 2.0][..])], [("x", &[1.0_f32][..])]] {
            let found = check(&a, &b, 1.0);
            assert!(!found.within && found.largest.is_none(), "{found:?}");
        }
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        file(one.path(), &a);
        assert!(!compare(one.path(), other.path(), 1.0).unwrap()[0].within);
        assert_eq!(compare(other.path(), one.path(), 1.0).unwrap(), []);
    }

    #[test]
    fn a_weight_that_is_no_number_differs_without_bound() {
        assert_eq!(difference(&[1.0], &[f64::NAN]), [f64::INFINITY; 2]);
        assert_eq!(difference(&[f64::NAN, 1.0], &[f64::NAN, 1.0]), [0.0, 0.0]);
    }
}
