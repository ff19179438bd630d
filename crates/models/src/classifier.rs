//! A decoder with a head of its own: scores for a text instead of for the next token.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};
use rekindle_kernels as kernels;
use rekindle_peft_core::init;

use crate::arch::Arch;
use crate::causal_lm::CausalLm;
use crate::decoder::{Decoder, MergedTensor};
use crate::error::{ModelError, Problems};
use crate::load::{WeightSource, bare};
use crate::tokens::Tokens;

/// The head's name in a Hugging Face folder.
const SCORE: &str = "score.weight";

/// A decoder whose hidden states are read by one linear map without bias: a classifier, a reward
/// model, or with one label a value at every token.
///
/// Transformers calls it `…ForSequenceClassification`. The decoder has no output projection.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    /// What makes the hidden states.
    pub decoder: Decoder,
    score: Param<Tensor<2>>, // [n_labels, hidden]
}

impl SequenceClassifier {
    /// A decoder, without its output projection, under the head `score [n_labels, hidden]`.
    pub fn new(mut decoder: Decoder, score: Tensor<2>) -> Self {
        decoder.lm_head = None;
        Self { decoder, score: Param::from_tensor(score) }
    }

    /// A decoder under a fresh head: normal with standard deviation `arch.initializer_range`.
    pub fn with_fresh_head(decoder: Decoder, n_labels: usize, seed: u64) -> Self {
        let (hidden, range) = (decoder.arch().hidden, decoder.arch().initializer_range);
        let mut rng = init::generator(seed, "weight", SCORE);
        let values = init::normal(&mut rng, n_labels * hidden, range);
        let score = TensorData::new(values, [n_labels, hidden]);
        let score = Tensor::from_data(score, &decoder.device());
        Self::new(decoder, score)
    }

    /// Reads a classifier that transformers wrote; the head tells the number of labels.
    ///
    /// # Errors
    /// [`ModelError`] where a tensor is missing, unexpected, of the wrong shape or unreadable.
    pub fn load(
        source: &dyn WeightSource,
        arch: &Arch,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let n_labels = match source.shape(SCORE).as_deref() {
            Some(&[n_labels, hidden]) if hidden == arch.hidden && n_labels > 0 => n_labels,
            found => {
                let wanted = format!("wanted [labels, {}]", arch.hidden);
                let problem = match found {
                    Some(found) => format!("wrong shape: `{SCORE}` is {found:?}, {wanted}"),
                    None => format!("missing: `{SCORE}`, {wanted}"),
                };
                return Err(ModelError::WrongTensors { problems: Problems(vec![problem]) });
            }
        };
        // No output projection is looked for.
        let headless = Arch { tied_head: true, ..arch.clone() };
        let rest = bare::Without { source, name: SCORE };
        let decoder = Decoder::load(&rest, &headless, device)?;
        let score = TensorData::new(source.read_f32(SCORE)?, [n_labels, arch.hidden]);
        Ok(Self::new(decoder, Tensor::from_data(score, device)))
    }

    /// Labels.
    pub fn n_labels(&self) -> usize {
        self.score.dims()[0]
    }

    /// Scores of every label at every token: `[batch, seq, n_labels]`.
    pub fn token_scores(&self, tokens: Tokens) -> Tensor<3> {
        self.read(self.decoder.hidden(tokens))
    }

    /// Scores of every label for every row, read at its last token that is no padding (segment 0):
    /// `[batch, n_labels]`.
    pub fn scores(&self, tokens: Tokens) -> Tensor<2> {
        let [batch, seq] = tokens.dims();
        let segments = tokens.segments.clone();
        let device = segments.device();
        let hidden = self.decoder.hidden(tokens);
        let width = hidden.dims()[2];
        // Integers of different origin may differ in width.
        let numbers = |n: usize| Tensor::<1, Int>::arange(0..n as i64, &device).cast(IntDType::I32);
        let real = segments.not_equal_elem(0).int().cast(IntDType::I32);
        let last = (real * numbers(seq).reshape([1, seq])).argmax(1).reshape([batch]);
        let places = numbers(batch) * seq as i64 + last.cast(IntDType::I32);
        let last = hidden.reshape([batch * seq, width]).select(0, places);
        self.read(last)
    }

    fn read<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let score = kernels::in_dtype(self.score.val(), hidden.dtype());
        kernels::linear(hidden, score)
    }

    /// Every weight as a Hugging Face folder holds it, adapters merged.
    pub fn merged_tensors(&self) -> Vec<(String, MergedTensor)> {
        let mut tensors = self.decoder.merged_tensors();
        tensors.push((SCORE.to_owned(), MergedTensor::Matrix(self.score.val())));
        tensors
    }

    /// The `config.json` that transformers reads.
    pub fn to_hf_config(&self) -> serde_json::Value {
        let arch = self.decoder.arch();
        let mut config = arch.to_hf_config();
        config["architectures"] = serde_json::json!([arch.family.classifier_class()]);
        let labels = 0..self.n_labels();
        let names =
            labels.clone().map(|label| (label.to_string(), format!("LABEL_{label}").into()));
        config["id2label"] = serde_json::Value::Object(names.collect());
        let ids = labels.map(|label| (format!("LABEL_{label}"), label.into()));
        config["label2id"] = serde_json::Value::Object(ids.collect());
        config
    }
}
