//! A bundle's directory:
//!
//! ```text
//! bundle.toml           name, version, owner, limits; `extends = "<sibling>"` takes each part that is absent here from there
//! taxonomy.toml         vocabularies, recognisers, key words
//! schema.cedarschema    entities and actions; the taxonomy's vocabularies are added to it
//! policies/*.cedar      policies and templates, each with `@id` and `@owner`
//! links.toml            templates filled in, one `[[link]]` each
//! destinations.toml     one `[[destination]]` each
//! cases/*.toml          `[[case]]` rows; cases/directory.toml says who there is in them
//! properties.toml       what must hold for every request, one `[[property]]` each
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cedar_policy::PolicySet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

use super::{BundleError, FORMAT, Link, Manifest, Parts};
use crate::cases::{Case, Cases, ReplayCase};
use crate::destination::DestinationSpec;
use crate::properties::{Property, Wire};
use crate::taxonomy::Taxonomy;

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most files in one folder, count.
const FILES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: Name,
    version: String,
    owner: String,
    review_queue: Name,
    cloud_cost_usd_micros_max: u64,
    extends: Option<Name>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationsFile {
    #[serde(default)]
    destination: Vec<DestinationSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinksFile {
    #[serde(default)]
    link: Vec<Link>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasesFile {
    #[serde(default)]
    case: Vec<Case>,
    #[serde(default)]
    replay: Vec<ReplayCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertiesFile {
    #[serde(default = "Vec::new")]
    property: Vec<Wire<String>>,
}

/// Where the parts are looked for: the bundle's own directory first, then the one it extends.
struct Roots(Vec<PathBuf>);

pub(super) fn read(path: &Path) -> Result<Parts, BundleError> {
    let manifest: ManifestFile = toml_file(&path.join("bundle.toml"), "bundle.toml")?;
    let base = manifest.extends.as_ref().and_then(|name| Some(path.parent()?.join(name.as_str())));
    let roots = Roots(std::iter::once(path.to_owned()).chain(base).collect());
    let mut taxonomy: Taxonomy = toml_file(&roots.find("taxonomy.toml"), "taxonomy.toml")?;
    taxonomy.sort();
    let (policies, templates) = policies(&roots)?;
    let destinations: DestinationsFile = toml_file(&roots.find("destinations.toml"), "destinations.toml")?;
    let links = roots.find("links.toml");
    let links = if links.exists() { toml_file::<LinksFile>(&links, "links.toml")?.link } else { Vec::new() };
    Ok(Parts {
        format: FORMAT,
        schema: schema(&roots, &taxonomy)?,
        manifest: Manifest {
            name: manifest.name,
            version: manifest.version,
            owner: manifest.owner,
            review_queue: manifest.review_queue,
            cloud_cost_usd_micros_max: manifest.cloud_cost_usd_micros_max,
        },
        taxonomy,
        policies,
        templates,
        links,
        destinations: destinations.destination,
        cases: cases(&roots)?,
        properties: properties(&roots)?,
    })
}

impl Roots {
    /// The first root's path that exists; where none does, the path in the bundle's own directory.
    fn find(&self, part: &str) -> PathBuf {
        let mut paths = self.0.iter().map(|root| root.join(part));
        let own = paths.next().unwrap_or_default();
        if own.exists() { own } else { paths.find(|path| path.exists()).unwrap_or(own) }
    }
}

fn schema(roots: &Roots, taxonomy: &Taxonomy) -> Result<Value, BundleError> {
    let file = "schema.cedarschema";
    let text = format!("{}\n{}", text_file(&roots.find(file))?, taxonomy.cedar_schema());
    let (schema, _) = cedar_policy::schema_str_to_json_with_resolved_types(&text)
        .map_err(|error| fault(file, format!("{error}")))?;
    Ok(schema)
}

type ById = BTreeMap<String, Value>;

/// Reads every policy under its `@id`: Cedar's own ids are positions in a file and would move with it.
fn policies(roots: &Roots) -> Result<(ById, ById), BundleError> {
    let (mut policies, mut templates) = (ById::new(), ById::new());
    for path in files(&roots.find("policies"), "cedar")? {
        let file = name_of(&path);
        let set =
            PolicySet::from_str(&text_file(&path)?).map_err(|error| fault(&file, format!("{error}")))?;
        for policy in set.policies() {
            let json = policy.to_json().map_err(|error| fault(&file, error.to_string()))?;
            insert(&mut policies, &templates, policy.annotation("id"), json, &file)?;
        }
        for template in set.templates() {
            let json = template.to_json().map_err(|error| fault(&file, error.to_string()))?;
            insert(&mut templates, &policies, template.annotation("id"), json, &file)?;
        }
    }
    Ok((policies, templates))
}

fn insert(
    into: &mut ById,
    other: &ById,
    id: Option<&str>,
    json: Value,
    file: &str,
) -> Result<(), BundleError> {
    let id = id.ok_or_else(|| fault(file, "a policy has no `@id`"))?;
    if other.contains_key(id) || into.insert(id.to_owned(), json).is_some() {
        return Err(fault(file, format!("the id `{id}` stands twice")));
    }
    Ok(())
}

fn cases(roots: &Roots) -> Result<Cases, BundleError> {
    let folder = roots.find("cases");
    let mut cases = Cases { directory: Directory::empty(), rows: Vec::new(), replays: Vec::new() };
    if !folder.exists() {
        return Ok(cases);
    }
    for path in files(&folder, "toml")? {
        let file = name_of(&path);
        if file == "directory.toml" {
            cases.directory = toml_file(&path, &file)?;
        } else {
            let read: CasesFile = toml_file(&path, &file)?;
            cases.rows.extend(read.case);
            cases.replays.extend(read.replay);
        }
    }
    Ok(cases)
}

fn properties(roots: &Roots) -> Result<Vec<Property>, BundleError> {
    let (file, path) = ("properties.toml", roots.find("properties.toml"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read: PropertiesFile = toml_file(&path, file)?;
    read.property.into_iter().map(|wire| wire.read().map_err(|reason| fault(file, reason))).collect()
}

/// The folder's files of one extension, by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, BundleError> {
    let failed = |source| BundleError::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    if found.len() > FILES_MAX {
        return Err(BundleError::Content(format!("more than {FILES_MAX} files in one folder")));
    }
    found.sort();
    Ok(found)
}

fn toml_file<T: DeserializeOwned>(path: &Path, file: &str) -> Result<T, BundleError> {
    toml::from_str(&text_file(path)?).map_err(|error| fault(file, error.to_string()))
}

fn text_file(path: &Path) -> Result<String, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(fault(&name_of(path), format!("{bytes} bytes; the limit is {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn fault(file: &str, reason: impl Into<String>) -> BundleError {
    BundleError::File { file: file.to_owned(), reason: reason.into() }
}
