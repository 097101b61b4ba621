"""`python -m demo --scenario main --cluster local`; `make demo` calls this."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from demo.scenario import SCENARIOS
from demo.story import main as run_story

CLUSTERS = ("local", "existing", "kind")
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main() -> int:
    """Parse, run, clean up."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="The main job, live.")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="main")
    parser.add_argument("--cluster", choices=CLUSTERS, default="local")
    chosen = parser.parse_args()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run_story(SCENARIOS[chosen.scenario], chosen.cluster)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; everything has been stopped.\n")
        return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first one stops the story; impatient further ones must not stop the cleaning up."""
    del number, frame
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.stderr.write("\nStopping everything …\n")
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
