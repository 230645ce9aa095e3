#!/usr/bin/env python3
"""Server processes for the foreign suites; and, as a program, a server around a command:

    process.py [-Dname=value | name=value]... -- command...

starts the server (see ./server) with these properties and further lines of zoo.cfg, runs the
command with FOREIGN_CONNECT (address) and FOREIGN_PID (a file with the server's process id) in
its environment, stops the server and exits as the command did. A server that the command kills is
started again on the same directory; the file has its process id before it serves.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

LAUNCHER = pathlib.Path(__file__).resolve().parent / "server"
# Only a server that hangs lets a suite wait that long; a machine that others use, too, must not.
START_SECONDS = 240
STOP_SECONDS = 120
ANSWER_SECONDS = 120


def free_ports(count):
    """The first of `count` free ports, below the range that the kernel gives to clients."""
    base = 20000 + os.getpid() % 500 * 20
    while True:
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            base = 20000 + (base - 20000 + 20) % 10000


def four_letter_word(port, word, patience=ANSWER_SECONDS):
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as link:
        link.sendall(word)
        return b"".join(iter(lambda: link.recv(4096), b""))


class NotServing(Exception):
    pass


class Server:
    """One server process on the configuration file `config`, its output appended to `log`."""

    def __init__(self, port, config, log, properties=(), environment=None):
        self.port, self.log = port, pathlib.Path(log)
        self.command, self.environment = [LAUNCHER, *properties, config], environment
        self.process = None

    def launch(self):
        """Starts the process."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment
            )

    def start(self):
        """Starts the process and waits until it serves."""
        self.launch()
        deadline, patience = time.monotonic() + START_SECONDS, 1
        while True:
            try:
                if b"Mode:" in four_letter_word(self.port, b"srvr", patience):
                    return
            except TimeoutError:
                # An Apache may leave a word that comes while it starts without any answer; but a
                # busy machine may need a while for one.
                patience = min(2 * patience, 10)
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NotServing(self.log.read_text(errors="replace"))
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(arguments):
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    properties = [option for option in options if option.startswith("-D")]
    lines = [option for option in options if not option.startswith("-D")]
    with tempfile.TemporaryDirectory(prefix="foreign-") as home:
        home, port = pathlib.Path(home), free_ports(1)
        data = [f"dataDir={home / 'data'}"] * (not any(o.startswith("dataDir=") for o in lines))
        config = home / "zoo.cfg"
        config.write_text(
            "\n".join(
                [
                    "tickTime=500",
                    # Sessions that are not meant to expire ask for so much that none does because
                    # the machine was busy.
                    "maxSessionTimeout=600000",
                    f"clientPort={port}",
                    "clientPortAddress=127.0.0.1",
                    "maxClientCnxns=0",
                    "admin.enableServer=false",
                    "4lw.commands.whitelist=*",
                    *data,
                    *lines,
                    "",
                ]
            )
        )
        environment = dict(
            os.environ, FOREIGN_CONNECT=f"127.0.0.1:{port}", FOREIGN_PID=str(home / "pid")
        )
        server = Server(port, config, home / "log", properties, environment)
        ending, starting = threading.Event(), threading.Lock()

        def start():
            with starting:
                if not ending.is_set():
                    server.start()

        def keep():
            while not ending.is_set():
                server.process.wait()
                start()

        start()
        threading.Thread(target=keep, daemon=True).start()
        try:
            status = subprocess.run(command, env=environment).returncode
        finally:
            ending.set()
            with starting:
                server.stop()
        if status:
            print(f"--- the server's output ---\n{server.log.read_text(errors='replace')}")
        return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NotServing as error:
        sys.exit(f"the server does not start:\n{error}")
