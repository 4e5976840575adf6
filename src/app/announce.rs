//! Which addresses browsers are told to send media to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
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
}

/// Resolves what the operator announces; without that, the listen address, or all of the machine's if it is open to
/// all.
pub(super) async fn find(config: &worker::Config) -> anyhow::Result<Announced> {
    let listen = config.listen.ip();
    if config.announce.is_empty() {
        let addresses = if listen.is_unspecified() { machine_addresses(listen) } else { vec![listen] };
        return Ok(Announced { addresses, detected: true });
    }
    let mut addresses = Vec::new();
    for name in &config.announce {
        for address in resolve(name).await? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(Announced { addresses, detected: false })
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

/// The machine's own addresses of the listen address's family, the one with the default route first, loopback last.
fn machine_addresses(listen: IpAddr) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    order(listen, default_route_address(), interfaces.iter().map(if_addrs::Interface::ip))
}

fn order(listen: IpAddr, first: Option<IpAddr>, found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    // A socket on [::] takes IPv4 as well.
    let reachable = |address: &IpAddr| address.is_ipv4() || (listen.is_ipv6() && !is_link_local(*address));
    let all: BTreeSet<IpAddr> = found.filter(reachable).collect();
    let mut ordered: Vec<IpAddr> = first.filter(reachable).into_iter().collect();
    ordered.extend(all.iter().filter(|address| !address.is_loopback() && Some(**address) != first));
    // Browsers on this very machine reach it even without a network.
    ordered.truncate(MAX_ADDRESSES - 1);
    ordered.push(IpAddr::from([127, 0, 0, 1]));
    ordered
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The address that packets to the internet leave from. Connecting a UDP socket asks the routing table and sends
/// nothing; the far address is one reserved for documentation (RFC 5737).
fn default_route_address() -> Option<IpAddr> {
    let far = SocketAddr::from(([192, 0, 2, 1], 9));
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(far).ok()?;
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
            listen: listen.parse().unwrap(),
            announce: announce.iter().map(|name| (*name).to_owned()).collect(),
            ..worker::Config::default()
        }
    }

    #[test]
    fn the_default_route_comes_first_and_loopback_last() {
        let found = ips(&["127.0.0.1", "172.17.0.1", "10.0.0.5", "fe80::1", "2001:db8::1", "::1"]);
        let first = Some("172.17.0.1".parse().unwrap());
        let v4 = order("0.0.0.0".parse().unwrap(), first, found.clone().into_iter());
        assert_eq!(v4, ips(&["172.17.0.1", "10.0.0.5", "127.0.0.1"]));
        let both = order("::".parse().unwrap(), first, found.into_iter());
        assert_eq!(both, ips(&["172.17.0.1", "10.0.0.5", "2001:db8::1", "127.0.0.1"]));
    }

    #[test]
    fn a_machine_without_network_announces_loopback() {
        let alone = order("0.0.0.0".parse().unwrap(), None, ips(&["127.0.0.1"]).into_iter());
        assert_eq!(alone, ips(&["127.0.0.1"]));
    }

    #[test]
    fn there_are_never_too_many() {
        let many = (0..200).map(|last| IpAddr::from([10, 0, 0, last]));
        let ordered = order("0.0.0.0".parse().unwrap(), None, many);
        assert_eq!(ordered.len(), MAX_ADDRESSES);
        assert_eq!(ordered.last(), Some(&IpAddr::from([127, 0, 0, 1])));
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
