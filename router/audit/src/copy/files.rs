//! Files of a copy: written durably and measured, read once and compared; and a new directory that is there only when it is
//! whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_schemas::digest::Digest;

use super::CopyError;
use crate::merkle::Hash;

/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Longest sealed body that is read: the server takes no message of 64 MiB.
const BODY_BYTES_MAX: u32 = 80 << 20;

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSum {
    /// Its name, from the backup's directory.
    pub(crate) name: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its SHA-256.
    pub(crate) sha256: Digest,
}

/// A file that is written.
pub(super) struct Out {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    sha: Sha256,
    bytes: u64,
}

/// A file that is read, and compared with what the manifest says of it where there is one.
pub(super) struct In {
    path: PathBuf,
    file: BufReader<Measured>,
    sum: Option<FileSum>,
}

struct Measured {
    file: File,
    sha: Sha256,
    bytes: u64,
}

/// A directory that is made beside its place, and moved there when it is whole.
pub(super) struct Fresh {
    to: PathBuf,
    partial: PathBuf,
    kept: bool,
}

/// An error of the file system at a path.
pub(super) fn at(path: &Path) -> impl Fn(std::io::Error) -> CopyError + Copy + '_ {
    |source| CopyError::File { path: path.to_owned(), source }
}

// === impl Out ===

impl Out {
    /// Begins a file in `dir`, for its owner only.
    pub(super) fn create(dir: &Path, name: &str) -> Result<Self, CopyError> {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = BufWriter::with_capacity(BUFFER_BYTES, file.map_err(at(&path))?);
        Ok(Self { name: name.to_owned(), path, file, sha: Sha256::new(), bytes: 0 })
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.sha.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(at(&self.path))
    }

    /// A leaf's line.
    pub(super) fn leaf(&mut self, line: &[u8]) -> Result<(), CopyError> {
        self.put(line)?;
        self.put(b"\n")
    }

    /// In the place of a leaf that was pruned, its hash: 64 hexadecimal digits.
    pub(super) fn pruned(&mut self, hash: &Hash) -> Result<(), CopyError> {
        self.leaf(hex::encode(hash).as_bytes())
    }

    /// A line of JSON.
    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), CopyError> {
        let mut text = serde_json::to_vec(value).map_err(|error| at(&self.path)(error.into()))?;
        text.push(b'\n');
        self.put(&text)
    }

    /// A sealed body with its length; 0 where there is none.
    pub(super) fn body(&mut self, sealed: Option<&[u8]>) -> Result<(), CopyError> {
        let sealed = sealed.unwrap_or_default();
        self.put(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes())?;
        self.put(sealed)
    }

    /// Makes it durable.
    pub(super) fn finish(self) -> Result<FileSum, CopyError> {
        let Self { name, path, file, sha, bytes } = self;
        let file = file.into_inner().map_err(|error| at(&path)(error.into_error()))?;
        file.sync_all().map_err(at(&path))?;
        Ok(FileSum { name, bytes, sha256: Digest::from(<[u8; 32]>::from(sha.finalize())) })
    }
}

// === impl In ===

impl In {
    /// Opens a file that a manifest names.
    pub(super) fn named(dir: &Path, sum: &FileSum) -> Result<Self, CopyError> {
        let mut found = Self::open(&dir.join(&sum.name))?;
        found.sum = Some(sum.clone());
        Ok(found)
    }

    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        let file = Measured { file: File::open(path).map_err(at(path))?, sha: Sha256::new(), bytes: 0 };
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path: path.to_owned(), file, sum: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next line without its end; `None` at the end, and where it is too long or cut short.
    pub(super) fn line(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, CopyError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.file).take(bytes_max as u64 + 1);
        limited.read_until(b'\n', &mut line).map_err(at(&self.path))?;
        Ok((line.pop() == Some(b'\n')).then_some(line))
    }

    /// The next sealed body; the inner `None` where the record has none, the outer one where the file is cut short.
    pub(super) fn body(&mut self) -> Result<Option<Option<Vec<u8>>>, CopyError> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        match u32::from_be_bytes(length) {
            0 => Ok(Some(None)),
            length if length > BODY_BYTES_MAX => Ok(None),
            length => {
                let mut sealed = vec![0; length as usize];
                Ok(self.fill(&mut sealed)?.then_some(Some(sealed)))
            }
        }
    }

    /// Some bytes more; `None` at the end.
    pub(super) fn some(&mut self) -> Result<Option<Vec<u8>>, CopyError> {
        let mut bytes = Vec::new();
        (&mut self.file).take(BUFFER_BYTES as u64).read_to_end(&mut bytes).map_err(at(&self.path))?;
        Ok(if bytes.is_empty() { None } else { Some(bytes) })
    }

    /// All that is left of it.
    pub(super) fn rest(&mut self, bytes_max: u64) -> Result<Vec<u8>, CopyError> {
        let mut bytes = Vec::new();
        (&mut self.file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(at(&self.path))?;
        let what = "is too long";
        let fits = bytes.len() as u64 <= bytes_max;
        if fits { Ok(bytes) } else { Err(CopyError::Form { path: self.path.clone(), what }) }
    }

    /// Whether so many bytes were there.
    fn fill(&mut self, out: &mut [u8]) -> Result<bool, CopyError> {
        match self.file.read_exact(out) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(at(&self.path)(error)),
        }
    }

    /// Reads to the end, and compares.
    pub(super) fn end(mut self) -> Result<(), CopyError> {
        let (sum, path) = (self.sum.take(), self.path.clone());
        let measured = self.measure()?;
        match sum {
            Some(sum) if (sum.bytes, sum.sha256) != measured => Err(CopyError::Changed { path }),
            _ => Ok(()),
        }
    }

    /// Reads to the end. Returns the SHA-256 of all of it.
    pub(super) fn digest(self) -> Result<Digest, CopyError> {
        Ok(self.measure()?.1)
    }

    fn measure(mut self) -> Result<(u64, Digest), CopyError> {
        std::io::copy(&mut self.file, &mut std::io::sink()).map_err(at(&self.path))?;
        let Measured { sha, bytes, .. } = self.file.into_inner();
        Ok((bytes, Digest::from(<[u8; 32]>::from(sha.finalize()))))
    }
}

impl Read for Measured {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(out)?;
        self.sha.update(out.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        Ok(read)
    }
}

// === impl Fresh ===

impl Fresh {
    /// Begins a directory; refuses where something is already.
    pub(super) fn begin(to: &Path) -> Result<Self, CopyError> {
        let there = |path: &Path| Err(CopyError::There { path: path.to_owned() });
        let empty = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if !empty {
            return there(to);
        }
        let name = to.file_name().ok_or_else(|| CopyError::There { path: to.to_owned() })?;
        let partial = to.with_file_name(format!("{}.partial", name.to_string_lossy()));
        match fs::DirBuilder::new().mode(0o700).create(&partial) {
            Ok(()) => Ok(Self { to: to.to_owned(), partial, kept: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => there(&partial),
            Err(error) => Err(at(&partial)(error)),
        }
    }

    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// Moves it to its place, durably.
    pub(super) fn keep(mut self) -> Result<(), CopyError> {
        sync_dir(&self.partial)?;
        fs::rename(&self.partial, &self.to).map_err(at(&self.to))?;
        self.kept = true;
        let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            // What is left then is named to whoever tries again.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), CopyError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path))
}
