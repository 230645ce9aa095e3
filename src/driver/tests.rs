//! The loop over a port that the test plays.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::{AdminContext, Host, Live};
use crate::base::{ConnId, Epoch, Instant, LifelineKey, LinkId, Now, ServerId, SessionId, Zxid};
use crate::config::{self, Environment, RawConfig};
use crate::disk::{
    Chores, DataDir, DirOptions, Housekeeper, HousekeeperOptions, LogWriter, LogWriterOptions,
};
use crate::front::{FrontOptions, FrontSink};
use crate::log::{Batch, EpochFile, LogChange, LogCommand, LogRepair, Recovered};
use crate::member::Member;
use crate::metrics::Measures;
use crate::peer::Port;
use crate::replica::{Input, Replica, ReplicaOptions, Restored};
use crate::sys::file::AlignedBuf;
use crate::tree::{Tree, TreeOptions};
use crate::wire::connect_frame;

mod links;

use super::turn::{COMPLETIONS_MAX, MESSAGES_MAX, Messages};
use super::*;

/// What the driver began, and what the test lets end.
#[derive(Default)]
struct Hands {
    completions: VecDeque<Completion<Hands>>,
    messages: VecDeque<Message<Hands>>,
    /// Receives that began, and whether once.
    receives: Vec<(ConnId, bool)>,
    cancelled: Vec<ConnId>,
    sends: Vec<(ConnId, Vec<u8>, usize)>,
    shut: Vec<Direction>,
    /// Length of the log's write under way, and its buffer.
    write: Option<(usize, AlignedBuf)>,
    admitted: usize,
    /// What ended on connections of members.
    of_members: VecDeque<MemberCompletion<Hands>>,
    /// Accepts for members that began again, by listening socket.
    member_accepts: Vec<usize>,
    dials: Vec<(LinkId, ServerId, Port)>,
    member_receives: Vec<LinkId>,
    member_sends: Vec<(LinkId, Vec<u8>, usize)>,
    /// Connections on which something shows that this process lives, and what a send had left.
    kept_alive: Vec<(LinkId, usize)>,
    refused: usize,
    /// What of this began first.
    order: Vec<&'static str>,
}

impl Io for Hands {
    type Files = DataDir;
    type Socket = ();
    type Receive = ConnId;
    type Bytes = Vec<u8>;
    type Probe = Unobserved;

    fn now(&self) -> Instant {
        Instant(0)
    }

    fn next_completion(&mut self) -> io::Result<Option<Completion<Hands>>> {
        Ok(self.completions.pop_front())
    }

    fn bytes<'a>(&'a self, bytes: &'a Vec<u8>) -> &'a [u8] {
        bytes
    }

