//! A GGUF file as a model.

use std::collections::BTreeMap;
use std::path::Path;

use rekindle_quant::gguf::{GgufFile, TensorInfo};

use super::gguf_names::{hf_name, unpermute};
use super::{WeightSource, vocab_check};
use crate::arch::{Arch, Family, NormKind};
use crate::error::{ModelError, Problems};

/// A GGUF file whose weights answer to Hugging Face's names.
#[derive(Debug)]
pub struct GgufModel {
    file: GgufFile,
    arch: Arch,
    places: BTreeMap<String, usize>, // Hugging Face's name to index in the file's tensors
}

/// The vocabulary in a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufVocab {
    /// Kind of tokenizer: `llama` for SentencePiece, `gpt2` for byte-level BPE.
    pub model: String,
    /// Name of the rule that cuts text before BPE; `default` where none is stated.
    pub pre: String,
    /// The tokens, by id.
    pub tokens: Vec<String>,
    /// Their types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Their SentencePiece scores; empty where none are stated.
    pub scores: Vec<f32>,
    /// BPE's merges, first to last.
    pub merges: Vec<String>,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Token that ends a text.
    pub eos: Option<u32>,
    /// Token that fills a row.
    pub pad: Option<u32>,
    /// Token for what no other covers.
    pub unk: Option<u32>,
    /// Whether texts are given a `bos`.
    pub add_bos: bool,
    /// Whether texts are given an `eos`.
    pub add_eos: bool,
    /// Whether texts are given a space in front.
    pub add_space_prefix: bool,
}

impl GgufModel {
    /// Opens the file and checks its metadata; reads no weights.
    ///
    /// # Errors
    /// [`ModelError`] where the file is broken, its architecture is unknown, or its vocabulary
    /// and embeddings differ in length.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = GgufFile::open(path)?;
        let arch = Arch::from_gguf(&file)?;
        let mut places = BTreeMap::new();
        for (index, tensor) in file.tensors().iter().enumerate() {
            let Some(name) = hf_name(arch.family, &tensor.name) else {
                continue;
            };
            if let Some(first) = places.insert(name.clone(), index) {
                let first = &file.tensors()[first].name;
                let problem = format!("`{first}` and `{}` both stand for `{name}`", tensor.name);
                return Err(ModelError::WrongTensors { problems: Problems(vec![problem]) });
            }
        }
        let model = Self { file, arch, places };
        model.check_rows()?;
        Ok(model)
    }

    /// The file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The architecture's numbers.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The chat template, where the file has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.file.string("tokenizer.chat_template").ok().flatten()
    }

    /// The vocabulary, absent settings filled in as llama.cpp does.
    ///
    /// # Errors
    /// [`ModelError`] where the kind or the tokens are absent, lists differ in length, a byte token
    /// is no byte, or a special token is beyond the list.
    pub fn vocab(&self) -> Result<GgufVocab, ModelError> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let absent = |name: &str| ModelError::MissingKey { key: key(name) };
        let text = |name: &str| {
            let value = self.file.string(&key(name))?;
            Ok::<_, ModelError>(value.map(|value| value.to_string()))
        };
        let list = |name: &str| {
            let values = self.file.strings(&key(name))?;
            let owned = values.map(|it| it.iter().map(|value| value.to_string()).collect());
            Ok::<Option<Vec<String>>, ModelError>(owned)
        };
        let token = |name: &str| self.file.u32(&key(&format!("{name}_token_id")));
        let flag = |name: &str| self.file.bool(&key(name));
        let model = text("model")?.ok_or_else(|| absent("model"))?;
        let tokens = list("tokens")?.ok_or_else(|| absent("tokens"))?;
        let pre = text("pre")?.unwrap_or_else(|| "default".to_owned());
        let sentencepiece = model == "llama";
        // Where the file does not say, llama.cpp begins texts of these with `bos`.
        let begins = ["llama-bpe", "llama3", "llama-v3", "tekken"].contains(&pre.as_str());
        let token_types = self.file.i32s(&key("token_type"))?.map(|types| types.to_vec());
        let scores = self.file.f32s(&key("scores"))?.map(|scores| scores.to_vec());
        let vocab = GgufVocab {
            pre,
            token_types: token_types.unwrap_or_else(|| vec![1; tokens.len()]),
            scores: scores.unwrap_or_default(),
            merges: list("merges")?.unwrap_or_default(),
            bos: token("bos")?.or(sentencepiece.then_some(1)),
            eos: token("eos")?.or(sentencepiece.then_some(2)),
            pad: token("padding")?,
            unk: token("unknown")?.or(sentencepiece.then_some(0)),
            add_bos: flag("add_bos_token")?.unwrap_or(sentencepiece || begins),
            add_eos: flag("add_eos_token")?.unwrap_or(false),
            add_space_prefix: flag("add_space_prefix")?.unwrap_or(sentencepiece),
            model,
            tokens,
        };
        vocab_check::check(&vocab)?;
        Ok(vocab)
    }

    /// Checks that every token has a row of the embeddings and every row a token.
    fn check_rows(&self) -> Result<(), ModelError> {
        match self.shape("model.embed_tokens.weight").as_deref() {
            Some(&[rows, _]) if rows != self.arch.vocab => {
                Err(ModelError::VocabRows { tokens: self.arch.vocab, rows })
            }
            // What else may be wrong is said by the check of all tensors.
            _ => Ok(()),
        }
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.file.tensors().get(*self.places.get(name)?)
    }
}

impl WeightSource for GgufModel {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensor(name).map(|tensor| tensor.shape.clone())
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensor =
            self.tensor(name).ok_or_else(|| ModelError::NoTensor { name: name.to_owned() })?;
        let values = self.file.dequantize(tensor)?;
        let Arch { heads, kv_heads, head_dim, .. } = self.arch;
        if self.arch.family.wiring().norm == NormKind::RmsPlusOne && tensor.shape.len() == 1 {
            // llama.cpp stores the gain itself, Hugging Face what it exceeds one by.
            return Ok(values.into_iter().map(|gain| gain - 1.0).collect());
        }
        if self.arch.family != Family::Llama {
            return Ok(values);
        }
        let heads = match name.rsplit('.').nth(1) {
            Some("q_proj") => heads,
            Some("k_proj") => kv_heads,
            _ => return Ok(values),
        };
        if tensor.shape.first() != Some(&(heads * head_dim)) {
            let shape = &tensor.shape;
            let problem =
                format!("wrong shape: `{name}` is {shape:?}, wanted {} rows", heads * head_dim);
            return Err(ModelError::WrongTensors { problems: Problems(vec![problem]) });
        }
        Ok(unpermute(&values, heads, head_dim))
    }

    fn describe(&self) -> String {
        format!("GGUF file `{}`", self.file.path().display())
    }
}
