//! Who may do what: one NATS account a trust zone, joined by exports and imports, and an allow-list for each identity.
//!
//! `APP` owns the streams and stands in the middle. Outside of it nobody may create a consumer; a zone pulls from the durables
//! that are its own, publishes the subjects that are its own, and a tenant's account adds the tenant's token on the way in, so
//! that no agent can write another tenant's name. A reply subject never becomes a stored message of another zone, because the
//! server replaces it on the way through an import.

mod keys;
mod mesh;
mod zones;

use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

pub use self::keys::{Identities, KeyError};
use self::mesh::Mesh;
use crate::identity::{Identity, Role};
use crate::topology::CellShape;

/// Account that owns the streams.
pub const APP: &str = "APP";
/// Account of the local workers and the vault.
pub const LOCAL: &str = "LOCAL";
/// Account of the cloud workers.
pub const CLOUD: &str = "CLOUD";
/// Account of the HTTP doors.
pub const GATEWAY: &str = "GATEWAY";
/// Account of operators and reviewers.
pub const OPS: &str = "OPS";

/// Account of a tenant's agents and tools.
#[must_use]
pub fn tenant_account(tenant: &Name) -> String {
    format!("TENANT_{tenant}")
}

/// Every identity of a cell: its roles, and whom the directory names.
#[must_use]
pub fn identities_of(directory: &Directory) -> Vec<Identity> {
    let mut all: Vec<Identity> = Role::ALL.into_iter().map(Identity::Role).collect();
    for (tenant, settings) in &directory.tenants {
        all.extend(
            settings
                .agents
                .keys()
                .map(|agent| Identity::Agent { tenant: tenant.clone(), agent: agent.clone() }),
        );
        all.extend(
            settings.tools.keys().map(|tool| Identity::Tool { tenant: tenant.clone(), tool: tool.clone() }),
        );
    }
    all.extend(directory.acting().cloned().map(Identity::Operator));
    all.extend(directory.reviewers.keys().cloned().map(Identity::Reviewer));
    all
}

/// The accounts of a cell as a file that nats.conf includes. A public key that the directory names wins over the one in
/// `identities`.
///
/// # Errors
/// [`KeyError::Missing`] when an identity has no key yet: run [`Identities::ensure_all`] first.
pub fn render(shape: &CellShape, directory: &Directory, identities: &Identities) -> Result<String, KeyError> {
    let key = |identity: &Identity| match named_key(directory, identity) {
        Some(key) => Ok(key.to_owned()),
        None => identities.public_key(identity),
    };
    let mut mesh = Mesh::default();
    zones::app(&mut mesh, &key)?;
    zones::local(&mut mesh, shape, &key)?;
    zones::cloud(&mut mesh, shape, &key)?;
    zones::gateway(&mut mesh, &key)?;
    zones::operations(&mut mesh, directory, &key)?;
    for (tenant, settings) in &directory.tenants {
        zones::tenant(&mut mesh, tenant, settings, &key)?;
    }
    Ok(mesh.render())
}

fn named_key<'a>(directory: &'a Directory, identity: &Identity) -> Option<&'a str> {
    let key = match identity {
        Identity::Agent { tenant, agent } => &directory.tenants.get(tenant)?.agents.get(agent)?.nkey,
        Identity::Tool { tenant, tool } => &directory.tenants.get(tenant)?.tools.get(tool)?.nkey,
        Identity::Reviewer(name) => &directory.reviewers.get(name)?.nkey,
        Identity::Role(_) | Identity::Operator(_) => return None,
    };
    (!key.is_empty()).then_some(key.as_str())
}
