use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// How long every handshake has to succeed within, over the worst network here.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(10);

struct Side {
    credentials: Credentials,
    dtls: Dtls,
    connected: Option<Suite>,
    failed: Option<String>,
}

impl Side {
    fn note(&mut self, event: Option<DtlsEvent>) {
        match event {
            Some(DtlsEvent::Connected { suite, .. }) => self.connected = Some(suite),
            Some(DtlsEvent::Failed(why)) => self.failed = Some(why),
            Some(DtlsEvent::Closed) => self.failed = Some("closed".into()),
            None => {}
        }
    }
}

/// A client and a server that know each other's fingerprints.
fn pair() -> [Side; 2] {
    let credentials = [Credentials::generate().unwrap(), Credentials::generate().unwrap()];
    let prints = [credentials[0].fingerprint(), credentials[1].fingerprint()];
    let side = |credentials: Credentials, remote_role: DtlsRole, print: DtlsFingerprint| {
        let mut dtls = Dtls::default();
        dtls.connect(remote_role, vec![print]);
        Side { credentials, dtls, connected: None, failed: None }
    };
    let [client, server] = credentials;
    [side(client, DtlsRole::Server, prints[1]), side(server, DtlsRole::Client, prints[0])]
}

/// Runs both sides over a network that passes on what `passes` lets through, until both are connected.
fn run(sides: &mut [Side; 2], mut passes: impl FnMut(usize, usize) -> bool) -> Duration {
    let start = Instant::now();
    let mut now = start;
    let mut sent = [0, 0];
    for side in &mut *sides {
        let event = side.dtls.advance(now, &side.credentials);
        side.note(event);
    }
    while sides.iter().any(|side| side.connected.is_none()) && now < start + PATIENCE {
        for from in [0, 1] {
            let datagrams: Vec<_> = std::iter::from_fn(|| sides[from].dtls.poll_transmit()).collect();
            for datagram in datagrams {
                sent[from] += 1;
                let to = &mut sides[1 - from];
                if passes(from, sent[from]) {
                    let event = to.dtls.handle_datagram(now, &to.credentials, &datagram);
                    to.note(event);
                }
            }
        }
        now += STEP;
        for side in &mut *sides {
            if side.dtls.poll_timeout().is_some_and(|due| due <= now) {
                let event = side.dtls.handle_timeout(now);
                side.note(event);
            }
        }
    }
    now - start
}

#[test]
fn every_single_loss_is_repaired() {
    for (loser, lost) in [0, 1].into_iter().flat_map(|side| (1..=12).map(move |nth| (side, nth))) {
        let mut sides = pair();
        run(&mut sides, |from, nth| (from, nth) != (loser, lost));
        for side in &sides {
            assert_eq!(
                side.connected,
                Some(Suite::AeadAes128Gcm),
                "{lost} of side {loser}: {:?}",
                side.failed
            );
        }
    }
}

#[test]
fn handshakes_survive_heavy_loss_both_ways() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut sides = pair();
        run(&mut sides, |_, _| random.random_bool(0.8));
        assert!(sides.iter().all(|side| side.connected.is_some()), "seed {seed}");
    }
}

#[test]
fn a_peer_that_never_answers_ends_the_handshake() {
    let mut sides = pair();
    let mut silent = 0;
    run(&mut sides, |from, _| {
        silent += usize::from(from == 0);
        false
    });
    assert!(silent > 4, "the client has tried again and again: {silent}");
    assert!(sides[0].failed.is_some());
    assert_eq!(sides[0].dtls.poll_timeout(), None);
}
