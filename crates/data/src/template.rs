//! Chat templates: from a conversation to the text that the model was trained to continue.

mod budget;
mod environment;
mod fault;
mod generation;
mod json;
mod python;
mod text;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::value::{Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use crate::record::Message;
use crate::tokenizer::{SpecialTokens, UnknownSpecialName};

pub(crate) use generation::{BREAK, reserved_character};

/// The name under which the template is kept.
const NAME: &str = "chat_template";
/// Under which names a message's reasoning is passed; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
    message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A chat template that cannot be used, or that refused a conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is not valid.
    #[error("the chat template is not valid: {detail}; correct it or name another")]
    Syntax {
        /// What is wrong, with the line.
        detail: String,
    },
    /// No built-in template has that name.
    #[error("no chat template is called `{0}`; wanted `chatml`, or the path of a template")]
    UnknownName(String),
    /// A template's file cannot be read.
    #[error("cannot read the chat template `{}`: {detail}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        detail: String,
    },
    /// The template itself refused the conversation, by `raise_exception`.
    #[error("{detail}")]
    Raised {
        /// The template's words.
        detail: String,
    },
    /// The template failed on the conversation.
    #[error("{detail}")]
    Failed {
        /// What went wrong, with the line.
        detail: String,
    },
    /// The template used more than it may, or asked for a file; it would for any conversation.
    #[error("the chat template cannot be used: {detail}; correct it or name another")]
    Unusable {
        /// What went wrong, with the line.
        detail: String,
    },
    /// A model has no chat template.
    #[error("`{}` has no chat template; name one, such as `chatml`", path.display())]
    Absent {
        /// The model.
        path: PathBuf,
    },
    /// The conversation holds a character that the renderer needs for itself.
    #[error("the text holds the private-use character U+{code:04X}; remove it")]
    ReservedCharacter {
        /// The character's code point.
        code: u32,
    },
}

/// A rendered conversation and what the template itself marked as the assistant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges between `{% generation %}` and `{% endgeneration %}`.
    pub marks: Vec<Range<usize>>,
}

