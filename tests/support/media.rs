//! Streams that look like a camera's and a microphone's to everything that reads packet headers, and whose every
//! packet ends in a stamp, so that a receiver can tell which packets it got.

use rtc_rtcp::sender_report::SenderReport;
use rtc_shared::marshal::Marshal;

/// The id that the client gives each header extension; none is the one that the server prefers.
pub(crate) const MID_EXTENSION: u8 = 4;
pub(crate) const RID_EXTENSION: u8 = 10;
pub(crate) const ABS_SEND_TIME_EXTENSION: u8 = 2;
pub(crate) const AUDIO_LEVEL_EXTENSION: u8 = 1;
/// A voice at -20 dBov, as RFC 6464 has it.
const VOICE_LEVEL: u8 = 0x80 | 20;

/// How many bytes at the end of every payload are the stamp.
pub(crate) const STAMP_LEN: usize = 8;

/// What a packet's last bytes say: who made it and as which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) source: u32,
    pub(crate) counter: u32,
}

impl Stamp {
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (source, counter) = payload.last_chunk::<STAMP_LEN>()?.split_at(4);
        Some(Self {
            source: u32::from_be_bytes(source.try_into().ok()?),
            counter: u32::from_be_bytes(counter.try_into().ok()?),
        })
    }

    fn write(self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.source.to_be_bytes());
        payload.extend_from_slice(&self.counter.to_be_bytes());
    }
}

/// One RTP stream that is sent.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) mid: String,
    pub(crate) rid: Option<String>,
    sequence: u16,
    timestamp: u32,
    counter: u32,
    octets: u32,
    is_voice: bool,
}

/// RTP timestamp steps of one video frame (30 per second) and one Opus frame (20 ms).
const VIDEO_STEP: u32 = 3000;
const AUDIO_STEP: u32 = 960;

/// The size of a video packet's payload, stamp included.
const VIDEO_PAYLOAD: usize = 1000;

impl Source {
    pub(crate) fn new(ssrc: u32, payload_type: u8, mid: &str, rid: Option<&str>) -> Self {
        Self {
            ssrc,
            payload_type,
            mid: mid.to_owned(),
            rid: rid.map(str::to_owned),
            // Near the wrap, so that every run of a second or two crosses it.
            sequence: 65_500,
            timestamp: u32::MAX - 50_000,
            counter: 0,
            octets: 0,
            is_voice: false,
        }
    }

    /// How many packets were made.
    pub(crate) fn sent(&self) -> u32 {
        self.counter
    }

    /// The packets of an H.264 frame of `size` slices packets; a key frame has its parameter sets before it.
    pub(crate) fn video_frame(&mut self, key: bool, size: usize) -> Vec<Vec<u8>> {
        const STAP_A: u8 = 0x78;
        const FU_A: u8 = 0x7c;
        const FU_START: u8 = 0x80;
        const FU_END: u8 = 0x40;
        let mut packets = Vec::with_capacity(size + 1);
        if key {
            let sps = [0x67, 0x42, 0xe0, 0x1f, 0xda, 0x01, 0x40, 0x16];
            let pps = [0x68, 0xce, 0x38, 0x80];
            let mut payload = vec![STAP_A];
            for unit in [&sps[..], &pps[..]] {
                payload.extend_from_slice(&[0, u8::try_from(unit.len()).expect("short")]);
                payload.extend_from_slice(unit);
            }
            // The stamp goes into a NAL unit of supplemental information (type 6).
            payload.extend_from_slice(&[0, u8::try_from(STAMP_LEN + 1).expect("short"), 0x06]);
            packets.push(self.packet(payload, false));
        }
        let slice = if key { 5 } else { 1 };
        for index in 0..size {
            let start = if index == 0 { FU_START } else { 0 };
            let last = index + 1 == size;
            let end = if last { FU_END } else { 0 };
            let mut payload = vec![FU_A, start | end | slice];
            payload.resize(VIDEO_PAYLOAD - STAMP_LEN, 0x5a);
            packets.push(self.packet(payload, last));
        }
        self.timestamp = self.timestamp.wrapping_add(VIDEO_STEP);
        packets
    }

