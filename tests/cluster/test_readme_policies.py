"""Every policy that a page shows is one: applied by kubectl to a real API server, as people do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.cluster.crd_examples import minimal
from tests.cluster.crd_policies import Policies

from local.cluster import LocalCluster
from starforge_backlog.api.policy import QueueBacklogPolicySpec

pytestmark = pytest.mark.cluster

ROOT: Final = Path(__file__).parents[2]
NAMESPACE: Final = "readme-policies"
PAGES: Final = (ROOT / "README.md", *sorted(ROOT.joinpath("docs").rglob("*.md")))
FIELDS: Final = {field.alias for field in QueueBacklogPolicySpec.model_fields.values()}
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _shown() -> Iterator[Any]:
    """Whole policies, and parts of a spec, which people write into the smallest policy."""
    for page in PAGES:
        for number, text in enumerate(_YAML.findall(page.read_text()), start=1):
            shown = yaml.safe_load(text)
            policy = minimal()
            if "kind" in shown:
                policy = shown
            elif shown.keys() <= FIELDS:
                policy["spec"].update(shown)
            else:
                continue  # values of the chart
            policy["metadata"]["namespace"] = NAMESPACE
            yield pytest.param(policy, id=f"{page.relative_to(ROOT)}-{number}")


SHOWN: Final = tuple(_shown())


@pytest.fixture(scope="module", autouse=True)
def policies(cluster: LocalCluster) -> Iterator[Policies]:
    """A namespace of a real API server with the CRD as it is committed."""
    yield from Policies.opened(cluster, NAMESPACE)


@pytest.mark.parametrize("policy", SHOWN)
def test_the_api_server_takes_it(cluster: LocalCluster, policy: dict[str, Any]) -> None:
    served = cluster.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"),
        stdin=yaml.safe_dump(policy),
    )
    QueueBacklogPolicySpec.model_validate(yaml.safe_load(served)["spec"])


def test_each_kind_of_queue_and_each_way_to_pause_is_shown() -> None:
    """In the README alone."""
    specs = [p.values[0]["spec"] for p in SHOWN if str(p.id).startswith("README")]
    queues = {kind for spec in specs for queue in spec["queues"] for kind in queue}
    assert {"postgres", "bullmq", "prometheus", "signals"} <= queues
    ways = {way for spec in specs for producer in spec.get("producers", ()) for way in producer}
    assert ways - {"name"} == {
        *("featureFlag", "configMap", "webhook", "workload"),
        *("queue", "backfillJobs", "jobTypes"),
    }
