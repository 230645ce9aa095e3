//! The ports: all that a loop needs from the outside, besides the files of `disk::LogFiles`.
//!
//! Operations begin with a call and end with a [`Completion`]. An operation's buffer belongs to
//! the port until then. Each begun receive, send and write has exactly one last completion; a
//! completion that nobody waits for is an error of the port, which the driver asserts.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::admin::Live;
use crate::base::{ConnId, Instant, LifelineKey, LinkId, ServerId};
use crate::disk::LogFiles;
use crate::log::{Batch, LogChange};
use crate::member::Member;
use crate::peer;
use crate::replica::{Effect, Replica};

use super::message::Message;

/// Memory that a log write takes and gives back.
type LogBuffer<I> = <<I as Io>::Files as LogFiles>::Buffer;
/// An open segment, as a log write names it.
type LogHandle<I> = <<I as Io>::Files as LogFiles>::Handle;

/// The outside of one loop.
pub trait Io: Sized + 'static {
    /// Files of the data directory.
    type Files: LogFiles;
    /// A connection's socket; closed when dropped.
    type Socket: fmt::Debug;
    /// A receive under way.
    type Receive: Copy + fmt::Debug;
    /// Bytes that a receive brought, to be given back with [`Io::release`].
    type Bytes: fmt::Debug;
    /// What looks on; [`Unobserved`] in production.
    type Probe: Probe;

    /// The time now, for measuring what a turn does in line.
    fn now(&self) -> Instant;
    /// The next finished operation.
    fn next_completion(&mut self) -> io::Result<Option<Completion<Self>>>;
    /// The bytes themselves.
    fn bytes<'a>(&'a self, bytes: &'a Self::Bytes) -> &'a [u8];
    /// The bytes have been taken.
    fn release(&mut self, bytes: Self::Bytes);
    /// Hands everything begun so far to the system, without waiting.
    fn submit(&mut self) -> io::Result<()>;

    /// Accepts connections on all listening sockets from now on.
    fn start_accepting(&mut self) -> io::Result<()>;
    /// Accepts again on one listening socket, whose accept has ended.
    fn accept_again(&mut self, listener: usize) -> io::Result<()>;
    /// Accepts no more; the port is free at once.
    fn stop_accepting(&mut self);
    /// Counts a connection; the error says why it may not stay.
    fn admit(&mut self, peer: &SocketAddr) -> Result<(), String>;
    /// A connection that was counted is gone.
    fn leave(&mut self, peer: &SocketAddr);
    /// A counted connection stays: options are set. Failures show when it is received from.
    fn set_up(&mut self, socket: &Self::Socket);
    /// Ends a connection that may not stay, with a reset.
    fn refuse(&mut self, socket: Self::Socket);
    /// Receives until that ends or is cancelled, see [`Completion::Received`]. `once`: until bytes
    /// have come, about as many as a small buffer holds.
    fn receive(
        &mut self,
        socket: &Self::Socket,
        conn: ConnId,
        once: bool,
    ) -> io::Result<Self::Receive>;
    /// Ends a receive; its last completion follows.
    fn cancel(&mut self, receive: Self::Receive) -> io::Result<()>;
    /// Sends `buf[from..]`.
    fn send(
        &mut self,
        socket: &Self::Socket,
        conn: ConnId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()>;
    /// Bytes that the system has taken for the peer and the peer has not confirmed; 0 where it
    /// cannot be asked.
    fn unconfirmed(&mut self, socket: &Self::Socket) -> usize;
    /// Whether the peer has closed the connection or reset it, though there may be more to read.
    fn is_hung_up(&mut self, socket: &Self::Socket) -> bool;
    /// Ends one or both directions of a connection, and with them the operations under way.
    fn shutdown(&mut self, socket: &Self::Socket, direction: Direction);

    /// Accepts connections of other members on all their listening sockets from now on. This and
    /// the next eight belong to a loop with [`super::Links`]; no other asks for them.
    fn start_listening_to_members(&mut self) -> io::Result<()>;
    /// The next finished operation on a connection of a member, however many of clients' came
    /// before it.
    fn next_of_members(&mut self) -> io::Result<Option<MemberCompletion<Self>>>;
    /// Accepts again on one listening socket for members, whose accept has ended.
    fn accept_member_again(&mut self, listener: usize) -> io::Result<()>;
    /// Connects to a member; [`MemberCompletion::Dialed`] tells what it came to.
    fn dial_member(&mut self, link: LinkId, to: ServerId, port: peer::Port);
    /// A connection of a member stays: options are set. Failures show when it is received from.
    fn set_up_member(&mut self, socket: &Self::Socket);
    /// Receives from a member, as [`Io::receive`] does from a client, into buffers that clients do
    /// not use up.
    fn receive_from_member(
        &mut self,
        socket: &Self::Socket,
        link: LinkId,
    ) -> io::Result<Self::Receive>;
    /// Sends `buf[from..]` to a member.
    fn send_to_member(
        &mut self,
        socket: &Self::Socket,
        link: LinkId,
        buf: Vec<u8>,
        from: usize,
    ) -> io::Result<()>;

    /// While this loop is held up, shows the other end of a member's connection that the process
    /// lives, but not while a send is under way: of one, the socket has `left` bytes to take.
    /// A lifeline shows the learner when the process ends, sooner than the connection does.
    fn keep_alive(
        &mut self,
        socket: &Self::Socket,
        link: LinkId,
        lifeline: Option<(ServerId, LifelineKey)>,
        left: usize,
    );
    /// Ends that, be it so or not, before the connection is closed or shut down.
    fn let_go(&mut self, link: LinkId);

    /// Writes `buf[..len]` to the log; one at a time.
    fn write_log(
        &mut self,
        fd: LogHandle<Self>,
        buf: LogBuffer<Self>,
        len: usize,
        offset: u64,
        flags: i32,
    ) -> io::Result<()>;

    /// Hands a message to another loop, or gives it back if its queue is full.
    fn post(&mut self, to: usize, message: Message<Self>) -> Result<(), Message<Self>>;
    /// The next message for this loop.
    fn next_message(&mut self) -> Option<Message<Self>>;

    /// Gives freed memory back to the system.
    fn give_back_memory(&mut self);
    /// Looks up what a four-letter word shows of the machine.
    fn look_up(&mut self, word: [u8; 4], live: &mut Live);
    /// During a drain: everything is applied and the last snapshot is done, was not needed, or
    /// failed.
    fn settled(&mut self);
}

