//! The network, beside the loop: loopback at once, then the wired interface, by DHCP or as the configuration says.
//!
//! Interfaces are set by the classic ioctls (`man 7 netdevice`); IPv6 addresses come from the kernel's own
//! autoconfiguration.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::BindToDevice};

use super::dhcp::{self, Lease, Reply, Say};
use super::events::{Part, Reporter};
use crate::config::{NetworkConfig, NetworkMode};

/// What the resolver reads; `/etc/resolv.conf` of the image leads here.
const RESOLV_CONF: &str = "/run/resolv.conf";
const CLASS_NET: &str = "/sys/class/net";
/// How often a missing interface is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// An answer to DHCP comes within a second on a wire.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// First and longest pause between two tries of DHCP (RFC 2131, 4.1, asks for growing ones).
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(64);
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Largest datagram that is looked at.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// Something about an interface that did not work.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: {step}: {cause}")]
pub struct Error {
    interface: String,
    step: &'static str,
    cause: io::Error,
}

/// Brings the loopback up: the HTTP port may be bound to it.
///
/// # Errors
/// The kernel refuses.
pub fn loopback() -> Result<(), Error> {
    Interface::new("lo")?.up()
}

/// Gives the device its address and keeps it, for ever.
pub fn keep(reporter: &Reporter, config: &NetworkConfig, hostname: &str) {
    if config.mode == NetworkMode::Off {
        return;
    }
    let mut pause = RETRY_FIRST;
    loop {
        let name = wait_for_interface(reporter, config.interface.as_deref());
        match configure(reporter, config, &name, hostname) {
            // A static address is set once.
            Ok(()) => return,
            Err(problem) => reporter.problem(Part::Network, Some(problem)),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

fn wait_for_interface(reporter: &Reporter, wanted: Option<&str>) -> String {
    let started = Instant::now();
    let mut told = false;
    loop {
        if let Some(name) = find_interface(Path::new(CLASS_NET), wanted) {
            return name;
        }
        if !told && started.elapsed() > ANSWER_MAX {
            told = true;
            let what = wanted.map_or("a wired interface".into(), |name| format!("`{name}`"));
            reporter.problem(Part::Network, Some(format!("there is no {what}")));
        }
        std::thread::sleep(LOOK);
    }
}

/// The wanted interface, or the first of Ethernet's kind, when it is there.
fn find_interface(class: &Path, wanted: Option<&str>) -> Option<String> {
    let is = |name: &str, file: &str, text: &str| {
        fs::read_to_string(class.join(name).join(file)).is_ok_and(|found| found.trim() == text)
    };
    if let Some(wanted) = wanted {
        return class.join(wanted).exists().then(|| wanted.to_owned());
    }
    let mut names: Vec<String> =
        fs::read_dir(class).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    // ARPHRD_ETHER; a wireless interface has it as well, but nobody here knows its password.
    names.into_iter().find(|name| is(name, "type", "1") && !class.join(name).join("wireless").exists())
}

fn configure(reporter: &Reporter, config: &NetworkConfig, name: &str, hostname: &str) -> Result<(), String> {
    let interface = Interface::new(name).map_err(|error| error.to_string())?;
    interface.up().map_err(|error| error.to_string())?;
    if config.mode == NetworkMode::Dhcp {
        return keep_lease(reporter, config, &interface, hostname);
    }
    let (address, prefix) = config.prefix().ok_or("device.network.address is missing")?;
    apply(reporter, &interface, address, prefix, config.gateway, &config.dns).map_err(|error| error.to_string())
}

/// Asks for a lease, and asks again before it ends. Returns only with an error.
fn keep_lease(
    reporter: &Reporter,
    config: &NetworkConfig,
    interface: &Interface,
    hostname: &str,
) -> Result<(), String> {
    let hardware = interface.hardware().map_err(|error| error.to_string())?;
    let client = Client { interface, hardware, hostname };
    let mut lease = client.acquire()?;
    loop {
        let dns = if config.dns.is_empty() { &lease.dns } else { &config.dns };
        let gateway = config.gateway.or(lease.gateway);
        apply(reporter, interface, lease.address, lease.prefix, gateway, dns).map_err(|error| error.to_string())?;
        // At half its time (RFC 2131, 4.4.5), and every sixteenth after, until it ends.
        std::thread::sleep(lease.lease / 2);
        let ends = Instant::now() + lease.lease / 2;
        lease = loop {
            match client.renew(&lease) {
                Ok(renewed) => break renewed,
                Err(problem) if Instant::now() > ends => return Err(problem),
                Err(_) => std::thread::sleep(lease.lease / 16),
            }
        };
    }
}

/// One interface as a DHCP client.
struct Client<'a> {
    interface: &'a Interface,
    hardware: [u8; 6],
    hostname: &'a str,
}

impl Client<'_> {
    fn acquire(&self) -> Result<Lease, String> {
        let Reply::Offer(offer) = self.exchange(Say::Discover, Ipv4Addr::BROADCAST)? else {
            return Err(format!("{}: DHCP answered out of turn", self.interface.name));
        };
        let (address, server) = (offer.address, offer.server);
        self.ack(Say::Request { address, server, renew: false }, Ipv4Addr::BROADCAST)
    }

    fn renew(&self, lease: &Lease) -> Result<Lease, String> {
        let (address, server) = (lease.address, lease.server);
        self.ack(Say::Request { address, server, renew: true }, server)
    }

    fn ack(&self, say: Say, to: Ipv4Addr) -> Result<Lease, String> {
        match self.exchange(say, to)? {
            Reply::Ack(lease) => Ok(lease),
            _ => Err(format!("{}: the DHCP server refuses the address", self.interface.name)),
        }
    }

    /// Says something and waits for the answer to it.
    fn exchange(&self, say: Say, to: Ipv4Addr) -> Result<Reply, String> {
        let name = &self.interface.name;
        let socket = self.socket().map_err(|error| format!("{name}: DHCP: {error}"))?;
        // Not secret: only to tell answers apart.
        let transaction = u32::try_from(crate::clock::since_boot().as_nanos() & 0xFFFF_FFFF).unwrap_or(0);
        let message = dhcp::message(say, transaction, self.hardware, self.hostname);
        let sent = socket.send_to(&message, SocketAddrV4::new(to, SERVER_PORT));
        sent.map_err(|error| format!("{name}: DHCP: {error}"))?;
        let deadline = Instant::now() + ANSWER_MAX;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let _ = socket.set_read_timeout(Some(left));
            let Ok(read) = socket.recv(&mut datagram) else { continue };
            if let Some(reply) = dhcp::parse(&datagram[..read], transaction, self.hardware) {
                return Ok(reply);
            }
        }
        Err(format!("{name}: no DHCP server answers"))
    }

    /// Bound to the interface, so that it sends without an address of its own.
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        setsockopt(&socket, BindToDevice, &(&self.interface.name).into())?;
        socket.set_broadcast(true)?;
        Ok(socket)
    }
}

