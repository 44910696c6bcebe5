//! Ways to give the length of a request: contradictory ones, invalid ones, and those with only one interpretation.

/// What has to happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered with 400, and the connection is closed.
    Refused,
    /// It gets one answer of any kind, because everything after the head is its body.
    Body,
    /// The connection is closed. The head may have been answered before the rest was read.
    Cut,
    /// Like a body, and the part of the hidden request after its end is refused.
    BodyAndRefused,
}

impl Fate {
    /// Whether these are the statuses of all answers on the connection.
    #[must_use]
    pub fn fits(self, statuses: &[u16]) -> bool {
        let of_handler = |status: &u16| (200..500).contains(status);
        match (self, statuses) {
            (Self::Refused, [400]) | (Self::Cut, []) => true,
            (Self::Body | Self::Cut, [one]) => of_handler(one),
            (Self::BodyAndRefused, [one, rest @ ..]) => {
                of_handler(one) && matches!(rest, [] | [400])
            }
            _ => false,
        }
    }
}

/// The bytes between the headers of a request and another request that is hidden after them. In `before`, `{n}` stands
/// for the length of the hidden request, and `{x}` for the same in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// Its name.
    pub name: &'static str,
    version: &'static str,
    before: &'static str,
    after: &'static str,
    fate: Fate,
}

impl Framing {
    /// All framings.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let all = [&LENGTHS[..], &ENCODINGS, &HEADS, &CHUNKS, &BODIES];
        all.into_iter().flatten()
    }

    /// What has to happen to a request with this framing.
    #[must_use]
    pub const fn fate(&self) -> Fate {
        self.fate
    }

    /// The bytes of a request with this framing, followed by `hidden`. `line` is `POST /path`, and every line of
    /// `headers` ends with CRLF.
    #[must_use]
    pub fn request(&self, line: &str, headers: &str, hidden: &str) -> String {
        let number = hidden.len();
        let before = self.before.replace("{n}", &number.to_string());
        let before = before.replace("{x}", &format!("{number:x}"));
        let (version, after) = (self.version, self.after);
        format!("{line} HTTP/{version}\r\nHost: a\r\n{headers}{before}{hidden}{after}")
    }
}

const fn refused(name: &'static str, before: &'static str) -> Framing {
    Framing {
        name,
        version: "1.1",
        before,
        after: "",
        fate: Fate::Refused,
    }
}

const fn body(name: &'static str, before: &'static str, after: &'static str) -> Framing {
    Framing {
        name,
        version: "1.1",
        before,
        after,
        fate: Fate::Body,
    }
}

const fn cut(name: &'static str, before: &'static str) -> Framing {
    Framing {
        name,
        version: "1.1",
        before,
        after: "",
        fate: Fate::Cut,
    }
}

const fn of_version(version: &'static str, framing: Framing) -> Framing {
    Framing { version, ..framing }
}

/// Lengths that contradict each other or are invalid.
const LENGTHS: [Framing; 17] = [
    refused(
        "CL and TE",
        "Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "TE and CL",
        "Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "CL 0 and TE",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "two CLs",
        "Content-Length: 0\r\nContent-Length: {n}\r\n\r\n",
    ),
    refused(
        "two CLs, larger first",
        "Content-Length: {n}\r\nContent-Length: 0\r\n\r\n",
    ),
    refused(
        "the same CL twice",
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ),
    refused("a list of CLs", "Content-Length: 0, {n}\r\n\r\n"),
    refused("a list of equal CLs", "Content-Length: 0, 0\r\n\r\n"),
    refused("CL +0", "Content-Length: +0\r\n\r\n"),
    refused("CL -0", "Content-Length: -0\r\n\r\n"),
    refused("CL 0x0", "Content-Length: 0x0\r\n\r\n"),
    refused("CL 0_0", "Content-Length: 0_0\r\n\r\n"),
    refused("CL 0 0", "Content-Length: 0 0\r\n\r\n"),
    refused("CL of nothing", "Content-Length:\r\n\r\n"),
    refused("CL 2^64", "Content-Length: 18446744073709551616\r\n\r\n"),
    refused("CL 0 in a quote", "Content-Length: \"0\"\r\n\r\n"),
    refused(
        "CL with a space before the colon",
        "Content-Length : 0\r\n\r\n",
    ),
];

