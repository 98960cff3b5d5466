//! The head of a model file.

use std::io::{Seek as _, SeekFrom, Write as _};

use tempfile::NamedTempFile;
use tidegate_engine::inspect_gguf;

use super::Target;

/// Largest file that is tried, bytes.
const BYTES_MAX: usize = 64 * 1024;

pub(super) const TARGET: Target = Target {
    name: "gguf",
    run,
    made,
    words: &[
        "GGUF",
        "general.architecture",
        "llama",
        "qwen3",
        "tokenizer.ggml.model",
        "llama.context_length",
        "\u{0}",
        "\u{8}",
        "\u{9}",
    ],
    rounds: 20_000,
};

std::thread_local! {
    static FILE: std::cell::RefCell<NamedTempFile> = std::cell::RefCell::new(NamedTempFile::new().unwrap());
}

fn text(to: &mut Vec<u8>, value: &str) {
    to.extend((value.len() as u64).to_le_bytes());
    to.extend(value.as_bytes());
}

/// A head with texts, a number, a list and one tensor.
fn made() -> Vec<Vec<u8>> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(5_u64.to_le_bytes());
    for (key, value) in [
        ("general.architecture", "llama"),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "smollm"),
    ] {
        text(&mut file, key);
        file.extend(8_u32.to_le_bytes());
        text(&mut file, value);
    }
    text(&mut file, "llama.context_length");
    file.extend(4_u32.to_le_bytes());
    file.extend(128_u32.to_le_bytes());
    text(&mut file, "tokenizer.ggml.tokens");
    file.extend(9_u32.to_le_bytes());
    file.extend(8_u32.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    text(&mut file, "a");
    text(&mut file, "b");
    text(&mut file, "token_embd.weight");
    file.extend(2_u32.to_le_bytes());
    file.extend(32_u64.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.resize(file.len() + 256, 0);
    vec![file]
}

fn run(data: &[u8]) {
    if data.len() > BYTES_MAX {
        return;
    }
    FILE.with_borrow_mut(|file| {
        file.as_file_mut().set_len(0).unwrap();
        file.as_file_mut().seek(SeekFrom::Start(0)).unwrap();
        file.as_file_mut().write_all(data).unwrap();
        if let Ok(info) = inspect_gguf(file.path(), BYTES_MAX as u64) {
            assert!(["llama", "qwen3"].contains(&info.architecture.as_str()), "no architecture of ours");
            assert!(info.name.len() <= data.len(), "more than came");
        }
    });
}
