"""`spec.database.tls`, and the same of PgBouncer: which authorities to trust."""

from __future__ import annotations

from starforge_backlog.api.base import Model
from starforge_backlog.api.secret import SecretValue


class DatabaseTls(Model):
    """Whom to trust when the URL asks for TLS. libpq verifies, as sslmode in the URL says;
    verify-full where it says nothing."""

    ca: SecretValue
    """Certificates (PEM) of the authorities to trust, for example the provider's bundle. Without it
    the URL's sslrootcert=system trusts those of the operator's image."""
