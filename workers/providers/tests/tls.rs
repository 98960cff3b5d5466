//! TLS on loopback: a server of a private authority is reached with its root and refused without it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod double;

use std::path::Path;
use std::sync::Arc;

use double::{Double, GOOD, Notes, REQUEST, answer, cleared, config, control, install_crypto};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_providers::{Answer, Client, ConfigError, Control, Failure, ProviderConfig, ProviderError};

/// An authority's certificate in PEM, and a server that it certifies under this name.
async fn server(certified_as: &str) -> (String, Double) {
    install_crypto();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec![certified_as.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let scripts = (0..4).map(|_| answer(200, "", GOOD)).collect();
    (root, Double::start_tls(scripts, Arc::new(tls).into()).await)
}

async fn call(double: &Double, roots: Option<&Path>) -> Result<Answer, ProviderError> {
    let config = ProviderConfig {
        ca_file: roots.map(Path::to_owned),
        ..config(&format!("https://localhost:{}/v1", double.address.port()))
    };
    let client = Client::new(vec![config]).unwrap();
    let control = Control { attempts_max: 1, ..control() };
    client.send(&cleared(REQUEST), &control, &mut Notes::default()).await
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let (root, double) = server("localhost").await;
    std::fs::write(&file, root).unwrap();
    assert_eq!(call(&double, None).await.unwrap_err().failure, Failure::Connect, "the platform's roots");
    let (other_root, _other) = server("localhost").await;
    let other_file = folder.path().join("other.pem");
    std::fs::write(&other_file, other_root).unwrap();
    assert_eq!(call(&double, Some(&other_file)).await.unwrap_err().failure, Failure::Connect, "another root");
    assert!(double.requests().is_empty(), "zero bytes of the request");
    // Negative control: the named root reaches it.
    assert_eq!(call(&double, Some(&file)).await.unwrap().text.expose(), "hello");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let (root, double) = server("elsewhere.example").await;
    std::fs::write(&file, root).unwrap();
    assert_eq!(call(&double, Some(&file)).await.unwrap_err().failure, Failure::Connect);
    assert!(double.requests().is_empty());
}

#[test]
fn roots_that_are_no_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
        std::fs::write(&file, text).unwrap();
        let config = ProviderConfig { ca_file: Some(file.clone()), ..config("https://localhost/v1") };
        assert!(matches!(Client::new(vec![config]), Err(ConfigError::Roots { .. })), "{text:?}");
    }
}
