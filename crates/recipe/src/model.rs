//! A model with what it takes to speak to it: tokenizer, template, special tokens.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use rekindle_data::{
    ChatTemplate, DateTime, Renderer, SpecialTokens, Tokenizer, TooLong, VocabModel, VocabSpec,
};
use rekindle_export::Companions;
use rekindle_models::load::gguf::{GgufModel, GgufVocab};
use rekindle_models::load::hf::{self, HfFolder};
use rekindle_models::{Arch, Decoder, ModelError, ModelFiles, WeightSource, load};
use serde_json::{Value, json};

use crate::error::RunError;
use crate::finite::{NonFinite, Watched};
use crate::plan::Plan;
use crate::recipe::{Init, Recipe};

/// The text side of a model: everything but its weights.
#[derive(Debug)]
pub struct TextSide {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text, if the model has a template.
    pub template: Option<ChatTemplate>,
    /// Tokens that end a generation.
    pub stop_ids: Vec<u32>,
    tokenizer_config: Value,
    /// Most tokens that a row may have.
    longest: usize,
}

/// What templates are told that take a clock for granted, so that training is repeatable.
const NO_NOW: DateTime = DateTime::constant(2024, 7, 26, 0, 0, 0, 0);

impl TextSide {
    /// The same with `now` as the time of the template's `strftime_now`, where it is given.
    #[must_use]
    pub fn at(mut self, now: Option<DateTime>) -> Self {
        if let Some(now) = now {
            self.template = self.template.map(|template| template.with_now(now));
        }
        self
    }
}

/// A model's files, opened but not yet loaded.
pub struct OpenModel {
    files: ModelFiles,
    /// The architecture's numbers.
    pub arch: Arch,
}

impl OpenModel {
    /// Opens a Hugging Face folder or a GGUF file; `init` says whether weights must be there.
    ///
    /// # Errors
    /// [`RunError`] where the path or the files are not usable.
    pub fn open(path: &Path, init: Init) -> Result<Self, RunError> {
        let files = match init {
            Init::Pretrained => load::open(path).map_err(with_advice)?,
            Init::Random => ModelFiles::Hf(HfFolder::open_without_weights(path)?),
        };
        let arch = files.arch()?;
        Ok(Self { files, arch })
    }

    /// The weights as they lie on disk.
    pub fn source(&self) -> &dyn WeightSource {
        self.files.source()
    }

    /// What the files ask for that is not done, one sentence each, to be shown once.
    pub fn notes(&self) -> Vec<String> {
        self.files.notes()
    }

    /// The text side; `template` overrides the model's own (a file, or `chatml`).
    ///
    /// # Errors
    /// [`RunError`] where tokenizer or template cannot be used, or the tokenizer has more ids than
    /// the embeddings have rows.
    pub fn text(&self, template: Option<&str>) -> Result<TextSide, RunError> {
        let mut text = match &self.files {
            ModelFiles::Hf(folder) => of_folder(folder)?,
            ModelFiles::Gguf(model) => of_gguf(model, &self.arch)?,
        };
        text.tokenizer.check_rows(self.arch.vocab)?;
        text.longest = longest_row(&self.arch, 1).unwrap_or(usize::MAX);
        if let Some(name) = template {
            text.template = Some(named_template(name, &text.tokenizer_config)?);
        }
        text.template = text.template.map(|it| match it.needs_now() {
            true => it.with_now(NO_NOW),
            false => it,
        });
        for id in self.arch.eos.iter().copied().chain(text.tokenizer.eos()) {
            if !text.stop_ids.contains(&id) {
                text.stop_ids.push(id);
            }
        }
        Ok(text)
    }

    /// The weights, read onto `device` or drawn from `seed`.
    ///
    /// # Errors
    /// [`RunError`] where a tensor cannot be read or does not fit.
    pub fn decoder(&self, init: Init, seed: u64, device: &Device) -> Result<Decoder, RunError> {
        Ok(match init {
            Init::Pretrained => Decoder::load(self.files.source(), &self.arch, device)?,
            Init::Random => Decoder::random(&self.arch, seed, device),
        })
    }

    /// The weights that `plan` starts from, in the number format that it wants them in, with what
    /// is not finite among those that were read.
    ///
    /// # Errors
    /// As [`OpenModel::decoder`].
    pub fn watched_decoder(
        &self,
        plan: &Plan,
        device: &Device,
    ) -> Result<(Decoder, Option<NonFinite>), RunError> {
        let Recipe { init, seed, .. } = plan.recipe;
        Ok(match init {
            Init::Pretrained => {
                let watched = Watched::new(self.files.source());
                let dtype = plan.weights_dtype();
                let decoder = Decoder::load_as(&watched, &self.arch, dtype, device)?;
                (decoder, watched.found())
            }
            Init::Random => (Decoder::random(&self.arch, seed, device), None),
        })
    }
}

/// Most tokens of a row where positions are learned, as a longer one would look beyond their table.
///
/// Rows are padded until all tokens but the last are a multiple of `multiple`; the padding has
/// positions too.
pub(crate) fn longest_row(arch: &Arch, multiple: usize) -> Option<usize> {
    let positions = arch.max_positions;
    let padded = positions / multiple.max(1) * multiple.max(1);
    arch.rope.is_none().then(|| positions.min(padded + 1))
}

