"""Who we are and whom we trust: against a real Prometheus where it can ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from tests.prometheus.conftest import question
from tests.prometheus.test_outages import serving

from local.certificates import Authority, ServerTls
from local.prometheus import PrometheusServer
from starforge_backlog.api.prometheus import PrometheusQueue
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.server import Server, invalidate, resolve
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

pytestmark = pytest.mark.prometheus

Start = Callable[..., PrometheusServer]
AT = datetime(2026, 1, 1, tzinfo=UTC)


async def ask(hub: PrometheusHub, server: Server) -> Reading[float]:
    return await hub.get(server, owner="ns/a").number(question("1"))


async def refused(hub: PrometheusHub, server: Server) -> Unknown:
    reading = await ask(hub, server)
    assert isinstance(reading, Unknown), "it was let in"
    return reading


async def test_user_and_password(start_prometheus: Start, hub: PrometheusHub) -> None:
    prometheus = start_prometheus(login=True)
    login = Server(prometheus.url, user=prometheus.user, password=prometheus.password)
    assert isinstance(await ask(hub, login), Known)
    wrong = await refused(hub, replace(login, password="n0t-this-one"))
    assert wrong.why is Why.WRONG_PASSWORD
    assert "n0t-this-one" not in wrong.message
    nobody = await refused(hub, Server(prometheus.url))
    assert nobody.why is Why.WRONG_PASSWORD


async def test_a_rotated_password_is_tried_at_once(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    prometheus = start_prometheus(login=True)
    right = Server(prometheus.url, user=prometheus.user, password=prometheus.password)
    before = hub.get(replace(right, password="old"), owner="ns/a")
    assert isinstance(await before.number(question("1")), Unknown)
    after = hub.get(right, owner="ns/a")
    assert after is before, "what is remembered beside it stays"
    assert isinstance(await after.number(question("2")), Known)


async def test_logins_are_not_shared(start_prometheus: Start, hub: PrometheusHub) -> None:
    """Whoever knows the address must not read with the password of another client's Secret."""
    prometheus = start_prometheus(login=True)
    login = Server(prometheus.url, user=prometheus.user, password=prometheus.password)
    assert isinstance(await hub.get(login, owner="ns/a").number(question("1")), Known)
    thief = hub.get(replace(login, password="guess"), owner="ns/b")
    assert isinstance(await thief.number(question("1")), Unknown)
    assert isinstance(await hub.get(login, owner="ns/a").number(question("2")), Known)


async def test_token_and_tenant_are_headers(hub: PrometheusHub) -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        data = {"resultType": "scalar", "result": [1, "5"]}
        return web.json_response({"status": "success", "data": data})

    async with serving(answer) as url:
        reading = await ask(hub, Server(url, bearer_token="t0ken", tenant="etl"))
    assert isinstance(reading, Known)
    assert seen[0]["Authorization"] == "Bearer t0ken"
    assert seen[0]["X-Scope-OrgID"] == "etl"


@pytest.mark.parametrize(("status", "why"), [(401, Why.WRONG_PASSWORD), (403, Why.NO_PERMISSION)])
async def test_a_token_that_is_refused(hub: PrometheusHub, status: int, why: Why) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, text="no t0ken here")

    async with serving(refuse) as url:
        reading = await refused(hub, Server(url, bearer_token="t0ken"))
    assert reading.why is why
    assert "t0ken" not in reading.message


