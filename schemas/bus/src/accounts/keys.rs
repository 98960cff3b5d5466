//! A directory of nkey seeds, one file an identity, readable by its owner only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use tidegate_schemas::directory::Directory;

use crate::identity::Identity;

/// The identities of a cell whose seeds are kept in one directory.
#[derive(Debug, Clone)]
pub struct Identities {
    directory: PathBuf,
    public: BTreeMap<Identity, String>,
}

/// An identity's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or directory cannot be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no seed.
    #[error("`{}` holds no nkey seed; delete it to make a new identity", path.display())]
    NotASeed {
        /// The file.
        path: PathBuf,
    },
    /// The identity has no key.
    #[error(
        "`{identity}` has no key yet; make one with `tidegate agent add`, or for a role with `tidegate dev`"
    )]
    Missing {
        /// Who.
        identity: String,
    },
}

impl Identities {
    /// Opens a directory of seeds, and makes it if need be.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let directory = directory.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| KeyError::Io { path: directory.clone(), source })?;
        Ok(Self { directory, public: BTreeMap::new() })
    }

    /// The file with an identity's seed, there or not.
    #[must_use]
    pub fn seed_file(&self, identity: &Identity) -> PathBuf {
        self.directory.join(identity.seed_file_name())
    }

    /// The public key of an identity; a fresh key is made where there is none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn ensure(&mut self, identity: &Identity) -> Result<String, KeyError> {
        let path = self.seed_file(identity);
        let public = match read(&path)? {
            Some(pair) => pair.public_key(),
            None => write(&path)?,
        };
        self.public.insert(identity.clone(), public.clone());
        Ok(public)
    }

    /// Makes sure that every role, and everybody whom the directory names without a key of their own, has one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn ensure_all(&mut self, directory: &Directory) -> Result<(), KeyError> {
        for identity in super::identities_of(directory) {
            if super::named_key(directory, &identity).is_none() {
                self.ensure(&identity)?;
            }
        }
        Ok(())
    }

    /// The public key of an identity made or read before.
    ///
    /// # Errors
    /// [`KeyError::Missing`].
    pub fn public_key(&self, identity: &Identity) -> Result<String, KeyError> {
        self.public.get(identity).cloned().ok_or_else(|| KeyError::Missing { identity: identity.to_string() })
    }
}

fn read(path: &Path) -> Result<Option<KeyPair>, KeyError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyError::Io { path: path.to_owned(), source }),
    };
    KeyPair::from_seed(text.trim()).map(Some).map_err(|_| KeyError::NotASeed { path: path.to_owned() })
}

/// Makes a key. The file is created for its owner only and never overwritten.
fn write(path: &Path) -> Result<String, KeyError> {
    let pair = KeyPair::new_user();
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let seed = pair.seed().map_err(|_| KeyError::NotASeed { path: path.to_owned() })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{seed}").and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(pair.public_key())
}
