//! A bundle's directory:
//!
//! ```text
//! bundle.toml           name, version, owner, limits; `extends = "<sibling>"` takes each part that is absent here from there
//! taxonomy.toml         vocabularies, recognisers, key words
//! schema.cedarschema    entities and actions; the taxonomy's vocabularies are added to it
//! policies/*.cedar      policies and templates, each with `@id` and `@owner`
//! links.toml            templates filled in, one `[[link]]` each
//! destinations.toml     one `[[destination]]` each
//! prompts/*.toml        message templates, one prompt a file, named by it
//! cases/*.toml          `[[case]]` rows, and those of replays, reviews and prompts; cases/directory.toml says who there is in them
//! cases/*.json          cases of Cedar's own command line, with their own entities
//! properties.toml       what must hold for every request, one `[[property]]` each
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cedar_policy::PolicySet;
use cedar_policy::ffi::DetailedError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

use super::fault::{At, Places, line_at, line_naming};
use super::{BundleError, FORMAT, Link, Manifest, Parts, case_key, prompts, row_key, statements};
use crate::cases::{Case, Cases, PromptCase, ReplayCase, ReviewCase};
use crate::cedar_tests;
use crate::destination::DestinationSpec;
use crate::properties::{Property, Wire};
use crate::taxonomy::Taxonomy;

/// Largest file, bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The file in which a bundle says what it is.
const MANIFEST: &str = "bundle.toml";
/// The file of Cedar's schema.
const SCHEMA: &str = "schema.cedarschema";
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
    review_hours: Option<u32>,
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
    case: Vec<toml::Spanned<Case>>,
    #[serde(default)]
    replay: Vec<ReplayCase>,
    #[serde(default)]
    review: Vec<ReviewCase>,
    #[serde(default)]
    prompt: Vec<toml::Spanned<PromptCase>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertiesFile {
    #[serde(default = "Vec::new")]
    property: Vec<Wire<String>>,
}

/// Texts to be read in place of files.
pub(crate) type Texts = BTreeMap<PathBuf, String>;

/// Where the parts are looked for: the bundle's own directory first, then the one it extends.
pub(super) struct Roots<'a>(Vec<PathBuf>, &'a Texts);

/// A directory, read.
pub(super) struct Read {
    pub(super) parts: Parts,
    pub(super) sources: Sources,
    /// Ids of what comes from the directory that it extends.
    pub(super) taken: BTreeSet<String>,
}

/// What a fault's place is found by.
pub(super) struct Sources {
    places: Places,
    /// Files whose faults name what stands in them.
    texts: BTreeMap<String, String>,
}

/// Reads a bundle's directory, with some texts in place of what its files hold.
pub(super) fn read(path: &Path, texts: &Texts) -> Result<Read, BundleError> {
    let own = text_file(&path.join(MANIFEST))?;
    let manifest: ManifestFile = toml_file(&own, MANIFEST)?;
    let base = manifest.extends.as_ref().and_then(|name| Some(path.parent()?.join(name.as_str())));
    let roots = Roots(std::iter::once(path.to_owned()).chain(base).collect(), texts);
    let mut sources = Sources { places: Places::new(), texts: BTreeMap::from([(MANIFEST.to_owned(), own)]) };
    for file in ["taxonomy.toml", "destinations.toml", "links.toml", "properties.toml", SCHEMA] {
        let path = roots.find(file);
        if !["links.toml", "properties.toml"].contains(&file) || path.exists() {
            sources.texts.insert(file.to_owned(), roots.text(&path)?);
        }
    }
    let text = |file: &str| sources.texts.get(file).map_or("", String::as_str);
    let mut taxonomy: Taxonomy = toml_file(text("taxonomy.toml"), "taxonomy.toml")?;
    taxonomy.sort();
    let destinations: DestinationsFile = toml_file(text("destinations.toml"), "destinations.toml")?;
    let links = toml_file::<LinksFile>(text("links.toml"), "links.toml")?.link;
    let place = |link: &Link| {
        let line = line_naming(text("links.toml"), &link.id)?;
        Some((link.id.clone(), At { file: "links.toml".to_owned(), line }))
    };
    let mut places: Places = links.iter().filter_map(place).collect();
    let mut policy_texts = BTreeMap::new();
    let (policies, templates) = policies(&roots, &mut places, &mut policy_texts)?;
    let (mut taken, mut prompt_texts) = (BTreeSet::new(), BTreeMap::new());
    if !roots.is_own("links.toml") {
        taken.extend(links.iter().map(|link| link.id.clone()));
    }
    if !roots.is_own("policies") {
        taken.extend(policies.keys().chain(templates.keys()).cloned());
    }
    let prompts = prompts::read(&roots, &mut places, &mut prompt_texts)?;
    if !roots.is_own("prompts") {
        taken.extend(prompts.keys().map(crate::trial::prompt_id));
    }
    let cases = cases(&roots, &mut places)?;
    sources.texts.extend(prompt_texts.into_iter().chain(policy_texts));
    sources.places = places;
    let parts = Parts {
        format: FORMAT,
        schema: schema(&roots, &taxonomy)?,
        manifest: Manifest {
            name: manifest.name,
            version: manifest.version,
            owner: manifest.owner,
            review_queue: manifest.review_queue,
            cloud_cost_usd_micros_max: manifest.cloud_cost_usd_micros_max,
            review_hours: manifest.review_hours,
        },
        taxonomy,
        policies,
        templates,
        links,
        destinations: destinations.destination,
        cases,
        properties: properties(&roots)?,
        prompts,
    };
    Ok(Read { parts, sources, taken })
}