/// Transfer-Encodings that one server interprets as chunked and another does not.
const ENCODINGS: [Framing; 22] = [
    refused(
        "chunked, identity",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "identity, chunked",
        "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "chunked, chunked",
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "gzip, chunked",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    refused("identity", "Transfer-Encoding: identity\r\n\r\n"),
    refused("xchunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    refused("chunkedx", "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"),
    refused("quoted", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    refused(
        "a parameter",
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    refused("of nothing", "Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    refused(
        "vertical tab",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "two",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "two, last chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "the same twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "a space before the colon",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "a tab before the colon",
        "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "a space before the name",
        " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused("folded", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    refused(
        "behind a bare LF, and CL",
        "Content-Length: {n}\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "behind a bare CR",
        "X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    of_version(
        "1.0",
        refused(
            "in HTTP/1.0",
            "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
        ),
    ),
    of_version(
        "1.0",
        refused(
            "and CL in HTTP/1.0",
            "Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ),
];

/// Heads that are not valid HTTP.
const HEADS: [Framing; 9] = [
    refused("NUL in a value", "X: a\0b\r\nContent-Length: 0\r\n\r\n"),
    refused("NUL in a name", "X\0: a\r\nContent-Length: 0\r\n\r\n"),
    refused("NUL behind CL", "Content-Length\0: 0\r\n\r\n"),
    refused("a second Host", "Host: b\r\nContent-Length: 0\r\n\r\n"),
    refused("a line without a colon", "X\r\nContent-Length: 0\r\n\r\n"),
    refused("a name of nothing", ": a\r\nContent-Length: 0\r\n\r\n"),
    refused("an old fold", "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    of_version("1.2", refused("version 1.2", "Content-Length: 0\r\n\r\n")),
    of_version("2.0", refused("version 2.0", "Content-Length: 0\r\n\r\n")),
];

/// Invalid chunks. Everything after them belongs to no request.
const CHUNKS: [Framing; 12] = [
    cut(
        "a size of nothing",
        "Transfer-Encoding: chunked\r\n\r\n\r\n",
    ),
    cut("size -1", "Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
    cut("size +0", "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n"),
    cut("size 0x0", "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"),
    cut("size 0 0", "Transfer-Encoding: chunked\r\n\r\n0 0\r\n\r\n"),
    cut(
        "size 2^64",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    ),
    cut(
        "size 2^64 - 1",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ),
    cut(
        "a bare LF behind the size",
        "Transfer-Encoding: chunked\r\n\r\n0\n\r\n",
    ),
    cut(
        "a bare LF in an extension",
        "Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n",
    ),
    Framing {
        fate: Fate::BodyAndRefused,
        ..cut(
            "a bare LF before a trailer",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        )
    },
    cut(
        "more data than the size",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
    cut(
        "data without its end",
        "Transfer-Encoding: chunked\r\n\r\n1\r\na0\r\n\r\n",
    ),
];

/// Framings with only one interpretation in the standard: the hidden request is the body, or a part of it.
const BODIES: [Framing; 12] = [
    body("a body of its length", "Content-Length: {n}\r\n\r\n", ""),
    body(
        "a length between spaces",
        "Content-Length:   {n}\t\r\n\r\n",
        "",
    ),
    body(
        "a chunk",
        "Transfer-Encoding: chunked\r\n\r\n{x}\r\n",
        "\r\n0\r\n\r\n",
    ),
    body(
        "a chunk, between tabs",
        "Transfer-Encoding:\tCHUNKED\t\r\n\r\n{x}\r\n",
        "\r\n0\r\n\r\n",
    ),
    body(
        "a chunk with an extension",
        "Transfer-Encoding: chunked\r\n\r\n{x};a=b\r\n",
        "\r\n0\r\n\r\n",
    ),
    Framing {
        fate: Fate::BodyAndRefused,
        ..body(
            "a trailer",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
            "\r\n",
        )
    },
    body(
        "another name",
        "Transfer_Encoding: chunked\r\nContent-Length: {n}\r\n\r\n",
        "",
    ),
    body(
        "an upgrade to WebSocket",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: {n}\r\n\r\n",
        "",
    ),
    body(
        "an upgrade of length 0",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        "",
    ),
    body(
        "an upgrade to HTTP/2",
        "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: {n}\r\n\r\n",
        "",
    ),
    body(
        "expected",
        "Expect: 100-continue\r\nContent-Length: {n}\r\n\r\n",
        "",
    ),
    of_version(
        "1.0",
        body(
            "kept alive",
            "Connection: keep-alive\r\nContent-Length: {n}\r\n\r\n",
            "",
        ),
    ),
];

/// Beginnings of a connection that are not a request. The bytes after them are not a request either.
pub const NO_REQUESTS: [&str; 9] = [
    "GET / \r\n\r\n",
    "GET /\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];
