//! Text to tokens and back, for tokenizers that come inside a GGUF file.
//!
//! The file names how text is split before merging (`tokenizer.ggml.pre`); this module holds the table of the ones it
//! reproduces; that of the default model is held to llama.cpp's ids by a golden file. Any other is refused by name unless
//! the model's `tokenizer.json` lies beside the file.
//!
//! Control tokens (`<|im_start|>`, …) are made only from the template's own text: [`Tokenizer::shield`] marks their
//! look-alikes in what a producer wrote, and [`Tokenizer::encode_prompt`] reads those as plain characters.

mod bytes;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{SplitDelimiterBehavior, Tokenizer as Inner};

use crate::error::RefusedModel;
use crate::gguf::{GgufError, Header};

/// Put after the first character of a control token's look-alike: a noncharacter that no text should hold. It never
/// reaches the model.
const SHIELD: char = '\u{FDD0}';

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Control tokens that end a turn, besides those the file names.
const TURN_ENDS: &[&str] =
    &["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>", "<|end|>"];

/// Splitting of Llama 3: contractions, words with one leading mark, digits by three, marks, blanks.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Splitting of Qwen 2 and 3: as Llama 3, digits one by one.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is split before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    /// GPT-2's own pattern.
    Gpt2,
    /// Each digit alone, then GPT-2's pattern.
    DigitsThenGpt2,
    /// One pattern; whole words that are tokens are taken without merging where the flag is set.
    Pattern { regex: &'static str, whole_words: bool },
}

/// The table of `tokenizer.ggml.pre`.
const KNOWN: &[(&str, Splitting)] = &[
    ("gpt-2", Splitting::Gpt2),
    ("smollm", Splitting::DigitsThenGpt2),
    ("qwen2", Splitting::Pattern { regex: QWEN_2, whole_words: false }),
    ("llama-bpe", Splitting::Pattern { regex: LLAMA_3, whole_words: true }),
    ("llama3", Splitting::Pattern { regex: LLAMA_3, whole_words: true }),
];

/// A loaded tokenizer.
pub(crate) struct Tokenizer {
    inner: Inner,
    /// Control tokens, as written.
    controls: Vec<(String, u32)>,
    /// The bytes each token stands for; empty for control tokens.
    bytes: Vec<Vec<u8>>,
    ends: Vec<u32>,
    begin: Option<u32>,
    add_begin: bool,
    names: (String, String),
}

/// `type/pre` of the file's tokenizer.
pub(crate) fn describe(header: &Header) -> String {
    let part = |key| header.text(key).unwrap_or("none");
    format!("{}/{}", part("tokenizer.ggml.model"), part("tokenizer.ggml.pre"))
}

fn splitting(header: &Header) -> Option<Splitting> {
    if header.text("tokenizer.ggml.model") != Some("gpt2") {
        return None;
    }
    let pre = header.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    KNOWN.iter().find(|(known, _)| *known == pre).map(|(_, splitting)| *splitting)
}

/// Whether [`Tokenizer::load`] would know what to do with the file at `path`.
pub(crate) fn check_supported(header: &Header, path: &Path) -> Result<(), RefusedModel> {
    if splitting(header).is_some() || path.with_file_name("tokenizer.json").is_file() {
        return Ok(());
    }
    Err(RefusedModel::Tokenizer { pre: describe(header) })
}

// === impl Tokenizer ===

impl Tokenizer {
    /// From the GGUF header, or from `tokenizer.json` beside the file where there is one.
    pub(crate) fn load(header: &Header, path: &Path) -> Result<Self, RefusedModel> {
        check_supported(header, path)?;
        let damaged = |reason: String| RefusedModel::Damaged { path: path.to_owned(), reason };
        let tokens = header.texts("tokenizer.ggml.tokens").map_err(|error| error.at(path))?;
        let types = match header.integers("tokenizer.ggml.token_type") {
            Ok(types) if types.len() == tokens.len() => types,
            _ => return Err(GgufError::Missing("tokenizer.ggml.token_type".to_owned()).at(path)),
        };
        let beside = path.with_file_name("tokenizer.json");
        let inner = match (beside.is_file(), splitting(header)) {
            (true, _) => {
                let inner = Inner::from_file(&beside).map_err(|error| damaged(error.to_string()))?;
                check_same_ids(&inner, tokens).map_err(damaged)?;
                inner
            }
            (false, Some(splitting)) => {
                build(header, tokens, types, splitting).map_err(|error| damaged(error.to_string()))?
            }
            (false, None) => return Err(RefusedModel::Tokenizer { pre: describe(header) }),
        };
        Ok(Self::new(inner, header, tokens, types))
    }

