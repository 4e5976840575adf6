//! Whether browsers can reach the media addresses that they are told, as far as the machine itself can tell.

use std::net::{IpAddr, SocketAddr};

use super::announce::Announced;
use crate::worker;

/// What may keep media from flowing, as sentences for the operator. `candidates` are what browsers are told.
pub(super) fn warnings(
    rtc: &worker::Config,
    announced: &Announced,
    candidates: &[SocketAddr],
) -> Vec<String> {
    if candidates.is_empty() {
        return vec![
            "no browser can send or receive media: none of the announced addresses is of the family (IPv4, IPv6) of \
             a listen address"
                .into(),
        ];
    }
    if candidates.iter().all(|candidate| candidate.ip().is_loopback()) {
        return vec![
            "only browsers on this machine can send and receive media: announce another address with --announce"
                .into(),
        ];
    }
    let mut warnings = Vec::new();
    if announced.detected && candidates.iter().all(|candidate| is_private(candidate.ip())) {
        warnings.push(
            "browsers outside this network can't reach these addresses: behind NAT, announce the public one with \
             --announce"
                .into(),
        );
    }
    if rtc.listen.iter().any(|listen| listen.port() == 0) {
        warnings.push("port 0 is another port at each start: no firewall or NAT rule can follow it".into());
    }
    let elsewhere: Vec<String> = announced
        .addresses
        .iter()
        .filter(|address| !announced.machine.is_empty() && !announced.machine.contains(address))
        .map(ToString::to_string)
        .collect();
    if !elsewhere.is_empty() && !announced.detected {
        warnings.push(format!(
            "{} is no address of this machine: the NAT has to pass {} through with the same port numbers",
            elsewhere.join(", "),
            if rtc.tcp { "UDP and TCP" } else { "UDP" },
        ));
    }
    warnings
}

/// Whether the internet has no way to this address.
fn is_private(address: IpAddr) -> bool {
    match address {
        // 100.64.0.0/10 is what carriers number the insides of their NATs with (RFC 6598).
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_carriers = first == 100 && (64..128).contains(&second);
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_carriers
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a machine with the addresses `machine` that listens on `listen` and tells browsers `told`.
    fn warned(listen: &str, machine: &[&str], told: &[&str], detected: bool) -> String {
        let ips =
            |texts: &[&str]| texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
        let rtc = worker::Config { listen: vec![listen.parse().unwrap()], ..worker::Config::default() };
        let announced = Announced { addresses: ips(told), detected, machine: ips(machine) };
        let port = rtc.listen[0].port();
        let candidates: Vec<SocketAddr> =
            announced.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        warnings(&rtc, &announced, &candidates).join("\n")
    }

    #[test]
    fn what_everybody_can_reach_is_not_warned_of() {
        assert_eq!(warned("0.0.0.0:4", &["8.8.8.8"], &["8.8.8.8", "127.0.0.1"], true), "");
        assert_eq!(warned("[::]:4", &["2a00::1"], &["2a00::1", "::1"], true), "");
        assert_eq!(warned("0.0.0.0:4", &["10.0.0.1"], &["10.0.0.1"], false), "", "the operator knows");
    }

    #[test]
    fn loopback_and_private_addresses_are_warned_of() {
        for detected in [true, false] {
            let text = warned("127.0.0.1:4", &["127.0.0.1"], &["127.0.0.1"], detected);
            assert!(text.contains("only browsers on this machine"), "{text}");
        }
        for address in ["10.0.0.1", "100.64.3.2", "fd00::1"] {
            let text = warned("0.0.0.0:4", &[address], &[address, "127.0.0.1"], true);
            assert!(text.contains("behind NAT"), "{address}: {text}");
        }
    }

    #[test]
    fn a_port_that_changes_and_an_address_of_the_outside_are_pointed_out() {
        assert!(warned("0.0.0.0:0", &["8.8.8.8"], &["8.8.8.8"], true).contains("port 0"));
        let text = warned("0.0.0.0:4", &["10.0.0.1"], &["203.0.113.9"], false);
        assert!(text.contains("203.0.113.9 is no address of this machine"), "{text}");
        assert_eq!(warned("0.0.0.0:4", &[], &["203.0.113.9"], false), "", "the system does not tell");
    }

    #[test]
    fn nothing_to_send_to_is_the_worst() {
        assert!(warned("0.0.0.0:4", &[], &[], false).contains("no browser"));
    }
}
