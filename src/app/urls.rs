//! What the server says when it is ready.

use std::net::{IpAddr, SocketAddr};

use super::announce::Announced;
use crate::worker;

pub(super) fn greeting(http: SocketAddr, rtc: &worker::Config, announced: &Announced) -> String {
    let mut text = String::from("weir is ready\n");
    for (index, url) in urls(http, &announced.addresses).iter().enumerate() {
        let label = if index == 0 { "open" } else { "" };
        line(&mut text, label, url);
    }
    let listed: Vec<String> = announced.addresses.iter().map(ToString::to_string).collect();
    line(&mut text, "media", &format!("UDP {}, announced as {}", rtc.listen, listed.join(", ")));
    if let Some(warning) = warning(announced) {
        line(&mut text, "note", warning);
    }
    line(&mut text, "note", "browsers give cameras to http://localhost and to https:// pages only");
    text
}

fn line(text: &mut String, label: &str, rest: &str) {
    text.push_str(&format!("  {label:<6} {rest}\n"));
}

/// Where the page can be opened: on this machine, and from others.
fn urls(http: SocketAddr, addresses: &[IpAddr]) -> Vec<String> {
    let port = http.port();
    if !http.ip().is_unspecified() {
        let host = if http.ip().is_loopback() { "localhost".to_owned() } else { shown(http.ip()) };
        return vec![format!("http://{host}:{port}")];
    }
    let others = addresses.iter().filter(|address| !address.is_loopback()).map(|address| shown(*address));
    std::iter::once("localhost".to_owned())
        .chain(others)
        .map(|host| format!("http://{host}:{port}"))
        .collect()
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn warning(announced: &Announced) -> Option<&'static str> {
    let private = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local() || address.is_loopback(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
    };
    if announced.addresses.iter().all(IpAddr::is_loopback) {
        Some(
            "only browsers on this machine can send and receive media: announce another address with --announce",
        )
    } else if announced.detected && announced.addresses.iter().all(private) {
        Some(
            "browsers outside this network can't reach these addresses: behind NAT, announce the public one with --announce",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(addresses: &[&str], detected: bool) -> Announced {
        Announced { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(), detected }
    }

    #[test]
    fn the_urls_are_localhost_and_every_address_of_the_machine() {
        let addresses = announced(&["192.168.1.5", "2001:db8::1", "127.0.0.1"], true).addresses;
        assert_eq!(
            urls("0.0.0.0:4000".parse().unwrap(), &addresses),
            ["http://localhost:4000", "http://192.168.1.5:4000", "http://[2001:db8::1]:4000"]
        );
        assert_eq!(urls("127.0.0.1:80".parse().unwrap(), &addresses), ["http://localhost:80"]);
        assert_eq!(urls("10.1.1.1:80".parse().unwrap(), &addresses), ["http://10.1.1.1:80"]);
    }

    #[test]
    fn addresses_that_others_can_not_reach_are_warned_of() {
        assert!(warning(&announced(&["127.0.0.1"], true)).unwrap().contains("only browsers on this machine"));
        assert!(
            warning(&announced(&["127.0.0.1"], false)).unwrap().contains("only browsers on this machine")
        );
        assert!(warning(&announced(&["10.0.0.1", "127.0.0.1"], true)).unwrap().contains("behind NAT"));
        assert_eq!(warning(&announced(&["10.0.0.1"], false)), None);
        assert_eq!(warning(&announced(&["8.8.8.8", "127.0.0.1"], true)), None);
    }

    #[test]
    fn the_greeting_names_the_media_address() {
        let rtc = worker::Config::default();
        let text = greeting("0.0.0.0:4000".parse().unwrap(), &rtc, &announced(&["192.0.2.1"], false));
        assert!(text.contains("http://localhost:4000"), "{text}");
        assert!(text.contains("UDP 0.0.0.0:40000, announced as 192.0.2.1"), "{text}");
    }
}
