"""Another client of the same Redis, in a process of its own: how long do its answers take?

It asks PING and HGET (of a job that waits) in turns, one at a time and half a millisecond apart.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from array import array
from typing import Final

BETWEEN_SECONDS: Final = 0.0005
_MOST_BYTES: Final = 4096


class Others:
    """The other process, seen from here."""

    def __init__(self, port: int, keys: str, many: int) -> None:
        """`keys`: what the keys of jobs begin with; ids are 1 to `many`."""
        command = [sys.executable, "-m", "tests.bench.bullmq_others", str(port), keys, str(many)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._line()  # it is connected

    def start(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())

    def finish(self) -> list[float]:
        """Milliseconds of each answer. Raises RuntimeError when the process has failed."""
        size = int(self._line())
        assert self._process.stdout is not None
        data = b""
        while len(data) < size:
            data += self._process.stdout.read(size - len(data)) or b""
        return list(array("d", data))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line: bytes = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the other client's process has failed")
        return line


def _ask(connection: socket.socket, keys: str, many: int, seconds: float) -> array[float]:
    took = array("d")
    chance = random.Random(20_260_101)
    end = time.perf_counter() + seconds
    ping = b"*1\r\n$4\r\nPING\r\n"
    turn = 0
    while time.perf_counter() < end:
        turn += 1
        key = f"{keys}{chance.randint(1, many)}".encode()
        hget = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%s\r\n$4\r\nname\r\n" % (len(key), key)
        began = time.perf_counter()
        connection.sendall(ping if turn % 2 else hget)
        if not connection.recv(_MOST_BYTES):
            raise ConnectionError("Redis is gone")
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(BETWEEN_SECONDS)
    return took


def _serve(port: int, keys: str, many: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
        for line in sys.stdin:
            data = _ask(connection, keys, many, float(line)).tobytes()
            sys.stdout.buffer.write(b"%d\n%s" % (len(data), data))
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