/// Which half of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Nothing is sent any more; what the peer sends still arrives.
    Write,
    /// Nothing at all.
    Both,
}

/// How a receive went on.
#[derive(Debug)]
pub enum Received<B> {
    /// Bytes arrived.
    Bytes(B),
    /// The peer sends no more.
    End,
    /// Nothing arrived: it was cancelled, or no buffer was free. Receive again.
    Again,
    /// The connection failed.
    Failed(io::ErrorKind),
}

/// A finished step of an operation.
pub enum Completion<I: Io> {
    /// A connection arrived, or accepting one failed.
    Accepted {
        /// Which listening socket.
        listener: usize,
        /// The socket and the other end, which is not known of a connection that is gone already.
        result: io::Result<(I::Socket, Option<SocketAddr>)>,
        /// Whether more are accepted.
        more: bool,
    },
    /// A receive went on.
    Received {
        /// The connection it was begun for.
        conn: ConnId,
        /// How.
        result: Received<I::Bytes>,
        /// Whether it goes on; otherwise this is its last completion.
        more: bool,
    },
    /// A send ended.
    Sent {
        /// The connection it was begun for.
        conn: ConnId,
        /// The whole buffer.
        buf: Vec<u8>,
        /// Bytes of this send that the socket took; 0 if it failed.
        sent: usize,
    },
    /// The write of the log ended.
    Written {
        /// The whole buffer.
        buf: LogBuffer<I>,
        /// Bytes written, and durable if the flags asked for it.
        result: io::Result<usize>,
    },
}

/// A finished step of an operation on a connection of a member.
pub enum MemberCompletion<I: Io> {
    /// A connection arrived, or accepting one failed.
    Accepted {
        /// Which listening socket.
        listener: usize,
        /// What for.
        port: peer::Port,
        /// As with [`Completion::Accepted`].
        result: io::Result<(I::Socket, Option<SocketAddr>)>,
        /// Whether more are accepted.
        more: bool,
    },
    /// What [`Io::dial_member`] came to.
    Dialed {
        /// The connection.
        link: LinkId,
        /// The socket and the other end.
        result: Result<(I::Socket, SocketAddr), peer::DialError>,
    },
    /// A receive went on.
    Received {
        /// The connection it was begun for.
        link: LinkId,
        /// How.
        result: Received<I::Bytes>,
        /// Whether it goes on; otherwise this is its last completion.
        more: bool,
    },
    /// A send ended.
    Sent {
        /// The connection it was begun for.
        link: LinkId,
        /// The whole buffer.
        buf: Vec<u8>,
        /// Bytes of this send that the socket took.
        result: Result<usize, io::ErrorKind>,
    },
}

/// Looks at what the driver does. Production has [`Unobserved`], of which nothing is left in the
/// compiled code.
pub trait Probe: 'static {
    /// The replica has taken an input; `conn` was heard of by it.
    fn handled(&mut self, _member: &Member, _conn: Option<ConnId>) {}
    /// A connection got its session.
    fn established(&mut self, _replica: &Replica, _conn: ConnId) {}
    /// Transactions go to the log.
    fn appended(&mut self, _batch: &Batch) {}
    /// The log is asked for a change.
    fn log_changing(&mut self, _change: &LogChange) {}
    /// The log has changed, see `LogChange`.
    fn log_changed(&mut self, _change: &LogChange) {}
    /// Part of the whole database, for a receiver that asked the replica for it
    /// (`Input::StreamWanted`). In production nobody asks before there are learners.
    fn streamed(&mut self, _part: Effect) {}
    /// Work in the background failed; the server goes on.
    fn chore_failed(&mut self, _what: &dyn fmt::Display) {}
}

/// Nobody looks.
#[derive(Debug)]
pub struct Unobserved;

impl Probe for Unobserved {}
