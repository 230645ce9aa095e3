#!/usr/bin/env python3
"""Servers around a command:

    around.py [-Dname=value | name=value]... -- command...

starts the servers under test (see ./ensemble.py) with these properties and further lines of
zoo.cfg, runs the command, stops the servers and exits as the command did. In the environment of
the command are

    FOREIGN_CONNECT   addresses, as clients take them
    FOREIGN_PID       a file with the id of a server's process, which the command may kill

A server that the command kills is started again on the same directory, and once it serves the file
names another process: of one server the new one, of several members each in turn, from the leader.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import process
from ensemble import COUNT, Ensemble

OPTIONS = [
    "tickTime=500",
    # Sessions that are not meant to expire ask for so much that none does because the machine was
    # busy.
    "maxSessionTimeout=600000",
    "maxClientCnxns=0",
    "admin.enableServer=false",
    "4lw.commands.whitelist=*",
]


class Keeper(threading.Thread):
    """Starts what was killed, and says what may be killed next."""

    def __init__(self, ensemble, file):
        super().__init__(daemon=True)
        self.ensemble, self.file = ensemble, file
        self.ending, self.starting = threading.Event(), threading.Lock()
        modes = [process.mode(member.port) for member in ensemble.members]
        self.victim = modes.index("leader" if COUNT > 1 else "standalone")
        self.show()

    def show(self):
        """No reader sees half of it."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.ensemble.members[self.victim].process.pid}\n")
        new.rename(self.file)

    def run(self):
        while not self.ending.is_set():
            victim = self.ensemble.members[self.victim]
            victim.process.wait()
            with self.starting:
                if self.ending.is_set():
                    return
                victim.start()
                self.victim = (self.victim - 1) % COUNT
                self.show()

    def end(self):
        self.ending.set()
        with self.starting:
            self.ensemble.stop()


def main(arguments):
    split = arguments.index("--")
    given, command = arguments[:split], arguments[split + 1 :]
    properties = [option for option in given if option.startswith("-D")]
    options = [option for option in given if not option.startswith("-D")]
    with tempfile.TemporaryDirectory(prefix="foreign-") as home:
        home = pathlib.Path(home)
        ensemble = Ensemble(home, [*OPTIONS, *options], properties)
        try:
            ensemble.start()
            keeper = Keeper(ensemble, home / "pid")
            connect = ensemble.connect_string()
            environment = dict(os.environ, FOREIGN_CONNECT=connect, FOREIGN_PID=str(keeper.file))
            keeper.start()
            try:
                status = subprocess.run(command, env=environment).returncode
            finally:
                keeper.end()
        finally:
            ensemble.kill()
        if status:
            print(ensemble.output())
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except process.NotServing as error:
        sys.exit(f"the server does not start:\n{error}")
