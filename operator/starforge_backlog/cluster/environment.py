"""A container's environment as the kubelet would resolve it, one variable at a time.

Only what is asked for is read: a Secret that no asked variable refers to is never fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from starforge_backlog.cluster.client import CONFIG_MAPS, SECRETS, Json
from starforge_backlog.cluster.secrets import KeyValueStore, pick
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

# Where the database's address usually is: read first.
DATABASE_URL = "DATABASE_URL"
# libpq takes the user from here when no URL names one.
PG_USER = "PGUSER"
# Variables worth reading a Secret for when searching for a database's user. Others are not read.
_DATABASE_LIKE = re.compile(r"(DATABASE|POSTGRES|PG|DB|SQL).*(URL|URI|DSN)|^(URL|URI|DSN)$", re.I)
_POSTGRES_SCHEMES = frozenset({"postgres", "postgresql"})
# `$(NAME)` is replaced by the kubelet, `$$(NAME)` is an escaped one.
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


class Origin(StrEnum):
    """Where a value stands, for messages: values of Secrets are never quoted."""

    PLAIN = "value"
    EXPANDED = "value, by other variables"  # $(NAME), which may stand anywhere
    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105 - a word, not a secret
    FIELD = "fieldRef"  # the pod's own name or limits: not known before the pod is


@dataclass(frozen=True, slots=True)
class EnvValue:
    """A variable's value in one container."""

    container: str
    name: str
    value: str
    origin: Origin

    def __repr__(self) -> str:  # a traceback must not show passwords
        return f"EnvValue({self.container}, {self.name}, {self.origin})"


@dataclass(frozen=True, slots=True)
class _Name:
    name: str
    key: str


class Environment:
    """The environment of one pod template."""

    def __init__(self, store: KeyValueStore, namespace: str, containers: Sequence[Json]) -> None:
        self._store = store
        self._namespace = namespace
        self._containers = containers

    @property
    def containers(self) -> list[str]:
        """Names of the containers, in the order of the template."""
        return [str(container.get("name")) for container in self._containers]

    async def find_all(self, name: str) -> list[Reading[EnvValue]]:
        """The variable in each container that has it: all of them run at the same time."""
        found = [await self._lookup(container, name) for container in self._containers]
        return [reading for reading in found if reading is not None]

    async def database_role(self, container: str) -> str | None:
        """The database user that this container, else another, connects as, where it shows."""
        for candidate in sorted(self._containers, key=lambda c: c.get("name") != container):
            for name in _role_candidates(candidate):
                found = await self._lookup(candidate, name)
                if isinstance(found, Known):
                    role = user_of(found.value.value)
                    if role is not None:
                        return role
            user = await self._lookup(candidate, PG_USER)
            if isinstance(user, Known) and user.value.value:
                return user.value.value
        return None

    async def _lookup(self, container: Json, name: str) -> Reading[EnvValue] | None:
        """Kubernetes' precedence: `env` over `envFrom`, and in each the last one wins."""
        entries: Sequence[Json] = container.get("env") or ()
        for index in range(len(entries) - 1, -1, -1):
            if entries[index].get("name") == name:
                found = await self._entry(container, entries[index], entries[:index])
                if found is not None:
                    return found
        for source in reversed(container.get("envFrom") or ()):
            found = await self._from_source(container, source, name)
            if found is not None:
                return found
        return None

    async def _entry(
        self, container: Json, entry: Json, before: Sequence[Json]
    ) -> Reading[EnvValue] | None:
        name, where = str(entry["name"]), str(container.get("name"))
        source = entry.get("valueFrom")
        if not source:
            written = str(entry.get("value") or "")
            text = await self._expand(container, written, before)
            origin = Origin.PLAIN if text == written else Origin.EXPANDED
            return self._known(where, name, text, origin)
        for field, resource, origin in (
            ("configMapKeyRef", CONFIG_MAPS, Origin.CONFIG_MAP),
            ("secretKeyRef", SECRETS, Origin.SECRET),
        ):
            ref = source.get(field)
            if ref:
                key = _Name(str(ref.get("name")), str(ref.get("key")))
                found = await self._store.read(resource, self._namespace, key.name)
                value = pick(found, origin, self._namespace, key)
                if isinstance(value, Known):
                    return self._known(where, name, value.value, origin)
                missing = value.why in {Why.SECRET_NOT_FOUND, Why.SECRET_KEY_MISSING}
                return None if missing and ref.get("optional") else value
        return self._known(where, name, "", Origin.FIELD)

    async def _from_source(
        self, container: Json, source: Json, name: str
    ) -> Reading[EnvValue] | None:
        prefix = str(source.get("prefix") or "")
        if not name.startswith(prefix):
            return None
        for field, resource, origin in (
            ("configMapRef", CONFIG_MAPS, Origin.CONFIG_MAP),
            ("secretRef", SECRETS, Origin.SECRET),
        ):
            ref = source.get(field)
            if not ref:
                continue
            found = await self._store.read(resource, self._namespace, str(ref.get("name")))
            if isinstance(found, Unknown):
                if found.why is Why.SECRET_NOT_FOUND and ref.get("optional"):
                    return None
                return found
            value = found.value.data.get(name.removeprefix(prefix))
            if value is not None:
                return self._known(str(container.get("name")), name, value, origin)
        return None

    async def _expand(self, container: Json, text: str, before: Sequence[Json]) -> str:
        """Replace `$(NAME)` by variables defined earlier; one that is not known stays as it is."""
        if "$" not in text:
            return text
        earlier: Mapping[str, object] = {**container, "env": before}
        values = {"": "$"}
        for name in {match[1] for match in _REFERENCE.finditer(text) if match[1]}:
            found = await self._lookup(earlier, name)
            values[name] = found.value.value if isinstance(found, Known) else f"$({name})"
        return _REFERENCE.sub(lambda match: values[match[1] or ""], text)

    def _known(self, container: str, name: str, value: str, origin: Origin) -> Reading[EnvValue]:
        return Known(EnvValue(container, name, value, origin), self._store.now())


def user_of(url: str) -> str | None:
    """The user in a PostgreSQL URL, or None when it is no such URL or names nobody."""
    try:
        parts = urlsplit(url.strip())
        user = parts.username
    except ValueError:
        return None
    if parts.scheme.split("+", 1)[0] not in _POSTGRES_SCHEMES or not user:
        return None
    return unquote(user)


def _role_candidates(container: Json) -> Iterator[str]:
    """Names of variables that may hold the database's URL, the likeliest first."""
    yield DATABASE_URL
    entries: Sequence[Json] = container.get("env") or ()
    for entry in entries:
        if str(entry.get("value") or "").startswith("postgres"):
            yield str(entry["name"])
    for entry in entries:
        if entry.get("valueFrom") and _DATABASE_LIKE.search(str(entry.get("name"))):
            yield str(entry["name"])
