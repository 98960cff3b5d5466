//! `tidegate vault`: keeps the values that tokens stand for. A second one stands by on the same store.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_bus::Role;
use tidegate_vault::VaultConfig;

use super::{serve, shown};
use crate::cell::Cell;
use crate::cli::{Global, RoleArgs};

pub(in crate::command) async fn run(global: &Global, args: &RoleArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let config = VaultConfig {
        directory: cell.vault(),
        master_key_file: cell.vault_key(),
        ttl_ms: VaultConfig::TTL_MS,
    };
    if args.check_config {
        let of_cell = config.master_key_file.starts_with(&cell.dir);
        let from = if of_cell { "the cell's directory" } else { "the credentials directory" };
        return shown(
            global,
            &[
                ("cell", json!(cell.config.name), "cell.toml"),
                ("url", json!(cell.config.url), "cell.toml"),
                ("directory", json!(config.directory), "the cell's directory"),
                ("master_key_file", json!(config.master_key_file), from),
                ("ttl_ms", json!(config.ttl_ms), "default"),
            ],
        );
    }
    serve(&cell, Role::Vault, args, async |bus, discovery, shutdown, health| {
        tidegate_vault::run(bus, discovery, config, shutdown, health).await.context("running the vault")
    })
    .await
}
