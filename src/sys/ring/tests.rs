//! The ring over real sockets.

use super::*;
use crate::sys::net;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

fn echo(lane: Lane, multishot: bool) {
    let options = RingOptions { entries: 8, multishot, buffers: 4, buffer_size: 16 };
    let mut ring = Ring::new(options).unwrap();
    ring.add_first_buffers(4).unwrap();
    let next = if lane == Lane::First { Ring::next_first } else { Ring::next_completion };
    let listener = net::listen(&SocketAddr::from(([127, 0, 0, 1], 0)), 16, 1).unwrap().remove(0);
    let address = net::local_addr(&listener).unwrap();
    ring.accept(lane, listener.as_raw_fd(), 1).unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let message: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        stream.write_all(&message).unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(message, back);
    });
    let mut socket = None;
    'serve: loop {
        ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        while let Some(completion) = next(&mut ring) {
            match completion {
                Completion::Accepted { result, .. } => {
                    let fd = net::adopt(result.unwrap());
                    ring.recv(lane, fd.as_raw_fd(), 2).unwrap();
                    socket = Some(fd);
                }
                Completion::Received { result, more, .. } => {
                    let fd = socket.as_ref().unwrap().as_raw_fd();
                    match result {
                        Ok(None) => break 'serve,
                        Ok(Some(bytes)) => {
                            let copy = ring.bytes(&bytes).to_vec();
                            ring.release(bytes);
                            ring.send(lane, fd, copy, 0, 3).unwrap();
                        }
                        Err(e) => assert_eq!(e.raw_os_error(), Some(libc::ENOBUFS)),
                    }
                    if !more {
                        ring.recv(lane, fd, 2).unwrap();
                    }
                }
                Completion::Sent { result, buf, .. } => assert_eq!(result.unwrap(), buf.len()),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    client.join().unwrap();
}

#[test]
fn echoes_with_multishot_and_provided_buffers() {
    echo(Lane::Common, true);
    echo(Lane::First, true);
}

#[test]
fn echoes_without_multishot() {
    echo(Lane::Common, false);
    echo(Lane::First, false);
}

/// A ring, both ends of a connection, and the ring's end registered nowhere.
fn pair() -> (Ring, TcpStream, TcpStream) {
    let options = RingOptions { entries: 8, multishot: true, buffers: 4, buffer_size: 16 };
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Ring::new(options).unwrap(), listener.accept().unwrap().0, far)
}

#[test]
fn the_end_of_a_stream_takes_no_buffer() {
    let (mut ring, near, mut far) = pair();
    type Receive = fn(&mut Ring, Lane, RawFd, u64) -> io::Result<OpId>;
    for receive in [Ring::recv as Receive, Ring::recv_once] {
        for token in 0..5 {
            let (near, _) = UnixStream::pair().unwrap();
            receive(&mut ring, Lane::Common, near.as_raw_fd(), token).unwrap();
            ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
            let ended = ring.next_completion();
            let Some(Completion::Received { result: Ok(None), more: false, .. }) = ended else {
                panic!("unexpected {ended:?}")
            };
        }
    }
    // All four are there.
    far.write_all(&[1; 64]).unwrap();
    for token in 0..4 {
        ring.recv_once(Lane::Common, near.as_raw_fd(), token).unwrap();
        ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        let received = ring.next_completion();
        let Some(Completion::Received { result: Ok(Some(bytes)), .. }) = received else {
            panic!("unexpected {received:?}")
        };
        assert_eq!(ring.bytes(&bytes), [1; 16]);
    }
}

fn sent_tokens(ring: &mut Ring) -> Vec<u64> {
    let mut tokens = Vec::new();
    while let Some(completion) = ring.next_completion() {
        let Completion::Sent { token, result, .. } = completion else {
            panic!("unexpected {completion:?}")
        };
        assert_eq!(result.unwrap(), 1);
        tokens.push(token);
    }
    tokens
}

