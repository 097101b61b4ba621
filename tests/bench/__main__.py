"""All benchmarks, one after the other, and one table: `make bench`.

python -m tests.bench [--only latency start] [--assemble]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from typing import Final

from tests.bench import pages
from tests.bench.result import ROOT
from tests.bench.stage import say

# Arguments, and seconds after which a benchmark is ended: twice what it takes on two busy cores.
COMMANDS: Final[dict[str, tuple[tuple[str, ...], float]]] = {
    "observer": (("--write",), 1800),
    "bullmq": ((), 900),
    "bullmq_arrivals": ((), 600),
    "bullmq_large": ((), 600),
    "simulator": ((), 600),
    "latency": ((), 900),
    "start": ((), 600),
    "policies": ((), 1800),
    "mixed": ((), 900),
    "hanging": ((), 600),
    "isolation": ((), 600),
    "chaos": ((), 1500),
}


def run(name: str) -> bool:
    """Run one; whether it ran to its end, reached bars or not."""
    arguments, within = COMMANDS[name]
    began = time.time()
    say(f"{name}: at most {within / 60:.0f} min")
    child = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{name}", *arguments],
        cwd=ROOT,
        # The page is in docs/bench; here it would only hide the progress.
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = child.wait(within)
    except subprocess.TimeoutExpired:
        say(f"{name}: not finished after {within / 60:.0f} min, given up")
        _end(child)
        return False
    except BaseException:
        _end(child)
        raise
    page = pages.read_page(name)
    fresh = page is not None and page.written >= began
    say(f"{name}: {time.time() - began:.0f} s, " + ("done" if fresh else f"failed, exit {code}"))
    return fresh


def _end(child: subprocess.Popen[bytes]) -> None:
    """It stops what it started when it is interrupted."""
    os.killpg(child.pid, signal.SIGINT)
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def main() -> int:
    """The exit code is 0 when all ran and every bar was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument(
        "--assemble", action="store_true", help="write docs/benchmarks.md from docs/bench, run none"
    )
    chosen = parser.parse_args()
    names = [] if chosen.assemble else chosen.only
    failed = frozenset(name for name in names if not run(name))
    found = pages.write()
    if names:
        found = [page for page in found if page.name in names and page.name not in failed]
    print("\n".join(pages.summary(found, failed=failed).markdown()))
    print(f"Written: {pages.WHOLE.relative_to(ROOT)}")
    missed = [bar for page in found for bar in page.bars if not bar.ok]
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
