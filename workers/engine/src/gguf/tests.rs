#![expect(clippy::unwrap_used, reason = "tests")]

use super::Header;
use crate::error::RefusedModel;
use crate::testing::{GgufFile, on_disk};
use crate::verify::{inspect_gguf, verify_file};

fn supported() -> GgufFile {
    let mut file = GgufFile::default();
    file.data = vec![0; 256];
    file.text("general.architecture", "llama")
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .number("llama.context_length", 128)
        .tensor("a", &[32, 2], 0, 0)
}

#[test]
fn a_header_is_read() {
    let file = on_disk(&supported().bytes());
    let info = inspect_gguf(file.path(), u64::MAX).unwrap();
    assert_eq!((info.architecture.as_str(), info.context_tokens, info.parameters), ("llama", 128, 64));
    assert_eq!(info.quantisation, "F32");
}

#[test]
fn damage_is_refused_wherever_it_lies() {
    let whole = supported().bytes();
    let number = |value: u64| value.to_le_bytes().to_vec();
    let long_text = [number(1 << 40), vec![b'x'; 8]].concat();
    let long_array = [4u32.to_le_bytes().to_vec(), number(u64::MAX)].concat();
    let nested_array = [9u32.to_le_bytes().to_vec(), number(1), 4u32.to_le_bytes().to_vec()].concat();
    let with = |from: &[u8], at: usize, new: &[u8]| {
        let mut bytes = from.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "ends early"),
        ("another format", b"PK\x03\x04 and so on".to_vec(), "magic"),
        ("version 1", with(&whole, 4, &1u32.to_le_bytes()), "version 1"),
        ("too many tensors", with(&whole, 8, &number(1 << 60)), "number of tensors"),
        ("too many entries", with(&whole, 16, &number(1 << 60)), "number of metadata entries"),
        ("an endless text", supported().entry("k", 8, &long_text).bytes(), "length of a text"),
        ("an endless array", supported().entry("k", 9, &long_array).bytes(), "length of an array"),
        ("an array of arrays", supported().entry("k", 9, &nested_array).bytes(), "value type 9"),
        ("an unknown type", supported().entry("k", 99, &[]).bytes(), "value type 99"),
        ("a key twice", supported().number("llama.context_length", 1).bytes(), "twice"),
        ("a tensor twice", supported().tensor("a", &[32], 0, 0).bytes(), "twice"),
        (
            "a text that is no text",
            supported().entry("k", 8, &[number(1), vec![0xFF]].concat()).bytes(),
            "UTF-8",
        ),
        ("a tensor of no size", supported().tensor("b", &[0], 0, 0).bytes(), "shape"),
        ("a tensor of five dimensions", supported().tensor("b", &[1; 5], 0, 0).bytes(), "shape"),
        ("a tensor beyond counting", supported().tensor("b", &[1 << 40, 1 << 40], 0, 0).bytes(), "shape"),
        ("half a block", supported().tensor("b", &[33], 8, 0).bytes(), "shape"),
        ("a tensor beyond the file", supported().tensor("b", &[32], 0, 1 << 30).bytes(), "beyond the end"),
        ("an offset beyond counting", supported().tensor("b", &[32], 0, u64::MAX).bytes(), "beyond the end"),
        ("cut in the weights", whole[..whole.len() - 1].to_vec(), "beyond the end"),
    ];
    for (name, bytes, expected) in cases {
        let file = on_disk(&bytes);
        let error = inspect_gguf(file.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, RefusedModel::Damaged { .. }), "{name}: {error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    // Every place to cut the file short is noticed; the whole file is the negative control.
    for len in 0..whole.len() {
        assert!(inspect_gguf(on_disk(&whole[..len]).path(), u64::MAX).is_err(), "cut at {len}");
    }
    assert!(inspect_gguf(on_disk(&whole).path(), u64::MAX).is_ok());
}

#[test]
fn other_architectures_are_refused_by_name() {
    let base = |name: &str| GgufFile::default().text("general.architecture", name);
    let cases = [
        (base("gemma3"), "gemma3", "sliding-window"),
        (base("qwen2"), "qwen2", "biases"),
        (base("qwen3moe"), "qwen3moe", "experts"),
        (base("mamba"), "mamba", "no forward pass"),
        (base("llama").number("llama.expert_count", 8), "llama", "experts"),
        (base("llama").text("llama.rope.scaling.type", "yarn"), "llama", "rotary"),
        (GgufFile::default(), "unnamed", "no forward pass"),
    ];
    for (file, name, reason) in cases {
        let error = inspect_gguf(on_disk(&file.bytes()).path(), u64::MAX).unwrap_err();
        assert!(matches!(error, RefusedModel::Architecture { .. }), "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains(name) && sentence.contains(reason), "{sentence}");
    }
}

#[test]
fn size_and_hash_are_checked() {
    let file = on_disk(b"abc");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(verify_file(file.path(), None, 3).unwrap(), hash);
    assert_eq!(verify_file(file.path(), Some(&hash.to_uppercase()), 3).unwrap(), hash);
    let cases = [
        (verify_file(file.path(), Some(hash), 2), "2 are allowed"),
        (verify_file(file.path(), Some(&hash.replace('b', "c")), 3), "was expected"),
        (verify_file(&file.path().join("none"), None, 3), "deploy/fetch models"),
    ];
    for (result, expected) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn tensors_are_read_from_their_place() {
    let mut small = supported();
    small.data = (0..64u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let file = on_disk(&small.bytes());
    let mut handle = std::fs::File::open(file.path()).unwrap();
    let header = Header::read(&mut handle).unwrap();
    let tensor = &header.tensors["a"];
    assert_eq!(tensor.shape, [2, 32]);
    assert_eq!(tensor.data(&mut handle).unwrap(), small.data);
}
