"""One trust on every Python: what 3.13 made stricter must not depend on the image."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from starforge_backlog.tls import same_on_every_python, trusting

HOST = "redis.example"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An authority without *key usage*, as `openssl req -x509` makes it with nothing but a name,
    and the file of a server's key and certificate that it signed."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain authority")])
    ca = (
        _builder(name, name, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    leaf = (
        _builder(subject, name, server.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = serialization.Encoding.PEM
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(key + leaf.public_bytes(pem))
    return ca.public_bytes(pem).decode(), file


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


def shake_hands(client: ssl.SSLContext, file: Path) -> None:
    """A whole handshake in memory. Raises ssl.SSLError when the client refuses."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(file)
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


def test_a_plain_authority_is_trusted(pair: tuple[str, Path]) -> None:
    shake_hands(trusting(pair[0]), pair[1])


def test_what_python_3_13_adds_by_default_is_taken_off(pair: tuple[str, Path]) -> None:
    ca, file = pair
    strict = ssl.create_default_context(cadata=ca)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(strict, file)
    shake_hands(same_on_every_python(strict), file)


def test_nobody_else_is_trusted(pair: tuple[str, Path]) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting(None), pair[1])
    with pytest.raises((ssl.SSLError, ValueError)):
        trusting("no certificate")
