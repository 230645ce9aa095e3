//! `sync`, and a read after it, at another member than the write.

use super::cluster::{Ensemble, SIZE};
use crate::util::{Client, Jute, Session, eventually, op};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A connection to each member, made anew when it breaks.
struct Links {
    addresses: Vec<SocketAddr>,
    open: [Option<Client>; SIZE],
}

impl Links {
    /// The member `wanted`, or the next that takes clients, and a connection to it.
    fn any(&mut self, wanted: usize) -> (usize, &mut Client) {
        let mut at = wanted % SIZE;
        eventually("a member takes clients", || {
            if self.open[at].is_none() {
                let session =
                    Session { id: 0, password: vec![0; 16], timeout_ms: 600_000, read_only: false };
                self.open[at] = Client::handshake(self.addresses[at], &session, 0).ok();
            }
            let is_open = self.open[at].is_some();
            if !is_open {
                at = (at + 1) % SIZE;
            }
            is_open.then_some(())
        });
        (at, self.open[at].as_mut().expect("just opened"))
    }

    /// Whether the node was created; unknown counts as no.
    fn create(&mut self, wanted: usize, path: &str) -> Option<usize> {
        let (at, client) = self.any(wanted);
        let body = Jute::new().string(path).buffer(b"").open_acl().int(0);
        let answer = client.try_request(op::CREATE2, &body);
        if answer.is_err() {
            self.open[at] = None;
        }
        answer.ok().map(|reply| assert_eq!(reply.err, 0, "creating {path}")).map(|()| at)
    }

    /// Sends `sync` and `exists` together; the member that answered both and the error code of the
    /// second.
    fn sync_and_look(&mut self, wanted: usize, path: &str) -> Option<(usize, i32)> {
        let (at, client) = self.any(wanted);
        let exists = Jute::new().string(path).bool(false);
        let answer = client
            .try_send(op::SYNC, &Jute::new().string("/"))
            .and_then(|_| client.try_send(op::EXISTS, &exists))
            .and_then(|_| Ok((client.try_receive()?, client.try_receive()?)));
        if answer.is_err() {
            self.open[at] = None;
        }
        let (synced, found) = answer.ok()?;
        assert_eq!(synced.err, 0, "sync");
        Some((at, found.err))
    }
}

/// Writes at one member and looks at another until told to end; counts what it has compared.
fn write_and_look(addresses: Vec<SocketAddr>, is_over: &AtomicBool, compared: &AtomicU64) {
    let mut links = Links { addresses, open: [const { None }; SIZE] };
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let path = format!("/written-{number}");
        let Some(writer) = links.create(number, &path) else { continue };
        let Some((reader, err)) = links.sync_and_look(writer + 1, &path) else { continue };
        assert_eq!(err, 0, "{path}: written at member {writer}, not there at {reader}");
        if reader != writer {
            compared.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn after_sync_a_member_shows_what_was_acknowledged_elsewhere_while_leaders_are_killed() {
    let mut ensemble = Ensemble::start(&[]);
    let (is_over, compared) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let addresses = ensemble.addresses();
        let thread = scope.spawn(|| write_and_look(addresses, &is_over, &compared));
        let wait_for_more = || {
            let target = compared.load(Ordering::Relaxed) + 50;
            eventually("writes are looked at elsewhere", || {
                let is_enough = compared.load(Ordering::Relaxed) >= target;
                (is_enough || thread.is_finished()).then_some(())
            });
        };
        for _ in 0..3 {
            wait_for_more();
            let leader = ensemble.leader();
            ensemble.member(leader).kill();
            wait_for_more();
            ensemble.restart(leader);
        }
        wait_for_more();
        is_over.store(true, Ordering::Relaxed);
    });
}
