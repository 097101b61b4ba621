"""Redis URLs as people and platforms write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.url import Address, Kind, Login, parse_url
from starforge_backlog.snapshot import Why


@pytest.mark.parametrize(
    ("text", "kind", "servers", "database", "login", "tls"),
    [
        ("redis://h", Kind.SINGLE, ["h:6379"], 0, Login(), False),
        ("redis://h:7000/3\n", Kind.SINGLE, ["h:7000"], 3, Login(), False),
        ("redis://h?db=4", Kind.SINGLE, ["h:6379"], 4, Login(), False),
        ("redis://:p%40ss@h", Kind.SINGLE, ["h:6379"], 0, Login("", "p@ss"), False),
        ("redis://me:p@ss@h", Kind.SINGLE, ["h:6379"], 0, Login("me", "p@ss"), False),
        ("redis://me:@h", Kind.SINGLE, ["h:6379"], 0, Login("me", ""), False),
        ("REDISS://h/0?family=6", Kind.SINGLE, ["h:6379"], 0, Login(), True),
        ("redis://[::1]:7000", Kind.SINGLE, ["[::1]:7000"], 0, Login(), False),
        (
            "rediss+sentinel://u:p@a,b:1/2?master=m",
            Kind.SENTINEL,
            ["a:26379", "b:1"],
            2,
            Login("u", "p"),
            True,
        ),
        ("redis+cluster://a:1,b:2", Kind.CLUSTER, ["a:1", "b:2"], 0, Login(), False),
        ("rediss+cluster://:p@a", Kind.CLUSTER, ["a:6379"], 0, Login("", "p"), True),
    ],
)
def test_what_a_url_says(
    text: str, kind: Kind, servers: list[str], database: int, login: Login, tls: bool
) -> None:
    url = parse_url(text)
    assert url.key.kind is kind
    assert [str(server) for server in url.servers] == servers
    assert (url.key.database, url.login, url.tls) == (database, login, tls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:6379",
        "postgresql://u:hunter2@h/d",
        "redis://",
        "redis://:hunter2@",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h:0",
        "redis://u:hunter2@h:70000",
        "redis://u:hunter2@h/jobs",
        "redis://u:hunter2@h/" + "9" * 5_000,
        "redis://u:hunter2@h:" + "9" * 5_000,
        "redis://u:hunter2@h/-1",
        "redis://u:12/hunter2@h:6379",  # an unescaped slash: the host would be "u"
        "redis://u:hunter2?x@h",
        "redis://a,b",
        "redis+sentinel://:hunter2@a",
        "redis+cluster://:hunter2@a/1",
        "redis+unix://hunter2",
        "redis://hunter2@h",  # a user or a password: drivers differ
        "redis://h?database=3",
        "redis://h?hunter2",
        "redis+sentinel://h?master=m&sentinelUser=hunter2",
    ],
)
def test_a_url_that_is_none_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(RedisFault) as caught:
        parse_url(text)
    assert caught.value.why is Why.SECRET_MALFORMED
    assert "hunter2" not in caught.value.message
    assert "redis://user:password@host" in caught.value.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://h", "redis://default:@H:6379/0"),
        ("redis://:a@h", "rediss://default:b@h/0"),
        ("redis+sentinel://a,b/1?master=m", "redis+sentinel://b:26379,a/1?master=m&family=6"),
        ("redis+cluster://a,b", "redis+cluster://b,a:6379/0"),
    ],
)
def test_one_connection_however_it_is_spelt(one: str, other: str) -> None:
    assert parse_url(one).key == parse_url(other).key


@pytest.mark.parametrize(
    "other",
    ["redis://h:1", "redis://h/1", "redis://u:@h", "redis+cluster://h", "redis://h2"],
)
def test_another_server_database_or_user_is_another_connection(other: str) -> None:
    assert parse_url("redis://h").key != parse_url(other).key


def test_another_authority_or_password_is_the_same_connection_with_other_credentials() -> None:
    plain = parse_url("rediss://:a@h")
    for other in (
        parse_url("rediss://:b@h"),
        parse_url("rediss://:a@h", ca="pem"),
        parse_url("rediss://:a@h", server_name="x"),
    ):
        assert other.key == plain.key
        assert other != plain
    # Without TLS there is nobody to trust.
    assert parse_url("redis://:a@h", ca="pem") == parse_url("redis://:a@h")


def test_nothing_secret_is_shown() -> None:
    url = parse_url("rediss+sentinel://u:hunter2@h?master=m&sentinelPassword=hunter2", ca="hunter2")
    assert url.sentinel_login.password == "hunter2"
    assert "hunter2" not in repr(url)


def test_an_option_that_is_not_read_is_named_and_none_is_dropped_in_silence() -> None:
    with pytest.raises(RedisFault, match="has an option sentinelUser that the operator does not"):
        parse_url("redis+sentinel://h?master=m&sentinelUser=x")


@pytest.mark.parametrize(
    "options",
    [
        "allowUsernameInURI=true&enableAutoPipelining=true",  # ioredis
        "dial_timeout=5s&read_timeout=3s&pool_size=10&max_retries=3&skip_verify=true",  # go-redis
        "ssl_cert_reqs=none&ssl_min_version=771&retry_on_timeout=true",  # redis-py
    ],
)
def test_what_concerns_the_application_s_driver_alone_is_ignored(options: str) -> None:
    assert parse_url(f"rediss://u:p@h:6380/4?{options}") == parse_url("rediss://u:p@h:6380/4")


def test_a_plus_in_a_query_is_a_plus() -> None:
    url = parse_url("redis+sentinel://h?master=my+main&sentinelPassword=a+b%26%20c")
    assert url.key.master == "my+main"
    assert url.sentinel_login.password == "a+b& c"


_SAFE = "ABCabc019-_.~"


@given(
    user=st.text(_SAFE, max_size=8),
    password=st.text(_SAFE + "@:", max_size=12),
    host=st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{2,5})?", fullmatch=True),
    port=st.integers(1, 65535),
    database=st.integers(0, 15),
)
def test_a_password_with_colons_and_ats_is_read_as_drivers_read_it(
    user: str, password: str, host: str, port: int, database: int
) -> None:
    url = parse_url(f"redis://{user}:{password}@{host}:{port}/{database}")
    assert url.servers == (Address(host, port),)
    assert url.key.database == database
    assert url.login == Login(user, password)


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_fault(text: str) -> None:
    try:
        url = parse_url(text)
    except RedisFault as fault:
        assert fault.why is Why.SECRET_MALFORMED  # noqa: PT017 - either outcome is fine
    else:
        assert url.servers
