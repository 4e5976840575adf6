//! Networks other than one IPv4 address with open UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::sfu::api::WebRtcTransportOptions;

use crate::support::core::Core;
use crate::support::peer::{Camera, Consumer};
use crate::support::publisher::Publisher;
use crate::support::reception::Reception;
use crate::support::transport::{Behaviour, Transport};

fn tcp() -> Behaviour {
    Behaviour { tcp: true, ..Behaviour::default() }
}

struct Call {
    core: Core,
    viewer: std::sync::Arc<Transport>,
    consumer: Consumer,
    _publisher: Publisher,
}

impl Call {
    async fn new(core: Core, sends: Behaviour, receives: Behaviour) -> Result<Self> {
        let publishing = core.open(sends).await?;
        let viewer = core.open(receives).await?;
        let publisher = core.publish_video(&publishing, Camera::Simple).await?;
        let consumer = core.consume(&viewer, &publisher).await?;
        core.resume(&consumer).await?;
        Ok(Self { core, viewer, consumer, _publisher: publisher })
    }

    /// Waits until `more` packets more than now arrived, and nothing is missing.
    async fn flows(&self, more: u64) -> Result<()> {
        let before = self.viewer.seen.lock().stream(self.consumer.ssrc).packets;
        let enough = |reception: &Reception| reception.packets >= before + more;
        let ssrc = self.consumer.ssrc;
        let reception =
            self.viewer.seen.wait("packets", |seen| Some(seen.stream(ssrc)).filter(enough)).await?;
        assert_eq!((reception.missing(), reception.duplicates, reception.foreign), (vec![], 0, 0));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_over_tcp_where_udp_is_blocked() -> Result<()> {
    for (sends, receives) in [(tcp(), Behaviour::default()), (Behaviour::default(), tcp()), (tcp(), tcp())] {
        let call = Call::new(Core::start().await?, sends, receives).await?;
        call.flows(300).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_candidates_come_after_udp_and_can_be_switched_off() -> Result<()> {
    let core = Core::start().await?;
    let candidates =
        core.router.create_webrtc_transport(WebRtcTransportOptions::default()).await?.ice_candidates;
    let [udp, tcp] = candidates.as_slice() else { anyhow::bail!("{candidates:?}") };
    assert_eq!(udp.port, tcp.port);
    assert!(udp.priority > tcp.priority);
    assert_eq!(serde_json::to_value(tcp)?["tcpType"], "passive");

    let core = Core::start_with(|config| config.tcp = false).await?;
    assert_eq!(
        core.router.create_webrtc_transport(WebRtcTransportOptions::default()).await?.ice_candidates.len(),
        1
    );
    assert!(TcpStream::connect(core.pool.addresses()[0]).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_the_tcp_port_are_closed_and_disturb_nobody() -> Result<()> {
    let call = Call::new(Core::start().await?, tcp(), tcp()).await?;
    call.flows(60).await?;
    let server = *call.core.pool.addresses().first().context("an address")?;
    let mut half_open = Vec::new();
    for _ in 0..2000 {
        half_open.push(TcpStream::connect(server).await?);
    }
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 70_000], &[0, 4, 0x16, 0xFE, 0xFD, 0]] {
        let mut stranger = TcpStream::connect(server).await?;
        // The server may close before it has read everything: then the end is a reset.
        let _unread = stranger.write_all(greeting).await;
        let ended = tokio::time::timeout(Duration::from_secs(20), stranger.read(&mut [0])).await?;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    call.flows(200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listen_address_works_and_is_told() -> Result<()> {
    let listen: Vec<SocketAddr> = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"]
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let core = Core::start_with(|config| config.listen.clone_from(&listen)).await?;
    let candidates =
        core.router.create_webrtc_transport(WebRtcTransportOptions::default()).await?.ice_candidates;
    let told: Vec<&str> = candidates.iter().map(|candidate| candidate.address.as_str()).collect();
    assert_eq!(told, ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1", "127.0.0.2", "::1"]);
    let ports: BTreeSet<u16> = candidates.iter().map(|candidate| candidate.port).collect();
    assert_eq!(ports.len(), 3, "each address has a port for both protocols");

    let to = |candidate| Behaviour { candidate, ..Behaviour::default() };
    let call = Call::new(core, to(1), to(2)).await?;
    call.flows(100).await?;
    let call = Call::new(call.core, Behaviour { candidate: 2, ..tcp() }, to(0)).await?;
    call.flows(100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dual_stack_address_serves_both_families() -> Result<()> {
    let core = Core::start_with(|config| {
        config.listen = vec!["[::]:0".parse().expect("an address")];
        config.announce = vec!["127.0.0.1".into(), "::1".into()];
    })
    .await?;
    let call =
        Call::new(core, Behaviour::default(), Behaviour { candidate: 1, ..Behaviour::default() }).await?;
    call.flows(100).await?;
    let call = Call::new(call.core, tcp(), Behaviour { candidate: 1, ..tcp() }).await?;
    call.flows(100).await
}
