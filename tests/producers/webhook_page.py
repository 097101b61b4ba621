"""The receiver that the page about webhooks shows, as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.producers.webhook_api import SECRET

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "webhook.md"


def receiver() -> str:
    """The program on the page."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program.count("\n") <= 60
    return str(program)


@contextmanager
def running() -> Iterator[str]:
    """Its address while it runs."""
    program = subprocess.Popen(
        [sys.executable, "-c", receiver()],
        env={**os.environ, "SIGNING_KEY": SECRET, "PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdout is not None
    port = program.stdout.readline().strip()
    try:
        yield f"http://127.0.0.1:{port}/ingest"
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
