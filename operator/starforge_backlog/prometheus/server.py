"""Which Prometheus, and who we are there: resolved from a spec and its Secrets, never shown."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import urlsplit

from starforge_backlog.api.prometheus import PrometheusServer
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.snapshot import Reading, Unknown, Why


@dataclass(frozen=True, slots=True)
class Server:
    """A server and a login: what a connection belongs to. Two policies share it only when they
    present the same credentials. Secrets stay out of every representation."""

    url: str
    bearer_token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = field(default=None, repr=False)  # PEM
    server_name: str | None = None
    tenant: str | None = None

    @property
    def key(self) -> tuple[str | bool | None, ...]:
        """What makes two of them the same session; the secrets are not part of it: they rotate."""
        return self.url, self.user, self.bearer_token is None, self.server_name, self.tenant

    @property
    def host(self) -> str:
        """Host and port, for sentences."""
        return urlsplit(self.url).netloc


class Secrets(Protocol):
    """What the policy's `PolicyAccess` offers."""

    def secret(self, value: SecretValue) -> Awaitable[Reading[str]]:
        """The value behind a reference; one that is missing has been invalidated."""

    def invalidate(self, value: SecretValue, reading: Reading[object]) -> None:
        """Read the Secret again next time, if it may be to blame for this."""


async def resolve(spec: PrometheusServer, secrets: Secrets, field_name: str) -> Server | Unknown:
    """The server of a spec. `field_name` stands before what is wrong with a Secret."""
    wanted = {
        "bearerToken": spec.bearer_token,
        "basicAuth.username": spec.basic_auth.username if spec.basic_auth else None,
        "basicAuth.password": spec.basic_auth.password if spec.basic_auth else None,
        "tls.ca": spec.tls.ca if spec.tls else None,
    }
    found: dict[str, str | None] = dict.fromkeys(wanted)
    for name, reference in wanted.items():
        if reference is None:
            continue
        reading = await secrets.secret(reference)
        if isinstance(reading, Unknown):
            return replace(reading, message=f"{field_name}.{name}: {reading.message}")
        if name != "tls.ca" and not reading.value.isprintable():
            # A header cannot hold it, and what refuses it would repeat it.
            ref = reference.secret_key_ref
            message = f"Secret {ref.name}, key {ref.key} holds line breaks or control characters"
            message = f"{field_name}.{name}: {message}"
            wrong = Unknown(Why.SECRET_MALFORMED, message, reading.at, names_secret=True)
            secrets.invalidate(reference, wrong)
            return wrong
        found[name] = reading.value
    return Server(
        url=spec.url.rstrip("/"),
        bearer_token=found["bearerToken"],
        user=found["basicAuth.username"],
        password=found["basicAuth.password"],
        ca=found["tls.ca"],
        server_name=spec.tls.server_name if spec.tls else None,
        tenant=spec.tenant,
    )


def invalidate(spec: PrometheusServer, secrets: Secrets, reading: Reading[object]) -> None:
    """After a refusal: the Secrets of this server may have been rotated."""
    if not isinstance(reading, Unknown):
        return
    if reading.why is Why.TLS_FAILED and spec.tls is not None and spec.tls.ca is not None:
        secrets.invalidate(spec.tls.ca, reading)
    if reading.why in {Why.WRONG_PASSWORD, Why.NO_PERMISSION}:
        # A proxy that checks tokens answers 403 where the wrong one is in the Secret.
        refused = replace(reading, why=Why.WRONG_PASSWORD)
        login = [spec.bearer_token]
        if spec.basic_auth is not None:
            login += [spec.basic_auth.username, spec.basic_auth.password]
        for reference in login:
            if reference is not None:
                secrets.invalidate(reference, refused)
