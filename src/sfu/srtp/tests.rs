use super::*;

fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x90, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0xBE, 0xDE, 0, 1, 0x10, 7, 0, 0]);
    packet.extend([42; 100]);
    packet
}

fn material(suite: Suite) -> Vec<u8> {
    (0..suite.keying_material_len()).map(|i| i as u8).collect()
}

#[test]
fn gcm_is_what_an_independent_implementation_reads_and_writes() {
    gcm_matches(Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm);
    gcm_matches(Suite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm);
}

fn gcm_matches(suite: Suite, profile: ProtectionProfile) {
    let provider = rtc_crypto::default_provider().unwrap();
    let material = material(suite);
    let (mut sender, mut receiver) = sessions(suite, &provider, &material, true).unwrap();
    let (key, salt) = (suite.key_len(), suite.salt_len());
    let context = |side: usize| {
        let salt = &material[2 * key + side * salt..][..salt];
        let key = &material[side * key..][..key];
        Context::new(key, salt, profile, None, None, provider.crypto()).unwrap()
    };
    let (mut client, mut server) = (context(0), context(1));
    for sequence in [65_534_u16, 65_535, 0, 1] {
        let index = if sequence < 2 { 65_536 + u64::from(sequence) } else { u64::from(sequence) };
        let mut buffer = b"prefix".to_vec();
        buffer.extend(packet(sequence));
        sender.protect_rtp(&mut buffer, 6, 20, 2, index).unwrap();
        assert_eq!(client.decrypt_rtp(&buffer[6..]).unwrap(), packet(sequence));

        let mut theirs = server.encrypt_rtp(&packet(sequence)).unwrap().to_vec();
        let len = receiver.unprotect_rtp(&mut theirs, 2, index).unwrap();
        assert_eq!(theirs[..len], packet(sequence));
    }
    let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
    let protected = sender.protect_rtcp(report.to_vec()).unwrap();
    assert_eq!(client.decrypt_rtcp(&protected).unwrap(), report[..]);
    let mut theirs = server.encrypt_rtcp(&report).unwrap().to_vec();
    let mut again = theirs.clone();
    assert_eq!(receiver.unprotect_rtcp(&mut theirs), Ok(8));
    assert_eq!(theirs[..8], report);
    assert_eq!(receiver.unprotect_rtcp(&mut again), Err(SrtpError::Replay));
}

#[test]
fn every_suite_passes_both_ways_and_a_changed_bit_is_refused() {
    let provider = rtc_crypto::default_provider().unwrap();
    for suite in
        [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32, Suite::AeadAes128Gcm, Suite::AeadAes256Gcm]
    {
        let material = material(suite);
        let (mut sender, _) = sessions(suite, &provider, &material, true).unwrap();
        let (_, mut receiver) = sessions(suite, &provider, &material, false).unwrap();
        let mut buffer = packet(5);
        sender.protect_rtp(&mut buffer, 0, 20, 2, 5).unwrap();
        let mut changed = buffer.clone();
        changed[30] ^= 1;
        assert_eq!(receiver.unprotect_rtp(&mut changed, 2, 5), Err(SrtpError::Authentication));
        let len = receiver.unprotect_rtp(&mut buffer, 2, 5).unwrap();
        assert_eq!(buffer[..len], packet(5));
        let mut short = vec![0x80; 13];
        assert!(receiver.unprotect_rtp(&mut short, 2, 5).is_err());
        assert!(receiver.unprotect_rtcp(&mut [0x80; 9]).is_err());
    }
}

