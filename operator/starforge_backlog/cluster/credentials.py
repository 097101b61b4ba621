"""Where the API server is and who we are to it: one source for our own requests and for kopf.

In a pod the ServiceAccount's files, elsewhere KUBECONFIG. Tokens on disk rotate (a projected
token is replaced before its hour is over), so they are read again and again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader
from kubernetes.aio.config.kube_config import load_kube_config

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet replaces a token at 80 % of its life, 10 minutes at the least, so a minute is early.
TOKEN_REREAD_SECONDS = 60.0
DEFAULT_KUBECONFIG = "~/.kube/config"


class NoCluster(Exception):
    """There is nothing to connect to; the message says what to set."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from. Both set to None would be `NoCluster`."""

    service_account: Path | None
    kubeconfig: str | None

    @classmethod
    def find(cls, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> Source:
        """The ServiceAccount's files when we are in a pod, else KUBECONFIG, else ~/.kube/config.

        Raises NoCluster when there is none of them.
        """
        in_pod = bool(environ.get("KUBERNETES_SERVICE_HOST"))
        if in_pod and (service_account / "token").is_file():
            return cls(service_account, None)
        kubeconfig = environ.get("KUBECONFIG") or str(Path(DEFAULT_KUBECONFIG).expanduser())
        paths = [path for path in kubeconfig.split(":") if path]
        if any(Path(path).is_file() for path in paths):
            return cls(None, kubeconfig)
        msg = (
            f"no cluster to talk to: not in a pod, and {kubeconfig} does not exist; set KUBECONFIG"
        )
        if in_pod:
            msg = (
                f"no cluster to talk to: this pod has no {service_account / 'token'}; set"
                " automountServiceAccountToken: true on the pod"
            )
        raise NoCluster(msg)

    async def load_into(self, configuration: Any, environ: Mapping[str, str]) -> None:
        """Fill host, certificates and token into a client configuration.

        Raises NoCluster when the files are there but make no sense.
        """
        try:
            if self.service_account is not None:
                InClusterConfigLoader(
                    token_filename=str(self.service_account / "token"),
                    cert_filename=str(self.service_account / "ca.crt"),
                    # Its own re-reading goes by local time and breaks when the clock jumps.
                    try_refresh_token=False,
                    environ=environ,
                ).load_and_set(configuration)
            else:
                await load_kube_config(
                    config_file=self.kubeconfig,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError, TypeError, AttributeError, yaml.YAMLError) as error:
            # The loader stumbles over an empty or misshapen kubeconfig with a TypeError.
            read = self.service_account or self.kubeconfig
            msg = f"the cluster's configuration cannot be used: {read}: {error}"
            raise NoCluster(msg) from error
        if token := configuration.api_key.get("BearerToken"):
            # A line break at the end of a token file would make every request malformed.
            configuration.api_key["BearerToken"] = token.strip()


class Credentials:
    """The client configuration, kept fresh."""

    def __init__(self, source: Source, environ: Mapping[str, str], configuration: Any) -> None:
        self.configuration = configuration
        self._source = source
        self._environ = environ
        self._read_at = time.monotonic()

    @classmethod
    async def load(
        cls, environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT
    ) -> Credentials:
        """Find and read the configuration. Raises NoCluster with what to set."""
        source = Source.find(environ, service_account)
        configuration = Configuration()
        configuration.disable_strict_ssl_verification = True  # why: see `tls.py`
        await source.load_into(configuration, environ)
        credentials = cls(source, environ, configuration)
        configuration.refresh_api_key_hook = credentials._refresh_when_old
        return credentials

    async def refresh(self) -> None:
        """Read the files again, now: after a 401, or before kopf logs in again."""
        self._read_at = time.monotonic()
        await self._source.load_into(self.configuration, self._environ)

    async def _refresh_when_old(self, _configuration: Any) -> None:
        if time.monotonic() - self._read_at < TOKEN_REREAD_SECONDS:
            return
        try:
            await self.refresh()
        except NoCluster:
            # A mount that is just being swapped: the old token is good for minutes yet, and when
            # it is not, the 401 says so in a condition.
            return

    async def connection_info(self) -> kopf.ConnectionInfo:
        """What kopf's login handler returns. kopf asks again after a 401, so it reads again.

        No expiry is given: kopf closes every open watch when credentials expire, while a token
        that rotated is noticed by its 401 all the same.
        """
        await self.refresh()
        configuration = self.configuration
        header = str(configuration.api_key.get("BearerToken") or "")
        scheme, _, token = header.rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme.capitalize() or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            proxy_url=configuration.proxy,
        )
