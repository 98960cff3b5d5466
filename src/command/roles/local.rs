//! `tidegate local`: a local worker. The models load while its doors already answer.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_bus::Role;
use tidegate_engine::Engine;
use tidegate_local::LocalConfig;

use super::{serve, shown};
use crate::cell::{Cell, LocalSection};
use crate::cli::{Global, RoleArgs};
use crate::{launch, models};

pub(in crate::command) async fn run(global: &Global, args: &RoleArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let section = cell.config.local.clone();
    let config = LocalConfig::default();
    if !args.check_config {
        launch::with_threads(models::threads(&section));
    }
    let engine = models::engine(&section)?;
    if args.check_config {
        let of = |named: bool| if named { "cell.toml" } else { "default" };
        let pools: Vec<_> = config
            .pools
            .iter()
            .map(|pool| json!({ "name": pool.name, "in_flight": pool.in_flight, "ahead": pool.ahead }))
            .collect();
        return shown(
            global,
            &[
                ("cell", json!(cell.config.name), "cell.toml"),
                ("url", json!(cell.config.url), "cell.toml"),
                ("chat_model", json!(engine.chat), of(section.chat_model.is_some())),
                (
                    "chat_sha256",
                    json!(engine.chat_sha256),
                    if section.chat_model.is_some() { "cell.toml" } else { "the manifest" },
                ),
                ("chat_adapter", json!(engine.chat_adapter), of(section.chat_adapter.is_some())),
                (
                    "chat_adapter_sha256",
                    json!(engine.chat_adapter_sha256),
                    match (&section.chat_adapter, &section.chat_adapter_sha256) {
                        (Some(_), None) => "the adapter",
                        (adapter, _) => of(adapter.is_some()),
                    },
                ),
                ("embed_model", json!(engine.embed), of(section.embed_model.is_some())),
                ("scan_model", json!(engine.scan), of(section.scan_model.is_some())),
                ("threads", json!(engine.threads), of(section.threads > 0)),
                (
                    "in_flight_max",
                    json!(engine.queue),
                    of(section.in_flight_max != LocalSection::default().in_flight_max),
                ),
                ("pools", json!(pools), "default"),
                ("drain_ms", json!(config.drain_ms), "default"),
            ],
        );
    }
    serve(&cell, Role::Local, args, async |bus, _, shutdown, health| {
        health.not_ready("engine", "the models are loading");
        let (engine, thread) = tokio::task::spawn_blocking(move || Engine::start(engine))
            .await
            .context("loading the models")?
            .context("loading the models")?;
        let ended = tidegate_local::run(bus, config, engine.clone(), shutdown, health).await;
        engine.shutdown();
        // It ends what it is at; blocking threads are where waiting belongs.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        ended.context("running the local worker")
    })
    .await
}
