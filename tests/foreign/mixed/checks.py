#!/usr/bin/env python3
"""Ensembles of servers under test and Apache ZooKeepers.

    checks.py [--rounds N] KIND...     KIND as in ../server: apache, apache-3.8.6

Clients write through every member while members are killed and come back, and each member leads
once; observers of both kinds; an ensemble of Apaches becomes one of servers under test, member by
member, and goes back, N times. No acknowledged write may be lost, no session may expire, and all
members must serve the same nodes in the end. Last line: "N passed, N failed".
"""

import argparse
import logging
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import process
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.protocol.states import KazooState
from kazoo.security import make_digest_acl

# A server that is killed is no news.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)
UNDER_TEST = os.environ["FOREIGN_SERVER"]
# No session may expire while a busy machine starts servers; only a server that hangs lets anybody
# wait so long for an answer.
SESSION_SECONDS, PATIENCE_SECONDS = 180, 240
# An Apache may leave a word that comes while it starts without any answer.
WORD_SECONDS = 2
BOB = make_digest_acl("bob", "secret", all=True)
# The connection broke while the request was under way: nobody knows whether it was done.
UNKNOWN = ConnectionLoss, ConnectionClosedError, OperationTimeoutError, SessionExpiredError


def until(what, condition):
    """Waits until the condition holds, and returns what it gave."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
    return found


def leave(client):
    client.stop()
    client.close()


class Member:
    """One server of the ensemble."""

    def __init__(self, home, sid, kind, base, is_observer):
        self.sid, self.kind, self.port = sid, kind, base + 3 * sid
        self.is_observer = is_observer
        self.home = home / str(sid)
        self.data, self.server = self.home / "data", None
        self.data.mkdir(parents=True)
        (self.data / "myid").write_text(f"{sid}\n")

    def __repr__(self):
        return f"{self.sid} ({self.kind})"

    def line(self):
        ports = f"127.0.0.1:{self.port + 1}:{self.port + 2}"
        role = ":observer" * self.is_observer
        return f"server.{self.sid}={ports}{role};127.0.0.1:{self.port}"

    def is_apache(self):
        return self.kind.startswith("apache")

    def configure(self, members):
        (self.home / "zoo.cfg").write_text(
            f"dataDir={self.data}\ntickTime=500\ninitLimit=40\nsyncLimit=20\n"
            "maxSessionTimeout=600000\nmaxClientCnxns=0\nadmin.enableServer=false\n"
            "4lw.commands.whitelist=*\nsnapCount=2000\npreAllocSize=1024\n"
            + "".join(f"{member.line()}\n" for member in members)
        )

    def launch(self):
        """Starts the process. It serves when there is a quorum."""
        environment = dict(os.environ, FOREIGN_SERVER=self.kind)
        # It says of each transaction whether its tree has the digest that the leader states.
        properties = ["-Xmx256m", "-Dforeign.digests=DEBUG"] * self.is_apache()
        config, log = self.home / "zoo.cfg", self.home / "server.log"
        self.server = process.Server(self.port, config, log, properties, environment)
        self.server.launch()

    def address(self):
        return f"127.0.0.1:{self.port}"

    def runs(self):
        return self.server is not None and self.server.process.poll() is None

    def pause(self):
        """Stops the process where it is. A thread of it may run on until the signal has arrived."""
        self.server.process.send_signal(signal.SIGSTOP)
        tasks = pathlib.Path(f"/proc/{self.server.process.pid}/task")
        state = re.compile(r"^State:\s+T", re.MULTILINE)
        until(
            f"{self} stands still",
            lambda: all(state.search(task.read_text()) for task in tasks.glob("*/status")),
        )

    def kill(self):
        if self.runs():
            self.server.process.kill()
            self.server.process.wait()

    def end(self):
        """Stops the process as an operator does."""
        self.server.process.terminate()
        self.server.stop()
        code = self.server.process.returncode
        assert self.is_apache() or code == 0, f"{self} ended with {code}"

    def digests(self, verdict):
        """How many transactions had a digest that matched (`are matching`), or `are not matching`,
        since the server was started for the first time."""
        return (self.home / "server.log").read_text(errors="replace").count(f"Digests {verdict}")

    def empty(self):
        shutil.rmtree(self.data / "version-2")

    def word(self, word):
        try:
            return process.four_letter_word(self.port, word, WORD_SECONDS).decode()
        except OSError:
            return ""

    def mode(self):
        found = re.search("Mode: (.*)", self.word(b"srvr"))
        return found[1].strip() if found else ""

    def client(self, **more):
        more = {"timeout": SESSION_SECONDS, **more}
        client = KazooClient(self.address(), **more)
        client.start(PATIENCE_SECONDS)
        return client

    def tree(self):
        """Every node with all that a client can see of it. A member sets the list of members
        itself, outside any transaction."""
        client, nodes, paths = self.client(auth_data=[("digest", "bob:secret")]), {}, ["/"]
        client.sync("/")
        while paths:
            ask = client.get_async, client.get_acls_async, client.get_children_async
            asked = [(path, [one(path) for one in ask]) for path in paths]
            paths = []
            for path, answers in asked:
                node, acls, children = [answer.get(PATIENCE_SECONDS) for answer in answers]
                nodes[path] = *node, acls[0]
                paths += [f"{path.rstrip('/')}/{child}" for child in children]
        leave(client)
        nodes.pop("/zookeeper/config", None)
        return nodes


class Everywhere:
    """Where a client may be that knows all members."""

    sid = 0

    def __init__(self, members):
        self.members = members

    def address(self):
        return ",".join(member.address() for member in self.members)

    def __repr__(self):
        return "any member"


class Load:
    """A client of each member, and one of all, that write and note what they know of each node's
    fate."""

    def __init__(self, members, at):
        places = [*members, Everywhere(members)]
        self.ending, self.count = threading.Event(), dict.fromkeys(places, 0)
        self.here, self.gone, self.both, self.value = set(), set(), [], {}
        self.lost, self.wrong = [], []
        client = members[0].client()
        for place in places:
            client.ensure_path(f"{at}/{place.sid}")
        leave(client)
        for place in places:
            self.value[f"{at}/{place.sid}"] = 0
        self.threads = [
            threading.Thread(target=self.write, args=(place, f"{at}/{place.sid}"))
            for place in places
        ]
        for thread in self.threads:
            thread.start()

    def write(self, place, home):
        patience = {"max_tries": -1, "delay": 0.05, "max_delay": 0.5}
        client = KazooClient(place.address(), timeout=SESSION_SECONDS, connection_retry=patience)
        client.add_listener(lambda state: self.listen(state, place))
        client.start_async()
        rng, number = random.Random(place.sid), 0
        steps = self.create, self.set, self.delete, self.multi, self.ephemeral, self.sync
        while not self.ending.wait(0.005):
            if not client.connected:
                continue
            number += 1
            try:
                rng.choice(steps)(client, home, number)
                self.count[place] += 1
            except UNKNOWN:
                pass
            except Exception as wrong:
                self.wrong.append(f"{place}: {wrong!r}")
        leave(client)

    def listen(self, state, place):
        if state == KazooState.LOST and not self.ending.is_set():
            self.lost.append(str(place))

    def create(self, client, home, number):
        path = f"{home}/n{number}"
        client.create(path, b"%d" % number)
        self.here.add(path)

    def set(self, client, home, number):
        client.set(home, b"%d" % number)
        self.value[home] = number

    def delete(self, client, home, number):
        path = f"{home}/d{number}"
        client.create(path)
        client.delete(path)
        self.gone.add(path)

    def multi(self, client, home, number):
        one, other = f"{home}/m{number}", f"{home}/o{number}"
        self.both.append((one, other))
        many = client.transaction()
        many.create(one)
        many.create(other)
        many.set_data(home, b"%d" % number)
        failed = [result for result in many.commit() if isinstance(result, Exception)]
        if any(isinstance(result, UNKNOWN) for result in failed):
            return
        assert not failed, failed
        self.here.update((one, other))
        self.value[home] = number

    def ephemeral(self, client, home, _):
        client.create(f"{home}/e-", ephemeral=True, sequence=True)

    def sync(self, client, home, _):
        """Behind a sync there is what was acknowledged before; writes of others go on meanwhile."""
        behind = [client.create_async(f"{home}/s-", sequence=True) for _ in range(20)]
        client.sync("/")
        assert int(client.get(home)[0] or 0) >= self.value[home]
        for one in behind:
            one.get(PATIENCE_SECONDS)

    def goes_on(self, members):
        """Every one of these members acknowledges more than it has until now."""
        before = {member: self.count[member] for member in members}
        until(
            f"writes through {members}",
            lambda: all(self.count[member] > before[member] for member in members),
        )

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def judge(self, nodes):
        assert not self.wrong, self.wrong
        assert not self.lost, f"sessions were lost: {self.lost}"
        missing = sorted(self.here - nodes.keys())
        assert not missing, f"{len(missing)} acknowledged writes are lost: {missing[:9]}"
        back = sorted(self.gone & nodes.keys())
        assert not back, f"what was deleted is back: {back[:9]}"
        halves = [pair for pair in self.both if len(nodes.keys() & set(pair)) == 1]
        assert not halves, f"half of a multi was done: {halves[:9]}"
        for path, value in self.value.items():
            assert int(nodes[path][0] or 0) >= value, f"{path} went back before {value}"
        left = [path for path in nodes if path.startswith("/load") and "/e-" in path]
        assert not left, f"ephemerals outlive their sessions: {left[:9]}"


class Ensemble:
    """Servers of these kinds, from number 1 on: those that vote, and those that observe."""

    def __init__(self, home, voters, observers):
        kinds = [*voters, *observers]
        base = process.free_ports(3 * len(kinds) + 3)
        self.members = [
            Member(home, sid, kind, base, sid > len(voters)) for sid, kind in enumerate(kinds, 1)
        ]
        for member in self.members:
            member.configure(self.members)

    def kill(self):
        for member in self.members:
            member.kill()

    def running(self):
        return [member for member in self.members if member.runs()]

    def others(self, one):
        return [member for member in self.members if member is not one]

    def leader(self):
        """The member that leads, once all that run serve."""

        def elected():
            modes = {member: member.mode() for member in self.running()}
            leaders = [member for member, mode in modes.items() if mode == "leader"]
            serve = all(
                mode == ("observer" if member.is_observer else "follower")
                for member, mode in modes.items()
                if member not in leaders
            )
            return leaders if serve and len(leaders) == 1 else []

        return until("one leader, and members that serve", elected)[0]

    def launch(self, *members):
        for member in members:
            member.launch()
        return self.leader()

    def same(self, are_digests_right=True):
        """What all members serve. An Apache that gets its database from an Apache compares too
        early: it was seen to find another digest behind each transaction whose effects the database
        showed already. Others find none."""
        first, *others = self.members
        nodes = first.tree()
        for member in others:
            found = member.tree()
            differ = [
                f"{path}: {first}: {nodes.get(path)}, {member}: {found.get(path)}"
                for path in sorted(nodes.keys() | found.keys())
                if nodes.get(path) != found.get(path)
            ]
            assert not differ, differ[:9]
        for member in self.members:
            figures = until(f"figures of {member}", lambda: member.word(b"mntr"))
            wrong = re.search(r"zk_digest_mismatches_count\t(\d+)", figures)
            has_found = wrong[1] != "0" or member.digests("are not matching")
            assert not (are_digests_right and has_found), f"{member} has had another tree"
        return nodes

    def works(self, at):
        """Whatever is done through one member is seen through each, and by its watches."""
        clients = {member: member.client() for member in self.members}
        clients[self.members[0]].create(at)
        for member in self.members:
            for other in self.members:
                self.pair(clients[member], clients[other], f"{at}/{member.sid}-{other.sid}")
        for member in self.members:
            for other in self.others(member):
                self.session_moves(member, other, f"{at}/{member.sid}-{other.sid}/held")
        for client in clients.values():
            leave(client)

    def pair(self, client, other, path):
        """The second looks on while the first writes."""
        seen, events = [], threading.Event()

        def look(event):
            seen.append(event.type)
            events.set()

        def sees(*expected):
            assert events.wait(PATIENCE_SECONDS) and seen == [*expected], (path, seen)
            seen.clear()
            events.clear()

        assert other.exists(path, watch=look) is None
        client.create(path, b"1")
        sees("CREATED")
        other.sync("/")
        assert other.get(path, watch=look)[0] == b"1"
        many = client.transaction()
        many.check(path, 0)
        many.set_data(path, b"2")
        many.create(f"{path}/in")
        assert not [one for one in many.commit() if isinstance(one, Exception)]
        sees("CHANGED")
        lost = client.transaction()
        lost.delete(f"{path}/in")
        lost.check(path, 7)
        assert isinstance(lost.commit()[1], BadVersionError)
        for wrong, call in [
            (NodeExistsError, lambda: client.create(path)),
            (BadVersionError, lambda: client.set(path, b"", version=7)),
            (NoNodeError, lambda: client.delete(f"{path}/none")),
        ]:
            try:
                call()
                raise AssertionError(f"no {wrong}")
            except wrong:
                pass
        client.create(f"{path}/sealed", acl=[BOB])
        try:
            client.set(f"{path}/sealed", b"x")
            raise AssertionError("an ACL is not kept")
        except NoAuthError:
            pass
        other.sync("/")
        assert other.get(path)[0] == b"2" and other.exists(f"{path}/in")

    def session_moves(self, member, other, path):
        """A session goes on at another member, has its ephemeral there, and ends there."""
        client = member.client()
        client.create(path, ephemeral=True)
        moved = other.client(client_id=client.client_id)
        assert moved.client_id[0] == client.client_id[0]
        moved.create(f"{path}-too", ephemeral=True)
        assert moved.exists(path).ephemeralOwner == moved.client_id[0]
        leave(moved)
        # Its session has ended by another connection.
        leave(client)
        watcher = member.client()
        watcher.sync("/")
        assert not watcher.exists(path) and not watcher.exists(f"{path}-too")
        leave(watcher)

    def leaves_tail(self, at):
        """The leader has logged what nobody else has, and all are killed."""
        leader = self.leader()
        others = self.others(leader)
        client = leader.client()
        client.create(at)
        client.sync("/")
        for other in others:
            other.pause()
        tail = [client.create_async(f"{at}/{number}") for number in range(20)]
        # Whoever is not heard of when the log has these is killed before it hears of them.
        until("a longer log", lambda: leader_logged(leader, f"{at}/19"))
        assert not [one for one in tail if one.ready()]
        for member in self.members:
            member.kill()
        leave(client)
        return leader

    def tail_is_taken_back(self, at):
        """The leader has logged what nobody else has, and comes back when others have led."""
        leader = self.leaves_tail(at)
        others = self.others(leader)
        self.launch(*others)
        client = others[0].client()
        client.create(f"{at}/later")
        leave(client)
        self.launch(leader)
        nodes = self.same()
        found = [path for path in nodes if path.startswith(f"{at}/")]
        assert found == [f"{at}/later"], found
        return leader


def take_over(ensemble, second, apache, path):
    """The leader is killed, and an Apache leads, also when it is back."""
    second.kill()
    # All have the same history, so the largest id wins.
    assert ensemble.leader() is apache
    assert ensemble.launch(second) is apache
    ensemble.works(path)
    ensemble.same()


def kills(ensemble, _):
    """Each member leads once, is killed, and is emptied, while clients write."""
    first, second, apache = ensemble.members
    assert ensemble.launch(first, second) is second
    assert ensemble.launch(apache) is second
    ensemble.works("/follows")
    ensemble.same()
    assert apache.digests("are matching"), f"{apache} was told no digest"
    yield "an Apache follows"

    take_over(ensemble, second, apache, "/leads")
    yield "an Apache leads"

    load = Load(ensemble.members, "/load")
    for _ in range(3):
        leader = ensemble.leader()
        leader.kill()
        load.goes_on(ensemble.others(leader))
        ensemble.launch(leader)
        load.goes_on(ensemble.members)
    yield "leaders are killed under load"

    for member in ensemble.members:
        member.kill()
        load.goes_on([other for other in ensemble.running() if other is not member])
        ensemble.launch(member)
        load.goes_on(ensemble.members)
    yield "each member is killed under load"

    for member in ensemble.members:
        member.kill()
        ensemble.leader()
        member.empty()
        ensemble.launch(member)
        load.goes_on(ensemble.members)
    load.end()
    load.judge(ensemble.same())
    yield "each member comes back without its data, and nothing is lost"

    # What a majority has decides: the second lacks it, so the first leads.
    second.kill()
    client = first.client()
    client.create("/only", b"two have it")
    client.sync("/")
    leave(client)
    apache.kill()
    assert ensemble.launch(second) is first
    assert ensemble.launch(apache) is first
    ensemble.works("/first")
    yield "the other one leads"

    assert ensemble.tail_is_taken_back("/tail") is first
    first.kill()
    assert ensemble.leader() is apache
    ensemble.launch(first)
    assert ensemble.tail_is_taken_back("/tail2") is apache
    yield "a tail is taken back, by either"

    for member in ensemble.members:
        member.server.process.terminate()
    for member in ensemble.members:
        member.server.stop()
    ensemble.launch(*ensemble.members)
    ensemble.works("/again")
    ensemble.same()
    yield "all end and start again"


def observers(ensemble, _):
    """An Apache and a server under test observe leaders of both kinds."""
    _, second, apache, theirs, _ = ensemble.members
    assert ensemble.launch(*ensemble.members[:2]) is second
    assert ensemble.launch(*ensemble.members[2:]) is second
    ensemble.works("/observed")
    ensemble.same()
    assert theirs.digests("are matching"), f"{theirs} was told no digest"
    yield "observers of a leader under test"

    take_over(ensemble, second, apache, "/observed-too")
    yield "observers of an Apache"

    load = Load(ensemble.members, "/load")
    for _ in range(2):
        for member in ensemble.members[3:]:
            member.kill()
            load.goes_on(ensemble.running())
            ensemble.launch(member)
            load.goes_on(ensemble.members)
            if not (member.is_apache() and ensemble.leader().is_apache()):
                member.kill()
                member.empty()
                ensemble.launch(member)
                load.goes_on(ensemble.members)
        leader = ensemble.leader()
        leader.kill()
        load.goes_on(ensemble.running())
        ensemble.launch(leader)
        load.goes_on(ensemble.members)
    load.end()
    # An Apache led in the beginning, and its observer came back to it: see `same`.
    load.judge(ensemble.same(are_digests_right=False))
    yield "observers and leaders are killed under load"


def migration(ensemble, rounds):
    """Member by member, the leader last, each on the directory of the one before, as
    conf/migration.md says."""
    theirs = ensemble.members[0].kind
    ensemble.launch(*ensemble.members)
    load = Load(ensemble.members, "/load")
    for _ in range(rounds):
        for kind in UNDER_TEST, theirs:
            leader = ensemble.leader()
            for member in [*ensemble.others(leader), leader]:
                load.goes_on(ensemble.members)
                member.end()
                load.goes_on(ensemble.running())
                member.kind = kind
                ensemble.launch(member)
                load.goes_on(ensemble.members)
            yield f"all are {kind}"
    load.end()
    load.judge(ensemble.same(are_digests_right=False))
    yield "nothing is lost"


def takeovers(ensemble, _):
    """Apaches leave logs that end with what nobody else has. Servers under test go on there, and
    have to go back in these logs, by word of a leader of each kind."""
    first, second, third = ensemble.members
    ensemble.launch(first, third)
    assert ensemble.launch(second) is third
    for at, heir, leader in ("/one", third, second), ("/two", second, third):
        assert ensemble.leaves_tail(at) is heir
        heir.kind = UNDER_TEST
        # Both have the same history, so the larger id wins. An Apache that has something new sends
        # its database instead.
        assert ensemble.launch(*ensemble.others(heir)) is leader
        assert ensemble.launch(heir) is leader
        # The log was cut, and not replaced.
        assert leader_logged(heir, at) and not leader_logged(heir, f"{at}/")
        for number in range(2):
            ensemble.works(f"{at}-{number}")
            found = [path for path in ensemble.same() if path.startswith(f"{at}/")]
            assert not found, found
            heir.kill()
            assert ensemble.launch(heir) is leader
        yield f"a log of an Apache is cut by word of {leader}"


def leader_logged(leader, path):
    logs = [*leader.data.glob("version-2/log.*"), *leader.data.glob("version-2/wal.*")]
    return any(path.encode() in log.read_bytes() for log in logs)


# What is tried, and who votes and who observes in it, where `kind` is the Apache.
SCENARIOS = [
    (kills, lambda kind: ([UNDER_TEST, UNDER_TEST, kind], [])),
    (observers, lambda kind: ([UNDER_TEST, UNDER_TEST, kind], [kind, UNDER_TEST])),
    (migration, lambda kind: ([kind] * 3, [])),
    (takeovers, lambda kind: ([kind] * 3, [])),
]


def attempt(kind, scenario, members, rounds):
    """Runs a scenario; how many of its checks have passed and failed."""
    name, passed, failed = f"{kind}: {scenario.__name__}", 0, 0
    started, done = time.monotonic(), "the start"
    with tempfile.TemporaryDirectory(prefix="foreign-") as home:
        ensemble = Ensemble(pathlib.Path(home), *members)
        try:
            for done in scenario(ensemble, rounds):
                passed += 1
                print(f"{name}: {done} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception:
            failed += 1
            for log in pathlib.Path(home).rglob("server.log"):
                print(f"--- {log} ---\n{told(log)}")
            # Behind the servers' logs, where it is found.
            print(f"FAILED {name}, after: {done}")
            traceback.print_exc(file=sys.stdout)
        finally:
            ensemble.kill()
    return passed, failed


def told(log):
    """What a server has said, but for each digest that is right."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if "Digests are matching" not in line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="the name of one scenario")
    parser.add_argument("kinds", nargs="+")
    asked, passed, failed = parser.parse_args(), 0, 0
    for kind in asked.kinds:
        for scenario, members in SCENARIOS:
            if asked.only in (None, scenario.__name__):
                found = attempt(kind, scenario, members(kind), asked.rounds)
                passed, failed = passed + found[0], failed + found[1]
    print(f"{passed} passed, {failed} failed", flush=True)
    # A client's thread may wait for a server that is gone.
    os._exit(failed != 0)


main()
