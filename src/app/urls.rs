//! What the server says when it is ready.

use std::net::{IpAddr, SocketAddr};

use super::announce::Announced;
use super::reach;
use crate::worker;

/// The text; `candidates` are what browsers are told to send media to.
pub(super) fn greeting(
    http: SocketAddr,
    rtc: &worker::Config,
    announced: &Announced,
    candidates: &[SocketAddr],
) -> String {
    let mut text = String::from("weir is ready\n");
    for (index, url) in urls(http, &announced.addresses).iter().enumerate() {
        let label = if index == 0 { "open" } else { "" };
        line(&mut text, label, url);
    }
    let listed =
        |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let protocols = if rtc.tcp { "UDP and TCP" } else { "UDP" };
    let told = listed(candidates);
    line(&mut text, "media", &format!("{protocols} {}, announced as {told}", listed(&rtc.listen)));
    for warning in reach::warnings(rtc, announced, candidates) {
        line(&mut text, "note", &warning);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_are_localhost_and_every_address_of_the_machine() {
        let addresses =
            ["192.168.1.5", "2001:db8::1", "127.0.0.1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(
            urls("0.0.0.0:4000".parse().unwrap(), &addresses),
            ["http://localhost:4000", "http://192.168.1.5:4000", "http://[2001:db8::1]:4000"]
        );
        assert_eq!(urls("127.0.0.1:80".parse().unwrap(), &addresses), ["http://localhost:80"]);
        assert_eq!(urls("10.1.1.1:80".parse().unwrap(), &addresses), ["http://10.1.1.1:80"]);
    }

    #[test]
    fn the_greeting_names_the_media_addresses() {
        let rtc = worker::Config::default();
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let announced = Announced { addresses: addresses.clone(), detected: false, machine: addresses };
        let candidates = ["192.0.2.1:40000".parse().unwrap()];
        let text = greeting("0.0.0.0:4000".parse().unwrap(), &rtc, &announced, &candidates);
        assert!(text.contains("http://localhost:4000"), "{text}");
        assert!(text.contains("UDP and TCP 0.0.0.0:40000, announced as 192.0.2.1:40000"), "{text}");
        assert_eq!(text.matches("note").count(), 1, "{text}");
    }
}
