//! Compression of the records of a Kafka batch. Only runs of the same byte become shorter, and everything else is
//! stored. This is enough for a batch that a broker and a client can decompress, and for one that becomes a thousand
//! times larger when it is decompressed.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A run that is shorter than this is stored.
const LEAST_RUN_BYTES: usize = 64;
const LZ4_BLOCK_BYTES: usize = 4 << 20;
/// A block of LZ4 ends with bytes that are stored: at least 12.
const LZ4_LAST_BYTES: usize = 16;
const ZSTD_BLOCK_BYTES: usize = 128 << 10;

/// Every codec that Kafka has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Stored as they are.
    None,
    /// RFC 1952.
    Gzip,
    /// In the framing of Java's library.
    Snappy,
    /// LZ4's frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its number in a batch's attributes.
    #[must_use]
    pub const fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// `bytes` compressed.
    #[must_use]
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => gzip(bytes),
            Self::Snappy => snappy(bytes),
            Self::Lz4 => lz4(bytes),
            Self::Zstd => zstd(bytes),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail")
}

/// Stored bytes, followed by one byte that is repeated.
struct Piece<'a> {
    stored: &'a [u8],
    repeated: u8,
    times: usize,
}

/// `bytes` in pieces; in each but the last the repeated byte is also the last one that is stored.
fn pieces(bytes: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        let run = bytes[at..].iter().take_while(|b| **b == byte).count();
        if run > LEAST_RUN_BYTES {
            pieces.push(Piece {
                stored: &bytes[from..=at],
                repeated: byte,
                times: run - 1,
            });
            from = at + run;
        }
        at += run;
    }
    pieces.push(Piece {
        stored: &bytes[from..],
        repeated: 0,
        times: 0,
    });
    pieces
}

fn le(number: usize, bytes: usize) -> Vec<u8> {
    number.to_le_bytes()[..bytes].to_vec()
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("at most 255")
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut length = bytes.len();
    while length >= 0x80 {
        block.push(byte(length & 0x7F) | 0x80);
        length >>= 7;
    }
    block.push(byte(length));
    for piece in pieces(bytes) {
        if !piece.stored.is_empty() {
            // A literal whose length, less 1, stands in the next four bytes.
            block.push(63 << 2);
            block.extend(le(piece.stored.len() - 1, 4));
            block.extend(piece.stored);
        }
        let mut left = piece.times;
        while left > 0 {
            let part = left.min(64);
            // A copy from one byte before.
            block.push((byte(part - 1) << 2) | 2);
            block.extend(le(1, 2));
            left -= part;
        }
    }
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    let length = u32::try_from(block.len()).expect("less than 4 GiB");
    framed.extend(length.to_be_bytes());
    framed.extend(block);
    framed
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    // Magic number; version 1, independent blocks of at most 4 MiB; the checksum of these two bytes.
    let mut frame = b"\x04\x22\x4D\x18\x60\x70\x73".to_vec();
    for chunk in bytes.chunks(LZ4_BLOCK_BYTES) {
        let block = lz4_block(chunk);
        frame.extend(le(block.len(), 4));
        frame.extend(block);
    }
    frame.extend(le(0, 4));
    frame
}

fn lz4_block(bytes: &[u8]) -> Vec<u8> {
    let (head, tail) = bytes.split_at(bytes.len().saturating_sub(LZ4_LAST_BYTES));
    let mut block = Vec::new();
    let mut stored = Vec::new();
    for piece in pieces(head) {
        stored.extend(piece.stored);
        if piece.times > 0 {
            lz4_sequence(&mut block, &stored, Some(piece.times));
            stored.clear();
        }
    }
    stored.extend(tail);
    lz4_sequence(&mut block, &stored, None);
    block
}

fn lz4_sequence(block: &mut Vec<u8>, stored: &[u8], times: Option<usize>) {
    const LEAST_MATCH_BYTES: usize = 4;
    let more = times.map_or(0, |times| times - LEAST_MATCH_BYTES);
    block.push((byte(stored.len().min(15)) << 4) | byte(more.min(15)));
    lz4_rest(block, stored.len());
    block.extend(stored);
    if times.is_some() {
        block.extend(le(1, 2));
        lz4_rest(block, more);
    }
}

/// Writes the part of a length that does not fit into its four bits.
fn lz4_rest(block: &mut Vec<u8>, length: usize) {
    let Some(mut left) = length.checked_sub(15) else {
        return;
    };
    while left >= 255 {
        block.push(255);
        left -= 255;
    }
    block.push(byte(left));
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    const STORED: usize = 0;
    const REPEATED: usize = 1;
    // Magic number; the content's size follows in four bytes; a window of 1 MiB.
    let mut frame = b"\x28\xB5\x2F\xFD\x80\x50".to_vec();
    frame.extend(le(bytes.len(), 4));
    let mut block = |kind: usize, size: usize, content: &[u8], is_last: bool| {
        frame.extend(le(usize::from(is_last) | kind << 1 | size << 3, 3));
        frame.extend(content);
    };
    for piece in pieces(bytes) {
        for stored in piece.stored.chunks(ZSTD_BLOCK_BYTES) {
            block(STORED, stored.len(), stored, false);
        }
        let mut left = piece.times;
        while left > 0 {
            let part = left.min(ZSTD_BLOCK_BYTES);
            block(REPEATED, part, &[piece.repeated], false);
            left -= part;
        }
    }
    block(STORED, 0, &[], true);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_taken_out_and_nothing_is_lost() {
        let bytes = [&b"head"[..], &[7; 1000], b"middle", &[0; 64], b"end"].concat();
        let pieces = pieces(&bytes);
        let times: Vec<_> = pieces.iter().map(|p| p.times).collect();
        assert_eq!(times, [999, 0]);
        let again: Vec<u8> = pieces
            .iter()
            .flat_map(|p| [p.stored, &vec![p.repeated; p.times]].concat())
            .collect();
        assert_eq!(again, bytes);
    }
}
