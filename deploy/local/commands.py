"""kubectl and helm as functions: text in, text out, and an error that says what was run."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError


class CommandError(LocalError):
    """The program ran and said no. `stderr` is its own words, for tests that expect a refusal."""

    def __init__(self, command: str, code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"`{command}` exited with {code}: {(stderr or stdout).strip()}")
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


@dataclass(frozen=True)
class Command:
    program: Path
    environment: Mapping[str, str]

    def __call__(self, *args: str | Path, stdin: str | None = None, timeout: float = 330) -> str:
        argv = [str(self.program), *(str(arg) for arg in args)]
        shown = shlex.join([self.program.name, *argv[1:]])
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                env=dict(self.environment),
            )
        except subprocess.TimeoutExpired:
            raise LocalError(
                f"`{shown}` did not end within {timeout:g} s. Give it more time, or check the "
                "logs in the run folder."
            ) from None
        if done.returncode != 0:
            raise CommandError(shown, done.returncode, done.stdout, done.stderr)
        return done.stdout