/// A chat template in Jinja, run as Hugging Face's library runs it.
///
/// Blocks are trimmed, `tojson` writes as Python does, `raise_exception` refuses the
/// conversation. No file can be included; steps, output and depth are bounded (faults M6 to M8),
/// but not what the engine does in one step, such as adding a list to itself again and again.
/// `strftime_now` exists only once a time is given by [`ChatTemplate::with_now`]: a template that
/// asks whether it is defined then writes its own fixed date, and training is repeatable. One that
/// does not ask needs a time ([`ChatTemplate::needs_now`]).
#[derive(Clone)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    specials: SpecialTokens,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// The template of a source, with the special tokens that it may name.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] if the source is not a template.
    pub fn new(source: &str, specials: &SpecialTokens) -> Result<Self, TemplateError> {
        let syntax = |error: &Error| TemplateError::Syntax { detail: fault::words(error) };
        if let Some(code) = reserved_character(source) {
            return Err(TemplateError::ReservedCharacter { code });
        }
        let mut environment = environment::environment().map_err(|error| syntax(&error))?;
        // As Jinja2 does with every kind of line end in a template's source.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        environment
            .add_template_owned(NAME, generation::rewrite(&lines))
            .map_err(|error| syntax(&error))?;
        Ok(Self { source: source.into(), environment, specials: specials.clone() })
    }

    /// A template that comes with this library: `chatml`.
    ///
    /// # Errors
    /// [`TemplateError::UnknownName`] for any other name.
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        match name {
            "chatml" => Self::new(CHATML, &SpecialTokens::default()),
            _ => Err(TemplateError::UnknownName(name.into())),
        }
    }

    /// The template of a model folder: `chat_template.jinja`, else `chat_template` of the given
    /// `tokenizer_config.json` (a string, or a list of which the entry `default` is taken).
    ///
    /// # Errors
    /// [`TemplateError`] if there is one that cannot be used; `Ok(None)` if there is none.
    pub fn of_folder(
        folder: &Path,
        tokenizer_config: &Value,
        specials: &SpecialTokens,
    ) -> Result<Option<Self>, TemplateError> {
        let path = folder.join("chat_template.jinja");
        let source = match std::fs::read_to_string(&path) {
            Ok(source) => Some(source),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                config_source(tokenizer_config).map(String::from)
            }
            Err(error) => return Err(TemplateError::Io { path, detail: error.to_string() }),
        };
        source.map(|source| Self::new(&source, specials)).transpose()
    }

    /// Whether it calls `strftime_now` without asking whether that is defined.
    pub fn needs_now(&self) -> bool {
        self.source.contains("strftime_now") && !self.source.contains("strftime_now is")
    }

    /// This template with a time for `strftime_now`, chosen by the caller once.
    #[must_use]
    pub fn with_now(mut self, now: jiff::civil::DateTime) -> Self {
        self.environment.add_function("strftime_now", move |format: String| {
            jiff::fmt::strtime::format(format, now)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        self
    }

    /// This template with another text for `bos_token`, `eos_token`, `pad_token` or `unk_token`.
    ///
    /// # Errors
    /// [`UnknownSpecialName`] for any other name.
    pub fn with_special(mut self, name: &str, token: &str) -> Result<Self, UnknownSpecialName> {
        self.specials.set(name, token)?;
        Ok(self)
    }

    /// The text of a conversation; with `add_generation_prompt`, up to where the assistant starts.
    ///
    /// # Errors
    /// [`TemplateError`] if the template refuses or fails.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        Ok(self.render_marked(messages, tools, add_generation_prompt)?.text)
    }

    /// The template as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text and the spans that the template marks; expects no reserved character in `messages`
    /// but U+E002, which stays in the text.
    pub(crate) fn render_marked(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<Rendered, TemplateError> {
        let messages = messages.iter().map(message_value).collect();
        self.render_value(messages, tools, add_generation_prompt)
    }

    /// As [`ChatTemplate::render`], of messages as JSON: their keys reach the template in the order
    /// and with the values that they have here, and no order of roles is asked for.
    ///
    /// # Errors
    /// [`TemplateError`] if the template refuses or fails.
    pub fn render_value(
        &self,
        messages: Vec<Map<String, Value>>,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<Rendered, TemplateError> {
        let messages = messages.into_iter().map(|it| Value::Object(alias_reasoning(it)));
        let messages = Value::Array(messages.collect());
        let code = generation::reserved_in_value(&messages)
            .or_else(|| generation::reserved_in_value(tools?));
        if let Some(code) = code {
            return Err(TemplateError::ReservedCharacter { code });
        }
        let bytes = budget::text_bytes(&messages) + tools.map_or(0, budget::text_bytes);
        let context = self.context(messages, tools, add_generation_prompt);
        let text = budget::render(&self.environment, NAME, context, bytes)?;
        Ok(generation::cut_marks(&text))
    }

    fn context(
        &self,
        messages: Value,
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Jinja {
        let mut context = Map::new();
        context.insert("messages".into(), messages);
        context.insert("tools".into(), tools.cloned().unwrap_or(Value::Null));
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let specials = &self.specials;
        for (name, token) in [
            ("bos_token", &specials.bos_token),
            ("eos_token", &specials.eos_token),
            ("pad_token", &specials.pad_token),
            ("unk_token", &specials.unk_token),
        ] {
            if let Some(token) = token {
                context.insert(name.into(), token.clone().into());
            }
        }
        Jinja::from(Serde(context))
    }
}

/// The `chat_template` of a `tokenizer_config.json`.
fn config_source(config: &Value) -> Option<&str> {
    match config.get("chat_template")? {
        Value::String(source) => Some(source),
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.or(list.first())?.get("template")?.as_str()
        }
        _ => None,
    }
}

fn message_value(message: &Message) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("role".into(), message.role.as_str().into());
    value.insert("content".into(), message.content.clone().into());
    value.extend(message.extra.clone());
    value
}

/// The message with its reasoning under the names that templates read.
///
/// As transformers 5.24 does in `_alias_reasoning_fields`: the first of [`REASONING`] that is not
/// null becomes `reasoning_content`, and `thinking`, which then comes first, if there is none.
fn alias_reasoning(message: Map<String, Value>) -> Map<String, Value> {
    let mut reasoning = REASONING.iter().filter_map(|&name| message.get(name));
    let Some(reasoning) = reasoning.find(|value| !value.is_null()).cloned() else {
        return message;
    };
    let mut aliased = Map::new();
    aliased.insert("thinking".into(), reasoning.clone());
    aliased.extend(message);
    aliased.insert("reasoning_content".into(), reasoning);
    aliased
}