async def test_tls_with_an_authority_of_its_own(
    start_prometheus: Start, hub: PrometheusHub, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    prometheus = start_prometheus(tls=authority.server_tls("prometheus"), login=True)
    login = Server(prometheus.url, user=prometheus.user, password=prometheus.password)
    ca = authority.certificate_file.read_text()
    assert isinstance(await ask(hub, replace(login, ca=ca)), Known)
    untrusted = await refused(hub, login)
    assert (untrusted.why, "tls.ca" in untrusted.message) == (Why.TLS_FAILED, True)
    other = Authority(tmp_path / "other").certificate_file.read_text()
    assert (await refused(hub, replace(login, ca=other))).why is Why.TLS_FAILED
    garbage = await refused(hub, replace(login, ca="no certificate"))
    assert garbage.why is Why.SECRET_MALFORMED
    plain = await refused(hub, Server(prometheus.url.replace("https", "http")))
    assert (plain.why, "https://" in plain.message) == (Why.TLS_FAILED, True)


async def test_https_to_a_server_that_speaks_http(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    prometheus = start_prometheus()
    reading = await refused(hub, Server(prometheus.url.replace("http", "https")))
    assert (reading.why, "http://" in reading.message) == (Why.TLS_FAILED, True)


async def test_the_name_of_a_certificate(
    start_prometheus: Start, hub: PrometheusHub, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    tls = authority.server_tls("prometheus", "prometheus.monitoring.svc")
    prometheus = start_prometheus(tls=tls)
    ca = authority.certificate_file.read_text()
    wrong = await refused(hub, Server(prometheus.url, ca=ca))
    assert (wrong.why, "tls.serverName" in wrong.message) == (Why.TLS_FAILED, True)
    named = Server(prometheus.url, ca=ca, server_name="prometheus.monitoring.svc")
    assert isinstance(await ask(hub, named), Known)


async def test_a_certificate_that_has_expired(
    start_prometheus: Start, hub: PrometheusHub, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    expired = authority.issue("p", hosts=("127.0.0.1",), lifetime=timedelta(seconds=-1))
    prometheus = start_prometheus(tls=ServerTls(expired, authority.certificate_file))
    ca = authority.certificate_file.read_text()
    reading = await refused(hub, Server(prometheus.url, ca=ca))
    assert (reading.why, "expired" in reading.message) == (Why.TLS_FAILED, True)


async def test_a_certificate_of_the_client_is_asked_for(
    start_prometheus: Start, hub: PrometheusHub, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    prometheus = start_prometheus(tls=authority.server_tls("p", client_certificates=True))
    reading = await refused(hub, Server(prometheus.url, ca=authority.certificate_file.read_text()))
    assert (reading.why, "client certificate" in reading.message) == (Why.TLS_FAILED, True)


class Secrets:
    """The Secrets of a namespace, and which were invalidated."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.invalidated: list[str] = []

    async def secret(self, value: SecretValue) -> Reading[str]:
        key = value.secret_key_ref.key
        if key not in self.values:
            return Unknown(Why.SECRET_KEY_MISSING, f"no key {key}", AT)
        return Known(self.values[key], AT)

    def invalidate(self, value: SecretValue, reading: Reading[object]) -> None:
        assert isinstance(reading, Unknown)
        self.invalidated.append(f"{value.secret_key_ref.key}: {reading.why}")


def ref(key: str) -> dict[str, object]:
    return {"secretKeyRef": {"name": "prometheus", "key": key}}


SPEC = PrometheusQueue.model_validate(
    {
        "url": "https://prometheus.monitoring/prefix/",
        "basicAuth": {"username": ref("user"), "password": ref("password")},
        "tls": {"ca": ref("ca.crt"), "serverName": "p"},
        "tenant": "etl",
    }
)


async def test_a_server_of_a_spec_shows_no_secret() -> None:
    secrets = Secrets(user="me", password="pa55", **{"ca.crt": "PEM"})
    server = await resolve(SPEC, secrets, "queues[jobs].prometheus")
    assert server == Server(
        "https://prometheus.monitoring/prefix",
        user="me",
        password="pa55",
        ca="PEM",
        server_name="p",
        tenant="etl",
    )
    assert "pa55" not in repr(server)
    assert "pa55" not in str(server)


async def test_a_missing_secret_names_the_field() -> None:
    found = await resolve(SPEC, Secrets(user="me"), "queues[jobs].prometheus")
    assert isinstance(found, Unknown)
    assert found.message.startswith("queues[jobs].prometheus.basicAuth.password: no key")


async def test_a_secret_that_no_header_can_hold_is_not_repeated() -> None:
    secrets = Secrets(user="me", password="pa55\nX-Scope-OrgID: other", **{"ca.crt": "PEM"})
    found = await resolve(SPEC, secrets, "queues[jobs].prometheus")
    assert isinstance(found, Unknown)
    assert found.why is Why.SECRET_MALFORMED
    assert "pa55" not in found.message
    assert secrets.invalidated == ["password: SecretMalformed"]


@pytest.mark.parametrize(
    ("why", "invalidated"),
    [
        (Why.WRONG_PASSWORD, ["user: WrongPassword", "password: WrongPassword"]),
        (Why.NO_PERMISSION, ["user: WrongPassword", "password: WrongPassword"]),
        (Why.TLS_FAILED, ["ca.crt: TLSFailed"]),
        (Why.UNREACHABLE, []),
    ],
)
def test_what_a_fault_invalidates(why: Why, invalidated: list[str]) -> None:
    secrets = Secrets()
    invalidate(SPEC, secrets, Unknown(why, "", AT))
    assert secrets.invalidated == invalidated
    invalidate(SPEC, secrets, Known(1.0, AT))
    assert secrets.invalidated == invalidated
