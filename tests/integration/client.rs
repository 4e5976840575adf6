//! The simulated client itself: its parts have to be right before they can judge a server.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_rtp::Packet;
use rtc_shared::marshal::Unmarshal;

use crate::support::dtls::{BROWSER_PROFILES, Dtls, Progress, Role, Srtp};
use crate::support::media::{Source, Stamp, header_len};
use crate::support::reception::Reception;
use crate::support::stun::{self, Credentials};

fn packets(source: &mut Source, frames: usize) -> Vec<Vec<u8>> {
    (0..frames).flat_map(|frame| source.video_frame(frame == 0, 3)).collect()
}

fn parse(packet: &[u8]) -> Result<Packet> {
    Ok(Packet::unmarshal(&mut bytes::Bytes::copy_from_slice(packet))?)
}

fn take(reception: &mut Reception, packet: &[u8]) -> Result<()> {
    let packet = parse(packet)?;
    reception.take(&packet, packet.header.sequence_number, &packet.payload, false);
    Ok(())
}

#[test]
fn a_source_makes_rtp_that_others_read() -> Result<()> {
    let mut source = Source::new(7, 108, "1", Some("r0"));
    let packets = packets(&mut source, 2);
    assert_eq!(packets.len(), 7);
    let first = parse(packets.first().context("a packet")?)?;
    assert_eq!((first.header.ssrc, first.header.payload_type, first.header.marker), (7, 108, false));
    assert_eq!(first.header.get_extension(4).as_deref(), Some(&b"1"[..]));
    assert_eq!(first.header.get_extension(10).as_deref(), Some(&b"r0"[..]));
    assert_eq!(Stamp::read(&first.payload), Some(Stamp { source: 7, counter: 0 }));
    let last = parse(packets.last().context("a packet")?)?;
    assert!(last.header.marker);
    assert_eq!(last.header.timestamp.wrapping_sub(first.header.timestamp), 3000);
    Ok(())
}

#[test]
fn a_reception_notices_what_is_missing_twice_or_foreign() -> Result<()> {
    let mut source = Source::new(7, 108, "1", None);
    // Enough to cross the wrap of the sequence number.
    let packets = packets(&mut source, 40);
    let mut whole = Reception::default();
    for packet in &packets {
        take(&mut whole, packet)?;
    }
    assert_eq!((whole.packets, whole.missing(), whole.seams()), (121, vec![], 0));
    assert_eq!(whole.key_frames, 1);

    let mut holed = Reception::default();
    for packet in
        packets.iter().take(50).chain(packets.iter().skip(52)).chain(packets.iter().skip(50).take(1))
    {
        take(&mut holed, packet)?;
    }
    let lost = parse(packets.get(51).context("a packet")?)?.header.sequence_number;
    assert_eq!(holed.missing(), [lost]);
    take(&mut holed, packets.get(3).context("a packet")?)?;
    assert_eq!(holed.duplicates, 1);
    assert_eq!(holed.seams(), 0);

    let mut other = Source::new(8, 108, "1", None);
    let mut mixed = Reception::default();
    take(&mut mixed, packets.first().context("a packet")?)?;
    for packet in other.video_frame(false, 2).iter().skip(1) {
        take(&mut mixed, packet)?;
    }
    assert_eq!(mixed.seams(), 1);
    Ok(())
}

#[test]
fn a_retransmission_carries_the_original() -> Result<()> {
    let mut source = Source::new(7, 108, "1", None);
    let mut repair = Source::new(9, 109, "1", None);
    let original = source.video_frame(true, 1).pop().context("a packet")?;
    let repeated = parse(&repair.retransmission(&original, header_len(&original)))?;
    let original = parse(&original)?;
    assert_eq!((repeated.header.ssrc, repeated.header.payload_type), (9, 109));
    assert_eq!(repeated.header.timestamp, original.header.timestamp);
    let (sequence, payload) = repeated.payload.split_first_chunk::<2>().context("a payload")?;
    assert_eq!(u16::from_be_bytes(*sequence), original.header.sequence_number);
    assert_eq!(payload, &original.payload[..]);
    Ok(())
}

#[test]
fn a_binding_request_is_no_success() -> Result<()> {
    let crypto = rtc_crypto::default_provider()?;
    let local = Credentials { ufrag: "a".into(), password: "local".into() };
    let remote = Credentials { ufrag: "b".into(), password: "remote".into() };
    let request = stun::binding_request(&local, &remote, &*crypto)?;
    assert!(!stun::is_success(&request, "remote", &*crypto)?);
    assert!(stun::is_success(request.get(..30).context("a request")?, "remote", &*crypto).is_err());
    Ok(())
}

/// Lets two ends talk until both are connected.
fn handshake(client: &mut Dtls, server: &mut Dtls) -> Result<(Srtp, Srtp)> {
    let now = Instant::now();
    client.start(now)?;
    let mut connected = (false, false);
    while connected != (true, true) {
        let mut moved = false;
        while let Some(datagram) = client.poll_transmit() {
            connected.1 |= server.handle(now, &datagram)? == Progress::Connected;
            moved = true;
        }
        while let Some(datagram) = server.poll_transmit() {
            connected.0 |= client.handle(now, &datagram)? == Progress::Connected;
            moved = true;
        }
        anyhow::ensure!(moved, "the handshake came to a standstill at {connected:?}");
    }
    let fingerprint = |end: &Dtls| {
        end.parameters().pointer("/fingerprints/0/value").and_then(|value| value.as_str().map(str::to_owned))
    };
    let expected_by_client = fingerprint(server).context("a fingerprint")?;
    let expected_by_server = fingerprint(client).context("a fingerprint")?;
    Ok((client.srtp(&expected_by_client)?, server.srtp(&expected_by_server)?))
}

#[test]
fn dtls_gives_both_ends_matching_srtp_keys() -> Result<()> {
    let crypto = rtc_crypto::default_provider()?;
    let client_address = SocketAddr::from(([127, 0, 0, 1], 1));
    let server_address = SocketAddr::from(([127, 0, 0, 1], 2));
    let only_cm = [SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];
    for profiles in [&BROWSER_PROFILES[..], &only_cm[..]] {
        let mut client = Dtls::new(Role::Client, profiles, client_address, server_address, crypto.clone())?;
        let mut server =
            Dtls::new(Role::Server, &BROWSER_PROFILES, server_address, client_address, crypto.clone())?;
        let (mut client, mut server) = handshake(&mut client, &mut server)?;
        assert_eq!(client.profile, server.profile);
        let packet = Source::new(7, 111, "0", None).audio_frame();
        let sealed = client.outbound.encrypt_rtp(&packet)?;
        assert_ne!(sealed.get(..packet.len()), Some(&packet[..]));
        assert_eq!(server.inbound.decrypt_rtp(&sealed)?.to_vec(), packet);
        let sealed = server.outbound.encrypt_rtp(&packet)?;
        assert_eq!(client.inbound.decrypt_rtp(&sealed)?.to_vec(), packet);
    }
    Ok(())
}
