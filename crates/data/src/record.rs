//! What a row of a dataset says, whatever format it was written in.

use serde_json::{Map, Value};

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person.
    User,
    /// The model: its turns are what is trained on.
    Assistant,
    /// The answer of a tool that the assistant has called.
    Tool,
}

impl Role {
    /// The role's name in chat templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty where the turn is tool calls alone.
    pub content: String,
    /// Every other key of the turn (`tool_calls`, `name`, …), handed to the template as it is.
    pub extra: Map<String, Value>,
    /// Whether an assistant turn is trained on (OpenAI's `weight`, 0 or 1).
    pub weight: bool,
}

impl Message {
    /// A turn with text alone, trained on if it is the assistant's.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), extra: Map::new(), weight: true }
    }
}

/// One row of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A conversation, to be written out by the model's chat template.
    Chat {
        /// The turns, in order.
        messages: Vec<Message>,
        /// Tools offered to the assistant, as JSON schemas.
        tools: Option<Value>,
    },
    /// A prompt and what follows it, without a chat template.
    Completion {
        /// What is given; not trained on.
        prompt: String,
        /// What follows; trained on.
        completion: String,
    },
    /// A document, trained on as a whole.
    Text(String),
}
