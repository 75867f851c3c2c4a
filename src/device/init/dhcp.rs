//! Messages of DHCP (RFC 2131, options RFC 2132): as much as a client needs to be given an address and to keep it.
//!
//! Pure: bytes and values. The crates at hand bring a DNS library and Unicode tables along, for a hundred lines.

use std::net::Ipv4Addr;
use std::time::Duration;

/// Fixed part of a message, up to the options' magic cookie.
const HEADER_BYTES: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Smallest message that every relay passes on.
const MESSAGE_BYTES_MIN: usize = 300;
const BROADCAST_FLAG: u16 = 0x8000;
/// A lease that says less than this would keep a device busy with asking.
const LEASE_MIN: Duration = Duration::from_secs(60);
/// What holds when a server names no lease time: an hour.
const LEASE_UNNAMED: Duration = Duration::from_secs(3600);
/// Most DNS servers kept: what resolv.conf takes.
const DNS_MAX: usize = 3;

mod option {
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const END: u8 = 255;
}

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    Discover,
    /// Take the offered address; `renew` when it is already in use.
    Request {
        address: Ipv4Addr,
        server: Ipv4Addr,
        renew: bool,
    },
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Offer(Lease),
    Ack(Lease),
    Nak,
}

/// An address with all that comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// Leading ones of the netmask.
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    pub lease: Duration,
}

/// A message of the client.
#[must_use]
pub fn message(say: Say, transaction: u32, hardware: [u8; 6], hostname: &str) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    // A request over Ethernet, whose addresses have six bytes.
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&transaction.to_be_bytes());
    bytes[28..34].copy_from_slice(&hardware);
    let mut options = vec![option::MESSAGE_TYPE, 1];
    match say {
        // Without an address only a broadcast answer arrives.
        Say::Discover => {
            bytes[10..12].copy_from_slice(&BROADCAST_FLAG.to_be_bytes());
            options.push(1);
        }
        Say::Request { address, renew: true, .. } => {
            bytes[12..16].copy_from_slice(&address.octets());
            options.push(3);
        }
        Say::Request { address, server, renew: false } => {
            bytes[10..12].copy_from_slice(&BROADCAST_FLAG.to_be_bytes());
            options.push(3);
            for (code, value) in [(option::REQUESTED_ADDRESS, address), (option::SERVER, server)] {
                options.extend([code, 4]);
                options.extend(value.octets());
            }
        }
    }
    let name = &hostname.as_bytes()[..hostname.len().min(63)];
    options.extend([option::HOST_NAME, u8::try_from(name.len()).unwrap_or(0)]);
    options.extend(name);
    options.extend([option::PARAMETERS, 4, option::SUBNET_MASK, option::ROUTER, option::DNS, option::LEASE_TIME]);
    options.push(option::END);
    bytes.extend(COOKIE);
    bytes.extend(options);
    bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), 0);
    bytes
}

/// Reads a reply to this transaction of this hardware; `None` for anything else.
#[must_use]
pub fn parse(bytes: &[u8], transaction: u32, hardware: [u8; 6]) -> Option<Reply> {
    let header = bytes.get(..HEADER_BYTES)?;
    let ours = header[0] == 2 && header[4..8] == transaction.to_be_bytes() && header[28..34] == hardware;
    let options = bytes[HEADER_BYTES..].strip_prefix(&COOKIE).filter(|_| ours)?;
    let find = |code: u8| find(options, code);
    let address = |code: u8| find(code).and_then(|value| addresses(value).next());
    let lease = || {
        let mask = address(option::SUBNET_MASK).map_or(u32::MAX, u32::from);
        let seconds = find(option::LEASE_TIME).and_then(|value| Some(u32::from_be_bytes(value.try_into().ok()?)));
        Some(Lease {
            address: addresses(&header[16..20]).next().filter(|address| !address.is_unspecified())?,
            prefix: u8::try_from(mask.leading_ones()).unwrap_or(32),
            gateway: address(option::ROUTER),
            dns: find(option::DNS).map(|value| addresses(value).take(DNS_MAX).collect()).unwrap_or_default(),
            server: address(option::SERVER)?,
            lease: seconds.map_or(LEASE_UNNAMED, |s| Duration::from_secs(s.into())).max(LEASE_MIN),
        })
    };
    match find(option::MESSAGE_TYPE)? {
        [2] => lease().map(Reply::Offer),
        [5] => lease().map(Reply::Ack),
        [6] => Some(Reply::Nak),
        _ => None,
    }
}

fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [option::END, ..] | [] | [_] => return None,
            [code, length, ref rest @ ..] => {
                let value = rest.get(..length.into())?;
                if code == wanted {
                    return Some(value);
                }
                options = &rest[length.into()..];
            }
        }
    }
}

fn addresses(value: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    value.chunks_exact(4).map(|four| Ipv4Addr::new(four[0], four[1], four[2], four[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const HARDWARE: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    /// A server's answer, made of a client's message.
    fn reply(kind: u8, extra: &[u8]) -> Vec<u8> {
        let mut bytes = message(Say::Discover, 7, HARDWARE, "camera");
        bytes.truncate(HEADER_BYTES);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes.extend(COOKIE);
        bytes.extend([0, 53, 1, kind, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0]);
        bytes.extend(extra);
        bytes.push(255);
        bytes
    }

    #[test]
    fn an_ack_is_read() {
        let bytes = reply(5, &[3, 4, 10, 0, 2, 2, 6, 8, 10, 0, 2, 3, 1, 1, 1, 1, 51, 4, 0, 1, 81, 128]);
        let Some(Reply::Ack(lease)) = parse(&bytes, 7, HARDWARE) else { panic!("no lease") };
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!((lease.dns.len(), lease.lease), (2, Duration::from_secs(86_400)));
        assert_eq!(parse(&bytes, 8, HARDWARE), None, "another transaction");
        assert_eq!(parse(&bytes, 7, [0; 6]), None, "another client");
        assert_eq!(parse(&reply(6, &[]), 7, HARDWARE), Some(Reply::Nak));
    }

    #[test]
    fn our_messages_are_as_the_rfc_wants() {
        let bytes = message(Say::Discover, 0x0102_0304, HARDWARE, "camera");
        assert_eq!(bytes.len(), MESSAGE_BYTES_MIN);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0]);
        assert_eq!(find(&bytes[HEADER_BYTES + 4..], option::MESSAGE_TYPE), Some(&[1][..]));
        let (address, server) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let request = message(Say::Request { address, server, renew: false }, 7, HARDWARE, "");
        assert_eq!(find(&request[HEADER_BYTES + 4..], option::REQUESTED_ADDRESS), Some(&[10, 0, 2, 15][..]));
        let renewal = message(Say::Request { address, server, renew: true }, 7, HARDWARE, "");
        assert_eq!(renewal[12..16], [10, 0, 2, 15]);
        assert_eq!(find(&renewal[HEADER_BYTES + 4..], option::REQUESTED_ADDRESS), None);
    }

    #[test]
    fn hostile_replies_are_passed_over() {
        let whole = reply(5, &[6, 200, 1, 2]);
        let mut random = Random::new(4);
        for n in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=n % 5 {
                let at = random.below(bytes.len());
                bytes[at] = random.bits().to_le_bytes()[0];
            }
            bytes.truncate(random.below(bytes.len() + 1));
            let _ = parse(&bytes, 7, HARDWARE);
        }
        assert_eq!(find(&[12, 200, 1], 12), None);
    }
}
