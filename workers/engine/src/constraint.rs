//! Answers held to a JSON Schema, token by token.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use toktrie::{InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::EngineError;
use crate::tokenizer::Tokenizer;

/// Compiles schemas for one tokenizer.
pub(crate) struct SchemaCompiler {
    factory: ParserFactory,
}

/// One answer's place in its schema.
pub(crate) struct Constraint {
    matcher: Matcher,
}

/// The tokenizer as the constraint library sees it.
struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl SchemaCompiler {
    /// The error says what failed, for the log of the start.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self, String> {
        let count = u32::try_from(tokenizer.len()).map_err(|error| error.to_string())?;
        let end = tokenizer.end().ok_or("the model file names no end token")?;
        let mut words: Vec<Vec<u8>> = (0..count).map(|token| tokenizer.bytes(token).to_vec()).collect();
        for (name, id) in tokenizer.controls() {
            if let Some(word) = words.get_mut(*id as usize) {
                word.push(TokTrie::SPECIAL_TOKEN_MARKER);
                word.extend_from_slice(name.as_bytes());
            }
        }
        let trie = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let environment: TokEnv = Arc::new(Environment { tokenizer: tokenizer.clone(), trie });
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory =
            ParserFactory::new(&environment, capabilities, &slices).map_err(|error| error.to_string())?;
        // Its messages may quote the schema and the answer.
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self { factory })
    }

    pub(crate) fn compile(&self, schema: &serde_json::Value) -> Result<Constraint, EngineError> {
        let refused = || EngineError::BadSchema {
            reason: "it uses a keyword that can't be enforced, can't be satisfied, or is too large"
                .to_owned(),
        };
        if !schema.is_object() {
            return Err(EngineError::BadSchema { reason: "it is not a JSON object".to_owned() });
        }
        let mut schema = schema.clone();
        // Free blanks let a small model write blanks until its tokens are used up.
        let options = JsonCompileOptions { whitespace_flexible: false, ..JsonCompileOptions::default() };
        options.apply_to(&mut schema);
        let parser =
            self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(|_| refused())?;
        let matcher = Matcher::new(Ok(parser));
        if matcher.is_error() { Err(refused()) } else { Ok(Constraint { matcher }) }
    }
}

impl Constraint {
    /// Tokens that must come next whatever the model says; they are taken as chosen.
    pub(crate) fn take_forced(&mut self) -> Vec<u32> {
        self.matcher.consume_ff_tokens()
    }

    /// The tokens that may come next.
    pub(crate) fn allowed(&mut self) -> Result<SimpleVob, EngineError> {
        self.matcher.compute_mask_or_eos().map_err(|_| unsatisfiable())
    }

    pub(crate) fn take(&mut self, token: u32) -> Result<(), EngineError> {
        self.matcher.consume_token(token).map_err(|_| unsatisfiable())
    }

    /// Whether the answer is complete and nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// The tokens come from the mask, so it is the schema that leads nowhere: it asks for a value that has no end, or for more than
/// the parser's limits.
fn unsatisfiable() -> EngineError {
    EngineError::BadSchema {
        reason: "no answer of a finite length can follow it, or it is too large".to_owned(),
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenizer.encode_plain(text))
    }
}
