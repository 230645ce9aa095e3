#!/usr/bin/env python3
"""Data directories that Apache ZooKeeper wrote, read by the server under test, and the way back.

    checks.py [3x]KIND...     KIND as in ../server: apache, apache-3.5.10; 3x: an ensemble of three

Each directory goes to and fro between an Apache and the server under test. Whoever takes it over
must serve every node with the data, stat and ACL that its predecessor served, at the same zxid and
with the same sessions. Last line: "N passed, N failed".
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
import traceback
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import process
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.serialization import Create2, Transaction, long_struct
from kazoo.security import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, Id, make_digest_acl

UNDER_TEST = os.environ["FOREIGN_SERVER"]
CONTAINER, TTL = 4, 5
HOUR = 3_600_000
# No session may expire while a busy machine starts servers and reads everything; and only one that
# hangs lets anybody wait so long for an answer.
SESSION_SECONDS, PATIENCE_SECONDS = 240, 120
BOB = make_digest_acl("bob", "secret", all=True)


class Position(NamedTuple):
    zxid: int
    nodes: int
    sessions: frozenset
    wrong_digests: int


class CreateContainer(Create2):
    type = 19


class CreateTtl(Create2):
    """Its `data` is (data, ttl)."""

    type = 21

    def serialize(self):
        data, ttl = self.data
        return Create2(self.path, data, self.acl, self.flags).serialize() + long_struct.pack(ttl)


class Multi(Transaction):
    """Kazoo does not know the results of what kazoo cannot send."""

    @classmethod
    def deserialize(cls, answer, offset):
        return answer[offset:]


class World:
    """One data directory, and the server that runs on it."""

    def __init__(self, home, port=None):
        self.port, self.home = port or process.free_ports(1), pathlib.Path(home)
        self.config, self.data = self.home / "zoo.cfg", self.home / "data"
        self.server, self.lines = None, []
        self.home.mkdir(exist_ok=True)

    def run(self, kind, compression="", *properties):
        """Starts a server; its snapshots get this compression."""
        self.config.write_text(
            f"tickTime=2000\ndataDir={self.data}\nclientPort={self.port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nextendedTypesEnabled=true\n"
            "4lw.commands.whitelist=*\nsnapCount=200\npreAllocSize=1024\nmaxSessionTimeout=300000\n"
            f"snapshot.compression.method={compression}\n"
            + "".join(f"{line}\n" for line in self.lines)
        )
        os.environ["FOREIGN_SERVER"] = kind
        properties = ["-Dznode.container.checkIntervalMs=200", *properties]
        self.server = process.Server(
            self.port, self.config, self.home / f"{kind}.log", properties
        )
        self.server.start()

    def kill(self):
        if self.server and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()

    def client(self, **more):
        return connect([self.port], **more)

    def mode(self):
        """What its server is to the others, once it serves."""
        try:
            # An Apache may never answer what comes while it looks for a leader.
            found = re.search(b"Mode: (.*)", process.four_letter_word(self.port, b"srvr", 2))
        except OSError:
            found = None
        return found[1].decode() if found else ""

    def position(self):
        said = process.four_letter_word(self.port, b"dump").decode()
        # What follows are connections, of which an Apache forgets one a moment after its session.
        said, followed, _ = said.partition("Connections dump:")
        assert followed, said
        sessions = frozenset(re.findall("0x[0-9a-f]{2,}", said))
        said = process.four_letter_word(self.port, b"srvr").decode()
        zxid, nodes = (re.search(f"{name}: (.*)", said)[1] for name in ("Zxid", "Node count"))
        # Each transaction of 3.6 and later says what the whole tree's digest is behind it.
        said = process.four_letter_word(self.port, b"mntr").decode()
        found = re.search(r"zk_digest_mismatches_count\t(\d+)", said)
        wrong = int(found[1]) if found else 0
        # An Apache's snapshot may be one transaction ahead of its own digest section (see
        # Restore::compare). Another Apache counts that: the section's digest, and that of the
        # transaction at its zxid.
        if UNDER_TEST != "ringkeeper" and wrong <= 2:
            wrong = 0
        return Position(int(zxid, 16), int(nodes), sessions, wrong)

    def tree(self):
        """Every node with all that a client can see of it."""
        client, nodes, paths = self.client(), {}, ["/"]
        while paths:
            ask = client.get_async, client.get_acls_async, client.get_children_async
            asked = [(path, [one(path) for one in ask]) for path in paths]
            paths = []
            for path, answers in asked:
                node, acls, children = [answer.get(PATIENCE_SECONDS) for answer in answers]
                nodes[path] = *node, acls[0]
                paths += [f"{path.rstrip('/')}/{child}" for child in children]
        leave(client)
        return nodes

    def state(self):
        """What the next server must serve. The zxid last, since to read is to open a session."""
        return self.tree(), self.position()

    def newest_snapshot(self):
        """Its zxid, and how it is compressed."""
        names = [path.name.split(".") for path in self.data.glob("version-2/snapshot.*")]
        _, zxid, *compression = max(names, key=lambda name: int(name[1], 16))
        return int(zxid, 16), "".join(compression)


def connect(ports, **more):
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    auth = [("digest", "bob:secret")]
    client = KazooClient(hosts, **{"timeout": SESSION_SECONDS, "auth_data": auth, **more})
    client.start(PATIENCE_SECONDS)
    return client


def leave(client):
    client.stop()
    client.close()


def call(client, request):
    result = client.handler.async_result()
    client._call(request, result)
    return result


def fill(client, holder, at):
    """A history below the new node `at`."""
    client.create(at, b"")
    client.create(f"{at}/big", bytes(range(256)) * 2000)
    client.create(f"{at}/\u00fc \u4e2d", "\u00e4".encode())
    ours = [BOB, ACL(5, ANYONE_ID_UNSAFE), ACL(31, Id("ip", "127.0.0.0/8"))]
    client.create(f"{at}/sealed", b"x", acl=[BOB])
    client.create(f"{at}/shared", b"x", acl=ours)
    sealed = {"acl": [BOB], "sequence": True}
    calls = [client.create_async(f"{at}/sealed/n-", b"", **sealed) for _ in range(3)]
    # Null is not empty.
    calls.append(call(client, Create2(f"{at}/null", None, OPEN_ACL_UNSAFE, 0)))
    client.create(f"{at}/queue")
    calls += [client.create_async(f"{at}/queue/n-", b"%d" % i, sequence=True) for i in range(150)]
    calls += [client.delete_async(f"{at}/queue/n-%010d" % i) for i in range(0, 150, 2)]
    calls += [client.set_async(at, b"version %d" % i) for i in range(50)]
    # Quotas: the usage is kept up by the server, silently.
    client.ensure_path(f"/zookeeper/quota{at}/queue")
    client.create(f"/zookeeper/quota{at}/queue/zookeeper_limits", b"count=1000,bytes=-1")
    client.create(f"/zookeeper/quota{at}/queue/zookeeper_stats", b"count=0,bytes=0")
    calls += [client.create_async(f"{at}/queue/n-", b"%d" % i, sequence=True) for i in range(20)]

    create = CreateContainer(f"{at}/container", b"c", OPEN_ACL_UNSAFE, CONTAINER)
    calls.append(call(client, create))
    calls.append(call(client, create._replace(path=f"{at}/container/in")))
    calls.append(call(client, create._replace(path=f"{at}/container/in/empty")))
    calls.append(client.delete_async(f"{at}/container/in/empty"))
    create = CreateTtl(f"{at}/ttl", (b"t", HOUR), OPEN_ACL_UNSAFE, TTL)
    calls.append(call(client, create))
    calls.append(call(client, create._replace(path=f"{at}/gone", data=(b"t", 1))))
    extended = [
        create._replace(path=f"{at}/ttl2"),
        CreateContainer(f"{at}/container2", b"c", OPEN_ACL_UNSAFE, CONTAINER),
        Create2(f"{at}/container2/in", None, ours, 0),
    ]
    calls.append(call(client, Multi(extended)))

    holder.create(f"{at}/held", b"", ephemeral=True)
    holder.create(f"{at}/held-", b"", ephemeral=True, sequence=True)
    guest = KazooClient(f"127.0.0.1:{client.hosts[0][1]}", timeout=SESSION_SECONDS)
    guest.start(PATIENCE_SECONDS)
    for i in range(3):
        guest.create(f"{at}/guest-", b"%d" % i, ephemeral=True, sequence=True)
    leave(guest)

    many = client.transaction()
    many.create(f"{at}/multi", b"1")
    many.create(f"{at}/multi/a", b"2")
    many.check(f"{at}/multi", 0)
    many.create(f"{at}/multi/b-", b"2", sequence=True)
    many.set_data(f"{at}/multi", b"3")
    many.delete(f"{at}/queue/n-%010d" % 1)
    assert len(many.commit()) == 6
    for _ in range(3):
        lost = client.transaction()
        lost.delete(f"{at}/multi/a")
        lost.delete(f"{at}/none")
        assert isinstance(lost.commit()[1], NoNodeError)
    client.set_acls(f"{at}/multi/a", [make_digest_acl("bob", "secret", read=True, admin=True)])
    client.set_acls(f"{at}/multi", ours)
    for one in calls:
        one.get(PATIENCE_SECONDS)
    # Containers whose last child went and nodes whose time is up are removed by the server.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while client.exists(f"{at}/gone") or client.exists(f"{at}/container"):
        assert time.monotonic() < deadline, "the server does not remove containers"
        time.sleep(0.05)
    # What the snapshot does not hold.
    for i in range(5):
        client.set(f"{at}/null", b"%d" % i)


def same(expected, found):
    (expected, position), (found, found_position) = expected, found
    assert position == found_position, f"{position}\n{found_position}"
    assert sorted(expected) == sorted(found), sorted(set(expected) ^ set(found))
    for path, node in expected.items():
        assert node == found[path], f"{path}:\n{node}\n{found[path]}"


class Journey:
    """The way of one directory between the Apache `kind` and the server under test."""

    def __init__(self, home, kind):
        self.world, self.kind, self.turn = World(home), kind, 0
        self.holder = self.session = self.served = None

    def kill(self):
        self.world.kill()

    def fill(self):
        """Adds to the directory, and notes what its server serves now."""
        self.turn += 1
        client = self.world.client()
        fill(client, self.holder, f"/turn{self.turn}")
        leave(client)
        self.served = self.world.state()

    def takes_over(self, kind, compression=""):
        """The next server serves what the one before served, also to a session from then."""
        # The server is gone, so this does not end the session; but an Apache that starts while a
        # client tries to connect may leave that connection open and never answer.
        leave(self.holder)
        self.world.run(kind, compression)
        position = self.world.position()
        tree = self.world.tree()
        same(self.served, (tree, position))
        self.holder = self.world.client(client_id=self.session)
        held = self.holder.exists("/turn1/held")
        assert held.ephemeralOwner == self.holder.client_id[0] == self.session[0]
        self.served = tree, self.world.position()

    def refuses(self):
        """The Apache does not start from what a killed server under test left."""
        away = World(self.world.home / f"away{self.turn}")
        shutil.copytree(self.world.data, away.data)
        try:
            away.run(self.kind)
        except process.NotServing as told:
            assert "invalid magic number" in str(told), told
        else:
            raise AssertionError("it serves an older state")
        finally:
            away.kill()

    def logs_alone(self):
        """The logs from the first transaction on say the same without any snapshot."""
        alone = World(self.world.home / "alone")
        without = shutil.ignore_patterns("snapshot.*")
        shutil.copytree(self.world.data, alone.data, ignore=without)
        try:
            alone.run(UNDER_TEST, "", "-Dzookeeper.snapshot.trust.empty=true")
            position = alone.position()
            same(self.served, (alone.tree(), position))
        finally:
            alone.kill()

    def __iter__(self):
        """Yields after each check what it was."""
        kind, world = self.kind, self.world
        world.run(kind)
        self.holder = world.client()
        self.session = self.holder.client_id
        forgotten = world.client(timeout=SESSION_SECONDS + 50)
        # 3.5 has no compression.
        compressions = [""] if kind.startswith("apache-3.5.") else ["gz", "snappy", ""]
        for turn, compression in enumerate(compressions):
            older = world.newest_snapshot()
            self.fill()
            # Written by a thread of its own.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while world.newest_snapshot() <= older:
                assert time.monotonic() < deadline, "the server writes no snapshot"
                time.sleep(0.05)
            if turn == 0:
                assert len(self.served[1].sessions) == 2, self.served[1]
                world.kill()
                leave(forgotten)
                self.logs_alone()
                yield "its logs alone are read"
            else:
                world.server.stop()
            self.takes_over(UNDER_TEST, compression)
            yield "its directory is taken over"
            self.fill()
            world.kill()
            if UNDER_TEST == "ringkeeper":
                self.refuses()
                yield "Apache is kept away after a crash"
            self.takes_over(UNDER_TEST, compression)
            yield "ours goes on after a crash"
            world.server.stop()
            if UNDER_TEST == "ringkeeper":
                assert world.newest_snapshot() == (self.served[1].zxid, compression)
            self.takes_over(kind, compression)
            yield f"our snapshot {compression} is taken over"
        self.fill()
        world.kill()
        self.takes_over(UNDER_TEST)
        yield "ours takes over what it had given back"
        leave(self.holder)
        held = self.world.tree()
        assert not [path for path in held if "held" in path]
        yield "the session ends"


class Ensemble:
    """The README's way from three Apaches of one ensemble to one server under test, and back."""

    def __init__(self, home, kind):
        self.kind, self.session = kind, None
        base = process.free_ports(9)
        self.members = [World(home / f"member{i}", base + 3 * i) for i in range(3)]
        self.list = [
            f"server.{i}=127.0.0.1:{member.port + 1}:{member.port + 2}"
            for i, member in enumerate(self.members, 1)
        ]
        for i, member in enumerate(self.members, 1):
            member.data.mkdir()
            (member.data / "myid").write_text(f"{i}\n")

    def kill(self):
        for member in self.members:
            member.kill()

    def run(self, member, kind, listed):
        # With a dataLogDir, there are two directories to take and to copy.
        logs = f"dataLogDir={member.home / 'logs'}"
        member.lines = [logs, "initLimit=20", "syncLimit=20", *listed]
        member.run(kind, "", *["-Xmx256m"] * kind.startswith("apache"))

    def start(self, members):
        # Each serves only when it is in a quorum, so each waits for the others.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            started = [pool.submit(self.run, member, self.kind, self.list) for member in members]
            for one in started:
                one.result()

    @staticmethod
    def elected(members):
        """These members, the leader last, once there is one and the others follow it."""
        deadline = time.monotonic() + process.START_SECONDS
        while True:
            modes = {member: member.mode() for member in members}
            if sorted(modes.values()) == ["follower"] * (len(members) - 1) + ["leader"]:
                return sorted(members, key=modes.get)
            assert time.monotonic() < deadline, list(modes.values())
            time.sleep(0.05)

    @staticmethod
    def same(expected, found):
        # A member writes the list of members there when it starts, outside any transaction.
        for nodes, _ in expected, found:
            nodes.pop("/zookeeper/config", None)
        same(expected, found)

    def take_alone(self, member, served):
        """The server under test, on the directory of one member, serves what that served."""
        self.run(member, UNDER_TEST, [self.list[self.members.index(member)]])
        position = member.position()
        self.same(served, (member.tree(), position))

    def copy(self, source):
        """What every member had goes, and what `source` has takes its place."""
        for member in self.members:
            for version in "data/version-2", "logs/version-2":
                if member is not source:
                    shutil.rmtree(member.home / version)
                    shutil.copytree(source.home / version, member.home / version)

    def hold(self, members):
        """The session from the start, which must still have its ephemeral."""
        holder = connect([member.port for member in members], client_id=self.session)
        held = holder.exists("/turn1/held")
        assert held.ephemeralOwner == holder.client_id[0] == self.session[0]
        return holder

    def serve(self, members, tree, position):
        """Each member has all of it, and in a new epoch."""
        for member in members:
            found, now = member.state()
            assert now.zxid >> 32 > position.zxid >> 32, f"{position}\n{now}"
            self.same((tree, position._replace(zxid=now.zxid)), (found, now))

    def write(self, members):
        """What is written through each member comes to each."""
        clients = [member.client() for member in members]
        for member, client in zip(members, clients):
            client.create(f"/new{member.port}", b"new", acl=[BOB])
        for client in clients:
            client.sync("/")
            for member in members:
                assert client.get(f"/new{member.port}")[0] == b"new"
        for client in clients:
            leave(client)
        for member in members:
            assert member.position().wrong_digests == 0

    def __iter__(self):
        """Yields after each check what it was."""
        self.start(self.members)
        late, follower, leader = self.elected(self.members)
        holder = connect([leader.port])
        self.session = holder.client_id
        client = late.client()
        fill(client, holder, "/turn1")
        leave(client)
        # So that the members differ in what they have.
        late.server.stop()
        client = follower.client()
        fill(client, holder, "/turn2")
        leave(client)
        served = leader.state()
        assert leader.mode() == "leader"
        follower.server.stop()
        leader.server.stop()
        leave(holder)
        yield "an ensemble is filled"

        self.take_alone(leader, served)
        holder = self.hold([leader])
        yield "the leader's directory is taken over"

        client = leader.client()
        fill(client, holder, "/turn3")
        leave(client)
        served = leader.state()
        leader.server.stop()
        leave(holder)
        self.copy(leader)
        # The copies alone make a quorum and elect; whoever they were made of has to follow.
        copies = [member for member in self.members if member is not leader]
        self.start(copies)
        self.start([leader])
        members = self.elected(self.members)
        assert members[-1] is not leader
        self.serve(members, *served)
        yield "every member has what ours gave back"

        holder = self.hold(members)
        self.write(members)
        yield "the ensemble goes on"

        leave(holder)
        for member in members:
            held = member.tree()
            assert not [path for path in held if "held" in path]
        # Another member than the first time.
        leader = members[-1]
        served = leader.state()
        for member in members:
            member.server.stop()
        self.take_alone(leader, served)
        yield "ours takes over what it had given back"


def main(journeys):
    passed = failed = 0
    for name in journeys:
        started, done = time.monotonic(), "the start"
        with tempfile.TemporaryDirectory(prefix="foreign-") as home:
            way = Ensemble if name.startswith("3x") else Journey
            journey = way(pathlib.Path(home), name.removeprefix("3x"))
            try:
                for done in journey:
                    passed += 1
                    print(f"{name}: {done}")
            except Exception:
                failed += 1
                for log in pathlib.Path(home).rglob("*.log"):
                    print(f"--- {log} ---\n{log.read_text(errors='replace')}")
                # Behind the servers' logs, where it is found.
                print(f"FAILED {name}, after: {done}")
                traceback.print_exc(file=sys.stdout)
            finally:
                journey.kill()
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main(sys.argv[1:]))
