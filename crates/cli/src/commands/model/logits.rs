//! `rekindle model logits`: a forward pass for other programs to compare with.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use clap::Args;
use rekindle_models::{CausalLm, Decoder, Tokens};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::commands::Which;
use crate::device;

/// Arguments of `rekindle model logits`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Token ids, the model's input: `1,2,3`.
    #[arg(long, value_delimiter = ',', required = true)]
    ids: Vec<u32>,
    /// A safetensors file: `logits` [1, seq, vocab] and `hidden_NN` [1, seq, hidden], in f32.
    #[arg(short, long)]
    output: PathBuf,
}

/// Writes the scores at every position, and the residual stream before each block and at the end.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let ready = arguments.which.load(&device::open("cpu")?)?;
    let model = ready.tuned.as_ref().map_or(&ready.base, |(model, _)| model);
    let tensors = compute(model, &arguments.ids)?;
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes)?))
        })
        .collect::<Result<HashMap<_, _>>>()?;
    let file = safetensors::serialize(views, None)?;
    std::fs::write(&arguments.output, file)
        .with_context(|| format!("cannot write `{}`", arguments.output.display()))?;
    println!("{}", arguments.output.display());
    Ok(0)
}

/// Name, shape and values.
type Named = (String, Vec<usize>, Vec<f32>);

fn compute(model: &Decoder, ids: &[u32]) -> Result<Vec<Named>> {
    let vocab = model.arch().vocab;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        bail!("token id `{id}` is not below {vocab}, the number of rows of the embeddings");
    }
    let device = model.head().device();
    let shape = [1, ids.len()];
    let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let input = Tensor::from_data(TensorData::new(values, shape), &device);
    let segments = Tensor::ones(shape, &device);
    let mut tensors =
        vec![host("logits", model.logits(Tokens::new(input.clone(), segments.clone())))];
    for (index, state) in model.hidden_states(Tokens::new(input, segments)).into_iter().enumerate()
    {
        tensors.push(host(&format!("hidden_{index:02}"), state));
    }
    Ok(tensors)
}

fn host(name: &str, tensor: Tensor<3>) -> Named {
    let shape = tensor.dims().to_vec();
    (name.to_owned(), shape, tensor.into_data().iter::<f32>().collect())
}
