"""A private Prometheus on a free loopback port: the real server, its scraping and its PromQL."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from local import build
from local.certificates import ServerTls
from local.errors import LocalError
from local.processes import wait_until
from local.server import LocalServer
from local.tools import PROMETHEUS

USER = "starforge"
# The hash is checked for every request that carries a password it has not seen yet.
CHEAP_HASH = 4
ANSWER_WITHIN = 60.0

Targets = Mapping[str, Sequence[str]]
"""Name of the job → addresses (`host:port`) whose `/metrics` is read."""


class PrometheusServer(LocalServer):
    """`start` makes one. Its data survives `restart`."""

    def __init__(
        self,
        programs: Mapping[str, Path],
        name: str,
        run_dir: Path,
        *,
        run: str | None,
        targets: Targets,
        interval: float,
        rules: str,
        flags: Sequence[str],
        login: bool,
        tls: ServerTls | None,
    ) -> None:
        super().__init__(name, run_dir, run=run)
        self.user = USER if login else ""
        self.password = secrets.token_urlsafe(18) if login else ""
        self.tls = tls
        self._programs = programs
        self._targets = targets
        self._interval = interval
        self._rules = rules
        self._flags = tuple(flags)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        name: str = "prometheus",
        targets: Targets | None = None,
        interval: float = 1.0,
        rules: str = "",
        history: str = "",
        flags: Sequence[str] = (),
        login: bool = False,
        tls: ServerTls | None = None,
        run: str | None = None,
    ) -> PrometheusServer:
        """`interval`: seconds between scrapes, also the time limit of one, and between rules.
        A scrape that is late marks its series as ended: a quarter of a second is missed on a
        busy machine, and every expression is empty until the next one.

        `rules`: the YAML of a rule file. `history`: OpenMetrics text with timestamps (ends with
        `# EOF`), there before the first scrape. `flags`: as in `("--query.timeout=1s",)`.
        `login`: whether `user` and `password` are asked for.
        """
        server = cls(
            build.ensure(PROMETHEUS.packages, PROMETHEUS),
            name,
            run_dir,
            run=run,
            targets=targets or {},
            interval=interval,
            rules=rules,
            flags=flags,
            login=login,
            tls=tls,
        )
        server.data.mkdir(parents=True)
        try:
            if history:
                server._backfill(history)
            server._start_on_free_port()
        except BaseException:
            server.close()
            raise
        return server

    @property
    def url(self) -> str:
        """Without the login: clients take it as a header."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def retarget(self, targets: Targets) -> None:
        """Read these from now on, and no others."""
        self._targets = targets
        self._write_configuration()
        self._ask("/-/reload", method="POST")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The `result` of an instant query, for tests that wait for a sample."""
        parameters = urllib.parse.urlencode({"query": expression})
        answer: dict[str, Any] = json.loads(self._ask(f"/api/v1/query?{parameters}"))
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for(self, expression: str, *, within: float = 60.0) -> list[dict[str, Any]]:
        """The first result that is not empty."""
        wait_until(
            lambda: bool(self.query(expression)),
            timeout=within,
            what=f"a result of `{expression}`",
            alive=[self._running()],
        )
        return self.query(expression)

    def _backfill(self, history: str) -> None:
        file = self.data / "history.txt"
        file.write_text(history)
        done = subprocess.run(
            [
                *(str(self._programs["promtool"]), "tsdb", "create-blocks-from", "openmetrics"),
                *(str(file), str(self.data / "tsdb")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LocalError(
                f"promtool does not take the history:\n{done.stderr.strip()}\n"
                "It is OpenMetrics text: each sample with a timestamp in seconds, `# EOF` at the "
                "end."
            )

    def _configure(self) -> None:
        self._write_configuration()
        (self.data / "rules.yml").write_text(self._rules)
        web: dict[str, Any] = {}
        if self.password:
            hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(CHEAP_HASH))
            web["basic_auth_users"] = {self.user: hashed.decode()}
        if self.tls is not None:
            web["tls_server_config"] = {
                "cert_file": str(self.tls.pair.certificate),
                "key_file": str(self.tls.pair.key),
                **(
                    {
                        "client_auth_type": "RequireAndVerifyClientCert",
                        "client_ca_file": str(self.tls.authority),
                    }
                    if self.tls.client_certificates
                    else {}
                ),
            }
        (self.data / "web.yml").write_text(yaml.safe_dump(web))

    def _write_configuration(self) -> None:
        interval = f"{round(self._interval * 1000)}ms"
        configuration = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": ["rules.yml"] if self._rules else [],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in self._targets.items()
            ],
        }
        (self.data / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def _command(self) -> Sequence[str | Path]:
        return (
            self._programs["prometheus"],
            f"--config.file={self.data / 'prometheus.yml'}",
            f"--web.config.file={self.data / 'web.yml'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            # Hidden, and five seconds: what the first sample of a new target would wait.
            "--scrape.discovery-reload-interval=100ms",
            f"--storage.tsdb.path={self.data / 'tsdb'}",
            *self._flags,
        )

    def _answers(self) -> bool:
        try:
            self._ask("/-/ready", within=1)
        except LocalError:
            return False
        return True

    def _ask(self, path: str, *, method: str = "GET", within: float = ANSWER_WITHIN) -> str:
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - our own
        if self.password:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        # No proxy of the environment's stands between this machine and itself.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            *([urllib.request.HTTPSHandler(context=self._context())] if self.tls else []),
        )
        try:
            with opener.open(request, timeout=within) as answer:
                text: bytes = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace").strip()
            raise LocalError(
                f"{self.name} answered {path} with {error.code}: {said}. Its log: {self.log}"
            ) from None
        except OSError as error:
            raise LocalError(
                f"{self.name} does not answer {path}: {error}. Its log: {self.log}"
            ) from None
        return text.decode()

    def _context(self) -> ssl.SSLContext:
        """A test may have asked for a certificate that nobody should trust."""
        assert self.tls is not None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self.tls.pair.certificate, self.tls.pair.key)
        return context
