//! The media core over real sockets: handshakes, forwarding, repair, key frames, pauses, and how transports end.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use tokio::net::UdpSocket;
use weir::sfu::api::{Event, TransportCloseReason};

use crate::support::core::{Core, transport_id};
use crate::support::dtls::Role;
use crate::support::media::Source;
use crate::support::peer::{Camera, Consumer, OPUS, audio_parameters};
use crate::support::reception::Reception;
use crate::support::stun::{self, Credentials};
use crate::support::transport::{Behaviour, Transport};

/// Waits until a consumer got so many packets more than now.
async fn flows(transport: &Transport, consumer: &Consumer, more: u64) -> Result<Reception> {
    let before = transport.seen.lock().stream(consumer.ssrc).packets;
    let what = format!("{more} packets more");
    let enough = |reception: &Reception| reception.packets >= before + more;
    transport.seen.wait(&what, |seen| Some(seen.stream(consumer.ssrc)).filter(enough)).await
}

/// A publisher and a viewer that gets its camera, wired up.
struct Pair {
    core: Core,
    viewer: Arc<Transport>,
    publisher: crate::support::publisher::Publisher,
    publishing: Arc<Transport>,
    consumer: Consumer,
}

impl Pair {
    async fn new(core: Core, sends: Behaviour, receives: Behaviour, camera: Camera) -> Result<Self> {
        let publishing = core.open(sends).await?;
        let viewer = core.open(receives).await?;
        let publisher = core.publish_video(&publishing, camera).await?;
        let consumer = core.consume(&viewer, &publisher).await?;
        core.resume(&consumer).await?;
        Ok(Self { core, viewer, publisher, publishing, consumer })
    }

    async fn plain() -> Result<Self> {
        Self::new(Core::start().await?, Behaviour::default(), Behaviour::default(), Camera::Simple).await
    }

    async fn flows(&self, more: u64) -> Result<Reception> {
        flows(&self.viewer, &self.consumer, more).await
    }
}

