#!/usr/bin/env python3
"""A session with cli_mt, the C client's shell: each command, then what it must print.

Last line: "N passed, N failed".
"""

import os
import re
import select
import subprocess
import sys
import time

CLI = "/usr/lib/zookeeper/bin/cli_mt"
PATIENCE_SECONDS = 120
SESSION = [
    ("", "state = CONNECTED_STATE"),
    ("create /cli", r"\[/cli\]: rc = 0\s+name = /cli\n"),
    ("create /cli", r"\[/cli\]: rc = -110"),
    ("set /cli world", r"/cli: rc = 0"),
    ("get /cli", r"/cli: rc = 0\s+value_len = 5\s+world\s+Stat:[\s\S]*version=1\s"),
    ("create +s /cli/s", r"name = /cli/s0000000000\n"),
    ("create +e /cli/e", r"name = /cli/e\n"),
    ("ls /cli", r"\s(e\s+s0000000000|s0000000000\s+e)\s"),
    ("wexists /cli/x", r"Error -101 for /cli/x"),
    ("create /cli/x", r"CREATED_EVENT state = CONNECTED_STATE for path /cli/x"),
    ("delete /cli", r"rc = -111"),
    ("sync /cli", r"/cli"),
]


def main():
    shell = subprocess.Popen(
        ["stdbuf", "-oL", CLI, os.environ["FOREIGN_CONNECT"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    passed = failed = 0
    for command, expected in SESSION:
        if command:
            shell.stdin.write(command.encode() + b"\n")
            shell.stdin.flush()
        text, deadline = "", time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(expected, text)) and time.monotonic() < deadline:
            if select.select([shell.stdout], [], [], 0.1)[0]:
                piece = os.read(shell.stdout.fileno(), 65536).decode(errors="replace")
                if not piece:
                    break
                text += piece
        if found:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {command!r}: no {expected!r} in\n{text}")
    shell.kill()
    shell.wait()
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
