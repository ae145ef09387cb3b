//! The block stream, which fvmd reads as root: bytes from anybody, and what an encoder makes of any content.

#![no_main]

use fvm_vmm::api::{
    ImportHeader,
    stream::{BLOCK_BYTES, Decoder, Encoder, Item, MAX_FRAME_BYTES, StreamError},
};
use libfuzzer_sys::fuzz_target;

/// Decodes in pieces of a length; what came at its place, and the size of the content, if it ended well.
fn decode(stream: &[u8], piece: usize) -> Result<Vec<u8>, StreamError> {
    let mut decoder = Decoder::<ImportHeader>::default();
    decoder.limit(1 << 24);
    let mut content = Vec::new();
    let mut position = 0;
    for part in stream.chunks(piece) {
        decoder.push(part);
        while let Some(item) = decoder.next_item()? {
            match item {
                Item::Header(_) => {}
                Item::Data { offset, bytes } => {
                    assert!(offset >= position && offset.is_multiple_of(BLOCK_BYTES as u64));
                    assert!(!bytes.is_empty() && bytes.len() <= MAX_FRAME_BYTES);
                    position = offset + bytes.len() as u64;
                    assert!(position <= 1 << 24);
                    content.resize(offset as usize, 0);
                    content.extend(bytes);
                }
                Item::End { content_bytes, .. } => {
                    assert!(content_bytes >= position && content_bytes <= 1 << 24);
                    content.resize(content_bytes as usize, 0);
                }
            }
        }
    }
    decoder.finish().map(|()| content)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    // As it is. The pieces it comes in must make no difference.
    let piece = usize::from(first) + 1;
    assert_eq!(decode(rest, piece), decode(rest, usize::MAX));

    // As content, of which each byte is a run, so that little input makes many blocks.
    let content: Vec<u8> = rest
        .iter()
        .flat_map(|&byte| std::iter::repeat_n(byte / 16, usize::from(byte) * 97))
        .take(1 << 19)
        .collect();
    let (mut encoder, mut stream) = Encoder::new(&ImportHeader::default());
    for part in content.chunks(piece * 511) {
        encoder.push(part, &mut stream);
    }
    encoder.finish(&mut stream);
    assert!(decode(&stream, piece * 1009).as_ref() == Ok(&content));

    // The same with one byte changed behind the header: noticed, or of no consequence.
    let at = rest.len().wrapping_mul(2_654_435_761) % stream.len();
    stream[at] ^= first | 1;
    if let Ok(changed) = decode(&stream, usize::MAX) {
        assert!(changed == content, "a changed stream was taken for whole");
    }
});
