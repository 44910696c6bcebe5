//! The address of a request's client, as far as it can be trusted.

use std::iter::successors;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use ipnet::IpNet;

use crate::metrics;

/// Proxies whose header with the client's address is trusted. From any other peer, that header is a text of the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ProxyHeader,
}

/// The header that the proxies write. The other header is ignored, because they pass it on as the client wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: 198.51.100.1, 10.0.0.1`, also with ports.
    #[default]
    XForwardedFor,
    /// RFC 7239's `Forwarded: for="[2001:db8::1]:443";proto=https, for=10.0.0.1`.
    Forwarded,
}

impl FromStr for ProxyHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::XForwardedFor, Self::Forwarded];
        let named = known.into_iter().find(|header| header.name() == text);
        named.ok_or_else(|| "it is x-forwarded-for or forwarded".to_owned())
    }
}

impl std::fmt::Display for ProxyHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ProxyHeader {
    const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// One element of the header: one hop.
    fn hop(self, element: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node(element),
            Self::Forwarded => {
                let node_of = |pair: &[u8]| {
                    let equals = pair.iter().position(|byte| *byte == b'=')?;
                    let is_for = pair[..equals].trim_ascii().eq_ignore_ascii_case(b"for");
                    is_for.then(|| node(&pair[equals + 1..]))
                };
                from_the_right(element, b';').find_map(node_of)?
            }
        }
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    /// Addresses and networks, separated by commas: `10.0.0.0/8,192.0.2.7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let networks = parts.map(|part| {
            let network = part.parse::<IpNet>().ok();
            let network = network.or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from));
            network.ok_or_else(|| format!("{part} is no address and no network (10.0.0.0/8)"))
        });
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            header: ProxyHeader::default(),
        })
    }
}

impl TrustedProxies {
    /// The same proxies, with this header.
    #[must_use]
    pub fn writing(self, header: ProxyHeader) -> Self {
        Self { header, ..self }
    }

    /// The client's address: the peer's, or behind trusted proxies the last address in the header that is not
    /// one of them. None if they wrote something that is not an address. The elements before it are not used: they
    /// may be texts of the client.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip().to_canonical();
        if !self.trusts(peer) || !request.headers().contains_key(self.header.name()) {
            return Some(peer);
        }
        let mut client = None;
        for hop in self.hops(request) {
            client = hop;
            if hop.is_none_or(|address| !self.trusts(address)) {
                break;
            }
        }
        if client.is_none() {
            metrics::CLIENT_ADDRESS_UNKNOWN.only().increment(1);
        }
        client
    }

    /// If [`Self::client`] is not known: the address that the elements before claim. It may be used to refuse a
    /// request, but not to count something against that address.
    #[must_use]
    pub fn claimed(&self, request: &HttpRequest) -> Option<IpAddr> {
        let mut addresses = self.hops(request).flatten();
        addresses.find(|address| !self.trusts(*address))
    }

    /// Whether the nearest proxy says that its client connected by TLS.
    #[must_use]
    pub fn came_by_tls(&self, request: &HttpRequest) -> bool {
        let peer = request.peer_addr();
        if !peer.is_some_and(|peer| self.trusts(peer.ip().to_canonical())) {
            return false;
        }
        let last = |name: &str| {
            let line = request.headers().get_all(name).last();
            line.and_then(|line| from_the_right(line.as_bytes(), b',').next())
        };
        match self.header {
            ProxyHeader::XForwardedFor => last("x-forwarded-proto")
                .is_some_and(|scheme| scheme.trim_ascii().eq_ignore_ascii_case(b"https")),
            ProxyHeader::Forwarded => last(self.header.name()).is_some_and(|element| {
                from_the_right(element, b';').any(|pair| {
                    let pair = pair.trim_ascii();
                    let known: [&[u8]; 2] = [b"proto=https", b"proto=\"https\""];
                    known.iter().any(|known| pair.eq_ignore_ascii_case(known))
                })
            }),
        }
    }

    /// The nearest first.
    fn hops(&self, request: &HttpRequest) -> impl Iterator<Item = Option<IpAddr>> {
        let lines = request.headers().get_all(self.header.name());
        let lines: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
        let elements = lines.into_iter().rev();
        let elements = elements.flat_map(|line| from_the_right(line, b','));
        let elements = elements.filter(|element| !element.trim_ascii().is_empty());
        let header = self.header;
        elements.map(move |element| header.hop(element))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let trusted = |network: &IpNet| network.contains(&address);
        self.networks.iter().any(trusted)
    }
}

