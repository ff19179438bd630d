//! The patterns by which published tokenizers cut text into words.
//!
//! SmolLM, Phi-2 and GPT-2 itself name no pattern: `ByteLevel` has GPT-2's built in. Gemma cuts at
//! a plain space.

/// As Llama 3.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As Qwen 2: Llama 3's, but with digits one by one.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As GPT-2.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// As GPT-4o: Phi-4-mini, Llama 4.
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As Mistral's Tekken.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// As DeepSeek V2 and V3, behind their patterns for digits and for Chinese and Japanese.
const DEEPSEEK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Those that are used without being looked at. Llama 3's is Phi-4's too, and Qwen 2's Qwen 3's.
pub(super) const KNOWN_PATTERNS: [&str; 11] = [
    GPT2,
    LLAMA3,
    QWEN2,
    GPT4O,
    TEKKEN,
    DEEPSEEK,
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
];

/// How the text of a byte-level vocabulary becomes the words that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    /// What GGUF files call it (`tokenizer.ggml.pre`).
    names: &'static [&'static str],
    /// Where text is cut.
    pub(super) cut: Cut,
    /// Whether characters are composed (Unicode's NFC) before.
    pub(super) nfc: bool,
    /// Whether a word that is a token is taken as it stands, without merging up to it: vocabularies
    /// converted from tiktoken have tokens that no merge leads to.
    pub(super) ignore_merges: bool,
}

/// Where text is cut into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// As GPT-2, by the pattern that `ByteLevel` has built in.
    Gpt2,
    /// Around every digit, then as GPT-2.
    Digits,
    /// Around the matches of a pattern.
    Pattern(&'static str),
}

/// Names, patterns and merging are those of llama.cpp's `src/llama-vocab.cpp`. Two things are the
/// published `tokenizer.json` files' instead, whose ids a model learnt from: NFC, which llama.cpp
/// leaves out, and the letter classes of `tekken` and `gpt-4o`, which it only approximates outside
/// ASCII.
const PRE_TOKENIZERS: [PreTokenizer; 7] = [
    // GPT-2, and files that say nothing.
    PreTokenizer {
        names: &["gpt-2", "gpt2", "default", ""],
        cut: Cut::Gpt2,
        nfc: false,
        ignore_merges: false,
    },
    // SmolLM and SmolLM2; under `refact`, Granite and Refact.
    PreTokenizer {
        names: &["smollm", "refact"],
        cut: Cut::Digits,
        nfc: false,
        ignore_merges: false,
    },
    // Llama 3, 3.1, 3.2 and 3.3, and DeepSeek R1 distilled into them.
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        cut: Cut::Pattern(LLAMA3),
        nfc: false,
        ignore_merges: true,
    },
    // `dbrx` is DBRX, Phi-4 and Granite 4. `smaug-bpe` is Smaug and those fine-tuned Llama 3
    // whose tokenizer puts no begin-of-text token; llama.cpp merges all the way there.
    PreTokenizer {
        names: &["dbrx", "smaug-bpe"],
        cut: Cut::Pattern(LLAMA3),
        nfc: false,
        ignore_merges: false,
    },
    // Qwen 1.5, 2, 2.5 and 3, and DeepSeek R1 distilled into them.
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        cut: Cut::Pattern(QWEN2),
        nfc: true,
        ignore_merges: false,
    },
    // Mistral Nemo, Ministral and Mistral Small 3.
    PreTokenizer { names: &["tekken"], cut: Cut::Pattern(TEKKEN), nfc: false, ignore_merges: true },
    // Phi-4-mini and gpt-oss.
    PreTokenizer { names: &["gpt-4o"], cut: Cut::Pattern(GPT4O), nfc: false, ignore_merges: false },
];

/// What GGUF files call by a name.
pub(super) fn of_gguf(name: &str) -> Option<PreTokenizer> {
    PRE_TOKENIZERS.into_iter().find(|known| known.names.contains(&name))
}

/// The names that [`of_gguf`] knows, for messages.
pub(super) fn gguf_names() -> Vec<String> {
    let names = PRE_TOKENIZERS.iter().flat_map(|known| known.names);
    names.filter(|name| !name.is_empty()).map(|&name| name.into()).collect()
}
