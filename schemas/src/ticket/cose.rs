//! `COSE_Sign1` (RFC 9052 §4.2, §4.4) in the one form that tickets have.

use minicbor::data::Tag;
use minicbor::{Decoder, Encoder};

const SIGN1: Tag = Tag::new(18);
const CONTEXT: &str = "Signature1";
/// What sets tickets apart from all else that the key might sign.
const EXTERNAL: &[u8] = b"tidegate ticket v1";
/// Protected header: algorithm, and EdDSA (RFC 9053 §2.2).
const ALGORITHM: u8 = 1;
const EDDSA: i8 = -8;
/// Protected header: key id.
const KEY_ID: u8 = 4;

/// Its parts, the protected header and the payload as the bytes that are signed.
#[derive(Clone, Copy)]
pub(super) struct Sign1<'a> {
    pub(super) protected: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Sign1<'a> {
    pub(super) fn to_cbor(self) -> Vec<u8> {
        written(self.payload.len() + self.protected.len() + self.signature.len() + 16, |encoder| {
            encoder.tag(SIGN1)?.array(4)?.bytes(self.protected)?.map(0)?.bytes(self.payload)?;
            encoder.bytes(self.signature)?.ok()
        })
    }

    /// The parts of what [`Self::to_cbor`] writes; nothing else has any.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let framed = decoder.tag().ok()? == SIGN1 && decoder.array().ok()? == Some(4);
        let protected = framed.then(|| decoder.bytes().ok())??;
        let bare = decoder.map().ok()? == Some(0);
        let payload = bare.then(|| decoder.bytes().ok())??;
        let sealed = Self { protected, payload, signature: decoder.bytes().ok()? };
        (sealed.to_cbor() == bytes).then_some(sealed)
    }
}

/// The protected header.
pub(super) fn protected(key_id: &str) -> Vec<u8> {
    written(key_id.len() + 8, |encoder| {
        encoder.map(2)?.u8(ALGORITHM)?.i8(EDDSA)?.u8(KEY_ID)?.bytes(key_id.as_bytes())?.ok()
    })
}

/// Which key signed, by a protected header in the one form that [`protected`] writes.
pub(super) fn key_id(header: &[u8]) -> Option<&str> {
    let mut decoder = Decoder::new(header);
    let framed = decoder.map().ok()? == Some(2)
        && decoder.u8().ok()? == ALGORITHM
        && decoder.i8().ok()? == EDDSA
        && decoder.u8().ok()? == KEY_ID;
    let id = framed.then(|| decoder.bytes().ok())??;
    let id = std::str::from_utf8(id).ok()?;
    (protected(id) == header).then_some(id)
}

/// `Sig_structure`: the bytes that the signature is over.
pub(super) fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    written(protected.len() + payload.len() + 48, |encoder| {
        encoder.array(4)?.str(CONTEXT)?.bytes(protected)?.bytes(EXTERNAL)?.bytes(payload)?.ok()
    })
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn written(capacity: usize, write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    // Into memory, which takes everything.
    let _ = write(&mut Encoder::new(&mut bytes));
    bytes
}
