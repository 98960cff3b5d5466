//! `tidegate recorder`: the one writer of the record.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_bus::Role;
use tidegate_recorder::RecorderConfig;

use super::{serve, shown};
use crate::cell::{CHECKPOINT_KEY, Cell};
use crate::cli::{Global, RoleArgs};

/// An hour.
const HOUR_MS: u64 = 3_600_000;

pub(in crate::command) async fn run(global: &Global, args: &RoleArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let kept = &cell.config.record;
    let config = RecorderConfig {
        directory: cell.record(),
        master_key_file: cell.master_key(),
        checkpoint_key_file: cell.key(CHECKPOINT_KEY),
        checkpoint_file: Some(cell.checkpoints()),
        origin: cell.origin(),
        segment_bytes: kept.segment_bytes,
        segment_age_ms: u64::from(kept.segment_age_hours) * HOUR_MS,
        body_retention_ms: u64::from(kept.body_retention_days) * 24 * HOUR_MS,
        record_retention_ms: u64::from(kept.record_retention_days) * 24 * HOUR_MS,
        ..RecorderConfig::default()
    };
    let outside = if kept.checkpoint_file.is_some() { "cell.toml" } else { "the cell's directory" };
    if args.check_config {
        return shown(
            global,
            &[
                ("cell", json!(cell.config.name), "cell.toml"),
                ("url", json!(cell.config.url), "cell.toml"),
                ("directory", json!(config.directory), "the cell's directory"),
                ("master_key_file", json!(config.master_key_file), "the cell's directory"),
                ("checkpoint_key_file", json!(config.checkpoint_key_file), "the cell's directory"),
                ("checkpoint_file", json!(config.checkpoint_file), outside),
                ("origin", json!(config.origin), "cell.toml"),
                ("checkpoint_ms", json!(config.checkpoint_ms), "default"),
                ("checkpoint_idle_ms", json!(config.checkpoint_idle_ms), "default"),
                ("checkpoint_records", json!(config.checkpoint_records), "default"),
                ("cache_bytes", json!(config.cache_bytes), "default"),
                ("cause_wait_ms", json!(config.cause_wait_ms), "default"),
                ("discovery_ms", json!(config.discovery_ms), "default"),
                ("deadline_ms", json!(config.deadline_ms), "default"),
                ("deadline_grace_ms", json!(config.deadline_grace_ms), "default"),
                ("trim_ms", json!(config.trim_ms), "default"),
                ("stream_window_ms", json!(config.stream_window_ms), "default"),
                ("result_window_ms", json!(config.result_window_ms), "default"),
                ("segment_bytes", json!(config.segment_bytes), "cell.toml"),
                ("segment_age_ms", json!(config.segment_age_ms), "cell.toml"),
                ("segment_look_ms", json!(config.segment_look_ms), "default"),
                ("prune_ms", json!(config.prune_ms), "default"),
                ("body_retention_ms", json!(config.body_retention_ms), "cell.toml"),
                ("record_retention_ms", json!(config.record_retention_ms), "cell.toml"),
                ("reopen_ms", json!(config.reopen_ms), "default"),
            ],
        );
    }
    serve(&cell, Role::Recorder, args, async |bus, discovery, shutdown, health| {
        tidegate_recorder::run(bus, discovery, config, shutdown, health).await.context("running the recorder")
    })
    .await
}
