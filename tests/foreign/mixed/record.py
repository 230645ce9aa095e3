#!/usr/bin/env python3
"""Records what Apache ZooKeepers say to each other, for tests that replay it.

    record.py KIND DIRECTORY     KIND as in ../server, for instance apache

Three servers, of which the second leads, the first follows and the third observes, reach each other
through proxies. Files in DIRECTORY: `votes`, on the connection of the second to the first one's
election port; `follower` and `observer`, on their connections to the leader's quorum port. Then the
third one votes, leads, and comes back: `trunc`, when it has logged what nobody else has, and `snap`,
when it has nothing any more. A line that begins with > is a message of the one that connected, with
< an answer; what is indented goes on. A PING that only repeats another one is left out. The database
behind a SNAP is one message.
"""

import os
import pathlib
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import process
from kazoo.client import KazooClient

PING, SNAP = 5, 15
PATIENCE_SECONDS = 240
COLUMNS = 96


class Proxy:
    """Passes connections on to another port, and keeps what was said on the last of them. A port in
    what is said may be exchanged for another one."""

    def __init__(self, port, target, exchange=("-", "-")):
        self.target, self.said = target, []
        self.exchange = [b":%s" % str(one).encode() for one in exchange]
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            said = self.said = []
            for side, out, back in (">", near, far), ("<", far, near):
                threading.Thread(
                    target=self.pump, args=(said, side, out, back), daemon=True
                ).start()

    def pump(self, said, side, source, target):
        try:
            while part := source.recv(65536):
                part = part.replace(*self.exchange)
                said.append((side, part))
                target.sendall(part)
        except OSError:
            pass
        for end in source, target:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def messages(said, length):
    """Whole messages with their sides, in the order in which they ended; `length` says how many
    bytes the first one takes of what is there, or None."""
    rest = {">": b"", "<": b""}
    for side, part in said:
        rest[side] += part
        while (count := length(side, rest[side])) and count <= len(rest[side]):
            yield side, rest[side][:count]
            rest[side] = rest[side][count:]


def packet_length(_, there):
    """Of a QuorumPacket: type, zxid, data, and identities."""
    try:
        (count,) = struct.unpack_from(">i", there, 12)
        at = 16 + max(count, 0)
        (identities,) = struct.unpack_from(">i", there, at)
        at += 4
        for _ in range(2 * max(identities, 0)):
            (count,) = struct.unpack_from(">i", there, at)
            at += 4 + max(count, 0)
        return at
    except struct.error:
        return None


class Packets:
    """Lengths on a quorum port: packets, and a database behind a SNAP."""

    END = b"\0\0\0\x0aBenWasHere"

    def __init__(self):
        self.is_database = False

    def __call__(self, side, there):
        if self.is_database and side == "<":
            at = there.find(self.END)
            self.is_database = at < 0
            return None if at < 0 else at + len(self.END)
        length = packet_length(side, there)
        if length and length <= len(there):
            self.is_database |= struct.unpack_from(">i", there) == (SNAP,)
        return length


class Votes:
    """Lengths on an election port: a hello, then votes with their lengths before them."""

    def __init__(self):
        self.has_greeted = False

    def __call__(self, side, there):
        if side == ">" and not self.has_greeted:
            self.has_greeted = len(there) >= 20
            return 20 + struct.unpack_from(">i", there, 16)[0] if self.has_greeted else None
        return 4 + struct.unpack_from(">i", there)[0] if len(there) >= 4 else None


def without_repeated_pings(found):
    seen = set()
    for side, message in found:
        is_ping = struct.unpack_from(">i", message) == (PING,)
        # The number of the last transaction says nothing new.
        key = side, message[12:]
        if not is_ping or key not in seen:
            yield side, message
        if is_ping:
            seen.add(key)


def write(file, found):
    lines = []
    for side, message in found:
        text = message.hex()
        lines += [
            f"{side if at == 0 else ' '} {text[at:at + COLUMNS]}"
            for at in range(0, len(text), COLUMNS)
        ]
    file.write_text("\n".join([*lines, ""]))


