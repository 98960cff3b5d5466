//! What a role's own door says, asked over loopback.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a door may take to answer.
const DOOR: Duration = Duration::from_secs(2);
/// Longest answer of a door, bytes.
const DOOR_BYTES_MAX: u64 = 1024 * 1024;

/// Whether every process of a role answers that it can do its work.
pub(in crate::command) async fn is_ready(addresses: &BTreeMap<String, String>, role: &str) -> bool {
    for (_, address) in addresses.iter().filter(|(name, _)| name.split('-').next() == Some(role)) {
        if !matches!(readiness(address).await, Ok((true, _))) {
            return false;
        }
    }
    true
}

/// What a role says that it lacks.
pub(in crate::command) async fn why_not_ready(
    addresses: &BTreeMap<String, String>,
    role: &str,
) -> Option<String> {
    for (_, address) in addresses.iter().filter(|(name, _)| name.split('-').next() == Some(role)) {
        match readiness(address).await {
            Ok((true, _)) => {}
            Ok((false, why)) => return Some(why),
            Err(error) => return Some(format!("it does not answer: {error}")),
        }
    }
    None
}

pub(super) fn host(address: &str) -> &str {
    address.trim_start_matches("http://")
}

/// What a door's `/readyz` says.
pub(super) async fn readiness(address: &str) -> std::io::Result<(bool, String)> {
    #[derive(Deserialize)]
    struct Told {
        ok: bool,
        sentence: String,
    }
    let body = get(address, "/readyz").await?;
    let told: Told =
        serde_json::from_str(&body).map_err(|_| std::io::Error::other("it is no health door"))?;
    Ok((told.ok, told.sentence))
}

/// What a door answers to the question for a path.
pub(super) async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let host = host(address);
    let asked = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(DOOR_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    };
    let late = || std::io::Error::other("no answer in time");
    tokio::time::timeout(DOOR, asked).await.unwrap_or_else(|_| Err(late()))
}
