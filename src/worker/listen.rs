//! Where a worker listens, and which addresses clients are told for that.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Listen addresses that one worker may have.
pub const MAX_LISTEN: usize = 8;
/// How often another free port is tried when UDP and TCP have to agree on one.
pub(super) const MAX_FREE_PORT_ATTEMPTS: usize = 16;

/// The listen addresses of worker `index`: each further worker takes the next ports. `None` if there are no more.
pub(super) fn of_worker(listen: &[SocketAddr], index: usize) -> Option<Vec<SocketAddr>> {
    let shifted = |address: &SocketAddr| {
        let mut address = *address;
        if address.port() != 0 {
            address.set_port(u16::try_from(index).ok().and_then(|index| address.port().checked_add(index))?);
        }
        Some(address)
    };
    listen.iter().map(shifted).collect()
}

/// What clients are told, best first: each announced address with the ports that it leads to.
///
/// An announced address that is one of the `listen` addresses leads to that one only. Any other one (found on an
/// interface behind a wildcard, or the outside of a NAT) leads to all of its family.
pub(super) fn candidates(listen: &[SocketAddr], announced: &[IpAddr]) -> Vec<SocketAddr> {
    let mut told: Vec<SocketAddr> = Vec::new();
    let is_own = |announced: IpAddr| listen.iter().any(|address| address.ip() == announced);
    let only_v6 = listen.iter().any(SocketAddr::is_ipv4);
    for announced in announced {
        for address in listen {
            let takes_both = address.ip().is_unspecified() && !only_v6;
            let is_family = address.is_ipv4() == announced.is_ipv4() || address.is_ipv6() && takes_both;
            let candidate = SocketAddr::new(*announced, address.port());
            let leads_here = address.ip() == *announced || is_family && !is_own(*announced);
            if leads_here && !told.contains(&candidate) {
                told.push(candidate);
            }
        }
    }
    told
}

/// The addresses that `listen` stands for where nothing is announced.
pub(super) fn default_announced(listen: &[SocketAddr]) -> Vec<IpAddr> {
    let own = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    listen.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &[&str], announced: &[&str]) -> Vec<String> {
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let announced: Vec<IpAddr> = announced.iter().map(|text| text.parse().unwrap()).collect();
        candidates(&listen, &announced).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_announced_address_comes_with_the_ports_of_its_family() {
        assert_eq!(told(&["0.0.0.0:4"], &["10.0.0.1", "127.0.0.1"]), ["10.0.0.1:4", "127.0.0.1:4"]);
        assert_eq!(
            told(&["0.0.0.0:4", "[::]:6"], &["10.0.0.1", "2001:db8::1"]),
            ["10.0.0.1:4", "[2001:db8::1]:6"]
        );
        assert_eq!(told(&["[::]:6"], &["10.0.0.1", "2001:db8::1"]), ["10.0.0.1:6", "[2001:db8::1]:6"]);
        assert_eq!(told(&["0.0.0.0:4"], &["2001:db8::1"]), [""; 0], "nothing listens there");
    }

    #[test]
    fn an_address_that_is_listened_on_leads_there_and_nowhere_else() {
        let listen = ["10.0.0.1:4", "192.168.0.1:5"];
        assert_eq!(told(&listen, &["10.0.0.1", "192.168.0.1"]), ["10.0.0.1:4", "192.168.0.1:5"]);
        assert_eq!(
            told(&listen, &["203.0.113.9", "10.0.0.1"]),
            ["203.0.113.9:4", "203.0.113.9:5", "10.0.0.1:4"],
            "the outside of a NAT may lead to both"
        );
    }

    #[test]
    fn each_worker_takes_the_next_ports() {
        let shifted = |listen: &[&str], index| {
            let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
            let shifted = of_worker(&listen, index)?;
            Some(shifted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shifted(&["0.0.0.0:40000", "[::]:65535"], 0).unwrap(), "0.0.0.0:40000 [::]:65535");
        assert_eq!(shifted(&["0.0.0.0:40000"], 3).unwrap(), "0.0.0.0:40003");
        assert_eq!(shifted(&["0.0.0.0:40000", "[::]:65535"], 1), None);
        assert_eq!(shifted(&["1.1.1.1:0"], 9).unwrap(), "1.1.1.1:0");
    }

    #[test]
    fn without_an_announced_address_a_wildcard_stands_for_loopback() {
        let listen = ["0.0.0.0:1".parse().unwrap(), "[::]:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap()];
        let own: Vec<String> = default_announced(&listen).iter().map(ToString::to_string).collect();
        assert_eq!(own, ["127.0.0.1", "::1", "10.0.0.1"]);
    }
}
