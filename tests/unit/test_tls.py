"""One trust on every Python: what 3.13 made stricter must not depend on the image."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from local.certificates import Authority, KeyPair
from starforge_backlog.tls import Refused, same_on_every_python, trusting, why_refused

HOST = "redis.example"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, KeyPair]:
    """An authority without *key usage*, and the pair of a server that it signed."""
    authority = Authority(tmp_path_factory.mktemp("tls"), key_usage=False)
    return authority.certificate_file.read_text(), authority.issue("redis", hosts=(HOST,))


def shake_hands(client: ssl.SSLContext, server: KeyPair) -> None:
    """A whole handshake in memory. Raises ssl.SSLError when the client refuses."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(server.certificate, server.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=HOST),
        there.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):  # a handshake takes two turns of each end
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version()


def test_a_plain_authority_is_trusted(pair: tuple[str, KeyPair]) -> None:
    shake_hands(trusting(pair[0]), pair[1])


def test_what_python_3_13_adds_by_default_is_taken_off(pair: tuple[str, KeyPair]) -> None:
    ca, server = pair
    strict = ssl.create_default_context(cadata=ca)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(strict, server)
    shake_hands(same_on_every_python(strict), server)


def test_nobody_else_is_trusted(pair: tuple[str, KeyPair]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting(None), pair[1])
    with pytest.raises((ssl.SSLError, ValueError)):
        trusting("no certificate")


@pytest.mark.parametrize(
    ("hosts", "lifetime", "why"),
    [
        ((HOST,), timedelta(minutes=-1), Refused.EXPIRED),
        (("elsewhere.example",), timedelta(days=1), Refused.OTHER_NAME),
        (("127.0.0.1",), timedelta(days=1), Refused.OTHER_NAME),
        ((HOST,), timedelta(days=1), Refused.UNKNOWN_AUTHORITY),
    ],
    ids=["expired", "another name", "an address", "another authority"],
)
def test_why_a_certificate_is_refused(
    tmp_path: Path, hosts: tuple[str, ...], lifetime: timedelta, why: Refused
) -> None:
    authority = Authority(tmp_path)
    known = why is not Refused.UNKNOWN_AUTHORITY
    trust = trusting(authority.certificate_file.read_text() if known else None)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake_hands(trust, authority.issue("redis", hosts=hosts, lifetime=lifetime))
    assert why_refused(caught.value) is why


def test_one_that_is_not_valid_yet() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code = 9  # X509_V_ERR_CERT_NOT_YET_VALID
    assert why_refused(error) is Refused.NOT_YET_VALID