// === impl Sources ===

impl Sources {
    /// The same fault, with its place.
    pub(super) fn locate(&self, error: BundleError) -> BundleError {
        match error {
            BundleError::File { file, line: None, reason } => {
                // What such a fault is about is the first that it quotes; of an entity that is its id.
                let word = reason.split('`').nth(1);
                let word =
                    word.map(|word| word.rsplit_once("::").map_or(word, |(_, id)| id.trim_matches('"')));
                let text = self.texts.get(file.as_str());
                let line = text.zip(word).and_then(|(text, word)| line_naming(text, word));
                BundleError::File { file, line, reason }
            }
            other => other.located(&self.places, &self.texts),
        }
    }
}

// === impl Roots ===

impl Roots<'_> {
    /// A file's text, or what stands in its place.
    pub(super) fn text(&self, path: &Path) -> Result<String, BundleError> {
        self.1.get(path).map_or_else(|| text_file(path), |text| Ok(text.clone()))
    }

    /// The first root's path that exists; where none does, the path in the bundle's own directory.
    pub(super) fn find(&self, part: &str) -> PathBuf {
        let mut paths = self.0.iter().map(|root| root.join(part));
        let own = paths.next().unwrap_or_default();
        if own.exists() { own } else { paths.find(|path| path.exists()).unwrap_or(own) }
    }

    /// Whether a part is the bundle's own.
    fn is_own(&self, part: &str) -> bool {
        self.0.first().is_some_and(|own| self.find(part) == own.join(part))
    }
}

fn schema(roots: &Roots<'_>, taxonomy: &Taxonomy) -> Result<Value, BundleError> {
    let file = SCHEMA;
    let own = roots.text(&roots.find(file))?;
    let text = format!("{own}\n{}", taxonomy.cedar_schema(&own));
    // What is wrong beyond the file's own text is in what the taxonomy adds, and has no line.
    let (schema, _) = cedar_policy::schema_str_to_json_with_resolved_types(&text)
        .map_err(|error| BundleError::cedar(file, &own, &DetailedError::from(&error)))?;
    Ok(schema)
}

type ById = BTreeMap<String, Value>;

/// Reads every policy under its `@id`: Cedar's own ids are positions in a file and would move with it.
fn policies(
    roots: &Roots<'_>,
    places: &mut Places,
    texts: &mut BTreeMap<String, String>,
) -> Result<(ById, ById), BundleError> {
    let (mut policies, mut templates) = (ById::new(), ById::new());
    for path in files(&roots.find("policies"), "cedar")? {
        let (file, text) = (name_of(&path), roots.text(&path)?);
        let set = PolicySet::from_str(&text)
            .map_err(|error| BundleError::cedar(&file, &text, &DetailedError::from(&error)))?;
        let mut statements = Statements { file, lines: statements::lines(&text), places };
        for policy in set.policies() {
            let json = policy.to_json().map_err(|error| error.to_string());
            statements.take(policy.id().as_ref(), policy.annotation("id"), json, &mut policies)?;
        }
        for template in set.templates() {
            let json = template.to_json().map_err(|error| error.to_string());
            statements.take(template.id().as_ref(), template.annotation("id"), json, &mut templates)?;
        }
        texts.insert(name_of(&path), text);
    }
    Ok((policies, templates))
}

