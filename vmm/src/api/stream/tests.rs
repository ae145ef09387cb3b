//! What goes in comes out, and nothing else does.

use super::*;
use crate::api::ImportHeader;

fn encode(content: &[u8], piece: usize) -> Vec<u8> {
    let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
    for part in content.chunks(piece) {
        encoder.push(part, &mut out);
    }
    encoder.finish(&mut out);
    out
}

fn decode(stream: &[u8], piece: usize) -> Result<Vec<u8>, StreamError> {
    let mut decoder = Decoder::<ImportHeader>::default();
    let mut content = Vec::new();
    for part in stream.chunks(piece) {
        decoder.push(part);
        while let Some(item) = decoder.next_item()? {
            match item {
                Item::Header(_) => {}
                Item::Data { offset, bytes } => {
                    content.resize(offset as usize, 0);
                    content.extend(bytes);
                }
                Item::End { content_bytes, .. } => content.resize(content_bytes as usize, 0),
            }
        }
    }
    decoder.finish()?;
    Ok(content)
}

/// Data, a hole of many blocks, data, an odd end.
fn sample() -> Vec<u8> {
    let mut content = vec![0; 40 * BLOCK_BYTES + 777];
    content[5] = 1;
    content[20 * BLOCK_BYTES - 1] = 2;
    content[20 * BLOCK_BYTES] = 3;
    content[40 * BLOCK_BYTES + 700] = 4;
    content
}

#[test]
fn content_comes_back_whatever_the_pieces() {
    let content = sample();
    let reference = encode(&content, content.len());
    for piece in [
        1000,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES * 3 + 1,
        content.len(),
    ] {
        let stream = encode(&content, piece);
        assert_eq!(decode(&stream, piece).unwrap(), content);
        assert_eq!(
            stream[stream.len() - 32..],
            reference[reference.len() - 32..]
        );
    }
}

#[test]
fn zeros_are_not_sent() {
    let content = sample();
    let stream = encode(&content, content.len());
    assert!(
        stream.len() < 5 * BLOCK_BYTES,
        "{} bytes were sent",
        stream.len()
    );
    let empty = encode(&vec![0; 100 * BLOCK_BYTES], BLOCK_BYTES);
    assert!(
        empty.len() < 100,
        "{} bytes for nothing but zeros",
        empty.len()
    );
}

#[test]
fn a_skipped_hole_is_the_same_as_zeros_read() {
    let mut content = vec![0; 8 * BLOCK_BYTES];
    content[7 * BLOCK_BYTES] = 9;
    let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
    assert!(encoder.skip(7 * BLOCK_BYTES as u64));
    encoder.push(&content[7 * BLOCK_BYTES..], &mut out);
    encoder.finish(&mut out);
    assert_eq!(out, encode(&content, 4096));
}

#[test]
fn a_hole_may_begin_and_end_anywhere() {
    let mut content = vec![0; 8 * BLOCK_BYTES + 100];
    content[..1000].fill(1);
    content[5 * BLOCK_BYTES + 7..6 * BLOCK_BYTES + 9].fill(2);
    let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
    encoder.push(&content[..1000], &mut out);
    encoder.hole((5 * BLOCK_BYTES + 7 - 1000) as u64, &mut out);
    encoder.push(&content[5 * BLOCK_BYTES + 7..6 * BLOCK_BYTES + 9], &mut out);
    encoder.hole((2 * BLOCK_BYTES + 91) as u64, &mut out);
    encoder.finish(&mut out);
    assert_eq!(out, encode(&content, 4096));
}

#[test]
fn a_sender_that_gives_up_says_why() {
    let error = ApiError::new(super::super::ErrorKind::Failed, "the disk broke").hint("see dmesg");
    let (mut encoder, mut out) = Encoder::new(&ImportHeader::default());
    encoder.push(&[7; 3 * BLOCK_BYTES], &mut out);
    out.extend(failure(&error));
    let told = StreamError::Failed(Box::new(error));
    assert_eq!(decode(&out, 4096), Err(told));
    // Cut off inside, it is no more than that.
    assert!(matches!(
        decode(&out[..out.len() - 1], 4096),
        Err(StreamError::CutOff(_))
    ));
}

#[test]
fn a_cut_stream_is_never_taken_for_a_whole_one() {
    let stream = encode(&sample(), 4096);
    for length in (0..stream.len()).step_by(997).chain([stream.len() - 1]) {
        assert!(decode(&stream[..length], 4096).is_err(), "cut at {length}");
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    let stream = encode(&sample(), 4096);
    for at in (0..stream.len()).step_by(1009) {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x10;
        assert!(decode(&damaged, 65536).is_err(), "bit flipped at {at}");
    }
}

#[test]
fn frames_out_of_order_or_beyond_the_limit_are_refused() {
    let (_, head) = Encoder::new(&ImportHeader::default());
    let frame = |offset: u64, length: u32| {
        let mut bytes = offset.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(vec![7; length as usize]);
        bytes
    };
    let block = BLOCK_BYTES as u64;
    for frames in [
        vec![frame(block, 65536), frame(0, 65536)],
        vec![frame(0, 65536), frame(0, 65536)],
        vec![frame(5, 65536)],
        vec![frame(0, 100), frame(block, 65536)],
        vec![frame(0, MAX_FRAME_BYTES as u32 + 1)],
        vec![frame(u64::MAX - 65535, 65536)],
    ] {
        let stream = [head.clone(), frames.concat()].concat();
        let error = decode(&stream, 1 << 20).unwrap_err();
        assert!(!matches!(error, StreamError::CutOff(_)), "{error:?}");
    }
    let mut decoder = Decoder::<ImportHeader>::default();
    decoder.limit(block);
    decoder.push(&[head, frame(block, 65536)].concat());
    assert!(matches!(decoder.next_item(), Ok(Some(Item::Header(_)))));
    assert_eq!(
        decoder.next_item(),
        Err(StreamError::TooLarge { limit: block })
    );
}
