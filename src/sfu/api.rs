//! What the media core answers, reports and hands to taps: the values that cross its border.

use std::time::Instant;

use bytes::Bytes;
use mediasoup_types::data_structures::{DtlsParameters, IceCandidate, IceParameters, SctpState};
use mediasoup_types::rtp_parameters::{MediaKind, RtpCodecParameters, RtpParameters};
use mediasoup_types::sctp_parameters::SctpParameters;
use serde::Serialize;

use crate::ids::{
    Bitrate, ConsumerId, DataConsumerId, ProducerId, RouterId, RtpObserverId, TapId, TransportId,
};
use crate::media::codec::Layers;
use crate::media::ortc::ProducerType;
use crate::sfu::bandwidth::outgoing;

/// How a WebRTC transport is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebRtcTransportOptions {
    /// Whether it carries data channels.
    pub enable_sctp: bool,
    /// What the path to the peer is thought to take before anything is known of it: as mediasoup has it, 600 kbit/s
    /// if nothing is said. Not below [`outgoing::MINIMUM`] and not above [`outgoing::MAX_INITIAL`].
    pub initial_available_outgoing_bitrate: Option<Bitrate>,
}

/// What a client needs to build its end of a WebRTC transport (the answer to mediasoup's `createWebRtcTransport`).
#[derive(Debug, Clone)]
pub struct WebRtcTransportInfo {
    /// The transport.
    pub id: TransportId,
    /// Username fragment and password of weir's ICE-lite agent.
    pub ice_parameters: IceParameters,
    /// Where the worker can be reached, best first.
    pub ice_candidates: Vec<IceCandidate>,
    /// Weir's certificate fingerprints; the role is `auto`.
    pub dtls_parameters: DtlsParameters,
    /// The SCTP association's parameters, if the transport carries data channels.
    pub sctp_parameters: Option<SctpParameters>,
}

/// A producer that was made.
#[derive(Debug, Clone)]
pub struct ProducerInfo {
    /// The producer.
    pub id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Simple, simulcast or SVC.
    pub producer_type: ProducerType,
    /// The codec that is sent (never RTX), with the publisher's payload type.
    pub codec: RtpCodecParameters,
}

/// A consumer that was made, as its client has to be told.
#[derive(Debug, Clone)]
pub struct ConsumerInfo {
    /// The consumer.
    pub id: ConsumerId,
    /// Whose media it gets.
    pub producer_id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The parameters that the client has to receive with.
    pub rtp_parameters: RtpParameters,
    /// The producer's type.
    pub producer_type: ProducerType,
    /// Whether the producer is paused at this moment.
    pub producer_paused: bool,
}

/// A tap that was made: a consumer without a transport.
#[derive(Debug, Clone)]
pub struct TapInfo {
    /// The tap.
    pub id: TapId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The codec of the packets, with the payload type that they carry.
    pub codec: RtpCodecParameters,
    /// Whether the producer is paused at this moment.
    pub producer_paused: bool,
}

/// What a tap's reader gets, in order.
#[derive(Debug, Clone)]
pub enum TapOutput {
    /// One RTP packet of the stream, decrypted: one SSRC and one continuous sequence for the tap's whole life, its pauses
    /// included, whichever simulcast layer is behind it. Lost packets leave gaps; late ones come late.
    Packet(TapPacket),
    /// The publisher's clock: `rtp` (in the tap's own timestamps) was sampled at `ntp` (RFC 3550 section 6.4.1).
    SenderReport {
        /// NTP time stamp, 32.32 fixed point seconds since 1900.
        ntp: u64,
        /// The RTP timestamp of the same moment.
        rtp: u32,
    },
    /// The producer was paused: no packet comes until [`TapOutput::Resumed`].
    Paused,
    /// The producer goes on.
    Resumed,
    /// The producer is gone; nothing follows.
    Closed,
}

/// One RTP packet of a tap.
#[derive(Debug, Clone)]
pub struct TapPacket {
    /// The packet, header and payload.
    pub data: Bytes,
    /// When it arrived at the worker.
    pub arrival: Instant,
}

