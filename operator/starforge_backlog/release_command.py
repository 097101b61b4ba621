"""`python -m starforge_backlog release`: release what policies hold, without a running operator.

The chart's pre-delete hook runs it, so that `helm uninstall` leaves nothing paused; people run it
where the operator is dead, or may not see a namespace any more. It ends with 0 only when nothing
of ours is left, and names what is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.client import POLICIES, Json
from starforge_backlog.cluster.errors import ClusterFault
from starforge_backlog.cluster.finalizer import holds
from starforge_backlog.cluster.served import Served, served
from starforge_backlog.cluster.stopping import Stopped, start_again, stop, until_ended
from starforge_backlog.context import Services
from starforge_backlog.decide.plan import Resume, SetMaximum
from starforge_backlog.finalizer import NotReleased, finalize_for_uninstall, held_by_us
from starforge_backlog.namespaces import read_namespaces
from starforge_backlog.policy import Policy
from starforge_backlog.settings import Settings

NAME = "release"
# Exit codes besides 0; argparse ends with 2 for wrong arguments.
EX_LEFT = 1
# Seconds for all of it. Helm waits for a hook five minutes by default.
TIMEOUT_SECONDS = 120
# What cannot be released is tried again this often, until the time is over.
RETRY_SECONDS = 5.0
# An operator that still runs puts its finalizer back within a second.
FINALIZER_RETURNS_SECONDS = 3.0
# Policies that are released side by side: one whose database hangs takes seconds.
AT_ONCE = 16

_EPILOG = """\
Stop the operator first, or name it with --stop: a running one pauses again and puts its finalizer
back. The policies stay; they are not followed until an operator runs again. It uses the
ServiceAccount of its pod, else KUBECONFIG, and needs the operator's rights; databases and Redis
must be reachable from where it runs.

A pause that cannot be released (for example because its database was deleted) keeps the exit code
at 1. Then
  kubectl annotate -n NAMESPACE qbp/NAME backlog.starforge.dev/release=abandon
abandons the pauses of that policy, --abandon those of all policies; what is left to do by hand is
printed.

exit codes: 0 nothing is held, or a person abandoned it; 1 something is held, and is named;
2 wrong arguments; 78 no cluster, or a wrong setting.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    namespaces: tuple[str, ...]  # none: those that the settings name, or all
    names: frozenset[str]  # none: every policy
    stop: tuple[str, str] | None  # namespace and name of the operator's Deployment
    timeout: float
    abandon: bool
    dry_run: bool


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    command = commands.add_parser(
        NAME,
        help="release what policies hold, and remove their finalizers",
        description="Resume every producer that policies have paused, restore the maximums of"
        " guarded autoscalers, and remove the finalizers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whose = command.add_argument_group("which policies (one of the first two is required)")
    whose.add_argument(
        "--all",
        action="store_true",
        help="of the namespaces in STARFORGE_WATCH_NAMESPACES, or of the whole cluster",
    )
    whose.add_argument(
        "--namespace", "-n", action="append", default=[], help="of this one; may be repeated"
    )
    whose.add_argument(
        "--name", action="append", default=[], help="only those of this name; may be repeated"
    )
    command.add_argument(
        "--stop",
        metavar="NAMESPACE/DEPLOYMENT",
        type=_deployment,
        help="the operator: scaled to 0 before, and back when something could not be released",
    )
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_SECONDS,
        help="seconds for all of it (default %(default)s)",
    )
    command.add_argument(
        "--abandon", action="store_true", help="abandon what cannot be released, and print it"
    )
    command.add_argument("--dry-run", action="store_true", help="only print what is held")


def asked_of(given: argparse.Namespace, parser: argparse.ArgumentParser) -> Asked:
    """Check what argparse cannot. Ends the process with 2 when it makes no sense."""
    if bool(given.all) == bool(given.namespace):
        parser.error("release needs either --all or --namespace")
    return Asked(
        namespaces=tuple(dict.fromkeys(given.namespace)),
        names=frozenset(given.name),
        stop=given.stop,
        timeout=given.timeout,
        abandon=given.abandon,
        dry_run=given.dry_run,
    )


def main(asked: Asked, settings: Settings, environ: Mapping[str, str]) -> int:
    """Run it; returns the exit code."""
    # The command's own lines say it all; a fault of a library must not be lost.
    logging.getLogger().setLevel(logging.WARNING)
    return asyncio.run(_run(asked, settings, environ))


async def _run(asked: Asked, settings: Settings, environ: Mapping[str, str]) -> int:
    this = asyncio.current_task()
    assert this is not None, "a coroutine runs in a task"
    # A Job whose time is over, a node that is drained: what was stopped has to be started again.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    services = await Services.open(environ, settings.pod_name)
    try:
        return await _Release(services, asked, asked.namespaces or settings.namespaces).run()
    except ClusterFault as fault:
        _say(f"NOT released: {fault.message}")
        return EX_LEFT
    finally:
        await services.close()


