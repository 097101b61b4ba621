"""Autoscalers as people make them, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.cluster.keda import SCALED_OBJECTS, autoscaler, scaled_object
from tests.e2e.place import Place
from tests.e2e.world import SPEC, TARGET, World

Json = dict[str, Any]

HPA: Final = "hpa"
SCALED_OBJECT: Final = "so"
GUARDED: Final[Json] = {"name": TARGET, "guard": {"horizontalPodAutoscaler": HPA}}
GUARDED_BY_KEDA: Final[Json] = {"name": TARGET, "guard": {"scaledObject": SCALED_OBJECT}}
HPAS: Final = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"
SCALED_OBJECTS_OF: Final = "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects"
# The operator sees a new autoscaler after 10 s, and a CRD that was installed after a minute.
SEEN_WITHIN: Final = 300.0

# Stories of a guard: pods of ten connections on a server of a hundred, and room for twenty pods in
# the mind of the autoscaler's owner.
CONNECTIONS: Final = 100
POOL: Final = {"PG_POOL_MAX": "10"}
OWNERS: Final = 20


def install_keda(place: Place) -> None:
    """Its CRD, as a cluster with KEDA has it. KEDA itself does not run here."""
    file = Path(place.run_dir) / "scaledobjects.json"
    file.write_text(json.dumps(SCALED_OBJECTS), "utf-8")
    place.cluster.apply_crds(file)


def make_hpa(world: World, *, minimum: int | None = None, maximum: int = 20) -> None:
    world.api.create(
        HPAS.format(world.namespace), autoscaler(HPA, minimum=minimum, maximum=maximum)
    )


def make_scaled_object(world: World) -> None:
    """One that names no bounds: KEDA takes 0 and 100."""
    world.api.create(SCALED_OBJECTS_OF.format(world.namespace), scaled_object())


def make_kedas_hpa(world: World, maximum: int = 100) -> None:
    """KEDA's own autoscaler of that one, by the name that the others have here."""
    found = the_scaled_object(world)
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": SCALED_OBJECT}
    own = autoscaler(HPA, maximum=maximum, owner={**owner, "uid": found["metadata"]["uid"]})
    world.api.create(HPAS.format(world.namespace), own)
    path = f"{SCALED_OBJECTS_OF.format(world.namespace)}/{SCALED_OBJECT}"
    world.api.patch(f"{path}/status", {"status": {"hpaName": HPA}})


def hpa(world: World) -> Json:
    return world.api.get(f"{HPAS.format(world.namespace)}/{HPA}")


def the_scaled_object(world: World) -> Json:
    return world.api.get(f"{SCALED_OBJECTS_OF.format(world.namespace)}/{SCALED_OBJECT}")


def write_hpa(world: World, **spec: int) -> None:
    """As a pipeline does."""
    world.api.patch(f"{HPAS.format(world.namespace)}/{HPA}", {"spec": spec})


def delete_hpa(world: World) -> None:
    world.api.delete(f"{HPAS.format(world.namespace)}/{HPA}")


def marks(found: Json) -> Json:
    """What the operator put on the object."""
    notes: Json = found["metadata"].get("annotations") or {}
    return {key: value for key, value in notes.items() if "starforge" in key}


def database(headroom: int) -> dict[str, object]:
    return {**SPEC["database"], "headroom": headroom, "pressure": {"utilizationPercent": 100}}


def maximum(world: World) -> int:
    return int(hpa(world)["spec"]["maxReplicas"])


def lowered(world: World, *, headroom: int = 20, replicas: int = 1) -> int:
    """A guarded autoscaler; returns what its maximum was lowered to."""
    world.deploy(replicas=replicas, env=POOL)
    make_hpa(world, maximum=OWNERS)
    world.apply(target=GUARDED, database=database(headroom))
    return world.until(lambda: maximum(world) < OWNERS and maximum(world), "a lower maximum")
