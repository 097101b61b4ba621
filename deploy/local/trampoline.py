"""Runs as the child, before the real program: makes it die with its parent, then becomes it.

`subprocess` offers `preexec_fn` for this, but that is unsafe (and warns) in a process with
threads. The order matters: a change of user clears the death signal, so it comes first.

    trampoline.py PARENT_PID DEATH_SIGNAL USER|- PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal, user, *argv = sys.argv[1:]
    # Loaded first: the other user may not be able to read Python's own files.
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if user != "-":
        become(user)
    if library is not None:
        library.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent died before its child had started")
    # Python ignores these, and an ignored signal stays ignored in the next program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/"


if __name__ == "__main__":
    main()
