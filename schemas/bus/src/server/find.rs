//! Finds a nats-server that will do: named, on the PATH, or in the project's own tools.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::connect::{SERVER_VERSION_MIN, at_least};

/// Variable that names the binary.
const VARIABLE: &str = "TIDEGATE_NATS_SERVER";

/// No binary will do.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A binary is there and cannot be used.
    #[error("`{}` cannot be used: {reason}; nats-server 2.15 or newer is needed", path.display())]
    Unusable {
        /// The binary.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// None was found.
    #[error(
        "no nats-server 2.15 or newer was found{rejected}; run `deploy/fetch nats-server`, or set {VARIABLE}"
    )]
    None {
        /// What was found and refused.
        rejected: String,
    },
}

/// Finds a server: what `TIDEGATE_NATS_SERVER` names, the PATH, `.tools/bin` in this directory or one above.
///
/// # Errors
/// [`FindError`] with what was refused and why.
pub fn find() -> Result<PathBuf, FindError> {
    let here = std::env::current_dir().unwrap_or_default();
    find_from(std::env::var_os(VARIABLE).as_deref(), std::env::var_os("PATH").as_deref(), &here)
}

/// The same with the variable, the PATH and the directory given.
///
/// # Errors
/// [`FindError`].
pub fn find_from(named: Option<&OsStr>, path: Option<&OsStr>, here: &Path) -> Result<PathBuf, FindError> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return match usable(&named) {
            Ok(()) => Ok(named),
            Err(reason) => Err(FindError::Unusable { path: named, reason }),
        };
    }
    let on_path = path.into_iter().flat_map(std::env::split_paths).map(|dir| dir.join("nats-server"));
    let of_project = here.ancestors().map(|dir| dir.join(".tools/bin/nats-server"));
    let mut rejected = String::new();
    for candidate in on_path.chain(of_project).filter(|candidate| candidate.is_file()) {
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(reason) => rejected.push_str(&format!(", `{}` was refused ({reason})", candidate.display())),
        }
    }
    Err(FindError::None { rejected })
}

/// Whether a binary is a nats-server that is new enough.
fn usable(binary: &Path) -> Result<(), String> {
    let output = Command::new(binary).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.trim_start().starts_with("nats-server") {
        return Err("it does not say that it is nats-server".to_owned());
    }
    let version = text
        .split_whitespace()
        .find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()))
        .ok_or_else(|| "it does not tell its version".to_owned())?;
    if at_least(version, SERVER_VERSION_MIN) {
        return Ok(());
    }
    Err(format!("it is {version}, which drops consumer filters or loses durable batches"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(dir: &Path, version: &str) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join("nats-server");
        std::fs::write(&path, format!("#!/bin/sh\necho 'nats-server: v{version}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn an_old_server_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let old = fake(&dir.path().join("usr"), "2.9.10");
        let named = find_from(Some(old.as_os_str()), None, dir.path()).unwrap_err().to_string();
        assert!(named.contains("v2.9.10") && named.contains("2.15"), "{named}");
        let usr = dir.path().join("usr");
        let on_path = find_from(None, Some(usr.as_os_str()), dir.path()).unwrap_err().to_string();
        assert!(on_path.contains("v2.9.10") && on_path.contains("deploy/fetch"), "{on_path}");
        // Negative control: the same script with a version that will do is taken.
        let new = fake(&dir.path().join(".tools/bin"), "2.15.1");
        assert_eq!(find_from(None, Some(usr.as_os_str()), dir.path()).unwrap(), new);
    }

    #[test]
    fn another_program_is_no_server_whatever_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let other = fake(dir.path(), "9.1");
        let taken = find_from(Some(other.as_os_str()), None, dir.path());
        assert_eq!(taken.unwrap(), other, "negative control");
        std::fs::write(&other, "#!/bin/sh\necho 'false (GNU coreutils) 9.1'\n").unwrap();
        let refused = find_from(Some(other.as_os_str()), None, dir.path()).unwrap_err().to_string();
        assert!(refused.contains("does not say that it is nats-server"), "{refused}");
    }
}
