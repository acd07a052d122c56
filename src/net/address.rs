//! Where this machine may be reached: what an invitation says.

use crate::model::join_line::ADDRESSES_MAX;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Beginnings of the names of networks that exist within one machine only.
const INSIDE: [&str; 7] = ["docker", "veth", "br-", "virbr", "cni", "podman", "lxc"];

/// This machine's addresses with this port, likeliest first: that of the default route, then the others that are up.
/// A machine without a network has its loopback.
#[must_use]
pub fn own(listening: SocketAddr) -> Vec<String> {
    let port = listening.port();
    if !listening.ip().is_unspecified() {
        return vec![listening.to_string()];
    }
    let mut found: Vec<IpAddr> = towards_the_world().into_iter().collect();
    for interface in getifaddrs().into_iter().flatten() {
        let inside = INSIDE
            .iter()
            .any(|prefix| interface.interface_name.starts_with(prefix));
        let up = interface.flags.contains(InterfaceFlags::IFF_UP);
        if inside || !up || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let address = interface
            .address
            .as_ref()
            .and_then(|address| address.as_sockaddr_in())
            .map(|address| IpAddr::V4(address.ip()));
        if let Some(address) = address
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    if found.is_empty() {
        found.push(IpAddr::from([127, 0, 0, 1]));
    }
    found.truncate(ADDRESSES_MAX);
    found
        .into_iter()
        .map(|address| SocketAddr::new(address, port).to_string())
        .collect()
}

/// The address that packets to elsewhere would carry. Nothing is sent: connecting a UDP socket only looks up the route.
fn towards_the_world() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // An address for documentation (RFC 5737).
    socket.connect(("192.0.2.1", 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_address_is_said_as_it_is_and_others_have_the_port() {
        let given = "10.1.2.3:99".parse().unwrap();
        assert_eq!(own(given), ["10.1.2.3:99"]);
        let all = own("0.0.0.0:99".parse().unwrap());
        assert!(
            !all.is_empty() && all.iter().all(|address| address.ends_with(":99")),
            "{all:?}"
        );
    }
}
