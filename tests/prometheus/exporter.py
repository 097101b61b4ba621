"""A real exporter in this process, which can be silent, dead, or alive again."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class Exporter:
    """The runbook's metrics, with numbers that a test sets. Counters rise by `rate` per scrape."""

    def __init__(self, **numbers: float) -> None:
        self.gauges: dict[str, float] = numbers
        self.counters: dict[str, float] = {}
        self.rates: dict[str, float] = {}  # per scrape
        self.by_role: dict[str, float] = {}
        registry = CollectorRegistry()
        registry.register(self)
        self._server, self._thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        self.port = self._server.server_port
        self.address = f"127.0.0.1:{self.port}"

    def collect(self) -> Iterator[Metric]:
        for name, value in self.gauges.items():
            yield GaugeMetricFamily(name, name, value=value)
        for name, rate in self.rates.items():
            self.counters[name] = self.counters.get(name, 0.0) + rate
            yield CounterMetricFamily(name, name, value=self.counters[name])
        if self.by_role:
            sessions = GaugeMetricFamily("pg_stat_activity_count", "", labels=("usename", "state"))
            for role, value in self.by_role.items():
                sessions.add_metric((role, "idle"), value)
            yield sessions

    def stop(self) -> None:
        """Connections to it are refused from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
