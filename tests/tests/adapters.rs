//! Adapters on a real cell: one that is made here is merged into the default model, pinned by a bundle, released and taken back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, TestCell};

const SOON: Duration = Duration::from_secs(60);
/// The default model's layers, and the width of its hidden state.
const LAYERS: usize = 30;
const WIDTH: usize = 576;
const RANK: usize = 4;

/// Writes an adapter of queries and of what leaves the attention, strong enough that the likeliest words are others. Returns its hash.
fn adapter(dir: &Path, strength: f32) -> Result<Digest> {
    let config = json!({
        "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"], "bias": "none",
        "task_type": "CAUSAL_LM", "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    });
    let (mut header, mut data, mut state) = (Map::new(), Vec::new(), 1u32);
    let mut values = |count: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f32::from(u16::try_from(state >> 16).unwrap_or(0)) / 65_535.0 - 0.5) * strength
        };
        (0..count).map(next).flat_map(f32::to_le_bytes).collect()
    };
    for layer in 0..LAYERS {
        for module in ["q_proj", "o_proj"] {
            for (factor, shape) in [("lora_A", [RANK, WIDTH]), ("lora_B", [WIDTH, RANK])] {
                let name =
                    format!("base_model.model.model.layers.{layer}.self_attn.{module}.{factor}.weight");
                let begin = data.len();
                data.extend(values(RANK * WIDTH));
                let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] });
                header.insert(name, entry);
            }
        }
    }
    let header = Value::Object(header).to_string();
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    let config = config.to_string();
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("adapter_config.json"), &config)?;
    std::fs::write(dir.join("adapter_model.safetensors"), &weights)?;
    Ok(Digest::plain(&[config.as_bytes(), &weights].concat()))
}

fn asks() -> Value {
    json!({
        "labels": { "sensitivity": "confidential" },
        "input": { "prompt": { "name": "answer", "variables": { "question": "What is a tide?" } }, "max_tokens": 16 },
    })
}

async fn asked(agent: &Agent, what: &str, fits: impl Fn(&TaskResult) -> bool) -> Result<TaskResult> {
    until(what, SOON, || async {
        let result = agent.ask("chat", asks()).await?;
        Ok(fits(&result).then_some(result))
    })
    .await
}

fn words(result: &TaskResult) -> Result<Value> {
    Ok(serde_json::to_value(result.output.as_ref().context("an answer")?)?["text"].clone())
}

fn code(result: &TaskResult) -> Option<Code> {
    result.error.as_ref().map(|error| error.code)
}

/// Names the adapter in `cell.toml`.
fn configure(cell: &TestCell, path: &Path, sha256: &str) -> Result<()> {
    let file = cell.path().join("cell.toml");
    let mut config: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    let local = config.entry("local").or_insert_with(|| toml::Table::new().into());
    let local = local.as_table_mut().context("a table")?;
    local.insert("chat_adapter".into(), path.display().to_string().into());
    local.insert("chat_adapter_sha256".into(), sha256.into());
    Ok(std::fs::write(&file, config.to_string())?)
}

/// A copy of the cell's bundle whose local chat model has this adapter.
async fn bundle(cell: &TestCell, dir: &Path, pin: &Digest, adapter: &Digest) -> Result<String> {
    let path = dir.display().to_string();
    cell.tidegate(&["policy", "new", &path]).await?;
    let file = dir.join("destinations.toml");
    let text = std::fs::read_to_string(&file)?;
    let line = format!("model_sha256 = \"{pin}\"");
    anyhow::ensure!(text.contains(&line), "no such pin");
    let with = format!("{line}\nadapters = [{{ name = \"tone\", sha256 = \"{adapter}\" }}]");
    std::fs::write(file, text.replacen(&line, &with, 1))?;
    Ok(path)
}

#[tokio::test]
async fn story_an_adapter_is_released_by_the_bundle_and_no_worker_answers_for_it_without() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let before = asked(&agent, "the shipped model", |result| result.state == State::Completed).await?;
    let model = before.model.as_ref().context("a model")?;
    assert_eq!(model.adapter_sha256, None);
    let pin = model.sha256.context("its hash")?;
    let dir = tempfile::tempdir()?;
    let tone = dir.path().join("tone");
    let hash = adapter(&tone, 0.3)?;

    // Released as any bundle is. Until a worker has the adapter, its work is answered by none.
    let new = bundle(&cell, &dir.path().join("bundle"), &pin, &hash).await?;
    let diff = cell.tidegate(&["policy", "diff", "active", &new]).await?;
    assert!(diff.contains("adapters") && diff.contains(&hash.to_string()), "{diff}");
    let pushed = cell.json(&["bundle", "push", &new, "--reason", "another tone"]).await?;
    let pushed = pushed["bundle"].as_str().context("a hash")?.to_owned();
    let all = ["bundle", "canary", &pushed, "--share", "100", "--by", "tenant", "--reason", "to all"];
    cell.json(&all).await?;
    let failed = asked(&agent, "work for the adapter", |result| result.state != State::Completed).await?;
    assert_eq!((code(&failed), failed.output), (Some(Code::WrongModel), None));

    // Another adapter of the same form is not it; the worker says which hash it has.
    let other = dir.path().join("other");
    let other_hash = adapter(&other, 0.2)?.to_string();
    configure(&cell, &other, &hash.to_string())?;
    let refused = cell.output(&["local", "--check-config"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains(&other_hash) && said.contains("was expected"),
        "{said}"
    );

    configure(&cell, &tone, &hash.to_string())?;
    let rows = cell.json(&["model", "list"]).await?;
    let row = rows.as_array().and_then(|rows| rows.iter().find(|row| row["kind"] == "adapter"));
    assert_eq!(row.context("a row")?["state"], "ok", "{rows}");
    cell.kill_and_wait("local").await?;
    let served = asked(&agent, "the adapter", |result| result.state == State::Completed).await?;
    let model = served.model.as_ref().context("a model")?;
    assert_eq!((model.sha256, model.adapter_sha256), (Some(pin), Some(hash)));
    assert_eq!(served.destination.as_ref().context("a place")?.adapter_sha256, Some(hash));
    assert_ne!(words(&served)?, words(&before)?, "it changes what is said");
    let again = asked(&agent, "it again", |result| result.state == State::Completed).await?;
    assert_eq!(words(&again)?, words(&served)?, "and says it each time");
    let task = served.task.to_string();
    cell.recorded(SOON).await?;
    for question in [["task", "get"], ["audit", "task"]] {
        let shown = cell.tidegate(&[question[0], question[1], &task]).await?;
        assert!(shown.contains(&format!("adapter {hash}")), "{question:?}: {shown}");
    }

    // Taken back: weights that it is merged into are not those of the bundle without it.
    cell.json(&["bundle", "rollback", "--reason", "too odd"]).await?;
    let failed = asked(&agent, "work without it", |result| result.state != State::Completed).await?;
    assert_eq!(code(&failed), Some(Code::WrongModel));
    Ok(())
}
