//! A ticket's bytes, in the one form that it has: its claims, and a receipt (RFC 9942) that they were signed, alone or together
//! with others, as leaves of one tree.

use minicbor::data::Tag;
use minicbor::{Decoder, Encoder};

use super::tree::Hash;

const SIGN1: Tag = Tag::new(18);
const CONTEXT: &str = "Signature1";
/// What sets tickets apart from all else that the key might sign.
const EXTERNAL: &[u8] = b"tidegate ticket v2";
/// Protected header: algorithm, and EdDSA (RFC 9053 §2.2).
const ALGORITHM: u8 = 1;
const EDDSA: i8 = -8;
/// Protected header: key id.
const KEY_ID: u8 = 4;
/// Protected header: the kind of tree, and `RFC9162_SHA256` (RFC 9942 §4).
const TREE: u16 = 395;
const RFC9162_SHA256: u8 = 1;
/// Unprotected header: proofs, and those of inclusion (RFC 9942 §5.2).
const PROOFS: u16 = 396;
const INCLUSION: i8 = -1;
/// Longest path that is read, hashes.
const PATH_MAX: usize = 16;

/// A ticket's parts; claims and protected header as the bytes that are hashed or signed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts<'a> {
    pub(super) claims: &'a [u8],
    pub(super) protected: &'a [u8],
    /// Tickets that were signed together, count.
    pub(super) size: u64,
    /// Which of them this is, from 0.
    pub(super) index: u64,
    pub(super) path: Vec<Hash>,
    pub(super) signature: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn to_cbor(&self) -> Vec<u8> {
        let proof = written(self.path.len() * 34 + 16, |encoder| {
            encoder.array(3)?.u64(self.size)?.u64(self.index)?.array(self.path.len() as u64)?;
            self.path.iter().try_for_each(|hash| encoder.bytes(hash)?.ok())
        });
        let room = self.claims.len() + self.protected.len() + proof.len() + self.signature.len() + 32;
        written(room, |encoder| {
            encoder.array(2)?.bytes(self.claims)?.tag(SIGN1)?.array(4)?.bytes(self.protected)?;
            encoder.map(1)?.u16(PROOFS)?.map(1)?.i8(INCLUSION)?.array(1)?.bytes(&proof)?;
            encoder.null()?.bytes(self.signature)?.ok()
        })
    }

    /// The parts of what [`Self::to_cbor`] writes; nothing else has any.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let claims = (decoder.array().ok()? == Some(2)).then(|| decoder.bytes().ok())??;
        let framed = decoder.tag().ok()? == SIGN1 && decoder.array().ok()? == Some(4);
        let protected = framed.then(|| decoder.bytes().ok())??;
        let proofs = decoder.map().ok()? == Some(1)
            && decoder.u16().ok()? == PROOFS
            && decoder.map().ok()? == Some(1)
            && decoder.i8().ok()? == INCLUSION
            && decoder.array().ok()? == Some(1);
        let (size, index, path) = read_proof(proofs.then(|| decoder.bytes().ok())??)?;
        decoder.null().ok()?;
        let parts = Self { claims, protected, size, index, path, signature: decoder.bytes().ok()? };
        (parts.to_cbor() == bytes).then_some(parts)
    }
}

fn read_proof(bytes: &[u8]) -> Option<(u64, u64, Vec<Hash>)> {
    let mut decoder = Decoder::new(bytes);
    let framed = decoder.array().ok()? == Some(3);
    let (size, index) = framed.then(|| Some((decoder.u64().ok()?, decoder.u64().ok()?)))??;
    let hashes = usize::try_from(decoder.array().ok()??).ok().filter(|hashes| *hashes <= PATH_MAX)?;
    let path: Option<Vec<Hash>> = (0..hashes).map(|_| decoder.bytes().ok()?.try_into().ok()).collect();
    Some((size, index, path?))
}

/// The protected header.
pub(super) fn protected(key_id: &str) -> Vec<u8> {
    written(key_id.len() + 12, |encoder| {
        encoder.map(3)?.u8(ALGORITHM)?.i8(EDDSA)?.u8(KEY_ID)?.bytes(key_id.as_bytes())?;
        encoder.u16(TREE)?.u8(RFC9162_SHA256)?.ok()
    })
}

/// Which key signed, by a protected header in the one form that [`protected`] writes.
pub(super) fn key_id(header: &[u8]) -> Option<&str> {
    let mut decoder = Decoder::new(header);
    let framed = decoder.map().ok()? == Some(3)
        && decoder.u8().ok()? == ALGORITHM
        && decoder.i8().ok()? == EDDSA
        && decoder.u8().ok()? == KEY_ID;
    let id = framed.then(|| decoder.bytes().ok())??;
    let id = std::str::from_utf8(id).ok()?;
    (protected(id) == header).then_some(id)
}

/// `Sig_structure` (RFC 9052 §4.4) over the root of a tree of this size: the bytes that the signature is over. With a size that
/// is not signed, some leaves would have a second place that leads to the same root.
pub(super) fn to_be_signed(protected: &[u8], size: u64, root: &Hash) -> Vec<u8> {
    let external = [EXTERNAL, &size.to_be_bytes()].concat();
    written(protected.len() + root.len() + 56, |encoder| {
        encoder.array(4)?.str(CONTEXT)?.bytes(protected)?.bytes(&external)?.bytes(root)?.ok()
    })
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn written(capacity: usize, write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    // Into memory, which takes everything.
    let _ = write(&mut Encoder::new(&mut bytes));
    bytes
}
