"""Server processes for the foreign suites."""

import os
import pathlib
import re
import socket
import subprocess
import time

LAUNCHER = pathlib.Path(__file__).resolve().parent / "server"
# Only a server that hangs lets a suite wait that long; a machine that others use, too, must not.
START_SECONDS = 240
STOP_SECONDS = 120
ANSWER_SECONDS = 120
FIRST_PORT = 24000


def free_ports(count):
    """The first of `count` free ports, below the range that the kernel gives to clients."""
    base = FIRST_PORT + os.getpid() % 120 * 50
    while True:
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            base = FIRST_PORT + (base - FIRST_PORT + 50) % 6000


def four_letter_word(port, word, patience=ANSWER_SECONDS):
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as link:
        link.sendall(word)
        return b"".join(iter(lambda: link.recv(4096), b""))


def mode(port):
    """What the server says that it is, as in `follower`; empty if it does not serve."""
    try:
        found = re.search(b"Mode: (.*)", four_letter_word(port, b"srvr", 2))
        return found[1].decode().strip() if found else ""
    except OSError:
        return ""


class NotServing(Exception):
    pass


class Server:
    """One server process on the configuration file `config`, its output appended to `log`; `first`
    is run in the process before the server."""

    def __init__(self, port, config, log, properties=(), environment=None, first=None):
        self.port, self.log, self.first = port, pathlib.Path(log), first
        self.command, self.environment = [LAUNCHER, *properties, config], environment
        self.process = None

    def launch(self):
        """Starts the process."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, preexec_fn=self.first
            )

    def start(self):
        """Starts the process and waits until it serves."""
        self.launch()
        self.await_service()

    def await_service(self):
        """Waits until the process serves. If it does not, it is stopped."""
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

    def kill(self):
        """Ends the process at once, if there is one."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
