//! What `getStats` answers: mediasoup's figures, names and units of transports, producers and consumers.
//!
//! Counting is plain additions on the way of a packet. Bit rates are taken once a second, with the reports, from how far
//! the counters have come.

use std::time::{Duration, Instant};

use mediasoup_types::data_structures::SctpState;
use mediasoup_types::rtp_parameters::MediaKind;
use serde::Serialize;

use super::{SocketId, Tuple, Worker, not_found};
use crate::ids::{ConsumerId, ProducerId, TransportId};
use crate::media::codec::Layers;
use crate::media::rtcp::ReportBlock;
use crate::sfu::api::NotFound;
use crate::sfu::consumer::Consumer;
use crate::sfu::producer::{Producer, ProducerStream};
use crate::sfu::transport::{Kind, Transport};

/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_TO_UNIX_SECS: u64 = 2_208_988_800;

/// Bytes, and how many bits per second they were in the last interval.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    bytes: u64,
    bitrate: u64,
    sampled: Option<(Instant, u64)>,
}

impl Meter {
    /// Counts bytes.
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Takes the bit rate since the last call. To be called about once a second.
    pub fn sample(&mut self, now: Instant) {
        let (since, bytes) = self.sampled.replace((now, self.bytes)).unwrap_or((now, self.bytes));
        let millis = now.saturating_duration_since(since).as_millis() as u64;
        self.bitrate = ((self.bytes - bytes) * 8000).checked_div(millis).unwrap_or(0);
    }
}

/// What went over a transport.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// RTP that came in, protected as it is on the wire.
    pub rtp_received: Meter,
    /// RTCP that came in.
    pub rtcp_received: Meter,
    /// RTP that went out for the first time.
    pub rtp_sent: Meter,
    /// RTP that went out again.
    pub rtx_sent: Meter,
    /// RTCP that went out.
    pub rtcp_sent: Meter,
}

/// What was received of a producer's stream beyond what its reports say, and what was asked of the publisher.
#[derive(Debug, Clone, Copy, Default)]
pub struct Received {
    /// Packets that were taken, retransmissions included.
    pub packets: u64,
    /// Bytes of their headers and payloads.
    pub bytes: u64,
    /// Packets that were there already.
    pub discarded: u64,
    /// The same that came as retransmissions.
    pub rtx_discarded: u64,
    /// Requests for packets, and the packets in them.
    pub nacks: u64,
    /// Packets that were asked for.
    pub nacked: u64,
    /// Requests for a key frame.
    pub plis: u64,
}

/// What a consumer's client said about its reception.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// Its last report.
    pub report: Option<ReportBlock>,
    /// What the last sender report will be answered by (the middle of its NTP time), and when it was sent.
    pub sender_report: Option<(u32, Instant)>,
    /// The time that a packet takes to it and back.
    pub round_trip: Option<Duration>,
    /// Requests for packets, and the packets in them.
    pub nacks: u64,
    /// Packets that it asked for.
    pub nacked: u64,
    /// Requests for a key frame.
    pub plis: u64,
}

/// What mediasoup tells of any RTP stream. Times are in ms, rates in bit/s.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamStats {
    /// `inbound-rtp` from a publisher, `outbound-rtp` to a viewer.
    pub r#type: &'static str,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// The stream's SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions, if it has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtx_ssrc: Option<u32>,
    /// Its RID, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Audio or video.
    pub kind: MediaKind,
    /// The codec.
    pub mime_type: String,
    /// Packets that never came, as the receiver's reports say.
    pub packets_lost: i32,
    /// The share of them in the last report, in 1/256.
    pub fraction_lost: u8,
    /// Interarrival jitter, in units of the RTP clock.
    pub jitter: u32,
    /// Packets that came once more than needed.
    pub packets_discarded: u64,
    /// Packets that were sent again.
    pub packets_retransmitted: u64,
    /// Packets that were lost and came after all.
    pub packets_repaired: u64,
    /// Requests for lost packets.
    pub nack_count: u64,
    /// Packets in them.
    pub nack_packet_count: u64,
    /// Requests for a key frame by PLI.
    pub pli_count: u64,
    /// Requests for a key frame by FIR: a viewer's are counted as PLI, and none are sent.
    pub fir_count: u64,
    /// From 10, without loss, to 0, not at all.
    pub score: u8,
    /// The time that a packet takes there and back, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_time: Option<f64>,
    /// Retransmissions of packets that were there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtx_packets_discarded: Option<u64>,
    /// Packets.
    pub packet_count: u64,
    /// Bytes of them.
    pub byte_count: u64,
    /// Bits per second.
    pub bitrate: u64,
    /// Bits per second of each layer, named `spatial.temporal`; of streams from a publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate_by_layer: Option<std::collections::BTreeMap<String, u64>>,
}