fn assert_whole(reception: &Reception) {
    assert_eq!(reception.missing(), Vec::<u16>::new());
    assert_eq!((reception.duplicates, reception.foreign), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_everything_in_both_dtls_roles() -> Result<()> {
    for (sender, receiver) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let role = |role| Behaviour { role, ..Behaviour::default() };
        let pair = Pair::new(Core::start().await?, role(sender), role(receiver), Camera::Simple).await?;
        let reception = pair.flows(300).await?;
        assert_whole(&reception);
        assert_eq!(reception.seams(), 0);
        assert_eq!(reception.payload_types, BTreeSet::from([pair.consumer.payload_type]));
        assert_eq!(pair.viewer.seen.lock().unreadable, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prefers_gcm_whatever_the_order_and_falls_back() -> Result<()> {
    use SrtpProtectionProfile::{Srtp_Aead_Aes_128_Gcm as Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80 as Cm};
    let core = Core::start().await?;
    for role in [Role::Client, Role::Server] {
        for (profiles, expected) in [(vec![Cm, Gcm], Gcm), (vec![Gcm, Cm], Gcm), (vec![Cm], Cm)] {
            let transport = core.open(Behaviour { role, profiles, ..Behaviour::default() }).await?;
            assert_eq!(transport.connected().await?, expected, "{role:?}");
        }
    }
    let only_cm = || Behaviour { profiles: vec![Cm], ..Behaviour::default() };
    let pair = Pair::new(core, only_cm(), Behaviour::default(), Camera::Simple).await?;
    assert_whole(&pair.flows(100).await?);
    let viewer = pair.core.open(only_cm()).await?;
    let consumer = pair.core.consume(&viewer, &pair.publisher).await?;
    pair.core.resume(&consumer).await?;
    assert_whole(&flows(&viewer, &consumer, 100).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_nack_with_rtx() -> Result<()> {
    let loses = Behaviour { loses: vec![10, 11, 40], ..Behaviour::default() };
    let pair = Pair::new(Core::start().await?, Behaviour::default(), loses, Camera::Simple).await?;
    let reception = pair.flows(60).await?;
    assert_eq!(reception.missing().len(), 3);
    pair.viewer.send_nack(pair.consumer.ssrc, &reception.missing()).await?;
    let whole = |reception: &Reception| reception.missing().is_empty();
    let seen = &pair.viewer.seen;
    let repaired = seen.wait("repair", |seen| Some(seen.stream(pair.consumer.ssrc)).filter(whole)).await?;
    assert_eq!((repaired.repaired, repaired.seams()), (3, 0));
    pair.core.stats(|stats| stats.rtp_retransmitted == 3).await?;
    let asked = pair.publishing.seen.lock().nacks.clone();
    assert!(asked.is_empty(), "the publisher was asked although the packets had arrived: {asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_the_publisher_for_what_got_lost_on_its_way() -> Result<()> {
    let drops = Behaviour { drops: vec![20, 21, 22], ..Behaviour::default() };
    let pair = Pair::new(Core::start().await?, drops, Behaviour::default(), Camera::Simple).await?;
    pair.flows(100).await?;
    let whole = |reception: &Reception| reception.missing().is_empty();
    let seen = &pair.viewer.seen;
    let reception = seen.wait("repair", |seen| Some(seen.stream(pair.consumer.ssrc)).filter(whole)).await?;
    assert_eq!(reception.seams(), 0);
    let ssrc = pair.publisher.ssrcs.first().context("an SSRC")?;
    // Asking again is allowed where an answer takes its time; asking for anything else is not.
    let asked = pair.publishing.seen.lock().nacks.get(ssrc).cloned().unwrap_or_default();
    assert_eq!(BTreeSet::from_iter(asked).len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_asks_for_exactly_one_key_frame() -> Result<()> {
    let core = Core::start().await?;
    let publishing = core.open(Behaviour::default()).await?;
    let viewer = core.open(Behaviour::default()).await?;
    let publisher = core.publish_video(&publishing, Camera::Simple).await?;
    let ssrc = *publisher.ssrcs.first().context("an SSRC")?;
    core.stats(|stats| stats.rtp_received >= 30).await?;
    let consumer = core.consume(&viewer, &publisher).await?;
    core.stats(|stats| stats.rtp_received >= 60).await?;
    assert_eq!(publishing.seen.lock().key_frames_asked(ssrc), 0, "a paused consumer needs no key frame");
    assert_eq!(viewer.seen.lock().stream(consumer.ssrc).packets, 0);

    core.resume(&consumer).await?;
    let reception = flows(&viewer, &consumer, 120).await?;
    assert_eq!(reception.key_frames, 1);
    assert_eq!(publishing.seen.lock().key_frames_asked(ssrc), 1);
    assert_whole(&reception);
    assert_eq!(core.pool.stats().await.key_frame_requests, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewers_key_frame_request_reaches_the_publisher() -> Result<()> {
    let pair = Pair::plain().await?;
    pair.flows(30).await?;
    let ssrc = *pair.publisher.ssrcs.first().context("an SSRC")?;
    let before = pair.publishing.seen.lock().key_frames_asked(ssrc);
    pair.viewer.send_pli(pair.consumer.ssrc).await?;
    let seen = &pair.publishing.seen;
    seen.wait("a key frame request", |seen| (seen.key_frames_asked(ssrc) > before).then_some(())).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_leave_no_gap_in_the_sequence() -> Result<()> {
    let mut pair = Pair::plain().await?;
    let id = pair.consumer.id.clone();
    for level in ["consumer", "producer"] {
        let pause = async |pair: &Pair, paused| match level {
            "consumer" => pair.core.pause_consumer(&pair.consumer, paused).await,
            _ => pair.core.pause_producer(&pair.publisher, paused).await,
        };
        pair.flows(60).await?;
        let seams = pair.viewer.seen.lock().stream(pair.consumer.ssrc).seams();
        pause(&pair, true).await?;
        let received = pair.core.pool.stats().await;
        pair.core.stats(|stats| stats.rtp_received >= received.rtp_received + 60).await?;
        assert_eq!(pair.core.pool.stats().await.rtp_forwarded, received.rtp_forwarded, "{level} is paused");
        pause(&pair, false).await?;
        let reception = pair.flows(60).await?;
        assert_whole(&reception);
        assert_eq!(reception.seams(), seams + 1, "what was sent during the pause is left out once");
    }
    let consumer = |event: &Event| match event {
        Event::ConsumerPaused(consumer) => Some(("paused", consumer.to_string())),
        Event::ConsumerResumed(consumer) => Some(("resumed", consumer.to_string())),
        _ => None,
    };
    assert_eq!(pair.core.event(consumer).await?, ("paused", id.clone()));
    assert_eq!(pair.core.event(consumer).await?, ("resumed", id));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_what_depends_on_it() -> Result<()> {
    let mut pair = Pair::plain().await?;
    pair.flows(10).await?;
    let second = pair.core.consume(&pair.viewer, &pair.publisher).await?;
    pair.core.router.close_consumer(second.id.parse()?).await?;
    assert_eq!(pair.core.pool.stats().await.consumers, 1);
    pair.core.router.close_producer(pair.publisher.id.parse()?).await?;
    let closed = |event: &Event| match event {
        Event::ConsumerClosed(consumer) => Some(consumer.to_string()),
        _ => None,
    };
    assert_eq!(pair.core.event(closed).await?, pair.consumer.id);
    // The publisher goes on sending what belongs to nobody any more.
    pair.core.stats(|stats| stats.dropped_unknown_ssrc > 0).await?;
    for transport in [&pair.publishing, &pair.viewer] {
        pair.core.router.close_transport(transport_id(transport)?).await?;
        transport.seen.wait("close_notify", |seen| seen.closed_by_server.then_some(())).await?;
    }
    let stats = pair.core.pool.stats().await;
    assert_eq!((stats.transports, stats.producers, stats.consumers), (0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_given_up_when_consent_runs_out() -> Result<()> {
    let core = Core::start_with(|config| config.ice_consent_timeout_secs = 2).await?;
    let often =
        || Behaviour { consent_interval: std::time::Duration::from_millis(200), ..Behaviour::default() };
    let mut pair = Pair::new(core, often(), often(), Camera::Simple).await?;
    pair.flows(10).await?;
    let vanished = transport_id(&pair.publishing)?;
    pair.publishing.vanish();
    let closed = pair.core.event(|event| match event {
        Event::TransportClosed(transport, reason) => Some((*transport, *reason)),
        _ => None,
    });
    assert_eq!(closed.await?, (vanished, TransportCloseReason::ConsentLost));
    let consumer = pair.core.event(|event| match event {
        Event::ConsumerClosed(consumer) => Some(consumer.to_string()),
        _ => None,
    });
    assert_eq!(consumer.await?, pair.consumer.id);
    let stats = pair.core.pool.stats().await;
    assert_eq!((stats.transports, stats.producers, stats.consumers), (1, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_goodbye_is_gone_at_once() -> Result<()> {
    let mut core = Core::start().await?;
    let transport = core.open(Behaviour::default()).await?;
    let id = transport_id(&transport)?;
    Arc::into_inner(transport).context("the only owner")?.goodbye().await?;
    let closed = core.event(|event| match event {
        Event::TransportClosed(transport, reason) => Some((*transport, *reason)),
        _ => None,
    });
    assert_eq!(closed.await?, (id, TransportCloseReason::DtlsClosed));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_not_signalled_is_refused() -> Result<()> {
    for role in [Role::Client, Role::Server] {
        let mut core = Core::start().await?;
        let behaviour = || Behaviour { role, ..Behaviour::default() };
        let (honest, impostor) = (core.prepare(behaviour()).await?, core.prepare(behaviour()).await?);
        let parameters = weir::media::ortc::parse_dtls_parameters(&honest.dtls_parameters())?;
        core.router.connect_transport(impostor.id().parse()?, parameters).await?;
        let impostor = impostor.begin();
        let closed = core.event(|event| match event {
            Event::TransportClosed(transport, reason) => Some((*transport, *reason)),
            _ => None,
        });
        assert_eq!(closed.await?, (transport_id(&impostor)?, TransportCloseReason::DtlsFailed), "{role:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn simulcast_settles_on_the_best_layer_as_one_stream() -> Result<()> {
    let core = Core::start().await?;
    let pair = Pair::new(core, Behaviour::default(), Behaviour::default(), Camera::Simulcast).await?;
    let best = *pair.publisher.ssrcs.last().context("an SSRC")?;
    let on_best = |reception: &Reception| reception.last_stamp().is_some_and(|stamp| stamp.source == best);
    let seen = &pair.viewer.seen;
    seen.wait("the best layer", |seen| Some(seen.stream(pair.consumer.ssrc)).filter(on_best)).await?;
    let seams = pair.viewer.seen.lock().stream(pair.consumer.ssrc).seams();
    let reception = pair.flows(200).await?;
    assert_whole(&reception);
    assert_eq!(reception.seams(), seams, "it stays on the best layer");
    assert!(on_best(&reception));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_may_open_and_close_producers_for_ever() -> Result<()> {
    let core = Core::start().await?;
    let publishing = core.open(Behaviour::default()).await?;
    for round in 1..=300 {
        let mut source = Source::new(round, OPUS, "0", None);
        let producer = core.produce(&publishing, "audio", &audio_parameters(round)).await?;
        publishing.send_rtp(source.audio_frame()).await?;
        core.stats(|stats| stats.rtp_received == u64::from(round)).await?;
        core.router.close_producer(producer).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_and_sender_reports_arrive() -> Result<()> {
    let core = Core::start().await?;
    let publishing = core.open(Behaviour::default()).await?;
    // A second stream, whose reports come from another SSRC on the same transport.
    let _video = core.publish_video(&publishing, Camera::Simple).await?;
    let viewer = core.open(Behaviour::default()).await?;
    let publisher = core.publish_audio(&publishing).await?;
    let consumer = core.consume(&viewer, &publisher).await?;
    core.resume(&consumer).await?;
    let reception = flows(&viewer, &consumer, 100).await?;
    assert_whole(&reception);
    assert_eq!(reception.seams(), 0);
    let mid = consumer.mid_extension.context("the MID extension")?;
    let expected = consumer.rtp_parameters.get("mid").and_then(|mid| mid.as_str()).context("a MID")?;
    assert_eq!(reception.extensions.get(&mid).map(Vec::as_slice), Some(expected.as_bytes()));
    viewer.seen.wait("a sender report", |seen| seen.sender_reports.get(&consumer.ssrc).cloned()).await?;
    let ssrc = publisher.ssrcs.first().context("an SSRC")?;
    publishing.seen.wait("a receiver report", |seen| seen.reception_reports.get(ssrc).copied()).await?;
    assert_eq!(core.pool.stats().await.dropped_srtp, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_says_goodbye() -> Result<()> {
    let core = Core::start().await?;
    let transport = core.open(Behaviour::default()).await?;
    core.pool.shutdown(crate::support::PATIENCE).await;
    transport.seen.wait("close_notify", |seen| seen.closed_by_server.then_some(())).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_datagrams_meet_silence() -> Result<()> {
    let pair = Pair::plain().await?;
    pair.flows(10).await?;
    let stranger = UdpSocket::bind("127.0.0.1:0").await?;
    let server = pair.viewer.remote;
    let before = pair.core.pool.stats().await;
    let mut state = 1_u64;
    for len in 0..1000_usize {
        let datagram: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift: any bytes, the same ones in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(len % 1400)
        .collect();
        stranger.send_to(&datagram, server).await?;
    }
    let crypto = rtc_crypto::default_provider()?;
    let me = Credentials { ufrag: "me".into(), password: "mine".into() };
    let them = Credentials { ufrag: "nobody".into(), password: "wrong".into() };
    stranger.send_to(&stun::binding_request(&me, &them, &*crypto)?, server).await?;
    pair.core.stats(|stats| stats.datagrams_received >= before.datagrams_received + 1001).await?;
    let after = pair.core.pool.stats().await;
    assert!(after.dropped_unknown > before.dropped_unknown);
    assert!(after.dropped_stun > before.dropped_stun);
    let mut buffer = [0; 1500];
    let answered = stranger.try_recv_from(&mut buffer);
    assert!(answered.is_err(), "a stranger was answered: {answered:?}");
    assert_whole(&pair.flows(60).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_ice_password_meets_silence() -> Result<()> {
    let core = Core::start().await?;
    let wrong = Behaviour { wrong_password: Some("guessed".into()), ..Behaviour::default() };
    let transport = core.connect(core.prepare(wrong).await?).await?;
    core.stats(|stats| stats.dropped_stun >= 5).await?;
    let seen = transport.seen.lock();
    assert_eq!((seen.stun_successes, seen.profile), (0, None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rtp_of_unknown_ssrcs_and_forged_srtp_are_counted() -> Result<()> {
    let pair = Pair::plain().await?;
    pair.flows(10).await?;
    let mut nobody = Source::new(0xdead_beef, 108, "9", None);
    for _ in 0..5 {
        pair.publishing.send_rtp(nobody.audio_frame()).await?;
    }
    pair.core.stats(|stats| stats.dropped_unknown_ssrc == 5).await?;
    for _ in 0..5 {
        pair.publishing.send_raw(nobody.audio_frame()).await?;
    }
    pair.core.stats(|stats| stats.dropped_srtp == 5).await?;
    assert_whole(&pair.flows(60).await?);
    Ok(())
}
