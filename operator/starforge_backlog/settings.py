"""Settings of the process, from the environment: one frozen model, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "STARFORGE_"


class LogFormat(StrEnum):
    """JSON for machines, text for people."""

    JSON = "json"
    TEXT = "text"


class BadSettings(Exception):
    """The environment cannot be used; the text names the variable and the fix."""


class Settings(BaseModel):
    """What the chart sets. Every field is the environment variable `STARFORGE_<NAME>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Where /healthz, /readyz and /metrics are served; the pod's own address inside a cluster.
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=8080, ge=0, le=65535)
    log_format: LogFormat = LogFormat.JSON
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    # Comma separated; empty: all namespaces, which needs a ClusterRole.
    watch_namespaces: str = ""
    # Who we are in Events: the pod's name.
    pod_name: str = "starforge-backlog"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to watch; none means all."""
        return tuple(n.strip() for n in self.watch_namespaces.split(",") if n.strip())

    def without(self, left_out: Collection[str]) -> Settings:
        """The same without some of the namespaces."""
        kept = ",".join(name for name in self.namespaces if name not in left_out)
        return self.model_copy(update={"watch_namespaces": kept})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read `STARFORGE_*`. Raises BadSettings, naming each wrong variable."""
        values = {
            name: environ[PREFIX + name.upper()]
            for name in cls.model_fields
            if PREFIX + name.upper() in environ
        }
        try:
            return cls.model_validate(values)
        except ValidationError as wrong:
            lines = [
                f"{PREFIX}{str(error['loc'][0]).upper()}: {error['msg']} (got {error['input']!r})"
                for error in wrong.errors()
            ]
            raise BadSettings("; ".join(lines)) from wrong
