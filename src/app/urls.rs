//! What the server says when it is ready.

use std::net::{IpAddr, SocketAddr};

use super::announce::Announced;
use super::reach;
use crate::worker;

/// Where the web server is.
pub(super) struct Web<'a> {
    /// Without TLS.
    pub(super) http: SocketAddr,
    /// With TLS.
    pub(super) https: &'a [SocketAddr],
    /// What certificate clients are shown there.
    pub(super) certificate: Option<&'a str>,
}

/// The text; `candidates` are what browsers are told to send media to.
pub(super) fn greeting(
    web: &Web<'_>,
    rtc: &worker::Config,
    announced: &Announced,
    candidates: &[SocketAddr],
) -> String {
    let mut text = String::from("weir is ready\n");
    let mut open = urls("http", web.http, &announced.addresses);
    open.extend(web.https.iter().flat_map(|https| urls("https", *https, &announced.addresses)));
    for (index, url) in open.iter().enumerate() {
        let label = if index == 0 { "open" } else { "" };
        line(&mut text, label, url);
    }
    if let Some(certificate) = web.certificate {
        line(&mut text, "TLS", certificate);
    }
    let listed =
        |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let protocols = if rtc.tcp { "UDP and TCP" } else { "UDP" };
    let told = listed(candidates);
    line(&mut text, "media", &format!("{protocols} {}, announced as {told}", listed(&rtc.listen)));
    for warning in reach::warnings(rtc, announced, candidates) {
        line(&mut text, "note", &warning);
    }
    if web.https.is_empty() {
        line(
            &mut text,
            "note",
            "browsers give cameras to http://localhost and to https:// pages only: --https 0.0.0.0:4443 serves those",
        );
    }
    text
}

fn line(text: &mut String, label: &str, rest: &str) {
    text.push_str(&format!("  {label:<6} {rest}\n"));
}

/// Where the page can be opened: on this machine, and from others.
fn urls(scheme: &str, listen: SocketAddr, addresses: &[IpAddr]) -> Vec<String> {
    let port = listen.port();
    if !listen.ip().is_unspecified() {
        let host = if listen.ip().is_loopback() { "localhost".to_owned() } else { shown(listen.ip()) };
        return vec![format!("{scheme}://{host}:{port}")];
    }
    let others = addresses.iter().filter(|address| !address.is_loopback()).map(|address| shown(*address));
    std::iter::once("localhost".to_owned())
        .chain(others)
        .map(|host| format!("{scheme}://{host}:{port}"))
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
            urls("http", "0.0.0.0:4000".parse().unwrap(), &addresses),
            ["http://localhost:4000", "http://192.168.1.5:4000", "http://[2001:db8::1]:4000"]
        );
        assert_eq!(urls("https", "127.0.0.1:80".parse().unwrap(), &addresses), ["https://localhost:80"]);
        assert_eq!(urls("http", "10.1.1.1:80".parse().unwrap(), &addresses), ["http://10.1.1.1:80"]);
    }

    #[test]
    fn the_greeting_names_the_media_addresses() {
        let rtc = worker::Config::default();
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let announced = Announced { addresses: addresses.clone(), detected: false, machine: addresses };
        let candidates = ["192.0.2.1:40000".parse().unwrap()];
        let http = "0.0.0.0:4000".parse().unwrap();
        let plain = Web { http, https: &[], certificate: None };
        let text = greeting(&plain, &rtc, &announced, &candidates);
        assert!(text.contains("http://localhost:4000"), "{text}");
        assert!(text.contains("UDP and TCP 0.0.0.0:40000, announced as 192.0.2.1:40000"), "{text}");
        assert_eq!(text.matches("note").count(), 1, "{text}");
        let https = ["0.0.0.0:4443".parse().unwrap()];
        let both = Web { http, https: &https, certificate: Some("self-signed") };
        let text = greeting(&both, &rtc, &announced, &candidates);
        assert!(text.contains("https://192.0.2.1:4443") && text.contains("TLS    self-signed"), "{text}");
        assert!(!text.contains("note"), "cameras are given to the page: {text}");
    }
}