/// What happened in the media core by itself, without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Path and keys are there (ICE and DTLS are up, or a plain transport's peer is known): media can flow.
    TransportConnected(TransportId),
    /// A transport ended by itself; its producers and consumers are gone with it.
    TransportClosed(TransportId, TransportCloseReason),
    /// What a transport's path to its peer is thought to take has changed. At most once a second, unless by much.
    AvailableOutgoingBitrate {
        /// The transport.
        transport: TransportId,
        /// What the path takes.
        available: Bitrate,
        /// What its consumers would take at their best.
        desired: Bitrate,
    },
    /// A consumer ended because its producer did.
    ConsumerClosed(ConsumerId),
    /// A consumer's producer was paused.
    ConsumerPaused(ConsumerId),
    /// A consumer's producer was resumed.
    ConsumerResumed(ConsumerId),
    /// A transport's SCTP association has another state.
    SctpStateChanged(TransportId, SctpState),
    /// A data consumer ended because its data producer did.
    DataConsumerClosed(DataConsumerId),
    /// A data consumer's data producer was paused.
    DataConsumerPaused(DataConsumerId),
    /// A data consumer's data producer was resumed.
    DataConsumerResumed(DataConsumerId),
    /// A data consumer's peer is too slow: messages are dropped until [`Event::DataConsumerBufferedAmountLow`]
    /// (mediasoup's `sctpsendbufferfull`, once instead of once per message).
    DataConsumerBufferFull(DataConsumerId),
    /// A data consumer that was full has drained to its threshold: so many bytes are left.
    DataConsumerBufferedAmountLow(DataConsumerId, usize),
    /// A simulcast or SVC consumer gets other layers now (mediasoup's `layerschange`).
    ConsumerLayersChanged {
        /// The consumer.
        consumer: ConsumerId,
        /// What it gets; none if nothing arrives, nothing fits or it is paused.
        layers: Option<Layers>,
    },
    /// The loudest producers that an audio level observer observes (mediasoup's `volumes`).
    Volumes {
        /// The observer's router.
        router: RouterId,
        /// The observer.
        observer: RtpObserverId,
        /// The loudest first; at least one.
        volumes: Vec<AudioLevelVolume>,
    },
    /// Nobody whom an audio level observer observes is loud any more (mediasoup's `silence`).
    Silence {
        /// The observer's router.
        router: RouterId,
        /// The observer.
        observer: RtpObserverId,
    },
    /// Someone else dominates among those whom an active speaker observer observes (mediasoup's `dominantspeaker`).
    DominantSpeaker {
        /// The observer's router.
        router: RouterId,
        /// The observer.
        observer: RtpObserverId,
        /// Who.
        producer: ProducerId,
    },
    /// How well a consumer's stream arrives has changed (mediasoup's consumer `score`).
    ConsumerScore {
        /// The consumer.
        consumer: ConsumerId,
        /// Its scores.
        score: ConsumerScore,
    },
    /// How well a producer's streams arrive has changed (mediasoup's producer `score`).
    ProducerScore {
        /// The producer.
        producer: ProducerId,
        /// The scores of its streams that have ever arrived.
        scores: Vec<EncodingScore>,
    },
}

/// How loud a producer was on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevelVolume {
    /// The producer.
    pub producer: ProducerId,
    /// Its average volume, in dBov: from -127, silence, to 0.
    pub volume: i8,
}

/// How well a consumer's stream arrives: from 10, without loss, to 0, not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerScore {
    /// From weir to the client.
    pub score: u8,
    /// From the publisher to weir, of the stream that is passed on.
    pub producer_score: u8,
    /// From the publisher to weir, of all the producer's streams.
    pub producer_scores: Vec<u8>,
}

/// How well one of a producer's streams arrives: from 10, without loss, to 0, not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncodingScore {
    /// The stream's index in the producer's encodings.
    pub encoding_idx: usize,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its RID, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Its score.
    pub score: u8,
}

/// Why a transport ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportCloseReason {
    /// No valid ICE check came for the consent timeout (RFC 7675).
    ConsentLost,
    /// The DTLS handshake failed or its certificate did not match the signalled fingerprint.
    DtlsFailed,
    /// The peer closed DTLS.
    DtlsClosed,
}

/// A named thing that isn't there (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {id} not found")]
pub struct NotFound {
    /// What was looked for.
    pub what: &'static str,
    /// Its id.
    pub id: String,
}

/// Why a router could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateRouterError {
    /// The codec list can't be offered.
    #[error("unsupported media codecs: {0}")]
    Codecs(String),
}

/// Why a transport could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTransportError {
    /// No such router.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The worker is full.
    #[error("too many transports: the limit is {0}")]
    Full(usize),
    /// A plain or pipe transport needs a UDP port of its own.
    #[error("no UDP port of rtc.plain_ports is free")]
    NoPort,
}

