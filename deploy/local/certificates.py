"""A small certificate authority for one run: every connection of the cluster is verified TLS.

Elliptic keys, because a run needs half a dozen and RSA would take a second for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=30)
CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True)
class KeyPair:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServerTls:
    """How a server of this machine speaks TLS."""

    pair: KeyPair
    authority: Path
    """What clients verify the server against, and the server its clients."""
    client_certificates: bool = False
    """Whether clients must show a certificate too."""


class Authority:
    """Signs certificates into `folder`; `folder/ca.crt` is what everybody verifies against."""

    def __init__(self, folder: Path, *, key_usage: bool = True) -> None:
        """Without `key_usage` it is as a plain `openssl req -x509` makes one."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.folder = folder
        self.certificate_file = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "starforge-local")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(self._name, self._key.public_key(), self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(self._subject_key(), critical=False)
        )
        if key_usage:
            builder = builder.add_extension(usage, critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        _write(self.certificate_file, _pem(self._certificate))

    def issue(
        self,
        name: str,
        *,
        groups: Sequence[str] = (),
        hosts: Sequence[str] = (),
        lifetime: timedelta = LIFETIME,
    ) -> KeyPair:
        """A certificate for a server (its `hosts`) or for a client (its name and `groups`). One of
        a negative `lifetime` has expired; it began `CLOCK_SLACK` ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            self._subject_key()
        )
        builder = (
            _builder(subject, key.public_key(), self._name, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(signed_by, critical=False)
        )
        if hosts:
            alternatives = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(alternatives, critical=False)
        file = name.replace(":", "-").replace("/", "-")
        pair = KeyPair(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        _write(pair.certificate, _pem(builder.sign(self._key, hashes.SHA256())))
        _write(pair.key, _private_pem(key))
        return pair

    def server_tls(self, name: str, *hosts: str, client_certificates: bool = False) -> ServerTls:
        """For a server on `hosts` (this machine, if none is named)."""
        pair = self.issue(name, hosts=hosts or ("127.0.0.1", "localhost"))
        return ServerTls(pair, self.certificate_file, client_certificates)

    def _subject_key(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


def signing_key(folder: Path, name: str) -> KeyPair:
    """A bare key pair, for what is signed without a certificate: ServiceAccount tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pair = KeyPair(folder / f"{name}.pub", folder / f"{name}.key")
    _write(pair.certificate, public)
    _write(pair.key, _private_pem(key))
    return pair


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    lifetime: timedelta = LIFETIME,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + lifetime)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
