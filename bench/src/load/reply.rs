//! As much of HTTP/1.1 as the API's answers have: a status, headers, and a body of a length that is told.

/// An answer, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Its `RateLimit` header: which limit it was counted under, and what is left of that.
    pub rate_limit: Option<&'a [u8]>,
}

/// What the bytes that have come so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    Incomplete,
    Complete {
        reply: Reply<'a>,
        /// Whether the server closes the connection behind it.
        closes: bool,
    },
    /// Nothing that this reads, such as chunks or more than one answer.
    Unreadable,
}

pub(super) fn parse(received: &[u8]) -> Received<'_> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Received::Incomplete;
    };
    let (head, body) = (&received[..end], &received[end + 4..]);
    let Some(status) = status_of(head) else {
        return Received::Unreadable;
    };
    let (mut length, mut rate_limit, mut closes) = (None, None, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Received::Unreadable;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
        } else if name.eq_ignore_ascii_case(b"ratelimit") {
            rate_limit = Some(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    match length.or((status == 204).then_some(0)) {
        Some(length) if body.len() == length => Received::Complete {
            reply: Reply {
                status,
                body,
                rate_limit,
            },
            closes,
        },
        Some(length) if body.len() < length => Received::Incomplete,
        _ => Received::Unreadable,
    }
}

/// Of `HTTP/1.1 202 Accepted`.
fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\
        ratelimit:  \"user\";r=0;t=1 \r\n\r\n{}";

    #[test]
    fn an_answer_is_there_with_its_last_byte_and_not_before() {
        for end in 0..ANSWER.len() {
            assert_eq!(parse(&ANSWER[..end]), Received::Incomplete, "{end}");
        }
        let Received::Complete { reply, closes } = parse(ANSWER) else {
            panic!("it is whole");
        };
        assert_eq!((reply.status, reply.body, closes), (429, &b"{}"[..], false));
        assert_eq!(reply.rate_limit, Some(&b"\"user\";r=0;t=1"[..]));
    }

    #[test]
    fn what_is_no_single_answer_with_a_length_is_not_read() {
        let twice = [ANSWER, ANSWER].concat();
        for text in [
            &twice,
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"[..],
            b"HTTP/1.1 abc\r\ncontent-length: 0\r\n\r\n",
            b"+PONG\r\n\r\n",
        ] {
            assert_eq!(parse(text), Received::Unreadable);
        }
        let closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert!(matches!(
            parse(closing),
            Received::Complete { closes: true, .. }
        ));
    }
}
