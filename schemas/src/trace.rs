//! W3C Trace Context (Level 2): `traceparent` is read, or made, and each hop gets a child.

use std::fmt;
use std::str::FromStr;

use crate::ids::BadId;

/// A `traceparent`: trace id, parent span id, flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// A new root from random bits. Zero ids are invalid, so the low bit is set. It is not sampled: nobody has recorded a span
    /// of it, and a server that meets a sampled trace takes all headers of the message apart.
    #[must_use]
    pub fn root(trace: u128, span: u64) -> Self {
        Self { trace: trace | 1, span: span | 1, flags: 0 }
    }

    /// The next hop of the same trace.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { span: span | 1, ..self }
    }

    /// The trace id as 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl FromStr for TraceParent {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = BadId { what: "traceparent", rule: "`00-<32 hex>-<16 hex>-<2 hex>`" };
        let hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts.as_slice() else { return Err(bad) };
        if *version != "00" || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return Err(bad);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| bad)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| bad)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| bad)?;
        if trace == 0 || span == 0 { Err(bad) } else { Ok(Self { trace, span, flags }) }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}