    fn release(&mut self, _: Vec<u8>) {}

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn start_accepting(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn accept_again(&mut self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn stop_accepting(&mut self) {}

    fn admit(&mut self, _: &SocketAddr) -> Result<(), String> {
        self.admitted += 1;
        Ok(())
    }

    fn leave(&mut self, _: &SocketAddr) {
        self.admitted -= 1;
    }

    fn set_up(&mut self, (): &()) {}

    fn refuse(&mut self, (): ()) {
        self.refused += 1;
    }

    fn receive(&mut self, (): &(), conn: ConnId, once: bool) -> io::Result<ConnId> {
        self.receives.push((conn, once));
        Ok(conn)
    }

    fn cancel(&mut self, receive: ConnId) -> io::Result<()> {
        self.cancelled.push(receive);
        Ok(())
    }

    fn send(&mut self, (): &(), conn: ConnId, buf: Vec<u8>, from: usize) -> io::Result<()> {
        self.sends.push((conn, buf, from));
        Ok(())
    }

    fn unconfirmed(&mut self, (): &()) -> usize {
        0
    }

    fn is_hung_up(&mut self, (): &()) -> bool {
        false
    }

    fn shutdown(&mut self, (): &(), direction: Direction) {
        self.shut.push(direction);
    }

    fn start_listening_to_members(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn next_of_members(&mut self) -> io::Result<Option<MemberCompletion<Hands>>> {
        Ok(self.of_members.pop_front())
    }

    fn accept_member_again(&mut self, listener: usize) -> io::Result<()> {
        self.member_accepts.push(listener);
        Ok(())
    }

    fn dial_member(&mut self, link: LinkId, to: ServerId, port: Port) {
        self.dials.push((link, to, port));
    }

    fn set_up_member(&mut self, (): &()) {}

    fn receive_from_member(&mut self, (): &(), link: LinkId) -> io::Result<ConnId> {
        self.member_receives.push(link);
        Ok(ConnId(link.0))
    }

    fn send_to_member(
        &mut self,
        (): &(),
        link: LinkId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()> {
        self.order.push("send to a member");
        self.member_sends.push((link, buf, from));
        Ok(())
    }

    fn keep_alive(
        &mut self,
        (): &(),
        link: LinkId,
        _lifeline: Option<(ServerId, LifelineKey)>,
        left: usize,
    ) {
        self.kept_alive.push((link, left));
    }

    fn let_go(&mut self, link: LinkId) {
        self.kept_alive.retain(|(kept, _)| *kept != link);
    }

    fn write_log(&mut self, _: i32, buf: AlignedBuf, len: usize, _: u64, _: i32) -> io::Result<()> {
        assert!(self.write.is_none(), "one write at a time");
        self.order.push("write of the log");
        self.write = Some((len, buf));
        Ok(())
    }

    fn post(&mut self, _: usize, message: Message<Hands>) -> Result<(), Message<Hands>> {
        self.messages.push_back(message);
        Ok(())
    }

    fn next_message(&mut self) -> Option<Message<Hands>> {
        self.messages.pop_front()
    }

    fn give_back_memory(&mut self) {}

    fn look_up(&mut self, _: [u8; 4], _: &mut Live) {}

    fn settled(&mut self) {}
}

fn now() -> Now {
    Now { mono: Instant::from_ms(1_000_000), wall_ms: 1_000 }
}

fn failed() -> Received<Vec<u8>> {
    Received::Failed(io::ErrorKind::ConnectionReset)
}

/// A loop that is alone and runs nothing yet.
fn parts() -> DriverParts<Hands> {
    DriverParts {
        index: 0,
        edge: None,
        links: None,
        replica: None,
        log: None,
        routes: Routes { loops: 1, front_at: vec![0], replica_at: 0, log_at: 0 },
        measures: Arc::new(Measures::default()),
    }
}

/// Replica and log of a server in this directory.
fn replica_and_log(
    home: &tempfile::TempDir,
    measures: &Arc<Measures>,
) -> (ReplicaStage<Hands>, LogStage<DataDir>, Chores<DataDir>) {
    let data_dir = home.path().to_owned();
    let dir = DataDir::open(&DirOptions { data_dir, log_dir: None, autocreate: true });
    let dir = Arc::new(dir.unwrap());
    let options = HousekeeperOptions::default();
    let (house, chores, reports) =
        Housekeeper::without_thread(Arc::clone(&dir), options, Box::new(|| {}));
    let repair = LogRepair { next_group: 1, ..LogRepair::default() };
    let recovered = Recovered { repair, ..Recovered::default() };
    let options = LogWriterOptions { segment_size: 4 << 20, ..LogWriterOptions::default() };
    let writer = LogWriter::open(dir, &recovered, options, &house).unwrap();
    let tree = Tree::new(TreeOptions { digest: false, ..TreeOptions::STOCK });
    let (options, restored) = (ReplicaOptions::default(), Restored::fresh(tree));
    let replica = Replica::for_tests(now(), options, restored);
    let mut raw = RawConfig::new();
    raw.add_file("zoo.cfg", b"dataDir=/d\nclientPort=1\n");
    let (settings, _) = config::check(&raw, &Environment::default()).into_settings().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let admin = AdminContext::new(&settings, address, Host::default(), Arc::clone(measures));
    let options = HousekeepingOptions::default();
    let house = Housekeeping::new(options, house, reports, Arc::clone(measures));
    let stage = ReplicaStage::new(Member::alone(now(), replica), house, admin, Unobserved);
    (stage, LogStage::new(writer, false, Duration::MAX), chores)
}

#[test]
fn a_turn_takes_a_bounded_number_of_messages() {
    let home = tempfile::tempdir().unwrap();
    let mut stages = parts();
    let (stage, log, _chores) = replica_and_log(&home, &stages.measures);
    (stages.replica, stages.log) = (Some(stage), Some(log));
    let (mut driver, mut io) = (Driver::new(now(), stages), Hands::default());
    let all = 3 * MESSAGES_MAX + 1;
    io.messages.extend((0..all).map(|_| Message::FromFront(FrontTurn::default())));
    for left in [2 * MESSAGES_MAX + 1, MESSAGES_MAX + 1, 1, 0] {
        assert!(matches!(driver.take_messages(&mut io), Ok(Messages::Some)));
        assert_eq!(io.messages.len(), left);
    }
    assert!(matches!(driver.take_messages(&mut io), Ok(Messages::None)));
}

#[test]
fn a_turn_takes_a_bounded_number_of_completions() {
    let mut stages = parts();
    stages.edge = Some(Edge::new(FrontOptions::default()));
    // The replica is elsewhere.
    stages.routes.replica_at = 1;
    let (mut driver, mut io) = (Driver::new(now(), stages), Hands::default());
    for _ in 0..COMPLETIONS_MAX + 50 {
        let result = Ok(((), Some(SocketAddr::from(([127, 0, 0, 1], 1)))));
        io.completions.push_back(Completion::Accepted { listener: 0, result, more: true });
    }
    assert!(matches!(driver.take_completions(&mut io), Ok(COMPLETIONS_MAX)));
    assert!(matches!(driver.take_completions(&mut io), Ok(50)));
    assert_eq!(io.receives.len(), COMPLETIONS_MAX + 50);
}

/// A client asks for a session, which is a write.
fn ask_for_session(driver: &mut Driver<Hands>, slot: u32) {
    let conn = ConnId::new(slot, 1);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let frame = connect_frame(SessionId(0), 10_000);
    let stage = driver.replica_stage_mut().unwrap();
    stage.handle(now(), Input::Opened { conn, peer });
    // In its first turn it has no share.
    stage.member.begin_turn();
    stage.handle(now(), Input::Frames { conn, bytes: &frame });
}

#[test]
fn a_word_of_a_connection_that_was_closed_in_its_turn_is_not_answered() {
    let home = tempfile::tempdir().unwrap();
    let (mut stage, _log, _chores) = replica_and_log(&home, &Arc::default());
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    for (slot, is_closed) in [(0, false), (1, true)] {
        let conn = ConnId::new(slot, 1);
        stage.handle(now(), Input::Opened { conn, peer });
        stage.asked(conn, *b"ruok", b"");
        if is_closed {
            stage.handle(now(), Input::Closed { conn });
        }
        stage.answer_words(now(), &mut Hands::default());
        assert_eq!(stage.effects.list.is_empty(), is_closed, "{:?}", stage.effects.list);
        stage.effects.clear();
    }
}

#[test]
fn the_next_write_begins_in_the_turn_in_which_the_last_one_ended() {
    let home = tempfile::tempdir().unwrap();
    let mut stages = parts();
    let (stage, log, _chores) = replica_and_log(&home, &stages.measures);
    (stages.replica, stages.log) = (Some(stage), Some(log));
    // Its fronts are elsewhere.
    stages.routes.front_at = vec![1];
    let (mut driver, mut io) = (Driver::new(now(), stages), Hands::default());
    ask_for_session(&mut driver, 0);
    driver.turn(now(), &mut io).unwrap();
    assert!(driver.is_writing());
    ask_for_session(&mut driver, 1);
    for last in [1, 2] {
        let (len, buf) = io.write.take().unwrap();
        io.completions.push_back(Completion::Written { buf, result: Ok(len) });
        driver.take_completions(&mut io).unwrap();
        assert_eq!(driver.replica_stage().unwrap().member.replica().last_processed(), Zxid(last));
        assert_eq!(io.write.is_some(), last == 1, "the disk stands still until the turn ends");
    }
}

/// A loop that does nothing but write has the next write in its way when it could tell of the last
/// one, and many clients wait for that.
#[test]
fn a_log_that_writes_in_line_tells_of_each_write_before_the_next() {
    let home = tempfile::tempdir().unwrap();
    let mut stages = parts();
    let (_, mut log, _chores) = replica_and_log(&home, &stages.measures);
    log.inline = true;
    stages.log = Some(log);
    stages.routes = Routes { loops: 2, front_at: vec![1], replica_at: 1, log_at: 0 };
    let (mut driver, mut io) = (Driver::new(now(), stages), Hands::default());
    let large = |zxid| {
        let mut batch = Batch::new();
        // Two of these do not fit one write.
        batch.entry().resize(600 << 10, 7);
        batch.finish_entry(Zxid(zxid));
        LogWork::Append(Arc::new(batch))
    };
    io.messages.push_back(Message::Log(vec![large(1), large(2)]));
    driver.turn(now(), &mut io).unwrap();
    let told = io.messages.iter().map(|message| match message {
        Message::Synced(zxid) => Some(*zxid),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [Some(Zxid(1)), Some(Zxid(2))]);
}

#[test]
fn a_change_of_the_log_waits_for_writes_before_it_and_holds_up_those_behind() {
    let home = tempfile::tempdir().unwrap();
    let mut stages = parts();
    let (stage, log, mut chores) = replica_and_log(&home, &stages.measures);
    (stages.replica, stages.log) = (Some(stage), Some(log));
    stages.routes.front_at = vec![1];
    let (mut driver, mut io) = (Driver::new(now(), stages), Hands::default());
    ask_for_session(&mut driver, 0);
    driver.turn(now(), &mut io).unwrap();
    assert!(driver.is_writing());
    let stage = driver.replica_stage_mut().unwrap();
    let change = LogChange::WriteEpoch { file: EpochFile::Accepted, epoch: Epoch(7) };
    stage.member.ask_log(LogCommand::Change(change), &mut stage.effects);
    ask_for_session(&mut driver, 1);
    let mut finish_chores = |expected: bool| {
        while !chores.is_idle() {
            chores.turn();
        }
        assert_eq!(home.path().join("version-2/acceptedEpoch").exists(), expected);
    };
    driver.turn(now(), &mut io).unwrap();
    finish_chores(false);
    let (len, buf) = io.write.take().unwrap();
    io.completions.push_back(Completion::Written { buf, result: Ok(len) });
    driver.turn(now(), &mut io).unwrap();
    assert!(!driver.is_writing(), "the second session waits for the change");
    finish_chores(true);
    assert!(driver.has_reports() && driver.replica_stage().unwrap().member.awaits_log());
    driver.turn(now(), &mut io).unwrap();
    assert!(driver.is_writing() && !driver.replica_stage().unwrap().member.awaits_log());
    let epoch = std::fs::read(home.path().join("version-2/acceptedEpoch")).unwrap();
    assert_eq!(epoch, b"7");
}

/// Only what sockets do matters.
struct Deaf;

impl FrontSink for Deaf {
    fn frames(&mut self, _: ConnId, _: &[u8]) {}

    fn heard(&mut self, _: ConnId) {}

    fn drained(&mut self, _: ConnId) {}

    fn word(&mut self, _: ConnId, _: [u8; 4], _: &[u8]) {}
}

fn edge_with_one(io: &mut Hands) -> (Edge<Hands>, ConnId) {
    let mut edge = Edge::new(FrontOptions { max_frame: 100, ..FrontOptions::default() });
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let conn = edge.adopt(now(), io, (), peer).unwrap().unwrap();
    (edge, conn)
}

#[test]
fn a_dying_connection_is_freed_by_its_last_completion_whatever_that_is() {
    for last in [Received::Bytes(vec![1]), Received::End, Received::Again, failed()] {
        let mut io = Hands::default();
        let (mut edge, conn) = edge_with_one(&mut io);
        edge.close(now(), &mut io, conn, false).unwrap();
        assert!(!edge.front.is_empty(), "the kernel still receives for it");
        assert_eq!(io.shut, [Direction::Both]);
        let gone = edge.received(now(), &mut io, conn, last, false, &mut Deaf).unwrap();
        assert_eq!(gone, None, "the replica closed it itself");
        assert!(edge.front.is_empty());
        assert_eq!((io.admitted, io.receives.len()), (0, 1));
    }
}

/// One that sends much and leaves must not fill the buffers that others need meanwhile.
#[test]
fn a_connection_is_received_from_in_portions_while_it_is_new_or_paused() {
    let mut io = Hands::default();
    let (mut edge, conn) = edge_with_one(&mut io);
    let mut portion = |edge: &mut Edge<Hands>, bytes: usize| {
        let frames = Received::Bytes([0, 0, 0, 0].repeat(bytes / 4));
        edge.received(now(), &mut io, conn, frames, false, &mut Deaf).unwrap();
        io.receives.pop().unwrap()
    };
    let (once, on) = (true, false);
    assert_eq!(portion(&mut edge, 16 << 10), (conn, once), "after half of it");
    assert_eq!(portion(&mut edge, 16 << 10), (conn, on));
    edge.front.pause(conn);
    assert_eq!(portion(&mut edge, 4), (conn, once));
}

#[test]
fn short_sends_go_on_where_they_ended() {
    let mut io = Hands::default();
    let (mut edge, conn) = edge_with_one(&mut io);
    edge.queue(&mut io, conn, &[7; 200]);
    edge.send_ready(&mut io).unwrap();
    edge.queue(&mut io, conn, b"second");
    for (from, sent) in [(0, 10), (10, 20), (30, 170)] {
        let (_, buf, began) = io.sends.pop().unwrap();
        assert_eq!((began, buf.len()), (from, 200));
        assert_eq!(edge.sent(now(), &mut io, conn, buf, sent, &mut Deaf).unwrap(), None);
        assert!(!edge.is_flushed());
    }
    let (_, buf, began) = io.sends.pop().unwrap();
    assert_eq!((buf.as_slice(), began), (&b"second"[..], 0));
    assert_eq!(edge.sent(now(), &mut io, conn, buf, 6, &mut Deaf).unwrap(), None);
    assert!(edge.is_flushed());
}

#[test]
fn a_send_that_takes_nothing_ends_the_connection() {
    let mut io = Hands::default();
    let (mut edge, conn) = edge_with_one(&mut io);
    edge.queue(&mut io, conn, b"reply");
    edge.send_ready(&mut io).unwrap();
    let (_, buf, _) = io.sends.pop().unwrap();
    assert_eq!(edge.sent(now(), &mut io, conn, buf, 0, &mut Deaf).unwrap(), Some(conn));
    let end = Received::End;
    assert_eq!(edge.received(now(), &mut io, conn, end, false, &mut Deaf).unwrap(), None);
    assert!(edge.front.is_empty());
}

/// What is unread when a socket is closed makes a reset of it, and the peer loses its last reply.
#[test]
fn a_connection_that_was_not_read_from_is_read_from_again_while_it_closes() {
    let mut io = Hands::default();
    let (mut edge, conn) = edge_with_one(&mut io);
    edge.front.pause(conn);
    let bytes = |count| Received::Bytes(vec![0; count]);
    for _ in 0..3 {
        edge.received(now(), &mut io, conn, bytes(150), true, &mut Deaf).unwrap();
    }
    assert_eq!(io.cancelled, [conn], "once");
    let again = Received::Again;
    edge.received(now(), &mut io, conn, again, false, &mut Deaf).unwrap();
    edge.check();
    assert_eq!(io.receives.len(), 1, "nothing more is read from it");
    edge.queue(&mut io, conn, b"last reply");
    edge.close(now(), &mut io, conn, true).unwrap();
    edge.send_ready(&mut io).unwrap();
    assert_eq!(io.receives.len(), 2);
    edge.check();
    edge.received(now(), &mut io, conn, bytes(150), true, &mut Deaf).unwrap();
    let (_, buf, _) = io.sends.pop().unwrap();
    edge.sent(now(), &mut io, conn, buf, 10, &mut Deaf).unwrap();
    edge.check();
    assert_eq!(io.shut, [Direction::Write]);
    let end = Received::End;
    assert_eq!(edge.received(now(), &mut io, conn, end, false, &mut Deaf).unwrap(), None);
    assert!(edge.front.is_empty());
}

#[test]
fn the_end_of_a_connection_that_this_side_closes_is_no_news() {
    for is_closed in [false, true] {
        let mut io = Hands::default();
        let (mut edge, conn) = edge_with_one(&mut io);
        edge.queue(&mut io, conn, b"reply");
        edge.send_ready(&mut io).unwrap();
        if is_closed {
            edge.close(now(), &mut io, conn, true).unwrap();
        }
        let failed = failed();
        let gone = edge.received(now(), &mut io, conn, failed, false, &mut Deaf).unwrap();
        assert_eq!(gone, (!is_closed).then_some(conn));
        edge.check();
        // The replica has not been told yet, and goes on with it.
        edge.queue(&mut io, conn, b"more");
        edge.close(now(), &mut io, conn, true).unwrap();
        let (_, buf, _) = io.sends.pop().unwrap();
        assert_eq!(edge.sent(now(), &mut io, conn, buf, 0, &mut Deaf).unwrap(), None);
        assert!(edge.front.is_empty());
        assert_eq!(edge.resume(conn, &mut io, &mut Deaf).unwrap(), None);
        edge.close(now(), &mut io, conn, true).unwrap();
    }
}

/// Whether an assertion ends it.
fn is_refused(wrong: impl FnOnce(&mut Edge<Hands>, &mut Hands, ConnId)) -> bool {
    let mut io = Hands::default();
    let (mut edge, conn) = edge_with_one(&mut io);
    let run = std::panic::AssertUnwindSafe(|| wrong(&mut edge, &mut io, conn));
    std::panic::catch_unwind(run).is_err()
}

#[test]
fn what_no_connection_can_live_through_is_noticed() {
    assert!(!is_refused(|edge, io, conn| edge.close(now(), io, conn, true).unwrap()));
    assert!(is_refused(|edge, io, conn| {
        let _ = edge.sent(now(), io, conn, b"never sent".to_vec(), 1, &mut Deaf);
    }));
    assert!(is_refused(|edge, io, conn| {
        edge.close(now(), io, conn, false).unwrap();
        edge.received(now(), io, conn, Received::End, false, &mut Deaf).unwrap();
        let _ = edge.received(now(), io, conn, Received::End, false, &mut Deaf);
    }));
    assert!(is_refused(|edge, io, conn| {
        edge.close(now(), io, conn, true).unwrap();
        let _ = edge.close(now(), io, conn, true);
    }));
    assert!(is_refused(|edge, io, conn| {
        edge.close(now(), io, conn, true).unwrap();
        edge.queue(io, conn, b"too late");
    }));
}
