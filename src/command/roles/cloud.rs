//! `tidegate cloud`: a cloud worker. It calls what its own allow-list in `cell.toml` names, with what a ticket permits.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_bus::Role;
use tidegate_cloud::{CloudConfig, Endpoint, KeySource, ProviderConfig, Reach};
use tidegate_schemas::ids::Name;
use tidegate_schemas::ticket::{TrustedKey, Verifier};

use super::{serve, shown};
use crate::cell::{Cell, ProviderSection, TICKET_PUBLIC};
use crate::cli::{Global, RoleArgs};

pub(in crate::command) async fn run(global: &Global, args: &RoleArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let providers: Result<Vec<_>> =
        cell.config.cloud.providers.iter().map(|(name, s)| provider(name, s)).collect();
    let verifier = Verifier::trusting(cell.config.name.as_str(), ticket_keys(&cell)?);
    let config = CloudConfig {
        ticket_keys_file: Some(cell.key(TICKET_PUBLIC)),
        ..CloudConfig::new(verifier, providers?)
    };
    if args.check_config {
        return shown(
            global,
            &[
                ("cell", json!(cell.config.name), "cell.toml"),
                ("url", json!(cell.config.url), "cell.toml"),
                ("ticket_keys_file", json!(config.ticket_keys_file), "the cell's directory"),
                ("providers", json!(cell.config.cloud.providers), "cell.toml"),
                ("in_flight", json!(config.in_flight), "default"),
                ("ahead", json!(config.ahead), "default"),
                ("drain_ms", json!(config.drain_ms), "default"),
            ],
        );
    }
    serve(&cell, Role::Cloud, args, async |bus, _, shutdown, health| {
        tidegate_cloud::run(bus, config, shutdown, health).await.context("running the cloud worker")
    })
    .await
}

fn provider(name: &Name, section: &ProviderSection) -> Result<ProviderConfig> {
    let endpoints = section.endpoints.iter().map(|(id, place)| {
        let endpoint =
            Endpoint { url: place.url.clone(), region: place.region.clone(), models: place.models.clone() };
        (id.clone(), endpoint)
    });
    let mut config = ProviderConfig::new(name.clone(), section.protocol, endpoints.collect());
    config.api_key = section.api_key_file.clone().map(KeySource::File);
    let usual = if section.allow_loopback { Reach::Loopback } else { Reach::Public };
    config.reach = section.reach.unwrap_or(usual);
    config.other_ports.clone_from(&section.other_ports);
    Ok(config)
}

/// The public keys of tickets.
fn ticket_keys(cell: &Cell) -> Result<Vec<TrustedKey>> {
    let file = cell.key(TICKET_PUBLIC);
    let text =
        fs::read_to_string(&file).with_context(|| format!("reading the ticket keys `{}`", file.display()))?;
    TrustedKey::read_all(&text).with_context(|| format!("reading the ticket keys `{}`", file.display()))
}
