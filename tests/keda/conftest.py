"""A cluster with the operator and a real KEDA in it: for `make test-keda`, not `make test`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from tests.e2e.place import Place, installed
from tests.keda.scene import NUMBERS

from local.errors import LocalError
from local.keda import FrontProxy, keda
from local.paths import new_run_dir

# Of the controller: its defaults are 15 s and 5 min, and a story waits for both.
CONTROLLER_FLAGS = (
    "--horizontal-pod-autoscaler-sync-period=3s",
    "--horizontal-pod-autoscaler-downscale-stabilization=5s",
)


@pytest.fixture(scope="session")
def with_keda(pytestconfig: pytest.Config) -> Iterator[Place]:
    """The cluster with KEDA. Where KEDA is not built, `make keda` is named as the fix."""
    run_dir = new_run_dir("keda")
    front = FrontProxy.make(run_dir)
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(
                installed(
                    run_dir,
                    apiserver_flags=front.apiserver_flags(),
                    controller_flags=CONTROLLER_FLAGS,
                )
            )
            stack.enter_context(keda(place.cluster))
        except LocalError as error:
            pytest.fail(f"KEDA did not start: {error}", pytrace=False)
        yield place
        numbers = run_dir / NUMBERS
        if numbers.exists():
            terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")
            terminal.write(f"\n{numbers.read_text()}")
