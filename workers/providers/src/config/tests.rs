#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn config(reach: Reach, url: &str) -> ProviderConfig {
    serde_json::from_value(serde_json::json!({
        "name": "p",
        "protocol": "openai_chat",
        "endpoints": { "main": { "url": url, "region": "eu", "models": ["m"] } },
        "reach": match reach { Reach::Public => "public", Reach::Loopback => "loopback", Reach::Private => "private" }
    }))
    .unwrap()
}

#[test]
fn ssrf_urls_are_permitted_by_reach() {
    use Reach::{Loopback, Private, Public};
    let table = [
        (Public, "https://api.openai.com/v1", true),
        (Public, "https://api.openai.com/v1/", true),
        (Public, "https://8.8.8.8/v1", true),
        (Public, "http://api.openai.com/v1", false),
        (Public, "https://127.0.0.1/v1", false),
        (Public, "https://[::1]/v1", false),
        (Public, "https://[::ffff:127.0.0.1]/v1", false),
        (Public, "https://[::ffff:a9fe:a9fe]/v1", false),
        (Public, "https://169.254.169.254/latest", false),
        // Other ways to write 127.0.0.1 and 169.254.169.254 (WHATWG URL reads them as addresses).
        (Public, "https://0x7f.1/v1", false),
        (Public, "https://2130706433/v1", false),
        (Public, "https://0177.0.0.1/v1", false),
        (Public, "https://127.1/v1", false),
        (Public, "https://0xa9fea9fe/v1", false),
        (Public, "https://①②⑦.⓪.⓪.①/v1", false),
        (Public, "https://１２７.０.０.１/v1", false),
        (Public, "https://127。0。0。1/v1", false),
        (Public, "https://0/v1", false),
        (Public, "https://0.0.0.0/v1", false),
        (Public, "https://[::]/v1", false),
        (Public, "https://[fe80::1]/v1", false),
        (Public, "https://[fe80::1%25eth0]/v1", false),
        (Public, "https://[2002:7f00:1::]/v1", false),
        // Metadata services of four clouds.
        (Public, "https://100.100.100.200/v1", false),
        (Public, "https://192.0.0.192/v1", false),
        (Public, "https://[fd00:ec2::254]/v1", false),
        (Private, "http://[fd00:ec2::254]/v1", false),
        // Whose host is another than it seems.
        (Public, "https://127.0.0.1\\@api.openai.com/v1", false),
        (Public, "https://api.openai.com@127.0.0.1/v1", false),
        (Public, "https://127.0.0.1#@api.openai.com/v1", false),
        (Public, "https:///127.0.0.1/v1", false),
        // Other ports, and the usual one.
        (Public, "https://api.openai.com:22/v1", false),
        (Public, "https://api.openai.com:80/v1", false),
        (Public, "https://api.openai.com:8443/v1", false),
        (Public, "https://api.openai.com:443/v1", true),
        (Public, "https://10.0.0.1/v1", false),
        (Public, "https://192.168.1.1/v1", false),
        (Public, "https://[fd00::1]/v1", false),
        (Public, "https://[64:ff9b::7f00:1]/v1", false),
        (Public, "https://user:pw@api.openai.com/v1", false),
        (Public, "https://user@api.openai.com/v1", false),
        (Public, "https://api.openai.com/v1?key=x", false),
        (Public, "https://api.openai.com/v1#x", false),
        (Public, "ftp://api.openai.com/v1", false),
        (Public, "file:///etc/passwd", false),
        (Public, "gopher://127.0.0.1:4222/", false),
        (Public, "data:text/plain,x", false),
        (Public, "api.openai.com/v1", false),
        (Public, "", false),
        (Loopback, "http://127.0.0.1:4000/v1", true),
        (Loopback, "http://localhost:4000/v1", true),
        (Loopback, "https://8.8.8.8/v1", false),
        (Loopback, "http://10.0.0.1/v1", false),
        (Private, "http://10.0.0.1/v1", true),
        (Private, "http://169.254.169.254/v1", false),
        (Private, "https://8.8.8.8/v1", false),
    ];
    for (reach, url, fine) in table {
        assert_eq!(config(reach, url).places().is_ok(), fine, "{reach:?} {url}");
    }
}

#[test]
fn ssrf_a_port_that_the_operator_lists_is_permitted_there_alone() {
    let mut config = config(Reach::Public, "https://api.openai.com:8443/v1");
    assert!(config.places().is_err(), "negative control");
    config.other_ports = [8443].into();
    assert!(config.places().is_ok());
    config.endpoints.values_mut().next().unwrap().url = "https://api.openai.com:8444/v1".to_owned();
    assert!(config.places().is_err());
}

#[test]
fn the_call_goes_below_the_base_url() {
    for base in ["https://api.openai.com/v1", "https://api.openai.com/v1/"] {
        let places = config(Reach::Public, base).places().unwrap();
        let place = places.values().next().unwrap();
        assert_eq!(place.url.as_str(), "https://api.openai.com/v1/chat/completions");
        assert_eq!(place.host, "api.openai.com");
    }
}

#[test]
fn unknown_keys_and_empty_lists_are_refused() {
    let unknown =
        serde_json::json!({ "name": "p", "protocol": "openai_chat", "endpoints": {}, "proxy": "x" });
    assert!(serde_json::from_value::<ProviderConfig>(unknown).is_err());
    let empty = serde_json::json!({ "name": "p", "protocol": "openai_chat", "endpoints": {} });
    let empty: ProviderConfig = serde_json::from_value(empty).unwrap();
    assert_eq!(empty.places().unwrap_err(), ConfigError::NoEndpoint { provider: Name::new("p").unwrap() });
}

#[test]
fn keys_come_from_files_and_show_in_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let mut config = config(Reach::Public, "https://api.openai.com/v1");
    config.api_key = Some(KeySource::File(path.clone()));
    assert!(config.key().is_err(), "no such file");
    for (text, fine) in [("sk-CANARY\n", true), ("", false), ("sk-CANARY x", false), ("sk-CANARY\nx", false)]
    {
        std::fs::write(&path, text).unwrap();
        match config.key() {
            Ok(key) => {
                assert!(fine, "{text:?}");
                assert!(!format!("{key:?}").contains("CANARY"));
            }
            Err(error) => {
                assert!(!fine, "{text:?}");
                assert!(!format!("{error} {error:?}").contains("CANARY"));
            }
        }
    }
    config.api_key = Some(KeySource::Credential("../key".into()));
    assert!(config.key().is_err(), "no way out of the credentials directory");
}