/// The statements of one file.
struct Statements<'a> {
    file: String,
    lines: Vec<usize>,
    places: &'a mut Places,
}

impl Statements<'_> {
    /// Takes a statement under its `@id`. Cedar calls the statements of a text policy0, policy1, …
    fn take(
        &mut self,
        own: &str,
        id: Option<&str>,
        json: Result<Value, String>,
        into: &mut ById,
    ) -> Result<(), BundleError> {
        let at = own.strip_prefix("policy").and_then(|at| at.parse::<usize>().ok());
        let line = at.and_then(|at| self.lines.get(at)).copied().unwrap_or(1);
        let fault = |reason: String| BundleError::file(&self.file, Some(line), reason);
        let id =
            id.ok_or_else(|| fault("a policy has no `@id`; give it one of a-z, 0-9 and `-`".to_owned()))?;
        if let Some(At { file, line: before }) = self.places.get(id) {
            return Err(fault(format!(
                "the id `{id}` stands twice, first in `{file}` line {before}; rename one"
            )));
        }
        into.insert(id.to_owned(), json.map_err(fault)?);
        self.places.insert(id.to_owned(), At { file: self.file.clone(), line });
        Ok(())
    }
}

fn cases(roots: &Roots<'_>, places: &mut Places) -> Result<Cases, BundleError> {
    let folder = roots.find("cases");
    let mut cases = Cases {
        directory: Directory::empty(),
        rows: Vec::new(),
        replays: Vec::new(),
        reviews: Vec::new(),
        prompts: Vec::new(),
        cedar: Vec::new(),
    };
    if !folder.exists() {
        return Ok(cases);
    }
    for path in files(&folder, "toml")? {
        let file = name_of(&path);
        if file == "directory.toml" {
            cases.directory = toml_file(&text_file(&path)?, &file)?;
        } else {
            let text = text_file(&path)?;
            let read: CasesFile = toml_file(&text, &file)?;
            for case in &read.prompt {
                let line = line_at(&text, case.span().start).unwrap_or(1);
                let file = format!("cases/{file}");
                places.insert(case_key(&case.get_ref().name), At { file, line });
            }
            cases.prompts.extend(read.prompt.into_iter().map(toml::Spanned::into_inner));
            for case in &read.case {
                let line = line_at(&text, case.span().start).unwrap_or(1);
                places.insert(row_key(&case.get_ref().name), At { file: format!("cases/{file}"), line });
            }
            cases.rows.extend(read.case.into_iter().map(toml::Spanned::into_inner));
            cases.replays.extend(read.replay);
            cases.reviews.extend(read.review);
        }
    }
    let mut lists = BTreeMap::new();
    for path in files(&folder, "json")? {
        lists.insert(name_of(&path), text_file(&path)?);
    }
    cases.cedar = cedar_tests::lists(&lists)?;
    Ok(cases)
}

/// The Cedar files of a directory's own: what it takes from a sibling is not among them.
pub(crate) fn cedar_files(dir: &Path) -> Result<Vec<PathBuf>, BundleError> {
    let folder = dir.join("policies");
    let mut found = if folder.exists() { files(&folder, "cedar")? } else { Vec::new() };
    found.extend(Some(dir.join("schema.cedarschema")).filter(|schema| schema.exists()));
    Ok(found)
}

fn properties(roots: &Roots<'_>) -> Result<Vec<Property>, BundleError> {
    let (file, path) = ("properties.toml", roots.find("properties.toml"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = roots.text(&path)?;
    let read: PropertiesFile = toml_file(&text, file)?;
    read.property
        .into_iter()
        .map(|wire| {
            let id = wire.id.clone();
            let line = line_naming(&text, &id);
            wire.read().map_err(|reason| BundleError::file(file, line, reason))
        })
        .collect()
}

/// The folder's files of one extension, by name.
pub(super) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, BundleError> {
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

pub(super) fn toml_file<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, BundleError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| line_at(text, span.start));
        BundleError::file(file, line, error.message())
    })
}

pub(crate) fn text_file(path: &Path) -> Result<String, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        let reason = format!("{bytes} bytes; the limit is {FILE_BYTES_MAX}");
        return Err(BundleError::file(&name_of(path), None, reason));
    }
    std::fs::read_to_string(path).map_err(failed)
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