/// Says of a pickle what it is, where only what it is not is known.
fn with_advice(error: ModelError) -> RunError {
    match error {
        ModelError::NotAModel { path } if hf::is_pickle(&path) => RunError::ModelPart {
            path,
            reason: "is not a model that can be read: it is named like a pickle, and pickle is \
                     not read, because opening it runs code; convert the model to \
                     `model.safetensors` and give the folder that holds it and `config.json`"
                .to_owned(),
        },
        other => other.into(),
    }
}

impl TextSide {
    /// A renderer with this tokenizer and template; `max_tokens` counts up to the last position
    /// that the model has learned.
    pub fn renderer(&self, max_tokens: usize, too_long: TooLong) -> Renderer {
        Renderer {
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            max_tokens: max_tokens.min(self.longest),
            too_long,
        }
    }

    /// What an exported folder needs beside weights.
    ///
    /// # Errors
    /// A tokenizer that cannot be written as JSON.
    pub fn companions(&self, arch: &Arch) -> Result<Companions, RunError> {
        Ok(Companions {
            tokenizer: Some(self.tokenizer.to_json()?),
            tokenizer_config: Some(self.tokenizer_config.clone()),
            chat_template: self.template.as_ref().map(|it| it.source().to_owned()),
            eos: self.stop_ids.clone(),
            bos: arch.bos.or(self.tokenizer.bos()),
            pad: arch.pad.or(self.tokenizer.pad()),
        })
    }
}

fn read(path: &Path) -> Result<String, RunError> {
    fs::read_to_string(path).map_err(|source| RunError::Io { path: path.to_owned(), source })
}

fn read_json(path: Option<&Path>) -> Result<Value, RunError> {
    let Some(path) = path else { return Ok(json!({})) };
    serde_json::from_str(&read(path)?).map_err(|error| RunError::ModelPart {
        path: path.to_owned(),
        reason: format!("is not valid JSON: {error}; fetch the file again"),
    })
}

fn of_folder(folder: &HfFolder) -> Result<TextSide, RunError> {
    let Some(path) = folder.tokenizer() else {
        return Err(RunError::ModelPart {
            path: folder.path().to_owned(),
            reason: "has no tokenizer.json; fetch it or convert the tokenizer to that format"
                .to_owned(),
        });
    };
    let tokenizer_config = read_json(folder.tokenizer_config().as_deref())?;
    let generation = read_json(folder.generation_config().as_deref())?;
    let specials =
        SpecialTokens::from_tokenizer_config(&tokenizer_config).with_generation_config(&generation);
    Ok(TextSide {
        tokenizer: Tokenizer::from_file(&path)?.with_special_tokens(&specials)?,
        template: ChatTemplate::of_folder(folder.path(), &tokenizer_config, &specials)?,
        stop_ids: specials.stop_ids,
        tokenizer_config,
        longest: usize::MAX,
    })
}

fn of_gguf(model: &GgufModel, arch: &Arch) -> Result<TextSide, RunError> {
    let vocab = model.vocab()?;
    let text = |id: Option<u32>| id.and_then(|id| vocab.tokens.get(id as usize).cloned());
    let specials = SpecialTokens {
        bos_token: text(vocab.bos),
        eos_token: text(vocab.eos),
        pad_token: text(vocab.pad),
        unk_token: text(vocab.unk),
        add_bos_token: Some(vocab.add_bos),
        add_eos_token: Some(vocab.add_eos),
        stop_ids: Vec::new(),
    };
    let template = model.chat_template();
    let template = template.map(|it| ChatTemplate::new(it, &specials)).transpose()?;
    let mut tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": vocab.add_bos,
        "add_eos_token": vocab.add_eos,
        "clean_up_tokenization_spaces": false,
        "model_max_length": arch.max_positions,
    });
    let named = [
        ("bos_token", &specials.bos_token),
        ("eos_token", &specials.eos_token),
        ("pad_token", &specials.pad_token),
        ("unk_token", &specials.unk_token),
    ];
    for (key, token) in named {
        if let Some(token) = token {
            tokenizer_config[key] = json!(token);
        }
    }
    Ok(TextSide {
        tokenizer: Tokenizer::from_vocab(&vocab_spec(vocab))?,
        template,
        stop_ids: Vec::new(),
        tokenizer_config,
        longest: usize::MAX,
    })
}

fn vocab_spec(vocab: GgufVocab) -> VocabSpec {
    let model = match vocab.model.as_str() {
        "gpt2" => VocabModel::Bpe { merges: vocab.merges, pre: vocab.pre },
        _ => VocabModel::Spm { scores: vocab.scores },
    };
    VocabSpec {
        model,
        tokens: vocab.tokens,
        token_types: vocab.token_types,
        bos: vocab.bos,
        eos: vocab.eos,
        pad: vocab.pad,
        unk: vocab.unk,
        add_bos: vocab.add_bos,
        add_eos: vocab.add_eos,
        add_space_prefix: vocab.add_space_prefix,
    }
}

fn named_template(name: &str, tokenizer_config: &Value) -> Result<ChatTemplate, RunError> {
    if name == "chatml" {
        return Ok(ChatTemplate::builtin(name)?);
    }
    let specials = SpecialTokens::from_tokenizer_config(tokenizer_config);
    Ok(ChatTemplate::new(&read(Path::new(name))?, &specials)?)
}