/// The path that a transport uses (mediasoup's `TransportTuple`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TupleStats {
    /// The local address, where the system tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    /// The peer's address.
    pub remote_ip: String,
    /// The peer's port.
    pub remote_port: u16,
    /// `udp` or `tcp`.
    pub protocol: &'static str,
}

/// What mediasoup tells of a transport. Bytes are those of SRTP and SRTCP; STUN, DTLS and what is inside it are not
/// counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportStats {
    /// `webrtc-transport`, `plain-rtp-transport` or `direct-transport`.
    pub r#type: &'static str,
    /// The transport.
    pub transport_id: TransportId,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// The state of its SCTP association, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp_state: Option<SctpState>,
    /// Bytes received.
    pub bytes_received: u64,
    /// The same in bit/s.
    pub recv_bitrate: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// The same in bit/s.
    pub send_bitrate: u64,
    /// Bytes of RTP received, retransmissions included.
    pub rtp_bytes_received: u64,
    /// The same in bit/s.
    pub rtp_recv_bitrate: u64,
    /// Bytes of RTP sent for the first time.
    pub rtp_bytes_sent: u64,
    /// The same in bit/s.
    pub rtp_send_bitrate: u64,
    /// Bytes of RTP sent again.
    pub rtx_bytes_sent: u64,
    /// The same in bit/s.
    pub rtx_send_bitrate: u64,
    /// What the path to the peer is thought to take, in bit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_outgoing_bitrate: Option<u64>,
    /// What the path from the peer is thought to take, in bit/s, where that is estimated here (REMB).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_incoming_bitrate: Option<u64>,
    /// What the peer was asked to stay below, in bit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_incoming_bitrate: Option<u64>,
    /// What the path to the peer is not thought to exceed, in bit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_outgoing_bitrate: Option<u64>,
    /// What it is thought to take in any case, in bit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_outgoing_bitrate: Option<u64>,
    /// The ICE role of a WebRTC transport: always `controlled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice_role: Option<&'static str>,
    /// `new` or `connected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice_state: Option<&'static str>,
    /// The path in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice_selected_tuple: Option<TupleStats>,
    /// `new`, `connecting` or `connected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtls_state: Option<&'static str>,
}

impl Worker {
    /// The figures of a transport.
    ///
    /// # Errors
    /// Fails if there is no such transport.
    pub fn transport_stats(&self, now: Instant, id: TransportId) -> Result<TransportStats, NotFound> {
        let transport = self.transport_keys.get(&id).and_then(|key| self.transports.get(*key));
        transport
            .map(|found| transport_stats(found, self.unix_ms(now)))
            .ok_or_else(|| not_found("transport", &id))
    }

    /// The figures of a producer's streams that have arrived.
    ///
    /// # Errors
    /// Fails if there is no such producer.
    pub fn producer_stats(&self, now: Instant, id: ProducerId) -> Result<Vec<StreamStats>, NotFound> {
        let producer = self.producer_keys.get(&id).and_then(|key| self.producers.get(*key));
        let producer = producer.ok_or_else(|| not_found("producer", &id))?;
        let timestamp = self.unix_ms(now);
        let streams = producer.streams.iter();
        Ok(streams.filter_map(|stream| inbound(now, timestamp, producer, stream)).collect())
    }

    /// The figures of a consumer, and of the producer's stream that it gets now.
    ///
    /// # Errors
    /// Fails if there is no such consumer.
    pub fn consumer_stats(&self, now: Instant, id: ConsumerId) -> Result<Vec<StreamStats>, NotFound> {
        let consumer = self.consumer_keys.get(&id).and_then(|key| self.consumers.get(*key));
        let consumer = consumer.ok_or_else(|| not_found("consumer", &id))?;
        let Some(producer) = self.producers.get(consumer.producer) else { return Ok(Vec::new()) };
        let timestamp = self.unix_ms(now);
        let stream = consumer.rewriter.current_stream().and_then(|stream| producer.streams.get(stream));
        let mut stats = vec![outbound(timestamp, producer, consumer)];
        stats.extend(stream.and_then(|stream| inbound(now, timestamp, producer, stream)));
        Ok(stats)
    }