/// Sets address, route and resolver, and says so.
fn apply(
    reporter: &Reporter,
    interface: &Interface,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    dns: &[Ipv4Addr],
) -> Result<(), Error> {
    let netmask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    interface.set_address(libc::SIOCSIFADDR, address, "setting the address")?;
    interface.set_address(libc::SIOCSIFNETMASK, netmask.into(), "setting the netmask")?;
    if let Some(gateway) = gateway {
        interface.set_default_route(gateway)?;
    }
    let lines: String = dns.iter().map(|server| format!("nameserver {server}\n")).collect();
    fs::write(RESOLV_CONF, lines).map_err(|cause| interface.error(RESOLV_CONF, cause))?;
    reporter.log(format!("network: {} has {address}/{prefix}", interface.name));
    reporter.problem(Part::Network, None);
    Ok(())
}

/// An interface and a socket to speak about it.
struct Interface {
    name: String,
    socket: UdpSocket,
}

impl Interface {
    fn new(name: &str) -> Result<Self, Error> {
        let failed = |cause| Error { interface: name.into(), step: "a socket", cause };
        // Not bound to anything that matters: the calls below only need a descriptor of the family.
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        Ok(Self { name: name.into(), socket })
    }

    fn error(&self, step: &'static str, cause: io::Error) -> Error {
        Error { interface: self.name.clone(), step, cause }
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: a structure of numbers and bytes, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        request
    }

    fn call<T>(&self, number: impl TryInto<libc::Ioctl>, step: &'static str, argument: &mut T) -> Result<(), Error> {
        let Ok(number) = number.try_into() else { return Err(self.error(step, io::ErrorKind::InvalidInput.into())) };
        // SAFETY: an open socket, and a structure that the callers choose as netdevice(7) pairs it with the number.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), number, std::ptr::from_mut(argument)) } {
            -1 => Err(self.error(step, io::Error::last_os_error())),
            _ => Ok(()),
        }
    }

    fn up(&self) -> Result<(), Error> {
        let mut request = self.request();
        self.call(libc::SIOCGIFFLAGS, "reading its flags", &mut request)?;
        // SAFETY: SIOCGIFFLAGS has filled this member of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("both are low bits");
        request.ifr_ifru.ifru_flags = flags | up;
        self.call(libc::SIOCSIFFLAGS, "bringing it up", &mut request)
    }

    fn hardware(&self) -> Result<[u8; 6], Error> {
        let mut request = self.request();
        self.call(libc::SIOCGIFHWADDR, "reading its hardware address", &mut request)?;
        // SAFETY: SIOCGIFHWADDR has filled this member of the union.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
        Ok(std::array::from_fn(|i| data[i].to_ne_bytes()[0]))
    }

    fn set_address(
        &self,
        number: impl TryInto<libc::Ioctl>,
        address: Ipv4Addr,
        step: &'static str,
    ) -> Result<(), Error> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = generic(address);
        self.call(number, step, &mut request)
    }

    fn set_default_route(&self, gateway: Ipv4Addr) -> Result<(), Error> {
        // SAFETY: a structure of numbers and a pointer that may be null.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = generic(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = generic(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = generic(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        match self.call(libc::SIOCADDRT, "setting the route", &mut route) {
            // A renewed lease has its route already.
            Err(error) if error.cause.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }
}

/// An IPv4 address in the shape of any address.
fn generic(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    libc::sockaddr { sa_family: libc::sa_family_t::try_from(libc::AF_INET).expect("2"), sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wired_interface_is_taken() {
        let class = tempfile::tempdir().unwrap();
        assert_eq!(find_interface(class.path(), None), None);
        for (name, kind, wireless) in [("lo", "772", false), ("wlan0", "1", true), ("end0", "1", false)] {
            let dir = class.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("type"), kind).unwrap();
            if wireless {
                fs::create_dir(dir.join("wireless")).unwrap();
            }
        }
        assert_eq!(find_interface(class.path(), None).as_deref(), Some("end0"));
        assert_eq!(find_interface(class.path(), Some("wlan0")).as_deref(), Some("wlan0"));
        assert_eq!(find_interface(class.path(), Some("eth7")), None);
    }
}
