//! Finds out which master of a Cluster has which hash slot.

use redis::ConnectionInfo;
use seckill_domain::VoucherId;

use crate::redis::ask::ask_majority;
use crate::redis::connection::StockOptions;
use crate::redis::error::StockError;
use crate::redis::tls::Access;

const SLOTS: usize = 16_384;

/// Stands for a slot that no master has.
const NOBODY: u16 = u16::MAX;

/// The masters that have slots, and the owner of each slot.
#[derive(Debug)]
pub(crate) struct SlotMap {
    /// Host and port.
    pub(crate) masters: Vec<(String, u16)>,
    /// For each slot, the index of its owner in `masters`.
    owners: Vec<u16>,
}

impl SlotMap {
    /// Asks `nodes` which master has which slot. If their answers differ, the claim with the highest configuration
    /// epoch is taken, which is also the rule among the nodes: a node that was cut off still gives the former owner.
    pub(crate) async fn fetch(
        nodes: &[ConnectionInfo],
        options: &StockOptions,
    ) -> Result<Self, StockError> {
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("NODES");
        // If the nodes announce host names, their certificates are issued for these names.
        let by_name = nodes.iter().any(is_over_tls);
        let mut claims = SlotClaims {
            by_name,
            ..SlotClaims::default()
        };
        let mut failure = None;
        for (place, answer) in ask_majority::<(String,)>(nodes, &ask, options).await {
            match answer {
                Ok((text,)) => claims.read(&text, &host_of(&nodes[place])),
                Err(error) => failure = Some(StockError::from(error)),
            }
        }
        match (claims.is_empty(), failure) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(StockError::Misconfigured(
                "no node of the Cluster has any slot: has it been created?".to_owned(),
            )),
            (false, _) => Ok(claims.into_map()),
        }
    }

    /// The index in `masters` of the master that has a voucher's keys, if there is one.
    pub(crate) fn owner_of(&self, voucher: VoucherId) -> Option<usize> {
        let owner = self.owners[slot_of(voucher)];
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// The masters as servers to connect to.
    pub(crate) fn servers(&self, access: &Access) -> Result<Vec<ConnectionInfo>, StockError> {
        let servers = self.masters.iter();
        servers
            .map(|(host, port)| access.server(host, *port))
            .collect()
    }
}

fn is_over_tls(node: &ConnectionInfo) -> bool {
    matches!(node.addr(), redis::ConnectionAddr::TcpTls { .. })
}

fn host_of(node: &ConnectionInfo) -> String {
    match node.addr() {
        redis::ConnectionAddr::Tcp(host, _) | redis::ConnectionAddr::TcpTls { host, .. } => {
            host.clone()
        }
        other => other.to_string(),
    }
}

/// For each slot, the claim with the highest configuration epoch: that epoch, and the index of the owner in `masters`.
#[derive(Debug, Default)]
struct SlotClaims {
    /// Whether nodes are reached by the host names that they announce, not by their addresses.
    by_name: bool,
    masters: Vec<(String, u16)>,
    best: Vec<Option<(u64, u16)>>,
}

impl SlotClaims {
    fn is_empty(&self) -> bool {
        self.best.iter().all(Option::is_none)
    }

    /// Reads an answer to CLUSTER NODES. Lines that are not of a master with an address are skipped. For a node that
    /// does not know its own address, `asked_at` is taken: the address at which it was asked.
    fn read(&mut self, nodes: &str, asked_at: &str) {
        for line in nodes.lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, address, flags, _, _, _, config_epoch, _, slots @ ..] = &fields[..] else {
                continue;
            };
            let is_master = flags.split(',').any(|flag| flag == "master");
            let (Some(address), Ok(config_epoch)) =
                (self.address(address, asked_at), config_epoch.parse())
            else {
                continue;
            };
            if is_master && !slots.is_empty() {
                let master = self.place_of(address);
                for (first, last) in slots.iter().filter_map(|slots| parse_slots(slots)) {
                    self.claim(first..=last, config_epoch, master);
                }
            }
        }
    }

    fn address(&self, text: &str, asked_at: &str) -> Option<(String, u16)> {
        let (host, port) = parse_address(text, asked_at)?;
        let name = text
            .split(',')
            .nth(1)
            .filter(|name| !name.is_empty() && self.by_name);
        Some((name.map_or(host, str::to_owned), port))
    }

    fn place_of(&mut self, address: (String, u16)) -> u16 {
        let known = self.masters.iter().position(|master| *master == address);
        let place = known.unwrap_or_else(|| {
            self.masters.push(address);
            self.masters.len() - 1
        });
        // A Cluster has at most as many masters as slots.
        u16::try_from(place).unwrap_or(NOBODY)
    }

    fn claim(&mut self, slots: std::ops::RangeInclusive<usize>, config_epoch: u64, master: u16) {
        self.best.resize(SLOTS, None);
        for best in &mut self.best[slots] {
            if best.is_none_or(|(epoch, _)| epoch < config_epoch) {
                *best = Some((config_epoch, master));
            }
        }
    }

    fn into_map(self) -> SlotMap {
        let owner = |best: Option<(u64, u16)>| best.map_or(NOBODY, |(_, master)| master);
        SlotMap {
            owners: self.best.into_iter().map(owner).collect(),
            masters: self.masters,
        }
    }
}

