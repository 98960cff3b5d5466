//! A marked corpus: texts, and where in them which values stand.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// Types of values that must not leave: those that name a person or a thing of a person.
pub(super) const CORE: [&str; 10] = [
    "PERSON",
    "STREET_ADDRESS",
    "ZIP_CODE",
    "PHONE_NUMBER",
    "EMAIL_ADDRESS",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "IP_ADDRESS",
    "US_DRIVER_LICENSE",
];
/// Types whose values carry a check digit.
pub(super) const CHECKSUM: [&str; 2] = ["CREDIT_CARD", "IBAN_CODE"];

/// A text and its values.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

/// A value that was marked.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) range: Range<usize>,
    pub(super) entity: String,
}

#[derive(Deserialize)]
struct Wire {
    full_text: String,
    #[serde(default)]
    spans: Vec<SpanWire>,
}

/// Places are in characters.
#[derive(Deserialize)]
struct SpanWire {
    entity_type: String,
    start_position: usize,
    end_position: usize,
}

pub(super) fn read(path: &Path) -> Result<Vec<Text>> {
    let file = std::fs::read(path).with_context(|| format!("reading `{}`", path.display()))?;
    let wire: Vec<Wire> = serde_json::from_slice(&file).with_context(|| {
        format!(
            "reading `{}`: a list of {{full_text, spans: [{{entity_type, start_position, end_position}}]}} is wanted",
            path.display()
        )
    })?;
    Ok(wire.into_iter().map(Text::from).collect())
}

/// The types of a corpus that a finding's values are; the first is its own.
pub(super) fn types(finding: &str) -> &'static [&'static str] {
    match finding {
        "person" => &["PERSON", "TITLE"],
        "address" => &["STREET_ADDRESS", "ZIP_CODE", "GPE"],
        "drivers_license" => &["US_DRIVER_LICENSE"],
        "tax_id" | "government_id" => &["US_SSN", "US_DRIVER_LICENSE"],
        "bank_account" | "routing_number" => &["IBAN_CODE", "CREDIT_CARD"],
        "email" | "email_spelled" => &["EMAIL_ADDRESS"],
        "phone" | "phone_national" | "phone_bracketed" | "phone_named" | "phone_near" | "phone_short" => {
            &["PHONE_NUMBER"]
        }
        "card" => &["CREDIT_CARD"],
        "iban" => &["IBAN_CODE"],
        "us_ssn" | "us_ssn_named" | "us_itin" => &["US_SSN"],
        "identity_document" => &["US_DRIVER_LICENSE"],
        "ipv4" | "ipv6" => &["IP_ADDRESS"],
        "birth_date" => &["DATE_TIME"],
        "us_zip" | "uk_postcode" => &["ZIP_CODE", "STREET_ADDRESS", "GPE"],
        "post_box" => &["STREET_ADDRESS"],
        name if name.starts_with("street_address") => &["STREET_ADDRESS", "ZIP_CODE", "GPE"],
        _ => &["OTHER"],
    }
}

// === impl Text ===

impl From<Wire> for Text {
    fn from(wire: Wire) -> Self {
        let mut text = Self { text: wire.full_text, values: Vec::new() };
        text.values = wire
            .spans
            .into_iter()
            .map(|span| Value {
                range: text.bytes(span.start_position..span.end_position),
                entity: span.entity_type,
            })
            .collect();
        text
    }
}

impl Text {
    /// A range of characters as one of bytes.
    pub(super) fn bytes(&self, characters: Range<usize>) -> Range<usize> {
        let at = |index: usize| self.text.char_indices().nth(index).map_or(self.text.len(), |(at, _)| at);
        let start = at(characters.start);
        start..at(characters.end).max(start)
    }
}