    /// Takes the bit rates of a transport and its consumers.
    pub(super) fn sample_rates(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let traffic = &mut transport.traffic;
        for meter in [
            &mut traffic.rtp_received,
            &mut traffic.rtcp_received,
            &mut traffic.rtp_sent,
            &mut traffic.rtx_sent,
            &mut traffic.rtcp_sent,
        ] {
            meter.sample(now);
        }
        for consumer in &transport.consumers {
            if let Some(consumer) = self.consumers.get_mut(*consumer) {
                consumer.sent_bytes.sample(now);
            }
        }
    }

    /// Notes what a viewer reports. A report that answers a sender report tells the round trip (RFC 3550 section 6.4.1).
    pub(super) fn hear_report(&mut self, now: Instant, transport: usize, report: &ReportBlock) {
        let consumer = self.consumer_by_ssrc(transport, report.ssrc);
        let Some(consumer) = consumer.and_then(|key| self.consumers.get_mut(key)) else { return };
        consumer.heard.report = Some(*report);
        let Some((sent_as, sent)) = consumer.heard.sender_report else { return };
        let delay = Duration::from_secs_f64(f64::from(report.delay_since_last) / 65_536.0);
        if report.last_sender_report == sent_as {
            let elapsed = now.saturating_duration_since(sent);
            consumer.heard.round_trip = elapsed.checked_sub(delay).or(consumer.heard.round_trip);
        }
    }

    /// Notes what a viewer asked for.
    pub(super) fn hear(&mut self, consumer: usize, note: impl FnOnce(&mut Heard)) {
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            note(&mut consumer.heard);
        }
    }

    fn unix_ms(&self, now: Instant) -> u64 {
        let ntp = self.ntp(now);
        let fraction = ((ntp & 0xFFFF_FFFF) * 1000) >> 32;
        (ntp >> 32).saturating_sub(NTP_TO_UNIX_SECS) * 1000 + fraction
    }
}

fn transport_stats(transport: &Transport, timestamp: u64) -> TransportStats {
    let traffic = &transport.traffic;
    let (received, sent) = (
        [&traffic.rtp_received, &traffic.rtcp_received],
        [&traffic.rtp_sent, &traffic.rtx_sent, &traffic.rtcp_sent],
    );
    let bytes = |meters: &[&Meter]| meters.iter().map(|meter| meter.bytes).sum();
    let bitrate = |meters: &[&Meter]| meters.iter().map(|meter| meter.bitrate).sum();
    let webrtc = match &transport.kind {
        Kind::WebRtc(webrtc) => Some(webrtc),
        Kind::Plain(_) | Kind::Direct => None,
    };
    let dtls_state = |is_connecting: bool| match (transport.srtp.is_some(), is_connecting) {
        (true, _) => "connected",
        (false, true) => "connecting",
        (false, false) => "new",
    };
    let outgoing = transport.bandwidth.outgoing.as_ref();
    let (min_outgoing, max_outgoing) = outgoing.map(|outgoing| outgoing.bounds()).unwrap_or_default();
    TransportStats {
        r#type: match &transport.kind {
            Kind::WebRtc(_) => "webrtc-transport",
            Kind::Plain(_) => "plain-rtp-transport",
            Kind::Direct => "direct-transport",
        },
        transport_id: transport.id,
        timestamp,
        sctp_state: transport.data.sctp.as_ref().map(crate::sfu::sctp::Sctp::state),
        bytes_received: bytes(&received),
        recv_bitrate: bitrate(&received),
        bytes_sent: bytes(&sent),
        send_bitrate: bitrate(&sent),
        rtp_bytes_received: traffic.rtp_received.bytes,
        rtp_recv_bitrate: traffic.rtp_received.bitrate,
        rtp_bytes_sent: traffic.rtp_sent.bytes,
        rtp_send_bitrate: traffic.rtp_sent.bitrate,
        rtx_bytes_sent: traffic.rtx_sent.bytes,
        rtx_send_bitrate: traffic.rtx_sent.bitrate,
        available_outgoing_bitrate: outgoing.and_then(|outgoing| outgoing.available()).map(|rate| rate.0),
        available_incoming_bitrate: transport.bandwidth.incoming.estimate().map(|rate| rate.0),
        max_incoming_bitrate: transport.bandwidth.incoming.limit().map(|rate| rate.0),
        max_outgoing_bitrate: max_outgoing.map(|rate| rate.0),
        min_outgoing_bitrate: min_outgoing.map(|rate| rate.0),
        ice_role: webrtc.map(|_| "controlled"),
        ice_state: webrtc.map(|_| if transport.path.is_some() { "connected" } else { "new" }),
        ice_selected_tuple: webrtc.and(transport.path.as_ref()).map(tuple_stats),
        dtls_state: webrtc.map(|webrtc| dtls_state(webrtc.dtls.is_connecting())),
    }
}

