//! `tidegate cloud`: a cloud worker. It calls what its own allow-list in `cell.toml` names, with what a ticket permits.

use std::fs;
#[cfg(test)]
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
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
    config.api_key = match (&section.api_key_file, &section.api_key_credential) {
        (Some(_), Some(_)) => bail!(
            "`[cloud.providers.{name}]` names two keys: leave `api_key_file` or `api_key_credential` out"
        ),
        (Some(file), None) => Some(KeySource::File(file.clone())),
        (None, Some(credential)) => Some(KeySource::Credential(credential.clone())),
        (None, None) => None,
    };
    let usual = if section.allow_loopback { Reach::Loopback } else { Reach::Public };
    config.reach = section.reach.unwrap_or(usual);
    config.other_ports.clone_from(&section.other_ports);
    config.ca_file.clone_from(&section.ca_file);
    config.price_as.clone_from(&section.price_as);
    config.connect_ms = section.connect_ms.unwrap_or(config.connect_ms);
    config.header_ms = section.header_ms.unwrap_or(config.header_ms);
    config.idle_ms = section.idle_ms.unwrap_or(config.idle_ms);
    config.total_ms = section.total_ms.unwrap_or(config.total_ms);
    // A larger answer would fit no message.
    let most = config.answer_bytes_max;
    config.answer_bytes_max = section.answer_bytes_max.map_or(most, |asked| asked.min(most));
    Ok(config)
}

/// The public keys of tickets.
fn ticket_keys(cell: &Cell) -> Result<Vec<TrustedKey>> {
    let file = cell.key(TICKET_PUBLIC);
    let text =
        fs::read_to_string(&file).with_context(|| format!("reading the ticket keys `{}`", file.display()))?;
    TrustedKey::read_all(&text).with_context(|| format!("reading the ticket keys `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(more: &str) -> Result<ProviderConfig> {
        let text = format!(
            "protocol = \"openai_chat\"\n{more}\n[endpoints.main]\nurl = \"https://x.example/v1\"\nregion = \"eu\"\nmodels = [\"m\"]"
        );
        provider(&Name::new("x").unwrap(), &toml::from_str(&text)?)
    }

    #[test]
    fn everything_that_a_provider_can_be_told_is_a_key_of_its_section() {
        let usual = read("").unwrap();
        assert_eq!((usual.header_ms, usual.total_ms, usual.api_key.is_none()), (60_000, 300_000, true));
        let told = "ca_file = \"/ca.pem\"\nprice_as = \"openai\"\nconnect_ms = 1\nheader_ms = 2\nidle_ms = 3\ntotal_ms = 4\n\
                    answer_bytes_max = 5\napi_key_credential = \"openai.key\"";
        let config = read(told).unwrap();
        assert_eq!((config.connect_ms, config.header_ms, config.idle_ms, config.total_ms), (1, 2, 3, 4));
        assert_eq!((config.answer_bytes_max, config.price_as.as_deref()), (5, Some("openai")));
        assert_eq!(config.ca_file.unwrap(), Path::new("/ca.pem"));
        assert!(matches!(config.api_key, Some(KeySource::Credential(name)) if name == "openai.key"));
        let much = read("answer_bytes_max = 99_000_000").unwrap();
        assert_eq!(much.answer_bytes_max, usual.answer_bytes_max, "a larger answer fits no message");
        assert!(read("api_key_file = \"/a\"\napi_key_credential = \"b\"").is_err(), "two keys");
        assert!(read("api_key = \"sk-1\"").is_err(), "negative control: a key itself is none");
    }
}
