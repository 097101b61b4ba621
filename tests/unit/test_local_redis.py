"""The private Redis: logins, TLS, the ways it can be made to fail, and a failover."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from local.certificates import Authority
from local.errors import LocalError
from local.processes import leftovers
from local.redis import ALL_SLOTS, RedisServer
from local.redis_failover import MASTER_NAME, RedisFailover
from local.redis_programs import find_redis_62

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Of its own: these tests stop and freeze it."""
    started = RedisServer.start(
        tmp_path_factory.mktemp("redis"),
        users={"watcher": "on >secret ~bull:* +@read"},
        settings={"appendonly": True, "appendfsync": "always", "maxmemory": "64mb"},
    )
    yield started
    started.close()


def test_passwords_and_rules_are_checked(server: RedisServer) -> None:
    with (
        redis.Redis.from_url(server.url(password="wrong")) as refused,
        pytest.raises(redis.AuthenticationError),
    ):
        refused.ping()
    with redis.Redis.from_url(server.url(user="watcher", password="secret")) as watcher:
        assert watcher.get("bull:x") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            watcher.set("bull:x", "1")


def test_settings_are_those_asked_for(server: RedisServer) -> None:
    with server.client() as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}


def test_what_was_on_disk_survives_a_kill(server: RedisServer) -> None:
    with server.client() as client:
        client.set("kept", "7")
    before = server.url(), server.pid
    server.kill()
    assert not server.running
    server.restart()
    assert server.url() == before[0]
    assert server.pid != before[1]
    with server.client() as client:
        assert client.get("kept") == "7"


def test_frozen_it_does_not_answer_and_thawed_it_does(server: RedisServer) -> None:
    with server.client(timeout=0.3) as client:
        server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.thaw()
    with server.client() as client:
        assert client.ping()


def test_tls_is_verified(tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").server_tls("redis", client_certificates=True)
    server = RedisServer.start(tmp_path, tls=tls)
    try:
        assert server.url().startswith("rediss://")
        shown = {"ssl_certfile": str(tls.pair.certificate), "ssl_keyfile": str(tls.pair.key)}
        trusted = {"ssl_ca_certs": str(tls.authority)}
        with redis.Redis.from_url(server.url(), **trusted, **shown) as client:
            assert client.ping()
            server.restart()
            assert client.ping()
        with (
            redis.Redis.from_url(server.url(), **shown) as client,
            pytest.raises(redis.ConnectionError, match="certificate verify failed"),
        ):
            client.ping()
        with (
            redis.Redis.from_url(server.url(), **trusted) as client,
            pytest.raises((redis.ConnectionError, ssl.SSLError)),
        ):
            client.ping()
    finally:
        server.close()


def test_one_node_has_all_slots_of_a_cluster(tmp_path: Path) -> None:
    server = RedisServer.start(tmp_path, slots=ALL_SLOTS)
    try:
        with redis.RedisCluster.from_url(server.url()) as client:
            client.set("{a}x", "1")
            client.set("{b}x", "1")
        with (
            server.client() as client,
            pytest.raises(redis.ResponseError, match="same slot"),
        ):
            client.mget("{a}x", "{b}x")
    finally:
        server.close()


def test_the_oldest_supported_one(tmp_path: Path) -> None:
    try:
        program = find_redis_62()
    except LocalError as error:
        pytest.skip(f"there is no Redis 6.2 for this machine: {error}")
    server = RedisServer.start(tmp_path, program=program)
    try:
        assert server.info("server")["redis_version"].startswith("6.2.")
    finally:
        server.close()


def test_a_failover_and_a_lost_master(tmp_path: Path) -> None:
    pair = RedisFailover.start(tmp_path)
    try:
        first = pair.master
        second = pair.fail_over()
        assert second is not first
        with pair.sentinel.client() as client:
            address = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        assert int(address[1]) == second.port
    finally:
        pair.close()
    assert not leftovers(str(tmp_path))


def test_a_killed_master_is_replaced(tmp_path: Path) -> None:
    pair = RedisFailover.start(tmp_path)
    try:
        with pair.master.client() as client:
            client.set("kept", "7")
            client.wait(1, 5000)
        with pair.kill_master().client() as client:
            assert client.get("kept") == "7"
    finally:
        pair.close()
