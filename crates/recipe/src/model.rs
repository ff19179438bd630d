//! A model with what it takes to speak to it: tokenizer, template, special tokens.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use rekindle_data::{
    ChatTemplate, Renderer, SpecialTokens, Tokenizer, TooLong, VocabModel, VocabSpec,
};
use rekindle_export::Companions;
use rekindle_models::load::gguf::{GgufModel, GgufVocab};
use rekindle_models::load::hf::HfFolder;
use rekindle_models::{Arch, Decoder, ModelFiles, WeightSource, load};
use serde_json::{Value, json};

use crate::error::RunError;
use crate::recipe::Init;

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
            Init::Pretrained => load::open(path)?,
            Init::Random => ModelFiles::Hf(HfFolder::open_without_weights(path)?),
        };
        let arch = files.arch()?;
        Ok(Self { files, arch })
    }

    /// The weights as they lie on disk.
    pub fn source(&self) -> &dyn WeightSource {
        self.files.source()
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
        if let Some(name) = template {
            text.template = Some(named_template(name, &text.tokenizer_config)?);
        }
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
}

impl TextSide {
    /// A renderer with this tokenizer and template.
    pub fn renderer(&self, max_tokens: usize, too_long: TooLong) -> Renderer {
        Renderer {
            tokenizer: self.tokenizer.clone(),
            template: self.template.clone(),
            max_tokens,
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
