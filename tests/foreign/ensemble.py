#!/usr/bin/env python3
"""Ensembles of servers under test.

As a program, the follower of an ensemble in place of one server (see ./server):

    ensemble.py [-Dname=value...] zoo.cfg

runs FOREIGN_MEMBERS servers in the foreground: one on this configuration, which follows, and the
others on what is beside its dataDir. They end with this process, also if it is killed.
"""

import ctypes
import os
import pathlib
import re
import signal
import sys
import threading
import time

import process

COUNT = int(os.environ.get("FOREIGN_MEMBERS", "1"))
"""How many servers are under test. With one address for clients it is that of a follower."""
HAS_FOLLOWER = COUNT > 1 and bool(os.environ.get("FOREIGN_FOLLOWER"))
"""Clients get the address of one server: the only one, or a follower."""
HAS_ONE_ADDRESS = COUNT == 1 or HAS_FOLLOWER
ALONE = {
    name: value
    for name, value in os.environ.items()
    if name not in ("FOREIGN_MEMBERS", "FOREIGN_FOLLOWER")
}
"""The environment of each member."""
SMALL_LOGS = "-Dringkeeper.log.segmentSizeInKb=4096"
"""Suites start hundreds of ensembles, and keep their directories until they end."""
PR_SET_PDEATHSIG = 1


def lines(ports):
    """Of zoo.cfg, for an ensemble of servers with these client ports. The two ports behind each
    are for the other members."""
    listed = [f"server.{i}=127.0.0.1:{p + 1}:{p + 2}" for i, p in enumerate(ports, 1)]
    return ["initLimit=40", "syncLimit=20", *listed]


def register(data, sid):
    """Makes the data directory that of this member."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "myid").write_text(f"{sid}\n")


def built(options):
    """Without what ensembles of Ringkeeper do not have yet; the same for Apache's."""
    missing = "reconfigEnabled", "standaloneEnabled", "readonlymode.enabled"
    return [option for option in options if not any(name in option for name in missing)]


class Ensemble:
    """The servers under test: one, or COUNT members of an ensemble. `options` are lines of zoo.cfg
    without those that differ between members."""

    def __init__(self, home, options, properties=()):
        base = process.free_ports(3 * COUNT)
        ports = range(base, base + 3 * COUNT, 3)
        self.members = []
        for sid, port in enumerate(ports, 1):
            own = home / str(sid)
            has_data = any(option.startswith("dataDir=") for option in options)
            data = [f"dataDir={own / 'data'}"] * (not has_data)
            register(own / "data", sid)
            listed = lines(ports) * (COUNT > 1)
            where = [f"clientPort={port}", "clientPortAddress=127.0.0.1"]
            config = own / "zoo.cfg"
            config.write_text("\n".join([*where, *data, *options, *listed, ""]))
            mine = [SMALL_LOGS, *properties] if COUNT > 1 else properties
            self.members.append(process.Server(port, config, own / "log", mine, ALONE))

    def start(self):
        """Starts all and waits until all serve."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.await_service()

    def address(self, *members):
        """Where clients reach these members, or all."""
        return ",".join(f"127.0.0.1:{member.port}" for member in members or self.members)

    def in_mode(self, mode):
        """The members that say that they are `leader`, `follower` or `standalone`."""
        return [member for member in self.members if process.mode(member.port) == mode]

    def connect_string(self):
        """What clients get. The first member is not the one that leads from the start."""
        return self.address(*self.in_mode("follower")[:1] * HAS_FOLLOWER)

    def stop(self):
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.stop()

    def kill(self):
        for member in self.members:
            member.kill()

    def output(self):
        """What all have said."""
        return "".join(
            f"--- the output of server {sid} ---\n{member.log.read_text(errors='replace')}"
            for sid, member in enumerate(self.members, 1)
        )


class Follower:
    """Member 1 of an ensemble, on a configuration that somebody made for one server."""

    def __init__(self, config, properties):
        self.config = pathlib.Path(config)
        self.given = built(self.config.read_text().splitlines())
        self.properties = [SMALL_LOGS, *built(properties)]
        port = int(self.value("clientPort"))
        base = process.free_ports(3 * COUNT)
        self.ports = [port, *range(base + 3, base + 3 * COUNT, 3)]
        first = f"server.1=127.0.0.1:{base + 1}:{base + 2}"
        self.listed = [first if one.startswith("server.1=") else one for one in lines(self.ports)]
        self.members = [self.member(sid, port) for sid, port in enumerate(self.ports, 1)]

    def value(self, key):
        found = re.search(rf"^{key}=(.*)$", "\n".join(self.given), re.M)
        return found and found[1]

    def member(self, sid, port):
        own = {"clientPort": port, "clientPortAddress": "127.0.0.1"}
        directories = {key: self.value(key) for key in ("dataDir", "dataLogDir")}
        for key, directory in directories.items():
            if directory:
                own[key] = directory if sid == 1 else f"{directory.rstrip('/')}-of-{sid}"
        config, kept = self.config.with_name(f"{self.config.name}.{sid}"), []
        for line in self.given:
            key = line.partition("=")[0]
            kept.append(f"{key}={own[key]}" if sid > 1 and key in own else line)
        config.write_text("\n".join([*kept, *self.listed, ""]))
        register(pathlib.Path(own["dataDir"]), sid)
        log = self.config.with_name(f"{self.config.name}.{sid}.log")
        return process.Server(port, config, log, self.properties, ALONE, dies_with_parent)

    def run(self):
        signal.signal(signal.SIGTERM, self.end)
        first, *others = self.members
        for member in others:
            member.launch()
        # With a leader that it has not been part of making, the first follows.
        while not any(process.mode(member.port) == "leader" for member in others):
            self.check(others)
            time.sleep(0.02)
        first.launch()
        while True:
            self.check(self.members)
            time.sleep(0.1)

    def check(self, members):
        """Ends with the first that has ended by itself."""
        if any(member.process.poll() is not None for member in members):
            self.end()

    def end(self, *_):
        for member in self.members:
            if member.process:
                member.process.terminate()
        for member in self.members:
            if member.process:
                member.stop()
            print(f"--- the output of {member.log} ---\n{member.log.read_text(errors='replace')}")
        sys.exit(self.members[0].process.returncode if self.members[0].process else 1)


def dies_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    Follower(sys.argv[-1], sys.argv[1:-1]).run()