/// `host:port@bus-port[,name…]`; the host may be an IPv6 address, and is empty for a node that
/// does not know its own.
fn parse_address(text: &str, asked_at: &str) -> Option<(String, u16)> {
    let (address, _) = text.split_once('@').unwrap_or((text, ""));
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = if host.is_empty() { asked_at } else { host };
    Some((host.to_owned(), port))
}

/// Parses `first-last` or `slot`. Returns none for a slot that is being migrated (`[slot->-node]`): another field of
/// its owner's line contains it.
fn parse_slots(text: &str) -> Option<(usize, usize)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some((first, last))
}

/// The slot of all keys of a voucher. It is computed from the part of their names between braces.
fn slot_of(voucher: VoucherId) -> usize {
    usize::from(crc16(voucher.to_string().as_bytes())) % SLOTS
}

/// CRC-16/XMODEM, which the Redis Cluster specification prescribes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voucher(id: i64) -> VoucherId {
        VoucherId::new(id).unwrap()
    }

    fn owner(map: &SlotMap, id: i64) -> Option<&(String, u16)> {
        map.owner_of(voucher(id)).map(|place| &map.masters[place])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // CLUSTER KEYSLOT seckill:{7}:sale, and of {1099511627775}.
        assert_eq!(slot_of(voucher(7)), 1_716);
    }

    #[test]
    fn the_claim_with_the_highest_configuration_epoch_holds() {
        let before = "\
aa 10.0.0.1:1@11,one myself,master - 0 0 1 connected 0-16383
bb 10.0.0.2:2@12 slave aa 0 0 1 connected
";
        let after = "\
aa 10.0.0.1:1@11 master,fail - 0 0 1 disconnected
bb :2@12 myself,master - 0 0 7 connected 0-1715 1717-16383 [1716->-cc]
cc ::1:3@13 master - 0 0 8 connected 1716 [93-<-bb]
dd 10.0.0.4:0@14 master,noaddr - 0 0 9 disconnected 5
";
        for order in [[before, after], [after, before]] {
            let mut claims = SlotClaims::default();
            order.iter().for_each(|text| claims.read(text, "asked"));
            let map = claims.into_map();
            assert_eq!(owner(&map, 7), Some(&("::1".to_owned(), 3)));
            assert_eq!(owner(&map, 8), Some(&("asked".to_owned(), 2)));
        }
    }

    #[test]
    fn over_tls_a_node_is_called_by_the_name_that_it_announces() {
        let nodes = "\
aa 10.0.0.1:1@11,redis-1.example master - 0 0 1 connected 0-5
bb 10.0.0.2:2@12, master - 0 0 2 connected 6
cc 10.0.0.3:3@13 master - 0 0 3 connected 7-16383
";
        for (by_name, first) in [(true, "redis-1.example"), (false, "10.0.0.1")] {
            let mut claims = SlotClaims {
                by_name,
                ..SlotClaims::default()
            };
            claims.read(nodes, "asked");
            let hosts: Vec<String> = claims.masters.into_iter().map(|(host, _)| host).collect();
            assert_eq!(hosts, [first, "10.0.0.2", "10.0.0.3"]);
        }
    }

    #[test]
    fn a_slot_that_nobody_has_has_no_owner() {
        let mut claims = SlotClaims::default();
        claims.read("aa h:1@2 master - 0 0 1 connected 1-2 x 3- 9-4 99999", "h");
        assert!(!claims.is_empty());
        assert_eq!(owner(&claims.into_map(), 7), None);
    }
}
