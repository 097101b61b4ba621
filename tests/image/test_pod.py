"""One installation, as an admin would have it: it starts, works, restarts, and goes."""

from __future__ import annotations

import json
import time
from typing import Final

import pytest
from tests.e2e.api import APPS
from tests.e2e.place import NAMESPACE, RELEASE
from tests.e2e.store import RUNNING
from tests.e2e.world import SECRET, TARGET, TRIPS, World
from tests.image.place import RealPlace, image, install, wait_until_ready

# The first one's set-up imports the image, which takes 10 s of a calm machine.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

GRACE_SECONDS: Final = 30.0  # terminationGracePeriodSeconds of the chart
# Below the grace period, at whose end the kubelet kills, and a pass is cut short; on a calm machine
# it takes some seconds.
ENDS_WITHIN: Final = 27.0
WORKS: Final = "import time\nwhile True: time.sleep(60)"
EATS: Final = "import time\ntime.sleep(3)\nkept = [bytearray(1 << 20) for _ in range(1 << 10)]"
ABOUT_ITSELF: Final = """
import errno, json, os
status = dict(l.split(":", 1) for l in open("/proc/self/status") if ":" in l)
try:
    open("/app/written", "w")
    written = 0
except OSError as error:
    written = error.errno
print(json.dumps({
    "uid": os.getuid(), "read_only": written == errno.EROFS,
    "capabilities": int(status["CapEff"], 16), "no_new_privileges": status["NoNewPrivs"].strip(),
    "seccomp": status["Seccomp"].strip(), "home": os.environ.get("HOME"),
}))
"""


def deploy_workers(world: World, code: str, memory: str = "64Mi") -> None:
    """A target whose pods are real ones, of the only image that there is."""
    secret = {"secretKeyRef": {"name": SECRET, "key": "WORKER_URL"}}
    container = {
        "name": "worker",
        "image": ":".join(image()),
        "command": ["python", "-c", code],
        "env": [
            {"name": "DATABASE_URL", "valueFrom": secret},
            {"name": "PG_POOL_MAX", "value": "1"},
        ],
        "resources": {"limits": {"memory": memory}},
    }
    labels = {"app": TARGET}
    world.api.create(
        f"{APPS}/namespaces/{world.namespace}/deployments",
        {
            "metadata": {"name": TARGET},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
                },
            },
        },
    )


def test_it_is_ready_under_the_restricted_security_context(place: RealPlace) -> None:
    assert place.restarts() == 0
    found = json.loads(place.run(ABOUT_ITSELF))
    assert found == {
        "uid": 65532,
        "read_only": True,
        "capabilities": 0,
        "no_new_privileges": "1",
        "seccomp": "2",
        "home": found["home"],
    }
    assert place.probe("healthz") == (200, "ok\n")
    assert place.probe("readyz") == (200, "ok\n")


def test_a_storm_from_steps_to_a_pause_and_back(world: World, place: RealPlace) -> None:
    """The operator reaches a database by its address, the API server by its Service."""
    deploy_workers(world, WORKS)
    world.apply_breaker()
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(lambda: world.store.paused, "the pause")
    world.until(lambda: world.replicas() > 1, "a step")
    world.until(lambda: world.target()["status"].get("readyReplicas", 0) > 1, "its pod is Ready")
    world.store.clear()
    world.until(lambda: world.breaker() == "Closed" and not world.store.paused, "the release")
    lines = place.log()
    assert lines, "kubectl logs shows its lines, each of them JSON"
    assert not [line for line in lines if "exception" in line]
    by = {event["reportingInstance"] for event in world.events()}
    assert by == {place.pod()["metadata"]["name"]}


def test_a_worker_that_the_kernel_kills_is_reported_as_such(world: World) -> None:
    deploy_workers(world, EATS, memory="32Mi")
    world.apply()

    def reported() -> bool:
        found = world.condition("ConsumersHealthy")
        return found["status"] == "False" and "OOMKilled" in json.dumps(found)

    world.until(reported, "the condition names the kernel's kill")


def test_it_ends_within_its_grace_period_and_goes_on_after(world: World, place: RealPlace) -> None:
    """A deleted pod, then a rolling update: the pause of before is still ours."""
    deploy_workers(world, WORKS)
    world.apply_breaker()
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(lambda: world.store.paused and world.pause()["state"] == "Held", "the pause")
    token = world.pause()["token"]

    name = place.pod()["metadata"]["name"]
    began = time.monotonic()
    place.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE, "--wait=true")
    assert time.monotonic() - began < ENDS_WITHIN < GRACE_SECONDS
    wait_until_ready(place.cluster)

    before = place.pod()["metadata"]["name"]
    assert before != name
    install(place.cluster, "upgrade", RELEASE, "--set", "podAnnotations.changed=yes")
    wait_until_ready(place.cluster)
    place.cluster.eventually(
        lambda: place.pod()["metadata"]["name"] != before, what="the pod of before is gone"
    )
    world.until_condition("Ready", "AllReadable")
    assert world.store.paused
    assert world.pause()["token"] == token
    world.store.clear()
    world.until(lambda: world.breaker() == "Closed" and not world.store.paused, "the release")


def test_it_is_uninstalled_in_the_middle_of_a_pause(world: World, place: RealPlace) -> None:
    """The last of this file: the hook's Job runs from the same image, as a pod of its own."""
    deploy_workers(world, WORKS)
    world.apply_breaker()
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(lambda: world.store.paused and world.pause()["state"] == "Held", "the pause")
    place.cluster.helm("uninstall", RELEASE, "-n", NAMESPACE, "--wait", timeout=240)
    assert not world.store.paused
    assert world.store.flag() == RUNNING
    place.cluster.eventually(
        lambda: place.cluster.kubectl("get", "all", "-n", NAMESPACE, "-o", "name") == "",
        within=180,
        what="nothing of it is left in the namespace",
    )
    world.delete()
    world.until_gone()