/// Why a transport could not be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectTransportError {
    /// No such transport.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// `connect` was called before.
    #[error("the transport is connected already")]
    AlreadyConnected,
    /// No fingerprint that can be verified.
    #[error("dtlsParameters.fingerprints holds no sha-256, sha-384 or sha-512 fingerprint")]
    NoFingerprint,
    /// The DTLS endpoint could not be set up.
    #[error("DTLS could not be set up: {0}")]
    Dtls(String),
}

/// Why a bound of a transport's bitrate could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetBitrateError {
    /// No such transport.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// Nothing useful can be sent with so little.
    #[error("a bound of {0} is below the least bitrate, {min}", min = outgoing::MINIMUM)]
    TooLow(Bitrate),
    /// The minimum would be above the maximum.
    #[error("the least outgoing bitrate ({min}) can't be above the largest ({max})")]
    Crossed {
        /// The minimum that is set or was to be set.
        min: Bitrate,
        /// The maximum, likewise.
        max: Bitrate,
    },
}

/// Why a producer could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// No such transport.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The RTP parameters contradict themselves or the router.
    #[error("rtpParameters: {0}")]
    Parameters(String),
    /// The transport has as many producers as it may.
    #[error("too many producers on this transport: the limit is {0}")]
    Full(usize),
}

/// Why a consumer could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// No such transport or producer in this router.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The client can't receive what the producer sends.
    #[error("Cannot consume this producer: {0}")]
    Capabilities(String),
    /// The transport has as many consumers as it may.
    #[error("too many consumers on this transport: the limit is {0}")]
    Full(usize),
}

/// A worker's counters since its start, and how many things it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStats {
    /// Transports now.
    pub transports: usize,
    /// Producers now.
    pub producers: usize,
    /// Consumers now.
    pub consumers: usize,
    /// Taps now.
    pub taps: usize,
    /// Data producers now.
    pub data_producers: usize,
    /// Data consumers now.
    pub data_consumers: usize,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// RTP packets received and accepted.
    pub rtp_received: u64,
    /// RTP packets forwarded to consumers.
    pub rtp_forwarded: u64,
    /// RTP packets sent again for a NACK.
    pub rtp_retransmitted: u64,
    /// Datagrams of no known protocol or from an unknown address.
    pub dropped_unknown: u64,
    /// STUN messages refused: malformed, unknown user or wrong password.
    pub dropped_stun: u64,
    /// SRTP or SRTCP packets that failed authentication or were replays.
    pub dropped_srtp: u64,
    /// RTP packets of an SSRC that belongs to no producer.
    pub dropped_unknown_ssrc: u64,
    /// Malformed RTP or RTCP inside valid SRTP.
    pub dropped_malformed: u64,
    /// Data channel messages received.
    pub messages_received: u64,
    /// Data channel messages forwarded to data consumers.
    pub messages_forwarded: u64,
    /// Data channel messages that a data consumer was too slow for.
    pub dropped_data: u64,
    /// SCTP packets that were malformed or for a transport without SCTP, and messages of no data producer.
    pub dropped_sctp: u64,
    /// Packets that a full tap lost.
    pub dropped_tap: u64,
    /// Datagrams that the socket did not take.
    pub dropped_send: u64,
    /// Key frame requests (PLI or FIR) sent to publishers.
    pub key_frame_requests: u64,
}

impl std::ops::AddAssign for WorkerStats {
    fn add_assign(&mut self, other: Self) {
        self.transports += other.transports;
        self.producers += other.producers;
        self.consumers += other.consumers;
        self.taps += other.taps;
        self.data_producers += other.data_producers;
        self.data_consumers += other.data_consumers;
        self.datagrams_received += other.datagrams_received;
        self.rtp_received += other.rtp_received;
        self.rtp_forwarded += other.rtp_forwarded;
        self.rtp_retransmitted += other.rtp_retransmitted;
        self.dropped_unknown += other.dropped_unknown;
        self.dropped_stun += other.dropped_stun;
        self.dropped_srtp += other.dropped_srtp;
        self.dropped_unknown_ssrc += other.dropped_unknown_ssrc;
        self.dropped_malformed += other.dropped_malformed;
        self.messages_received += other.messages_received;
        self.messages_forwarded += other.messages_forwarded;
        self.dropped_data += other.dropped_data;
        self.dropped_sctp += other.dropped_sctp;
        self.dropped_tap += other.dropped_tap;
        self.dropped_send += other.dropped_send;
        self.key_frame_requests += other.key_frame_requests;
    }
}
