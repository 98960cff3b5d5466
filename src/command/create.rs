//! A new dev cell: keys, a first directory, and providers for which there are API keys; else a stand-in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tidegate_audit::Signer;
use tidegate_cloud::Reach;
use tidegate_policies::Bundle;
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant, Tool};
use tidegate_schemas::ids::Name;
use tidegate_schemas::render::Protocol;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::ticket::{FIRST_KEY_ID, TrustedKey};

use crate::cell::{
    CHECKPOINT_KEY, CHECKPOINT_PUBLIC, Cell, CellConfig, CloudSection, EndpointSection, LocalSection,
    MASTER_KEY, ProviderSection, RecordSection, StreamsSection, TICKET_KEY, TICKET_PUBLIC, TlsSection,
    VAULT_KEY, replace,
};
use crate::cli::DevArgs;

pub(super) mod place;

/// The cell's copy of the directory, from which accounts are made.
pub(super) const DIRECTORY: &str = "directory.json";
/// Provider name of the stand-in.
const STAND_IN: &str = "standin";

/// Providers that an API key in the environment configures: variable, provider, protocol, base URL.
const PROVIDERS: [(&str, &str, Protocol, &str); 2] = [
    ("OPENAI_API_KEY", "openai", Protocol::OpenaiChat, "https://api.openai.com/v1"),
    ("ANTHROPIC_API_KEY", "anthropic", Protocol::AnthropicMessages, "https://api.anthropic.com/v1"),
];

/// Opens the cell in a directory.
pub(super) fn open(dir: &Path) -> Result<(Cell, Directory)> {
    let cell = Cell::open(dir)?;
    let text = fs::read_to_string(dir.join(DIRECTORY)).context("reading the cell's directory.json")?;
    Ok((cell, serde_json::from_str(&text).context("reading the cell's directory.json")?))
}

/// Makes a cell with one tenant, agent, tool, reviewer and operator.
pub(super) fn cell(dir: &Path, args: &DevArgs) -> Result<(Cell, Directory)> {
    fs::create_dir_all(dir).with_context(|| format!("creating `{}`", dir.display()))?;
    let config = CellConfig {
        name: name("dev")?,
        url: format!("nats://127.0.0.1:{}", args.port.unwrap_or(PORT)),
        demo: args.demo,
        tls: args.tls.as_deref().map(TlsSection::in_directory).transpose()?,
        streams: args
            .stream_bytes_max
            .map_or_else(StreamsSection::default, |bytes_max| StreamsSection { bytes_max }),
        record: RecordSection::default(),
        local: LocalSection::default(),
        cloud: CloudSection::default(),
    };
    let dir = std::path::absolute(dir).with_context(|| format!("finding `{}`", dir.display()))?;
    let cell = Cell { dir, config };
    let tickets = super::ticket::new_signer(FIRST_KEY_ID)?;
    replace(&cell.key(TICKET_KEY), tickets.secret().as_bytes(), 0o600)?;
    replace(&cell.key(TICKET_PUBLIC), TrustedKey::write_all(&[tickets.trusted()]).as_bytes(), 0o644)?;
    let seed: [u8; 32] = rand::random();
    let signer = Signer::from_bytes(&seed, &cell.origin());
    replace(&cell.key(CHECKPOINT_KEY), hex::encode(seed).as_bytes(), 0o600)?;
    replace(&cell.key(CHECKPOINT_PUBLIC), format!("{}\n", signer.public()).as_bytes(), 0o644)?;
    replace(&cell.key(MASTER_KEY), hex::encode(rand::random::<[u8; 32]>()).as_bytes(), 0o600)?;
    let directory = first_directory()?;
    save_directory(&cell, &directory)?;
    cell.save()?;
    Ok((cell, directory))
}

/// Makes the vault's master key where there is none: cells from before there was a vault have none.
pub(super) fn vault_key(cell: &Cell) -> Result<()> {
    if cell.vault_key().exists() {
        return Ok(());
    }
    replace(&cell.key(VAULT_KEY), hex::encode(rand::random::<[u8; 32]>()).as_bytes(), 0o600)
}

/// Writes the cell's copy of the directory, from which accounts are made.
pub(super) fn save_directory(cell: &Cell, directory: &Directory) -> Result<()> {
    replace(&cell.dir.join(DIRECTORY), &serde_json::to_vec_pretty(directory)?, 0o644)
}

fn name(text: &str) -> Result<Name> {
    Name::new(text).context("a name")
}

