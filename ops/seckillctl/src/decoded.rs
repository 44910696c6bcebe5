//! Bytes as a hex dump.

/// 16 bytes on each line: their offset, their values in hexadecimal, and as ASCII.
pub(crate) fn hex_dump(bytes: &[u8]) -> String {
    let line = |(row, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let visible = |b: &u8| {
            if b.is_ascii_graphic() || *b == b' ' {
                char::from(*b)
            } else {
                '.'
            }
        };
        let ascii: String = bytes.iter().map(visible).collect();
        format!("{:08x}  {:<47}  {ascii}", row * 16, hex.join(" "))
    };
    let lines: Vec<_> = bytes.chunks(16).enumerate().map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_the_place_the_digits_and_the_characters() {
        let dump = hex_dump(b"0123456789abcdef\x00z");
        let lines: Vec<_> = dump.lines().collect();
        assert_eq!(
            lines[0],
            "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef"
        );
        assert!(lines[1].starts_with("00000010  00 7a  ") && lines[1].ends_with("  .z"));
        assert_eq!(hex_dump(&[]), "");
    }
}