    fn new(mut inner: Inner, header: &Header, tokens: &[String], types: &[i64]) -> Self {
        // Control tokens are found by `encode_prompt` alone.
        inner.set_encode_special_tokens(true);
        let controls: Vec<(String, u32)> = (0u32..)
            .zip(tokens.iter().zip(types))
            .filter(|(_, (token, kind))| **kind == CONTROL && !token.is_empty())
            .map(|(id, (token, _))| (token.clone(), id))
            .collect();
        let sentence_piece = header.text("tokenizer.ggml.model") == Some("llama");
        let bytes = tokens
            .iter()
            .zip(types)
            .map(|(token, kind)| match *kind {
                CONTROL => Vec::new(),
                USER_DEFINED => token.clone().into_bytes(),
                _ if sentence_piece => bytes::of_sentence_piece(token),
                _ => bytes::of_byte_level(token),
            })
            .collect();
        let id = |key: &str| {
            header
                .count_opt(&format!("tokenizer.ggml.{key}"))
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| (*id as usize) < tokens.len())
        };
        let begin = id("bos_token_id");
        let end = id("eos_token_id");
        let name = |id: Option<u32>| id.map_or_else(String::new, |id| tokens[id as usize].clone());
        let mut ends: Vec<u32> =
            [end, id("eot_token_id"), id("eom_token_id")].into_iter().flatten().collect();
        ends.extend(
            controls.iter().filter(|(token, _)| TURN_ENDS.contains(&token.as_str())).map(|(_, id)| *id),
        );
        let add_begin = header.flag("tokenizer.ggml.add_bos_token").unwrap_or(false);
        Self { inner, controls, bytes, ends, begin, add_begin, names: (name(begin), name(end)) }
    }

    /// Text as plain characters: no control token comes out.
    pub(crate) fn encode_plain(&self, text: &str) -> Vec<u32> {
        // Encoding plain text with a byte-level model cannot fail; an empty answer would only shorten a prompt.
        self.inner.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    /// A rendered prompt: control tokens where the template wrote them, plain characters elsewhere.
    pub(crate) fn encode_prompt(&self, prompt: &str) -> Vec<u32> {
        let mut found: Vec<(usize, usize, u32)> = self
            .controls
            .iter()
            .flat_map(|(token, id)| prompt.match_indices(token).map(|(at, _)| (at, token.len(), *id)))
            .collect();
        found.sort_by_key(|(at, len, _)| (*at, std::cmp::Reverse(*len)));
        let mut ids = Vec::new();
        let mut done = 0;
        for (at, len, id) in found {
            if at < done {
                continue;
            }
            self.encode_between(&prompt[done..at], &mut ids);
            ids.push(id);
            done = at + len;
        }
        self.encode_between(&prompt[done..], &mut ids);
        match self.begin {
            Some(begin) if self.add_begin && ids.first() != Some(&begin) => ids.insert(0, begin),
            _ => {}
        }
        ids
    }

    fn encode_between(&self, text: &str, ids: &mut Vec<u32>) {
        if text.contains(SHIELD) {
            ids.extend(self.encode_plain(&text.replace(SHIELD, "")));
        } else if !text.is_empty() {
            ids.extend(self.encode_plain(text));
        }
    }

    /// Marks look-alikes of control tokens in text that a producer wrote.
    pub(crate) fn shield<'a>(&self, content: &'a str) -> Cow<'a, str> {
        let mut content = match content.contains(SHIELD) {
            true => Cow::Owned(content.replace(SHIELD, "")),
            false => Cow::Borrowed(content),
        };
        for (token, _) in &self.controls {
            if content.contains(token.as_str()) {
                let mut chars = token.chars();
                let first = chars.next().map(String::from).unwrap_or_default();
                content = Cow::Owned(content.replace(token, &format!("{first}{SHIELD}{}", chars.as_str())));
            }
        }
        content
    }

    /// The bytes `token` stands for; none for control tokens and unknown ids.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether `token` ends a turn.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The token that ends a turn, where the file names one.
    pub(crate) fn end(&self) -> Option<u32> {
        self.ends.first().copied()
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Control tokens, as written.
    pub(crate) fn controls(&self) -> &[(String, u32)] {
        &self.controls
    }

    /// Begin and end token as written, for the template.
    pub(crate) fn names(&self) -> (&str, &str) {
        (&self.names.0, &self.names.1)
    }
}

fn build(
    header: &Header,
    tokens: &[String],
    types: &[i64],
    splitting: Splitting,
) -> Result<Inner, tokenizers::Error> {
    let vocabulary: Vocab = tokens.iter().cloned().zip(0u32..).collect();
    let merges = header
        .texts("tokenizer.ggml.merges")?
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or(GgufError::Missing("tokenizer.ggml.merges".to_owned()))?;
    let whole_words = matches!(splitting, Splitting::Pattern { whole_words: true, .. });
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(whole_words).build()?;
    let byte_level = |regex| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, regex));
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(match splitting {
        Splitting::Gpt2 => byte_level(true),
        Splitting::DigitsThenGpt2 => PreTokenizerWrapper::Sequence(Sequence::new(vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            byte_level(true),
        ])),
        Splitting::Pattern { regex, .. } => {
            let pattern = SplitPattern::Regex(regex.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            PreTokenizerWrapper::Sequence(Sequence::new(vec![
                PreTokenizerWrapper::Split(split),
                byte_level(false),
            ]))
        }
    }));
    let plain_words = tokens.iter().zip(types).filter(|(_, kind)| **kind == USER_DEFINED);
    let added: Vec<_> =
        plain_words.map(|(token, _)| tokenizers::AddedToken::from(token.clone(), false)).collect();
    inner.add_tokens(added)?;
    Ok(inner)
}

/// The ids of a `tokenizer.json` must be those of the weights beside it.
fn check_same_ids(inner: &Inner, tokens: &[String]) -> Result<(), String> {
    let differs =
        (0u32..).zip(tokens).find(|(id, token)| inner.id_to_token(*id).is_some_and(|known| known != **token));
    match differs {
        Some((id, _)) => Err(format!("tokenizer.json beside it names token {id} differently")),
        None => Ok(()),
    }
}