fn first_directory() -> Result<Directory> {
    let mut directory = Directory::empty();
    let agent = Agent { roles: [name("agent")?].into(), ..Agent::default() };
    let tool = Tool { content: true, ..Tool::default() };
    let tenant = Tenant {
        owner: "owner@acme.example".into(),
        agents: [(name("helpdesk")?, agent)].into(),
        tools: [(name("desk")?, tool)].into(),
        ..Tenant::default()
    };
    directory.tenants.insert(name("acme")?, tenant);
    let reviewer = Reviewer { queues: [name("default")?].into(), ..Reviewer::default() };
    directory.reviewers.insert(name("alice")?, reviewer);
    directory.operators.insert(name("admin")?);
    Ok(directory)
}

/// The first reviewer of a new cell decides in every queue that its first bundle can send to: nobody else is there to.
pub(super) fn first_queues(directory: &mut Directory, bundle: &Bundle) {
    for reviewer in directory.reviewers.values_mut() {
        reviewer.queues = bundle.review_queues();
    }
}

/// Port of a new cell's server where none is named: what NATS clients try first.
pub(super) const PORT: u16 = 4222;

/// Variables that may hold a provider's key.
pub(super) fn key_variables() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|(variable, ..)| *variable)
}

/// Keeps the keys of the environment's providers with the cell. Says whether there is no provider but a stand-in.
pub(super) fn keys(cell: &Cell) -> Result<bool> {
    let mut stand_in = cell.config.cloud.providers.keys().all(|provider| provider.as_str() == STAND_IN);
    for (variable, provider, ..) in PROVIDERS {
        let key = std::env::var(variable).unwrap_or_default();
        if !key.trim().is_empty() {
            replace(&key_file(cell, provider), key.trim().as_bytes(), 0o600)?;
            stand_in = false;
        }
    }
    Ok(stand_in)
}

/// Configures the providers that there are keys for, with the regions and models that the bundle names; else the stand-in.
pub(super) fn providers(cell: &mut Cell, bundle: &Bundle, stand_in: bool) -> Result<()> {
    let known = &cell.config.cloud.providers;
    let mut providers = BTreeMap::new();
    if stand_in {
        let endpoints = endpoints(bundle, STAND_IN, "http://127.0.0.1:0/v1");
        let section = ProviderSection::new(Protocol::OpenaiChat, endpoints);
        let section = ProviderSection { reach: Some(Reach::Loopback), ..section };
        providers.insert(name(STAND_IN)?, section);
    } else {
        providers.extend(
            known.iter().filter(|(name, _)| name.as_str() != STAND_IN).map(|(n, s)| (n.clone(), s.clone())),
        );
    }
    for (_, provider, protocol, url) in PROVIDERS {
        let file = key_file(cell, provider);
        // What an operator wrote into cell.toml stays.
        if file.exists() && !known.contains_key(&name(provider)?) {
            let section = ProviderSection::new(protocol, endpoints(bundle, provider, url));
            let section = ProviderSection { api_key_file: Some(file), ..section };
            providers.insert(name(provider)?, section);
        }
    }
    // A provider that the bundle knows no destination at has nothing to do.
    providers.retain(|_, section| !section.endpoints.is_empty());
    cell.config.cloud.providers = providers;
    Ok(())
}

fn key_file(cell: &Cell, provider: &str) -> PathBuf {
    cell.key(&format!("{provider}.key"))
}

/// A provider's endpoints as a bundle's destinations name them.
fn endpoints(bundle: &Bundle, provider: &str, url: &str) -> BTreeMap<Name, EndpointSection> {
    let mut endpoints = BTreeMap::new();
    for place in
        bundle.destinations().iter().filter(|d| d.lane == Lane::Cloud && d.target.as_str() == provider)
    {
        let Some(id) = &place.base_url else { continue };
        let new =
            || EndpointSection { url: url.to_owned(), region: place.region.clone(), models: BTreeSet::new() };
        endpoints.entry(id.clone()).or_insert_with(new).models.insert(place.model.clone());
    }
    endpoints
}

/// Writes where the stand-in listens into the cell's configuration.
pub(super) fn point_stand_in(cell: &mut Cell, address: &str) -> Result<()> {
    let section = cell.config.cloud.providers.get_mut(&name(STAND_IN)?);
    let section =
        section.context("the bundle names no destination at the stand-in: take another with --bundle")?;
    for endpoint in section.endpoints.values_mut() {
        endpoint.url = format!("{address}/v1");
    }
    cell.save()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::policy;

    #[test]
    fn a_new_cell_has_somebody_for_each_queue_that_its_bundle_can_send_to() {
        for bundle in [policy::default_bundle, policy::demo_bundle] {
            let (bundle, mut directory) = (bundle().unwrap(), super::first_directory().unwrap());
            assert_ne!(policy::without_reviewers(&bundle, &directory), [], "negative control");
            super::first_queues(&mut directory, &bundle);
            assert_eq!(policy::without_reviewers(&bundle, &directory), []);
        }
    }
}
