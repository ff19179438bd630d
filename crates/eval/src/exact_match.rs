//! Exact match of greedy answers.

use rekindle_data::{Tokenizer, TokenizerError};
use rekindle_models::{Decoder, Finish, Generated, Generation};
use serde::{Deserialize, Serialize};

/// Questions answered at a time.
const ROWS: usize = 32;

/// A prompt and the answer wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is shown in reports.
    pub text: String,
    /// The prompt's tokens, up to where the answer begins.
    pub prompt: Vec<u32>,
    /// The answer wanted.
    pub answer: String,
}

/// One answer beside the one wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's text.
    pub question: String,
    /// The answer wanted.
    pub wanted: String,
    /// The answer given, without special tokens.
    pub given: String,
    /// Whether the model ended its answer by itself.
    pub ended: bool,
}

impl Answer {
    /// Whether both are equal after trimming white space at the ends.
    pub fn is_exact(&self) -> bool {
        self.given.trim() == self.wanted.trim()
    }
}

/// How many answers were right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExactMatch {
    /// Every answer, in the order of the questions.
    pub answers: Vec<Answer>,
}

impl ExactMatch {
    /// Right answers.
    pub fn right(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_exact()).count()
    }

    /// The share of right answers, 0 to 1; 0 without questions.
    pub fn rate(&self) -> f64 {
        self.right() as f64 / self.answers.len().max(1) as f64
    }
}

/// Answers every question and compares.
///
/// `how` gives one text a prompt. `model` should be off the autodiff device.
///
/// # Errors
/// A token that the tokenizer cannot write.
pub fn exact_match(
    model: &Decoder,
    tokenizer: &Tokenizer,
    questions: &[Question],
    how: &Generation,
) -> Result<ExactMatch, TokenizerError> {
    let all = exact_match_while(model, tokenizer, questions, how, &|| true)?;
    Ok(all.unwrap_or_default())
}

/// As [`exact_match()`], as long as `go_on` says so; it is asked before every token.
///
/// `Ok(None)` once it says no.
///
/// # Errors
/// A token that the tokenizer cannot write.
pub fn exact_match_while(
    model: &Decoder,
    tokenizer: &Tokenizer,
    questions: &[Question],
    how: &Generation,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<ExactMatch>, TokenizerError> {
    // Prompts of like length share a batch, so that little is padding.
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by_key(|&index| questions[index].prompt.len());
    let mut answers = vec![None; questions.len()];
    for chunk in order.chunks(ROWS) {
        let prompts: Vec<&[u32]> =
            chunk.iter().map(|&index| questions[index].prompt.as_slice()).collect();
        let given = model.generate(&prompts, how, |_| go_on());
        if !go_on() {
            return Ok(None);
        }
        for (&index, given) in chunk.iter().zip(given) {
            answers[index] = Some(answer(&questions[index], given, tokenizer)?);
        }
    }
    Ok(Some(ExactMatch { answers: answers.into_iter().flatten().collect() }))
}

fn answer(
    question: &Question,
    Generated { mut tokens, finish, .. }: Generated,
    tokenizer: &Tokenizer,
) -> Result<Answer, TokenizerError> {
    let ended = finish == Finish::Eos;
    if ended {
        tokens.pop();
    }
    Ok(Answer {
        question: question.text.clone(),
        wanted: question.answer.clone(),
        given: tokenizer.decode(&tokens, true)?,
        ended,
    })
}
