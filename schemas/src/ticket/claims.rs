//! What a ticket says, and its bytes.

use jiff::Timestamp;
use minicbor::{Decode, Encode};
use uuid::Uuid;

use super::cose::Parts;
use super::decoded;
use crate::digest::Digest;
use crate::ids::{Name, TaskId};

/// What a ticket says. On the wire a CBOR map by the numbers that stand here; ids and digests are byte strings, times
/// nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Claims {
    /// Version; 1.
    #[n(1)]
    pub version: u32,
    /// The ticket's id.
    #[cbor(n(2), with = "octets")]
    pub id: Uuid,
    /// The cell whose cloud workers may use it.
    #[n(3)]
    pub audience: String,
    /// Whose task.
    #[cbor(n(4), with = "text")]
    pub tenant: Name,
    /// Who asked.
    #[cbor(n(5), with = "text")]
    pub agent: Name,
    /// The task.
    #[cbor(n(6), with = "octets")]
    pub task: TaskId,
    /// The decision that allows it.
    #[cbor(n(7), with = "octets")]
    pub decision: Uuid,
    /// The bundle that judged.
    #[cbor(n(8), with = "octets")]
    pub bundle: Digest,
    /// The directory that was asked.
    #[cbor(n(9), with = "octets")]
    pub directory: Digest,
    /// Salted digest of the exact request bytes.
    #[cbor(n(10), with = "octets")]
    pub content: Digest,
    /// The request's length, bytes.
    #[n(11)]
    pub content_bytes: u64,
    /// The provider that may receive it.
    #[cbor(n(12), with = "text")]
    pub provider: Name,
    /// The model that may answer.
    #[n(13)]
    pub model: String,
    /// The region it runs in.
    #[cbor(n(14), with = "text")]
    pub region: Name,
    /// Id of the base URL in the worker's configuration.
    #[cbor(n(15), with = "text")]
    pub base_url: Name,
    /// Most times it may be sent.
    #[n(16)]
    pub attempts_max: u32,
    /// Most tokens the answer may have.
    #[n(17)]
    pub output_tokens_max: u32,
    /// Most it may cost, millionths of a US dollar.
    #[n(18)]
    pub cost_usd_micros_max: Option<u64>,
    /// Not before.
    #[cbor(n(19), with = "time")]
    pub not_before: Timestamp,
    /// Not after; at most 120 s later.
    #[cbor(n(20), with = "time")]
    pub expires: Timestamp,
    /// When the task must have ended.
    #[cbor(n(21), with = "time")]
    pub deadline: Timestamp,
}

impl Claims {
    /// What a ticket says of itself, unproven: for the record, which notes it; permits nothing.
    #[must_use]
    pub fn told(ticket: &str) -> Option<Self> {
        Self::read(Parts::read(&decoded(ticket)?)?.claims)
    }

    /// Their bytes: the leaf that is signed.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        // Into memory, and all times that the clock can have fit; an empty payload would verify nowhere.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// Claims in the one form that [`Self::to_cbor`] writes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        minicbor::decode::<Self>(bytes).ok().filter(|claims| claims.to_cbor() == bytes)
    }
}

/// Names as text.
mod text {
    use std::str::FromStr;

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, T: AsRef<str>, W: Write>(
        value: &T,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.str(value.as_ref())?.ok()
    }

    pub(super) fn decode<'b, C, T: FromStr>(decoder: &mut Decoder<'b>, _: &mut C) -> Result<T, Error> {
        decoder.str()?.parse().map_err(|_| Error::message("not a name"))
    }
}

/// Ids and digests as byte strings.
mod octets {
    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encoder, Write};

    use super::{Digest, TaskId, Uuid};

    pub(super) trait Octets: Sized {
        fn octets(&self) -> &[u8];
        fn of(bytes: &[u8]) -> Option<Self>;
    }

    impl Octets for Uuid {
        fn octets(&self) -> &[u8] {
            self.as_bytes()
        }
        fn of(bytes: &[u8]) -> Option<Self> {
            Self::from_slice(bytes).ok()
        }
    }

    impl Octets for TaskId {
        fn octets(&self) -> &[u8] {
            self.0.octets()
        }
        fn of(bytes: &[u8]) -> Option<Self> {
            Uuid::of(bytes).map(Self)
        }
    }

    impl Octets for Digest {
        fn octets(&self) -> &[u8] {
            self.as_bytes()
        }
        fn of(bytes: &[u8]) -> Option<Self> {
            <[u8; 32]>::try_from(bytes).ok().map(Self::from)
        }
    }

    pub(super) fn encode<C, T: Octets, W: Write>(
        value: &T,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        encoder.bytes(value.octets())?.ok()
    }

    pub(super) fn decode<'b, C, T: Octets>(decoder: &mut Decoder<'b>, _: &mut C) -> Result<T, Error> {
        T::of(decoder.bytes()?).ok_or_else(|| Error::message("not of its length"))
    }
}

/// Times as nanoseconds.
mod time {
    use jiff::Timestamp;
    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        value: &Timestamp,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let nanos = i64::try_from(value.as_nanosecond())
            .map_err(|_| encode::Error::message("a time after the year 2262"))?;
        encoder.i64(nanos)?.ok()
    }

    pub(super) fn decode<'b, C>(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Timestamp, Error> {
        Timestamp::from_nanosecond(decoder.i64()?.into()).map_err(|_| Error::message("not a time"))
    }
}
