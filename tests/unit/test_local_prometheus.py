"""The private Prometheus: it scrapes, it can be given a past, it asks for logins and TLS."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from local.certificates import Authority
from local.errors import LocalError
from local.ports import free_ports
from local.processes import leftovers
from local.prometheus import PrometheusServer

pytestmark = pytest.mark.prometheus


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a metrics page that says `backlog 7`."""
    registry = CollectorRegistry()
    Gauge("backlog", "Jobs that wait.", registry=registry).set(7)
    (port,) = free_ports(1)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    yield f"127.0.0.1:{port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_reads_what_it_is_pointed_at(tmp_path: Path, page: str) -> None:
    server = PrometheusServer.start(tmp_path, interval=0.2, rules=RULES)
    try:
        assert server.query("backlog") == []
        server.retarget({"jobs": [page]})
        (sample,) = server.wait_for("twice_the_backlog")
        assert sample["value"][1] == "14"
        assert sample["metric"]["job"] == "jobs"
        server.kill()
        server.restart()
        assert server.wait_for("backlog")
    finally:
        server.close()
    assert not leftovers(str(tmp_path))


RULES = """
groups:
  - name: backlog
    rules:
      - {record: twice_the_backlog, expr: 2 * backlog}
"""


def test_it_has_the_past_that_it_is_given(tmp_path: Path) -> None:
    start = time.time() - 3600
    past = "".join(f'backlog{{queue="etl"}} {n} {start + 15 * n:.3f}\n' for n in range(240))
    server = PrometheusServer.start(tmp_path, history=f"# TYPE backlog gauge\n{past}# EOF\n")
    try:
        (series,) = server.query("max_over_time(backlog[2h])")
        assert float(series["value"][1]) == 239
    finally:
        server.close()


def test_a_bad_past_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="# EOF"):
        PrometheusServer.start(tmp_path, history="backlog 7\n")


def test_login_and_tls_are_checked(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").server_tls("prometheus")
    server = PrometheusServer.start(tmp_path, login=True, tls=tls, flags=("--query.timeout=1s",))
    try:
        trusting = ssl.create_default_context(cafile=tls.authority)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/api/v1/query?query=1", context=trusting)
        assert refused.value.code == 401
        refused.value.close()
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            urllib.request.urlopen(server.url)
        assert server.query("vector(1)")
    finally:
        server.close()