    /// One packet of 20 ms of Opus.
    pub(crate) fn audio_frame(&mut self) -> Vec<u8> {
        self.is_voice = true;
        let mut payload = vec![0xfc];
        payload.resize(100 - STAMP_LEN, 0xa5);
        let packet = self.packet(payload, false);
        self.timestamp = self.timestamp.wrapping_add(AUDIO_STEP);
        packet
    }

    /// The RTCP sender report that goes with the packets so far (RFC 3550 section 6.4.1).
    pub(crate) fn sender_report(&self) -> Vec<u8> {
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp_time: (u64::from(self.counter) << 32) | 0x8000_0000,
            rtp_time: self.timestamp,
            packet_count: self.counter,
            octet_count: self.octets,
            ..SenderReport::default()
        };
        report.marshal().expect("a report can be written").to_vec()
    }

    /// Repeats a packet of this source on its RTX stream (RFC 4588 section 4).
    pub(crate) fn retransmission(&mut self, original: &[u8], media_header_len: usize) -> Vec<u8> {
        let mut payload = original.get(2..4).expect("an RTP packet").to_vec();
        payload.extend_from_slice(original.get(media_header_len..).expect("an RTP packet"));
        let timestamp = original.get(4..8).expect("an RTP packet").to_vec();
        let mut packet = self.header(false);
        packet.splice(4..8, timestamp);
        packet.extend_from_slice(&payload);
        packet
    }

    fn packet(&mut self, mut payload: Vec<u8>, marker: bool) -> Vec<u8> {
        Stamp { source: self.ssrc, counter: self.counter }.write(&mut payload);
        self.counter += 1;
        self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).expect("small"));
        let mut packet = self.header(marker);
        packet.extend_from_slice(&payload);
        packet
    }

    /// An RTP header with one-byte extensions (RFC 8285 section 4.2), taking the next sequence number.
    fn header(&mut self, marker: bool) -> Vec<u8> {
        const ONE_BYTE_PROFILE: [u8; 2] = [0xbe, 0xde];
        let mut extensions = Vec::new();
        let mut add = |id: u8, value: &[u8]| {
            let len = u8::try_from(value.len()).expect("short");
            extensions.push((id << 4) | (len - 1));
            extensions.extend_from_slice(value);
        };
        add(MID_EXTENSION, self.mid.as_bytes());
        if let Some(rid) = &self.rid {
            add(RID_EXTENSION, rid.as_bytes());
        }
        add(ABS_SEND_TIME_EXTENSION, &[0x12, 0x34, 0x56]);
        if self.is_voice {
            add(AUDIO_LEVEL_EXTENSION, &[VOICE_LEVEL]);
        }
        extensions.resize(extensions.len().next_multiple_of(4), 0);

        let marker = if marker { 0x80 } else { 0 };
        let mut header = vec![0x90, marker | self.payload_type];
        header.extend_from_slice(&self.sequence.to_be_bytes());
        header.extend_from_slice(&self.timestamp.to_be_bytes());
        header.extend_from_slice(&self.ssrc.to_be_bytes());
        header.extend_from_slice(&ONE_BYTE_PROFILE);
        header.extend_from_slice(&u16::try_from(extensions.len() / 4).expect("short").to_be_bytes());
        header.extend_from_slice(&extensions);
        self.sequence = self.sequence.wrapping_add(1);
        header
    }
}

/// The length of a packet's header, extensions included.
pub(crate) fn header_len(packet: &[u8]) -> usize {
    let words = packet.get(14..16).map_or(0, |len| u16::from_be_bytes([len[0], len[1]]));
    16 + usize::from(words) * 4
}
