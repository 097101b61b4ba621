"""docs/operations.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from starforge_backlog.report.metrics_catalogue import CATALOGUE

PAGE: Final = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


def test_each_metric_exists() -> None:
    named = set(re.findall(r"starforge_backlog_\w+", re.sub(r"starforge_backlog/\S+", "", PAGE)))
    assert named
    assert named <= {metric.full_name for metric in CATALOGUE}