#[test]
fn every_sender_of_rtcp_has_an_index_of_its_own() {
    let provider = rtc_crypto::default_provider().unwrap();
    for (suite, profile) in [
        (Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (Suite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ] {
        let material = material(suite);
        let (_, mut receiver) = sessions(suite, &provider, &material, true).unwrap();
        let salt = 2 * suite.key_len() + suite.salt_len();
        let (key, salt) = (&material[suite.key_len()..2 * suite.key_len()], &material[salt..]);
        let mut theirs = Context::new(key, salt, profile, None, None, provider.crypto()).unwrap();
        for sender in [1, 2, 1, 2] {
            let mut report = theirs.encrypt_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, sender]).unwrap().to_vec();
            let mut again = report.clone();
            assert_eq!(receiver.unprotect_rtcp(&mut report), Ok(8), "{suite:?} {sender}");
            assert!(receiver.unprotect_rtcp(&mut again).is_err(), "{suite:?} {sender}");
        }
    }
}

#[test]
fn senders_beyond_the_limit_and_forged_ones_are_not_remembered() {
    let provider = rtc_crypto::default_provider().unwrap();
    for suite in [Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80] {
        let material = material(suite);
        let (mut sender, _) = sessions(suite, &provider, &material, true).unwrap();
        let (_, mut receiver) = sessions(suite, &provider, &material, false).unwrap();
        let report = |ssrc: u32| [&[0x80, 201, 0, 1], &ssrc.to_be_bytes()[..]].concat();
        for ssrc in 0..1000 {
            let mut forged = report(ssrc);
            forged.extend([0x80; 30]);
            assert_eq!(receiver.unprotect_rtcp(&mut forged), Err(SrtpError::Authentication));
        }
        for ssrc in 0..=MAX_SENDERS as u32 {
            let mut packet = sender.protect_rtcp(report(ssrc)).unwrap();
            let expected = if (ssrc as usize) < MAX_SENDERS { Ok(8) } else { Err(SrtpError::TooManySenders) };
            assert_eq!(receiver.unprotect_rtcp(&mut packet), expected);
        }
    }
}

#[test]
fn the_replay_window_takes_each_index_once() {
    let mut window = ReplayWindow::default();
    for index in [10, 12, 11, 3000, 2500] {
        window.check(index).unwrap();
        window.accept(index);
        assert_eq!(window.check(index), Err(SrtpError::Replay), "{index}");
    }
    assert_eq!(window.check(1976), Err(SrtpError::Replay), "behind the window");
    assert_eq!(window.check(1977), Ok(()));
    assert_eq!(window.estimate(2999), 2999);
}

#[test]
fn a_master_key_has_the_length_of_its_suite_and_stays_secret() {
    for (suite, len) in [
        (Suite::AeadAes128Gcm, 28),
        (Suite::AeadAes256Gcm, 44),
        (Suite::AesCm128HmacSha1_80, 30),
        (Suite::AesCm128HmacSha1_32, 30),
    ] {
        assert_eq!(MasterKey::random(suite).bytes().len(), len);
        assert_ne!(MasterKey::random(suite), MasterKey::random(suite));
        assert!(MasterKey::new(suite, &vec![7; len]).is_ok());
        assert_eq!(MasterKey::new(suite, &vec![7; len - 1]), Err(SrtpError::Keys));
        assert_eq!(MasterKey::new(suite, &vec![7; len + 1]), Err(SrtpError::Keys));
        let shown = format!("{:?}", MasterKey::new(suite, &vec![7; len]).unwrap());
        assert!(!shown.contains('7') && !shown.contains("bytes"), "{shown}");
    }
}

#[test]
fn without_protection_packets_stay_as_they_are() {
    let (mut sender, mut receiver) = clear();
    let mut buffer = packet(9);
    sender.protect_rtp(&mut buffer, 0, 20, 2, 9).unwrap();
    assert_eq!(buffer, packet(9));
    assert_eq!(receiver.unprotect_rtp(&mut buffer, 2, 9), Ok(packet(9).len()));
    let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
    let mut sent = sender.protect_rtcp(report.to_vec()).unwrap();
    assert_eq!(receiver.unprotect_rtcp(&mut sent), Ok(8));
    assert_eq!(sent, report);
}
