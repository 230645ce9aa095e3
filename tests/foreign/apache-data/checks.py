#!/usr/bin/env python3
"""A data directory that Apache ZooKeeper wrote, read by the server under test, and the way back.

Last line: "N passed, N failed".
"""

import atexit
import os
import pathlib
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import process
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

UNDER_TEST = os.environ["FOREIGN_SERVER"]


class World:
    """One data directory, and the server that runs on it."""

    def __init__(self, home):
        self.port, self.home, self.server = process.free_ports(1), pathlib.Path(home), None
        atexit.register(self.kill)
        self.config = self.home / "zoo.cfg"
        self.config.write_text(
            f"tickTime=2000\ndataDir={home}/data\nclientPort={self.port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nextendedTypesEnabled=true\n"
            "4lw.commands.whitelist=*\nsnapCount=200\nmaxSessionTimeout=120000\n"
        )

    def run(self, kind):
        os.environ["FOREIGN_SERVER"] = kind
        self.server = process.Server(self.port, self.config, self.home / f"{kind}.log")
        self.server.start()

    def kill(self):
        if self.server and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()

    def client(self):
        auth = [("digest", "bob:secret")]
        client = KazooClient(f"127.0.0.1:{self.port}", timeout=60, auth_data=auth)
        client.start()
        return client

    def tree(self):
        """Every node with all that a client can see of it, and the sessions that hold it."""
        client, nodes, paths = self.client(), {}, ["/"]
        while paths:
            path = paths.pop()
            data, stat = client.get(path)
            nodes[path] = (data, stat, client.get_acls(path)[0])
            paths += [f"{path.rstrip('/')}/{child}" for child in client.get_children(path)]
        client.stop()
        client.close()
        return nodes


def fill(client):
    client.ensure_path("/app/empty")
    client.create("/app/big", bytes(range(256)) * 2000)
    client.create("/app/sealed", b"x", acl=[make_digest_acl("bob", "secret", all=True)])
    client.create("/app/\u00fc \u4e2d", "\u00e4".encode())
    for i in range(500):
        client.create("/app/queue/n-", b"%d" % i, sequence=True, makepath=True)
    for i in range(0, 500, 2):
        client.delete("/app/queue/n-%010d" % i)
    for i in range(50):
        client.set("/app", b"version %d" % i)
    many = client.transaction()
    many.create("/multi", b"1")
    many.create("/multi/a", b"2")
    many.set_data("/multi", b"3")
    many.commit()
    lost = client.transaction()
    lost.delete("/multi/a")
    lost.delete("/none")
    lost.commit()
    client.set_acls("/multi/a", [make_digest_acl("bob", "secret", read=True, admin=True)])


def same(expected, found):
    assert sorted(expected) == sorted(found), sorted(set(expected) ^ set(found))
    for path, node in expected.items():
        assert node == found[path], f"{path}:\n{node}\n{found[path]}"


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="foreign-") as home:
        world = World(home)
        world.run("apache")
        holder = world.client()
        fill(holder)
        holder.create("/held", b"", ephemeral=True)
        owner = holder.client_id[0]
        kept = {}

        def read():
            kept["tree"] = world.tree()
            world.kill()
            world.run(UNDER_TEST)
            same(kept["tree"], world.tree())

        def session():
            assert holder.retry(holder.exists, "/held").ephemeralOwner == owner
            holder.stop()
            client = world.client()
            assert client.exists("/held") is None
            client.stop()

        def go_on():
            client = world.client()
            assert client.create("/app/queue/n-", b"", sequence=True) == "/app/queue/n-0000000500"
            before = kept["tree"]["/app"][1]
            assert client.set("/app", b"on").version == before.version + 1
            assert client.exists("/app").mzxid > before.mzxid
            fill_more = [client.create_async(f"/app/empty/{i}", b"more") for i in range(1000)]
            for one in fill_more:
                one.get(20)
            client.stop()
            kept["tree"] = world.tree()

        def crash():
            world.kill()
            world.run(UNDER_TEST)
            same(kept["tree"], world.tree())

        def back():
            world.server.stop()
            world.run("apache")
            same(kept["tree"], world.tree())
            world.server.stop()

        for check in (read, session, go_on, crash, back):
            try:
                check()
                passed += 1
            except Exception:
                failed += 1
                print(f"FAILED {check.__name__}")
                traceback.print_exc(file=sys.stdout)
        if failed:
            for log in pathlib.Path(home).glob("*.log"):
                print(f"--- {log.name} ---\n{log.read_text(errors='replace')}")
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