/// The elements of a list, the last one first. Quotes are paired from the right, so that a quote that a client
/// opens and never closes swallows nothing of what proxies write behind it.
fn from_the_right(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let first = split_last(list, separator);
    let all = successors(Some(first), move |(before, _)| {
        before.map(|before| split_last(before, separator))
    });
    all.map(|(_, element)| element)
}

/// The text before the last separator outside quotes, and the text behind it.
fn split_last(list: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for (place, byte) in list.iter().enumerate().rev() {
        if *byte == b'"' && !is_escaped(&list[..place]) {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            return (Some(&list[..place]), &list[place + 1..]);
        }
    }
    (None, list)
}

fn is_escaped(before: &[u8]) -> bool {
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// `203.0.113.9`, `203.0.113.9:51234`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`, also in quotes.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let unquoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = unquoted.unwrap_or(text);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let address: IpAddr = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_alone = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        is_alone.then(|| address.parse::<Ipv6Addr>())?.ok()?.into()
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        is_port(port)
            .then(|| address.parse::<Ipv4Addr>())?
            .ok()?
            .into()
    };
    Some(address.to_canonical())
}

/// The subscriber of an address: an IPv6 subscriber has a whole /64.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn request(peer: &str, header: ProxyHeader, lines: &[&[u8]]) -> HttpRequest {
        let mut request = TestRequest::default().peer_addr(format!("{peer}:1").parse().unwrap());
        for line in lines {
            let value = HeaderValue::from_bytes(line).unwrap();
            request = request.append_header((header.name(), value));
        }
        request.to_http_request()
    }

    fn proxies(header: ProxyHeader) -> TrustedProxies {
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.7".parse().unwrap();
        proxies.writing(header)
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let header = ProxyHeader::XForwardedFor;
        let lines: Vec<&[u8]> = forwarded.iter().map(|line| line.as_bytes()).collect();
        let client = proxies(header).client(&request(peer, header, &lines));
        client.map_or("unknown".to_owned(), |address| address.to_string())
    }

    /// Behind a proxy that writes `Forwarded`.
    fn forwarded(line: &str) -> String {
        let header = ProxyHeader::Forwarded;
        let client = proxies(header).client(&request("10.1.2.3", header, &[line.as_bytes()]));
        client.map_or("unknown".to_owned(), |address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("203.0.113.5", &["198.51.100.1"]), "203.0.113.5");
        assert_eq!(client("10.1.2.3", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("192.0.2.7", &[]), "192.0.2.7");
    }

    #[test]
    fn what_a_client_writes_before_the_proxies_is_not_believed() {
        for client_and_proxies in [
            &["1.1.1.1, 198.51.100.1, 10.9.9.9"][..],
            &["1.1.1.1", "198.51.100.1"],
            &["\", 198.51.100.1", "10.9.9.9:80"],
            &["me, \"1.1.1.1, 198.51.100.1:443 ,, 10.9.9.9"],
        ] {
            let found = client("10.1.2.3", client_and_proxies);
            assert_eq!(found, "198.51.100.1", "{client_and_proxies:?}");
        }
    }

    #[test]
    fn an_address_may_have_a_port_brackets_and_quotes() {
        for (hop, address) in [
            ("203.0.113.9:51234", "203.0.113.9"),
            ("\"203.0.113.9\"", "203.0.113.9"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ] {
            assert_eq!(client("10.1.2.3", &[hop]), address, "{hop}");
            assert_eq!(
                forwarded(&format!("For={hop};proto=https")),
                address,
                "{hop}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nobody() {
        let header = ProxyHeader::XForwardedFor;
        for line in [
            &b"\xff, 203.0.113.9"[..],
            b"\xc3\xa9, 203.0.113.9:51234, 10.9.9.9",
        ] {
            let found = proxies(header).client(&request("10.1.2.3", header, &[line]));
            assert_eq!(found.unwrap().to_string(), "203.0.113.9", "{line:?}");
        }
    }

    #[test]
    fn a_proxy_that_writes_no_address_makes_nobody_the_proxy_and_hides_no_claim() {
        let header = ProxyHeader::XForwardedFor;
        for hop in [
            "unknown",
            "_hidden",
            "203.0.113.9:http",
            "1.2.3.4.5",
            "[::1",
            "[::1]x",
            ",",
        ] {
            assert_eq!(client("10.1.2.3", &[hop]), "unknown", "{hop}");
            let hops = format!("203.0.113.9, {hop}, 10.9.9.9");
            let request = request("10.1.2.3", header, &[hops.as_bytes()]);
            let claimed = proxies(header).claimed(&request);
            assert_eq!(claimed.unwrap().to_string(), "203.0.113.9", "{hop}");
        }
        assert_eq!(forwarded("for=unknown"), "unknown");
        assert_eq!(forwarded("proto=https"), "unknown");
    }

    #[test]
    fn quotes_in_forwarded_hold_what_is_in_them() {
        for line in [
            "for=1.1.1.1, for=198.51.100.1;host=\"a, for=1.1.1.1\"",
            "host=\"a;for=1.1.1.1\";for=198.51.100.1",
            "for=198.51.100.1;host=\"x, for=1.1.1.1;a=\\\"y\"",
            "for=\"1.1.1.1, for=198.51.100.1, for=10.9.9.9",
        ] {
            assert_eq!(forwarded(line), "198.51.100.1", "{line}");
        }
    }

    #[test]
    fn the_header_that_the_proxies_do_not_write_is_not_looked_at() {
        let other = request("10.1.2.3", ProxyHeader::Forwarded, &[b"for=1.1.1.1"]);
        let found = proxies(ProxyHeader::XForwardedFor).client(&other);
        assert_eq!(found.unwrap().to_string(), "10.1.2.3");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_its_client_came_by_tls() {
        let by_tls = |peer: &str, header: ProxyHeader, name: &'static str, lines: &[&str]| {
            let peer = format!("{peer}:1").parse().unwrap();
            let mut request = TestRequest::default().peer_addr(peer);
            for line in lines {
                request = request.append_header((name, *line));
            }
            proxies(header).came_by_tls(&request.to_http_request())
        };
        let (plain, proto) = (ProxyHeader::XForwardedFor, "x-forwarded-proto");
        assert!(by_tls("10.0.0.1", plain, proto, &["https"]));
        assert!(by_tls("10.0.0.1", plain, proto, &["http", "http, HTTPS"]));
        assert!(!by_tls("10.0.0.1", plain, proto, &["https, http"]));
        assert!(!by_tls("10.0.0.1", plain, proto, &[]));
        assert!(!by_tls("203.0.113.9", plain, proto, &["https"]));
        let (standard, name) = (ProxyHeader::Forwarded, "forwarded");
        let line = "for=203.0.113.9;proto=http, for=10.0.0.2; Proto=\"https\"";
        assert!(by_tls("10.0.0.1", standard, name, &[line]));
        assert!(!by_tls(
            "10.0.0.1",
            standard,
            name,
            &["for=a;proto=https, for=10.0.0.2"]
        ));
        assert!(!by_tls("10.0.0.1", standard, proto, &["https"]));
    }

    #[test]
    fn an_ipv6_subscriber_is_a_64() {
        let of = |text: &str| subscriber(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:203.0.113.5"), "203.0.113.5");
    }

    #[test]
    fn a_network_that_is_none_is_named() {
        let error = "10.0.0.0/8,proxy".parse::<TrustedProxies>().unwrap_err();
        assert!(error.starts_with("proxy "), "{error}");
    }
}