fn tuple_stats(tuple: &Tuple) -> TupleStats {
    TupleStats {
        local_address: tuple.local.map(|local| local.to_string()),
        remote_ip: tuple.remote.ip().to_string(),
        remote_port: tuple.remote.port(),
        protocol: if matches!(tuple.socket, SocketId::Tcp(_)) { "tcp" } else { "udp" },
    }
}

/// The figures of a producer's stream, once its SSRC is known.
fn inbound(
    now: Instant,
    timestamp: u64,
    producer: &Producer,
    stream: &ProducerStream,
) -> Option<StreamStats> {
    let report = stream.last_report.unwrap_or_default();
    let counted = &stream.counted;
    let (packets_retransmitted, packets_repaired) = stream.repairs();
    let by_layer = stream.rates.layers().map(|layers| {
        let Layers { spatial, temporal } = layers;
        (format!("{spatial}.{temporal}"), stream.rates.bitrate(now, |known| known == layers))
    });
    Some(StreamStats {
        r#type: "inbound-rtp",
        timestamp,
        ssrc: stream.ssrc?,
        rtx_ssrc: stream.rtx_ssrc,
        rid: stream.rid.clone(),
        kind: producer.kind,
        mime_type: producer.codec.mime_type().as_str().to_owned(),
        packets_lost: report.total_lost,
        fraction_lost: report.fraction_lost,
        jitter: report.jitter,
        packets_discarded: counted.discarded,
        packets_retransmitted,
        packets_repaired,
        nack_count: counted.nacks,
        nack_packet_count: counted.nacked,
        pli_count: counted.plis,
        fir_count: 0,
        score: stream.score.as_ref().map_or(0, crate::sfu::score::Score::value),
        round_trip_time: None,
        rtx_packets_discarded: stream.rtx_ssrc.map(|_| counted.rtx_discarded),
        packet_count: counted.packets,
        byte_count: counted.bytes,
        bitrate: stream.rates.bitrate(now, |_| true),
        bitrate_by_layer: Some(by_layer.filter(|(_, bitrate)| *bitrate > 0).collect()),
    })
}

/// The figures of a consumer.
fn outbound(timestamp: u64, producer: &Producer, consumer: &Consumer) -> StreamStats {
    let heard = &consumer.heard;
    let report = heard.report.unwrap_or_default();
    let [packet_count, packets_retransmitted, packets_repaired] = consumer.sent.totals();
    StreamStats {
        r#type: "outbound-rtp",
        timestamp,
        ssrc: consumer.ssrc,
        rtx_ssrc: consumer.rtx.as_ref().map(|rtx| rtx.ssrc),
        rid: None,
        kind: producer.kind,
        mime_type: producer.codec.mime_type().as_str().to_owned(),
        packets_lost: report.total_lost,
        fraction_lost: report.fraction_lost,
        jitter: report.jitter,
        packets_discarded: 0,
        packets_retransmitted,
        packets_repaired,
        nack_count: heard.nacks,
        nack_packet_count: heard.nacked,
        pli_count: heard.plis,
        fir_count: 0,
        score: consumer.score.value(),
        round_trip_time: heard.round_trip.map(|time| time.as_secs_f64() * 1000.0),
        rtx_packets_discarded: None,
        packet_count,
        byte_count: consumer.sent_bytes.bytes,
        bitrate: consumer.sent_bytes.bitrate,
        bitrate_by_layer: None,
    }
}