@dataclass(slots=True)
class _Release:
    """One run of the command."""

    services: Services
    asked: Asked
    namespaces: tuple[str, ...]
    stopped: Stopped | None = None
    left: dict[str, str] = field(default_factory=dict)  # policy → why it is not released
    unread: dict[str, str] = field(default_factory=dict)  # the same of whole namespaces

    async def run(self) -> int:
        if await served(self.services.client) is Served.NO:
            _say("the CRD is not installed, so there is no policy and nothing to release")
            return 0
        if self.asked.dry_run:
            return await self._show()
        try:
            async with asyncio.timeout(self.asked.timeout):
                await self._leave_out()
                await self._stop()
                await self._release_all()
                await self._check_for_another()
        except TimeoutError:
            _say(f"the {self.asked.timeout:g} s of --timeout are over")
            if not self.left:
                self.left[""] = "the operator did not stop in time, or a policy did not answer"
        except ClusterFault as fault:
            self.left[""] = fault.message
        except asyncio.CancelledError:
            self.left[""] = "it was terminated before it was done"
        except Exception as bug:
            self.left[""] = f"the operator has a bug: {type(bug).__name__}"
            await self._refuse()
            raise
        self.left |= self.unread
        if not self.left:
            _say("done: no policy has the operator's finalizer")
            return 0
        await self._refuse()
        return EX_LEFT

    async def _leave_out(self) -> None:
        """Namespaces that we may not read: the others are released all the same."""
        found = await read_namespaces(self.services.client, self.namespaces)
        if found.left_out:
            self.namespaces = found.followed or self.namespaces
        self.unread = {
            f"namespace {name}": f"{why}; if it was deleted, take it off the chart value"
            " watchNamespaces"
            for name, why in found.left_out.items()
        }

    async def _stop(self) -> None:
        if self.asked.stop is None:
            return
        stopped = self.stopped = await stop(self.services.client, *self.asked.stop)
        if stopped is None:
            _say("there is no such Deployment to stop")
            return
        await until_ended(self.services.client, stopped, _say)
        _say(f"{stopped} is stopped")

    async def _release_all(self) -> None:
        """Try again what cannot be released, until the caller's time is over."""
        done: set[str] = set()
        together = asyncio.Semaphore(AT_ONCE)
        while True:
            bodies = [body async for body in self._bodies() if body["metadata"]["uid"] not in done]
            self.left = {k: why for k, why in self.left.items() if k in {_key(b) for b in bodies}}
            tried = [self._one(body, together) for body in bodies]
            ended = await asyncio.gather(*tried)
            done |= {uid for uid in ended if uid is not None}
            if not self.left:
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _one(self, body: Json, together: asyncio.Semaphore) -> str | None:
        """The uid of a policy that is done with."""
        key, uid = _key(body), str(body["metadata"]["uid"])
        if not holds(body) and not self._held(body):
            self.left.pop(key, None)
            return uid  # none of ours has ever followed it, or it was released before
        policy = Policy.for_release(body)
        if self.asked.abandon:
            policy = replace(policy, abandon=True)
        try:
            async with together:
                words = await finalize_for_uninstall(self.services, policy)
        except (NotReleased, ClusterFault) as fault:
            if self.left.get(key) != str(fault):
                _say(f"{key}: not released yet: {fault}")
            self.left[key] = str(fault)
            return None
        self.left.pop(key, None)
        _say(f"{key}: {'; '.join(words) or 'held nothing'}; its finalizer was removed")
        return uid

    async def _check_for_another(self) -> None:
        """An operator that runs elsewhere would undo all this."""
        await asyncio.sleep(FINALIZER_RETURNS_SECONDS)
        async for body in self._bodies():
            if holds(body):
                self.left[_key(body)] = (
                    "an operator runs and has put its finalizer back; stop it first, with --stop"
                    " or kubectl scale deployment/… --replicas=0 (and GitOps that would undo that)"
                )

    async def _refuse(self) -> None:
        for key, why in sorted(self.left.items()):
            _say(f"NOT released: {key}: {why}" if key else f"NOT released: {why}")
        stopped = self.stopped
        if stopped is not None and stopped.replicas:
            try:
                await start_again(self.services.client, stopped)
                _say(f"{stopped} runs again, so that the policies are followed")
            except ClusterFault as fault:
                _say(f"{stopped} is still stopped; start it again: {fault.message}")

    async def _show(self) -> int:
        async for body in self._bodies():
            held = ", ".join(self._held(body)) or "nothing"
            tied = (
                "has the operator's finalizer"
                if holds(body)
                else "does not have the operator's finalizer"
            )
            _say(f"{_key(body)}: holds {held}; {tied}")
        return 0

    def _held(self, body: Json) -> list[str]:
        """What would be released."""
        status: QueueBacklogPolicyStatus = self.services.statuses.current(body)
        words = []
        for action in held_by_us(status, "", str(body["metadata"]["uid"])):
            match action:
                case Resume(held=held):
                    words.append(f"producer {held.producer} ({held.state})")
                case SetMaximum() as step:
                    words.append(f"the maximum of {step.object}")
                case _:
                    pass  # nothing else is ever held
        return words

    async def _bodies(self) -> AsyncIterator[dict[str, Any]]:
        for namespace in self.namespaces or (None,):
            async for body in self.services.client.pages(POLICIES, namespace):
                if not self.asked.names or body["metadata"]["name"] in self.asked.names:
                    yield dict(body)


def _key(body: Json) -> str:
    meta = body["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def _deployment(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        msg = f"{text!r} is not NAMESPACE/DEPLOYMENT"
        raise argparse.ArgumentTypeError(msg)
    return namespace, name


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        msg = f"{text!r} is no number of seconds above 0"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def _say(line: str) -> None:
    """Progress is for whoever waits: `kubectl logs`, a terminal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