class Servers:
    def __init__(self, home, kind, observers=()):
        self.home, self.observers = home, observers
        self.base = process.free_ports(20)
        self.servers = []
        self.votes = Proxy(self.base + 16, self.port(1, 2))
        # The second connects to where the first one says that it is.
        Proxy(self.base + 19, self.port(2, 2), (self.port(1, 2), self.base + 16))
        self.follower = Proxy(self.base + 17, self.port(2, 1))
        self.observer = Proxy(self.base + 18, self.port(2, 1))
        for sid in 1, 2, 3:
            own = home / str(sid)
            (own / "data").mkdir(parents=True)
            (own / "data/myid").write_text(f"{sid}\n")
            config = own / "zoo.cfg"
            config.write_text(
                f"dataDir={own / 'data'}\ntickTime=500\ninitLimit=40\nsyncLimit=20\n"
                "admin.enableServer=false\n4lw.commands.whitelist=*\n"
                + "".join(self.line(sid, other) for other in (1, 2, 3))
            )
            environment = dict(os.environ, FOREIGN_SERVER=kind)
            client = self.port(sid, 0)
            server = process.Server(client, config, own / "log", ["-Xmx256m"], environment)
            self.servers.append(server)

    def port(self, sid, which):
        """0 for clients, 1 for learners, 2 for votes."""
        return self.base + 4 * sid + which

    def line(self, reader, sid):
        """What the configuration of `reader` says of a server."""
        quorum, votes = self.port(sid, 1), self.port(sid, 2)
        if (reader, sid) == (2, 1):
            votes = self.base + 16
        if (reader, sid) == (1, 2):
            votes = self.base + 19
        if sid == 2 and reader != 2:
            quorum = self.base + (17 if reader == 1 else 18)
        role = ":observer" * (sid in self.observers)
        return f"server.{sid}=127.0.0.1:{quorum}:{votes}{role};127.0.0.1:{self.port(sid, 0)}\n"

    def start(self, modes):
        for sid in modes:
            self.servers[sid - 1].launch()
        for sid, mode in modes.items():
            port = self.port(sid, 0)
            until(f"no {mode}", lambda: process.mode(port) == mode)

    def client(self, sid, **more):
        client = KazooClient(f"127.0.0.1:{self.port(sid, 0)}", timeout=60, **more)
        client.start(PATIENCE_SECONDS)
        return client

    def kill(self):
        for server in self.servers:
            server.kill()

    def has_logged(self, sid, path):
        logs = (self.home / str(sid) / "data/version-2").glob("log.*")
        return any(path.encode() in log.read_bytes() for log in logs)


def until(what, is_so):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def use(servers):
    """Some of everything, by clients of the follower and of the observer."""
    client = servers.client(1)
    client.create("/a", b"one")
    client.set("/a", b"two")
    client.sync("/")
    many = client.transaction()
    many.create("/b", b"")
    many.check("/a", 1)
    many.delete("/b")
    many.commit()
    lost = client.transaction()
    lost.create("/c", b"")
    lost.check("/a", 9)
    lost.commit()
    client.create("/e", ephemeral=True)
    moved = servers.client(1, client_id=client.client_id)
    moved.stop()
    moved.close()
    client.stop()
    client.close()
    other = servers.client(3)
    other.create("/o", b"x", ephemeral=True)
    other.delete("/a")
    other.stop()
    other.close()
    # PINGs with the sessions that were used, and without any.
    time.sleep(2)


def roles(servers):
    """The recordings of a server in each role."""
    servers.start({1: "follower", 2: "leader", 3: "observer"})
    use(servers)
    servers.kill()
    yield "votes", messages(servers.votes.said, Votes())
    yield "follower", packets(servers.follower)
    yield "observer", packets(servers.observer)


def returns(servers):
    """The recordings of the third server, which comes back."""
    first, second, third = servers.servers
    servers.start({1: "follower", 3: "leader"})
    servers.start({2: "follower"})
    lead, follow = servers.client(3), servers.client(2)
    lead.create("/all")
    follow.sync("/")
    for server in first, second:
        server.process.send_signal(signal.SIGSTOP)
    lead.create_async("/tail")
    lead.create_async("/tail/more")
    until("no longer log", lambda: servers.has_logged(3, "/tail/more"))
    servers.kill()
    for client in lead, follow:
        client.stop()
        client.close()

    # An Apache truncates nobody whom it has to send something of its own epoch.
    servers.start({1: "follower", 2: "leader"})
    servers.start({3: "follower"})
    client = servers.client(2)
    client.create("/later", b"x", ephemeral=True)
    until("no transaction", lambda: servers.has_logged(3, "/later"))
    yield "trunc", packets(servers.observer)

    third.kill()
    shutil.rmtree(servers.home / "3/data/version-2")
    servers.start({3: "follower"})
    client.create("/last")
    client.set("/last", b"1")
    until("no transaction", lambda: servers.has_logged(3, "/last"))
    yield "snap", packets(servers.observer)
    client.stop()
    client.close()


def packets(proxy):
    return without_repeated_pings(messages(list(proxy.said), Packets()))


def main(kind, directory):
    for script, observers in (roles, [3]), (returns, []):
        with tempfile.TemporaryDirectory(prefix="foreign-") as home:
            servers = Servers(pathlib.Path(home), kind, observers)
            try:
                for name, found in script(servers):
                    write(pathlib.Path(directory) / name, found)
            finally:
                servers.kill()
    os._exit(0)


main(*sys.argv[1:])
