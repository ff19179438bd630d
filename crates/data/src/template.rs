//! Chat templates: from a conversation to the text that the model was trained to continue.

mod generation;
mod python;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::record::Message;
use crate::tokenizer::SpecialTokens;

pub(crate) use generation::{BREAK, reserved_character};

/// What a template may spend on one conversation; published templates need a few thousand.
const FUEL: u64 = 2_000_000;
/// How deep a template's calls and includes may go.
const RECURSION_LIMIT: usize = 64;
/// The name under which the template is kept.
const NAME: &str = "chat_template";

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
    /// The template failed on the conversation, or used more than it may.
    #[error("{detail}")]
    Failed {
        /// What went wrong, with the line.
        detail: String,
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
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Byte ranges between `{% generation %}` and `{% endgeneration %}`.
    pub(crate) marks: Vec<Range<usize>>,
}

/// A chat template in Jinja, run as Hugging Face's library runs it.
///
/// Blocks are trimmed, `tojson` writes as Python does, `raise_exception` refuses the
/// conversation. No file can be included, time and memory are bounded (faults M6 to M8).
/// `strftime_now` exists only once a time is given by [`ChatTemplate::with_now`]: a template that
/// asks whether it is defined then writes its own fixed date, and training is repeatable.
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
        let syntax = |error: &Error| TemplateError::Syntax { detail: words(error) };
        if let Some(code) = reserved_character(source) {
            return Err(TemplateError::ReservedCharacter { code });
        }
        let mut environment = Environment::new();
        let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(whitespace.map_err(|error| syntax(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(python::method);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        environment.add_filter("tojson", tojson);
        environment.add_test("iterable", is_iterable);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, generation::rewrite(source))
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

    /// This template with a time for `strftime_now`, chosen by the caller once.
    #[must_use]
    pub fn with_now(mut self, now: jiff::civil::DateTime) -> Self {
        self.environment.add_function("strftime_now", move |format: String| {
            jiff::fmt::strtime::format(format, now)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        self
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
        let context = self.context(messages, tools, add_generation_prompt)?;
        let template = self.environment.get_template(NAME);
        let text = template.and_then(|template| template.render(context)).map_err(|error| {
            let raised = error.source_words();
            match raised {
                Some(detail) => TemplateError::Raised { detail },
                None => TemplateError::Failed { detail: words(&error) },
            }
        })?;
        Ok(generation::cut_marks(&text))
    }

    fn context(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<Jinja, TemplateError> {
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let messages = Value::Array(messages);
        let code = generation::reserved_in_value(&messages)
            .or_else(|| generation::reserved_in_value(tools?));
        if let Some(code) = code {
            return Err(TemplateError::ReservedCharacter { code });
        }
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
        Ok(Jinja::from(Serde(context)))
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

fn message_value(message: &Message) -> Value {
    let mut value = Map::new();
    value.insert("role".into(), message.role.as_str().into());
    value.insert("content".into(), message.content.clone().into());
    value.extend(message.extra.clone());
    Value::Object(value)
}

/// The error's own words and line, without the template's source.
fn words(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), String::from);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// Marks an error as raised by the template itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RaisedByTemplate(String);

trait SourceWords {
    fn source_words(&self) -> Option<String>;
}

impl SourceWords for Error {
    fn source_words(&self) -> Option<String> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(raised) = error.downcast_ref::<RaisedByTemplate>() {
                return Some(raised.0.clone());
            }
            next = error.source();
        }
        None
    }
}

fn raise_exception(message: String) -> Result<Jinja, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(RaisedByTemplate(message)))
}

fn is_iterable(value: &Jinja) -> bool {
    matches!(
        value.kind(),
        ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    )
}

/// Python's `json.dumps` as Hugging Face's templates call it.
fn tojson(value: &Jinja, kwargs: Kwargs) -> Result<String, Error> {
    let bad = |detail: String| Error::new(ErrorKind::InvalidOperation, detail);
    if value.is_undefined() {
        return Err(bad("tojson got an undefined value".into()));
    }
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let separators = match separators.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(bad("`separators` wants two strings".into())),
    };
    let indent: Option<usize> = kwargs.get("indent")?;
    let style = python::JsonStyle {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        separators: separators.unwrap_or_else(|| {
            let item = if indent.is_some() { "," } else { ", " };
            (item.into(), ": ".into())
        }),
    };
    kwargs.assert_all_used()?;
    let value = serde_json::to_value(value).map_err(|error| bad(error.to_string()))?;
    Ok(python::dumps(&value, &style))
}