#[test]
fn more_completions_than_their_queue_holds_are_all_handed_out() {
    let (mut ring, near, _far) = pair();
    // The queue holds 32.
    for token in 0..500 {
        ring.send(Lane::Common, near.as_raw_fd(), vec![1], 0, token).unwrap();
    }
    let mut tokens = Vec::new();
    while tokens.len() < 500 {
        ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        tokens.extend(sent_tokens(&mut ring));
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (0..500).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_kernel_that_takes_nothing_before_its_completions_are_taken_goes_on() {
    let busy = || Err(io::Error::from_raw_os_error(libc::EBUSY));
    let (mut ring, near, _far) = pair();
    for token in 0..4 {
        ring.send(Lane::Common, near.as_raw_fd(), vec![1], 0, token).unwrap();
    }
    ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
    let mut fruitless = 5;
    ring.after_submit(busy(), &mut fruitless).unwrap();
    assert_eq!(fruitless, 0);
    assert!(ring.uring.completion().is_empty(), "the kernel has room");
    assert_eq!(sent_tokens(&mut ring), [0, 1, 2, 3]);
    // Without completions to take there is an end to it.
    for _ in 0..FRUITLESS_MAX {
        ring.after_submit(busy(), &mut fruitless).unwrap();
    }
    let error = ring.after_submit(busy(), &mut fruitless).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    let other = Err(io::Error::from_raw_os_error(libc::ENOMEM));
    assert!(ring.after_submit(other, &mut 0).is_err());
}

#[test]
fn what_is_begun_in_the_first_lane_is_held_up_by_nothing_of_the_other() {
    let (mut ring, near, _far) = pair();
    for token in 0..20 {
        ring.send(Lane::Common, near.as_raw_fd(), vec![1], 0, token).unwrap();
    }
    ring.send(Lane::First, near.as_raw_fd(), vec![2], 0, 77).unwrap();
    while ring.first.is_empty() {
        ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        ring.gather();
    }
    let first = ring.next_first();
    assert!(matches!(first, Some(Completion::Sent { token: 77, .. })), "{first:?}");
    assert!(ring.next_first().is_none());
    // The completions of the other lane are all there, in order, also once some are taken.
    let mut tokens = Vec::new();
    while let Some(Completion::Sent { token, .. }) = ring.next_completion() {
        tokens.push(token);
        ring.gather();
    }
    assert_eq!(tokens, (0..20).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 0);
}

/// The kernel hands them over in portions, and nobody waits in between.
#[test]
fn everything_that_has_arrived_is_found_after_one_wait() {
    const COUNT: usize = 100;
    let options = RingOptions { entries: 256, multishot: true, buffers: 128, buffer_size: 16 };
    let mut ring = Ring::new(options).unwrap();
    let pairs: Vec<_> = (0..COUNT).map(|_| UnixStream::pair().unwrap()).collect();
    for (near, _) in &pairs {
        ring.recv_once(Lane::Common, near.as_raw_fd(), 1).unwrap();
    }
    ring.submit().unwrap();
    for (_, far) in &pairs {
        (&*far).write_all(b"x").unwrap();
    }
    ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
    let found = std::iter::from_fn(|| ring.next_completion());
    assert_eq!(found.count(), COUNT);
}

#[test]
fn receives_that_use_up_the_buffers_of_one_lane_leave_those_of_the_other() {
    let (mut ring, near, mut far) = pair();
    ring.add_first_buffers(4).unwrap();
    let (_, member, mut far_member) = pair();
    ring.recv(Lane::Common, near.as_raw_fd(), 1).unwrap();
    ring.recv(Lane::First, member.as_raw_fd(), 2).unwrap();
    far.write_all(&[7; 1000]).unwrap();
    let mut held = Vec::new();
    let mut is_starved = false;
    while !is_starved {
        ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
        while let Some(Completion::Received { result, .. }) = ring.next_completion() {
            match result {
                Ok(bytes) => held.push(bytes),
                Err(e) => is_starved = may_receive_again(&e),
            }
        }
    }
    far_member.write_all(b"a vote").unwrap();
    ring.submit_and_wait(Some(Duration::from_secs(10))).unwrap();
    let Some(Completion::Received { result: Ok(Some(bytes)), .. }) = ring.next_first() else {
        panic!("the first lane has no buffer")
    };
    assert_eq!(ring.bytes(&bytes), b"a vote");
    ring.release(bytes);
    assert_eq!(held.len(), 4, "all buffers of the other lane are in use");
}
