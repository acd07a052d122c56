//! Blobs as bytes: a first byte that says how the rest is packed.
//!
//! What matters are environments: two to five kilobytes, often different by one variable from submission to
//! submission and then stored again. Of the 2,191 bytes of the one in the fixtures LZ4 leaves 826. DEFLATE (zlib)
//! would leave 563 at about 30 us each; that is not worth it while an end costs less than a tenth of that.

use super::record::RecordError;

/// As they are.
const PLAIN: u8 = 1;
/// An LZ4 block, its length in front.
const LZ4: u8 = 2;
/// Shorter blobs are kept as they are: a page is shared by several either way.
const PACK_MIN: usize = 256;
/// No blob is longer than this; what claims to unpack to more is damaged. (A frame of the wire is shorter.)
const BLOB_MAX: usize = 64 << 20;

/// Packs a blob when that saves an eighth or more.
pub fn encode_blob(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.clear();
    if bytes.len() >= PACK_MIN && bytes.len() <= BLOB_MAX {
        let packed = lz4_flex::compress_prepend_size(bytes);
        if packed.len() + bytes.len() / 8 < bytes.len() {
            buffer.push(LZ4);
            buffer.extend_from_slice(&packed);
            return;
        }
    }
    buffer.push(PLAIN);
    buffer.extend_from_slice(bytes);
}

/// Unpacks a blob.
pub fn decode_blob(bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&PLAIN, plain)) => Ok(plain.to_vec()),
        Some((&LZ4, packed)) => {
            let (length, packed) = lz4_flex::block::uncompressed_size(packed)
                .map_err(|e| RecordError::malformed("blob", e))?;
            if length > BLOB_MAX || length / 256 > packed.len() {
                return Err(RecordError::malformed("blob", "longer than it can be"));
            }
            lz4_flex::block::decompress(packed, length)
                .map_err(|e| RecordError::malformed("blob", e))
        }
        Some((&found, _)) => Err(RecordError::Newer { found, known: LZ4 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_packs_to_half_and_little_is_not_packed() {
        let text = crate::store::fixtures::environment("ada");
        let mut packed = Vec::new();
        encode_blob(&mut packed, text.as_bytes());
        println!("{} bytes of environment take {}", text.len(), packed.len());
        assert!(
            packed.len() * 2 < text.len() + 64,
            "{} of {}",
            packed.len(),
            text.len()
        );
        assert_eq!(decode_blob(&packed).as_deref(), Ok(text.as_bytes()));
        encode_blob(&mut packed, b"#!/bin/sh\n");
        assert_eq!(packed, b"\x01#!/bin/sh\n");
    }

    #[test]
    fn a_blob_that_claims_too_much_is_refused() {
        let claim = [&[LZ4][..], &u32::MAX.to_le_bytes(), &[0; 64]].concat();
        assert!(matches!(
            decode_blob(&claim),
            Err(RecordError::Malformed { .. })
        ));
        assert!(matches!(
            decode_blob(&[9, 1, 2]),
            Err(RecordError::Newer { found: 9, .. })
        ));
    }
}
