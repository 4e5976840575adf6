//! Which addresses browsers are told to send media to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::worker;

/// How long resolving one host name may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses that are announced: each is one more that every browser tries.
const MAX_ADDRESSES: usize = 16;

/// The addresses to announce, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) addresses: Vec<IpAddr>,
    /// They were found on this machine, not named by the operator.
    pub(super) detected: bool,
    /// All addresses of this machine, as far as the system tells.
    pub(super) machine: Vec<IpAddr>,
}

/// Resolves what the operator announces; without that, the listen addresses, and all of the machine's where one of
/// them is open to all.
pub(super) async fn find(config: &worker::Config) -> anyhow::Result<Announced> {
    let machine: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    let mut addresses = Vec::new();
    let mut add = |address: IpAddr| {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    let detected = config.announce.is_empty();
    if detected {
        let listen = || config.listen.iter().map(SocketAddr::ip);
        listen().filter(|ip| !ip.is_unspecified()).for_each(&mut add);
        if listen().any(|ip| ip.is_unspecified()) {
            let first: Vec<IpAddr> = FAR_ADDRESSES.iter().filter_map(|far| default_route(*far)).collect();
            order(&config.listen, &first, &machine).into_iter().for_each(&mut add);
        }
    }
    for name in &config.announce {
        resolve(name).await?.into_iter().for_each(&mut add);
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(Announced { addresses, detected, machine })
}

async fn resolve(name: &str) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        if address.is_unspecified() || address.is_multicast() {
            bail!("rtc.announce: {address} is no address that a browser can send to");
        }
        return Ok(vec![address]);
    }
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, 0)))
        .await
        .with_context(|| format!("rtc.announce: resolving {name} took longer than {RESOLVE_TIMEOUT:?}"))?
        .with_context(|| format!("rtc.announce: {name} can't be resolved"))?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() {
        bail!("rtc.announce: {name} has no address");
    }
    Ok(addresses)
}

/// The machine's addresses that wildcards among `listen` take, those with a default route first, loopback last.
fn order(listen: &[SocketAddr], first: &[IpAddr], found: &[IpAddr]) -> Vec<IpAddr> {
    let takes_v6 = listen.iter().any(|address| address.is_ipv6() && address.ip().is_unspecified());
    // A socket on [::] takes IPv4 as well if no other one does.
    let takes_v4 = if listen.iter().any(SocketAddr::is_ipv4) {
        listen.iter().any(|address| address.is_ipv4() && address.ip().is_unspecified())
    } else {
        takes_v6
    };
    let takes = |address: &IpAddr| if address.is_ipv4() { takes_v4 } else { takes_v6 };
    let reachable = |address: &&IpAddr| takes(address) && !is_link_local_v6(**address);
    let all: BTreeSet<IpAddr> = found.iter().filter(reachable).copied().collect();
    let mut ordered: Vec<IpAddr> = first.iter().filter(reachable).copied().collect();
    ordered.extend(all.iter().filter(|address| !address.is_loopback() && !first.contains(address)));
    // Browsers on this very machine reach it even without a network.
    ordered.truncate(MAX_ADDRESSES - 1);
    ordered.push(if takes_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    ordered
}

fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Addresses beyond every network, reserved for documentation (RFC 5737, RFC 3849).
const FAR_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1))];

/// The address that packets to the internet leave from. Connecting a UDP socket asks the routing table and sends
/// nothing.
fn default_route(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn config(listen: &str, announce: &[&str]) -> worker::Config {
        worker::Config {
            listen: vec![listen.parse().unwrap()],
            announce: announce.iter().map(|name| (*name).to_owned()).collect(),
            ..worker::Config::default()
        }
    }

    fn ordered(listen: &[&str], first: &[&str], found: &[&str]) -> Vec<IpAddr> {
        let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
        order(&listen, &ips(first), &ips(found))
    }

    #[test]
    fn the_default_route_comes_first_and_loopback_last() {
        let found = ["127.0.0.1", "172.17.0.1", "10.0.0.5", "fe80::1", "2001:db8::1", "::1"];
        let v4 = ["172.17.0.1", "10.0.0.5", "127.0.0.1"];
        let all = ["172.17.0.1", "10.0.0.5", "2001:db8::1", "127.0.0.1"];
        for (listen, expected) in [
            (&["0.0.0.0:1"][..], &v4[..]),
            (&["[::]:1"], &all),
            (&["0.0.0.0:1", "[::]:1"], &all),
            (&["10.0.0.5:1", "[::]:1"], &["2001:db8::1", "::1"]),
        ] {
            assert_eq!(ordered(listen, &["172.17.0.1"], &found), ips(expected), "{listen:?}");
        }
    }

    #[test]
    fn a_machine_without_network_announces_loopback() {
        assert_eq!(ordered(&["0.0.0.0:0"], &[], &["127.0.0.1"]), ips(&["127.0.0.1"]));
    }

    #[test]
    fn there_are_never_too_many() {
        let many: Vec<String> = (0..200).map(|last| format!("10.0.0.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let ordered = ordered(&["0.0.0.0:0"], &[], &many);
        assert_eq!(ordered.len(), MAX_ADDRESSES);
        assert_eq!(ordered.last(), Some(&IpAddr::from([127, 0, 0, 1])));
    }

    #[tokio::test]
    async fn several_listen_addresses_are_announced_each() {
        let mut config = config("127.0.0.1:0", &[]);
        config.listen.push("127.0.0.2:0".parse().unwrap());
        assert_eq!(find(&config).await.unwrap().addresses, ips(&["127.0.0.1", "127.0.0.2"]));
    }

    #[tokio::test]
    async fn what_the_operator_names_is_what_is_announced() {
        let found = find(&config("0.0.0.0:0", &["192.0.2.7", "localhost", "192.0.2.7"])).await.unwrap();
        assert!(!found.detected);
        assert_eq!(found.addresses.first(), Some(&IpAddr::from([192, 0, 2, 7])));
        assert!(found.addresses.iter().skip(1).all(IpAddr::is_loopback), "{found:?}");
        assert!(found.addresses.len() >= 2);
    }

    #[tokio::test]
    async fn a_listen_address_of_one_interface_is_announced_as_it_is() {
        let found = find(&config("127.0.0.1:0", &[])).await.unwrap();
        assert_eq!(found.addresses, ips(&["127.0.0.1"]));
    }

    #[tokio::test]
    async fn an_address_that_nobody_can_send_to_is_refused() {
        let error = find(&config("0.0.0.0:0", &["0.0.0.0"])).await.unwrap_err().to_string();
        assert!(error.contains("0.0.0.0"), "{error}");
        let error = find(&config("0.0.0.0:0", &["no.such.host.invalid"])).await.unwrap_err().to_string();
        assert!(error.contains("no.such.host.invalid"), "{error}");
    }
}
