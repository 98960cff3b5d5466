//! Phrases that recognisers and key words must find, and some that only look like them.

use crate::scene::Planted;

const fn of(category: &'static str, text: &'static str) -> Planted {
    Planted { category: Some(category), code_words: 0, text }
}

const fn clean(text: &'static str) -> Planted {
    Planted { category: None, code_words: 0, text }
}

const fn code(code_words: usize, text: &'static str) -> Planted {
    Planted { category: None, code_words, text }
}

pub(crate) const FOUND: [Planted; 20] = [
    of("card", "my card is 4111 1111 1111 1111"),
    of(
        "card",
        "card \u{ff14}\u{ff11}\u{ff11}\u{ff11} \u{ff11}\u{ff11}\u{ff11}\u{ff11} \u{ff11}\u{ff11}\u{ff11}\u{ff11} \u{ff11}\u{ff11}\u{ff11}\u{ff11}",
    ),
    of("card", "card 4111\u{200b}1111\u{200b}1111\u{200b}1111"),
    of("personal", "write to jane.doe@example.org"),
    of("personal", "jane.doe [at] example [dot] org"),
    of("personal", "ring me: +44 20 7946 0958"),
    of("bank_account", "pay to GB82 WEST 1234 5698 7654 32"),
    of("national_id", "the SSN 123-45-6789"),
    of("network", "the host at 203.0.113.7 is slow"),
    of("credentials", "password: hunter2hunter2"),
    of("secret", "use AKIAIOSFODNN7EXAMPLE for it"),
    of("secret", "-----BEGIN RSA PRIVATE KEY----- MIIB"),
    of("health", "the patient was diagnosed with asthma"),
    of("legal", "an attorney-client memo"),
    of("child", "the pupils of class 4b and their grades"),
    of("hr", "her salary and the severance"),
    of("finance", "the unreleased earnings"),
    of("marked", "for internal use only"),
    code(4, "#include <stdio.h> int main() { const char *s = 0; return null }"),
    of(
        "opaque",
        "aGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQaGVsbG8gd29ybGQ",
    ),
];

/// What may be replaced by tokens.
pub(crate) const CONTACTS: [Planted; 3] = [
    of("personal", "write to jane.doe@example.org"),
    of("personal", "ring me: +44 20 7946 0958"),
    of("network", "the host at 203.0.113.7 is slow"),
];

pub(crate) const CLEAN: [Planted; 7] = [
    clean("the part number is 4111 1111 1111 1112"),
    clean("ref GB82 WEST 1234 5698 7654 33"),
    code(1, "what does npm install do"),
    clean("the number 000-12-3456"),
    clean("the loopback address 127.0.0.1"),
    clean("an inpatient's patience"),
    clean("write to jane.doe at the desk"),
];
