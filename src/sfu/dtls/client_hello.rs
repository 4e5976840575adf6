//! Reads the `use_srtp` list of a ClientHello (RFC 6347 section 4.2, RFC 5764 section 4.1.1) that may be spread over
//! several records and datagrams: browsers' post-quantum key shares make it longer than one.

use std::collections::BTreeMap;

const CONTENT_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_USE_SRTP: u16 = 14;
const RECORD_HEADER_LEN: usize = 13;
const HANDSHAKE_HEADER_LEN: usize = 12;

/// The longest ClientHello that is put together, in bytes.
const MAX_CLIENT_HELLO_LEN: usize = 8192;
/// Fragments that are kept of one.
const MAX_FRAGMENTS: usize = 16;

/// Fragments of the first ClientHello, by offset.
#[derive(Debug, Default)]
pub(super) struct ClientHelloReader {
    fragments: BTreeMap<usize, Vec<u8>>,
}

impl ClientHelloReader {
    /// Takes one datagram. Once the message is complete, the SRTP profiles that it offers are returned (none, if it
    /// can't be read: the handshake itself then says what is wrong).
    pub(super) fn read(&mut self, datagram: &[u8]) -> Option<Vec<u16>> {
        let mut rest = datagram;
        while let Some((record, following)) = split_record(rest) {
            rest = following;
            let Some((total, offset, fragment)) = client_hello_fragment(record) else { continue };
            if total > MAX_CLIENT_HELLO_LEN || self.fragments.len() >= MAX_FRAGMENTS {
                return Some(Vec::new());
            }
            self.fragments.insert(offset, fragment.to_vec());
            if let Some(message) = self.assemble(total) {
                return Some(offered_profiles(&message).unwrap_or_default());
            }
        }
        None
    }

    fn assemble(&self, total: usize) -> Option<Vec<u8>> {
        let mut message: Vec<u8> = Vec::with_capacity(total);
        for (offset, fragment) in &self.fragments {
            let known = message.len().checked_sub(*offset)?;
            message.extend(fragment.get(known..).unwrap_or(&[]));
        }
        (message.len() == total).then_some(message)
    }
}

fn split_record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = be(datagram.get(11..13)?);
    let record = datagram.get(..RECORD_HEADER_LEN + len)?;
    Some((record, datagram.get(record.len()..)?))
}

fn client_hello_fragment(record: &[u8]) -> Option<(usize, usize, &[u8])> {
    let header = record.get(RECORD_HEADER_LEN..RECORD_HEADER_LEN + HANDSHAKE_HEADER_LEN)?;
    if record.first() != Some(&CONTENT_HANDSHAKE) || header.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    let (total, offset, len) = (be(header.get(1..4)?), be(header.get(6..9)?), be(header.get(9..12)?));
    let start = RECORD_HEADER_LEN + HANDSHAKE_HEADER_LEN;
    Some((total, offset, record.get(start..start + len)?))
}

fn offered_profiles(client_hello: &[u8]) -> Option<Vec<u16>> {
    let mut rest = client_hello.get(34..)?; // version and random
    for len_of_len in [1, 1, 2, 1] {
        rest = skip_vector(rest, len_of_len)?; // session id, cookie, cipher suites, compression methods
    }
    let mut extensions = rest.get(2..)?;
    loop {
        let (kind, len) = (be(extensions.get(..2)?), be(extensions.get(2..4)?));
        let body = extensions.get(4..4 + len)?;
        if kind == usize::from(EXTENSION_USE_SRTP) {
            let list = body.get(2..2 + be(body.get(..2)?))?;
            return Some(list.chunks_exact(2).map(|pair| be(pair) as u16).collect());
        }
        extensions = extensions.get(4 + len..)?;
    }
}

fn skip_vector(bytes: &[u8], len_of_len: usize) -> Option<&[u8]> {
    let len = be(bytes.get(..len_of_len)?);
    bytes.get(len_of_len + len..)
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend([7; 32]);
        body.extend([0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
        let list: Vec<u8> = profiles.iter().flat_map(|profile| profile.to_be_bytes()).collect();
        let mut extensions = vec![0, 23, 0, 0, 0, 14];
        extensions.extend(((list.len() + 3) as u16).to_be_bytes());
        extensions.extend((list.len() as u16).to_be_bytes());
        extensions.extend(&list);
        extensions.push(0);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    fn record(body: &[u8], offset: usize, fragment: &[u8]) -> Vec<u8> {
        let u24 = |value: usize| (value as u32).to_be_bytes()[1..].to_vec();
        let mut handshake = vec![CLIENT_HELLO];
        handshake.extend(u24(body.len()));
        handshake.extend([0, 0]);
        handshake.extend(u24(offset));
        handshake.extend(u24(fragment.len()));
        handshake.extend(fragment);
        let mut record = vec![CONTENT_HANDSHAKE, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend((handshake.len() as u16).to_be_bytes());
        record.extend(handshake);
        record
    }

    #[test]
    fn reads_profiles_from_one_and_from_reordered_fragments() {
        let hello = client_hello(&[1, 2, 7, 8]);
        let whole = record(&hello, 0, &hello);
        assert_eq!(ClientHelloReader::default().read(&whole), Some(vec![1, 2, 7, 8]));

        let (first, second) = hello.split_at(20);
        let mut reader = ClientHelloReader::default();
        assert_eq!(reader.read(&record(&hello, 20, second)), None);
        assert_eq!(reader.read(&record(&hello, 0, first)), Some(vec![1, 2, 7, 8]));
    }

    #[test]
    fn endless_and_cut_messages_are_bounded() {
        let hello = client_hello(&[7]);
        for end in 0..hello.len() {
            let cut = record(&hello[..end], 0, &hello[..end]);
            let _profiles = ClientHelloReader::default().read(&cut);
            let whole = record(&hello, 0, &hello);
            assert_eq!(ClientHelloReader::default().read(&whole[..end]), None);
        }
        let mut reader = ClientHelloReader::default();
        let huge = vec![0; 100_000];
        assert_eq!(reader.read(&record(&huge, 50, &[1])), Some(Vec::new()));
    }
}
