"""What can go wrong between us and the API server, each fault with the sentence that fixes it.

Translated once, here, from status codes and socket errors: nothing outside this folder sees
an exception of the client library.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from enum import StrEnum

import aiohttp

from starforge_backlog.api import PLURAL
from starforge_backlog.api.shown import shortened
from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why

_NAMED = "where it lists names, add this one"


def _switch(path: str, switch: str) -> str:
    return f"{path}.{switch}=true ({_NAMED} to {path}.names)"


_PRODUCERS, _AUTOSCALERS = "rbac.producers", "rbac.autoscalers"
_SCALED_OBJECTS = f"{_AUTOSCALERS}.scaledObjects"
_HPAS = f"{_AUTOSCALERS}.horizontalPodAutoscalers"
# Values of charts/starforge-backlog by the resource they grant, and by verb and resource where that
# decides: messages name them as the fix.
CHART_VALUES = {
    "deployments": _switch("rbac.deployments", "scale"),
    "patch deployments": _switch(f"{_PRODUCERS}.deployments", "pause"),
    "statefulsets": _switch("rbac.statefulSets", "scale"),
    "patch statefulsets": _switch(f"{_PRODUCERS}.statefulSets", "pause"),
    "cronjobs": _switch(f"{_PRODUCERS}.cronJobs", "pause"),
    "configmaps": _switch("rbac.configMaps", "read"),
    "patch configmaps": _switch(f"{_PRODUCERS}.configMaps", "pause"),
    "list horizontalpodautoscalers": f"{_HPAS}.detect=true",
    "horizontalpodautoscalers": _switch(_HPAS, "guard"),
    "list scaledobjects": f"{_SCALED_OBJECTS}.detect=true",
    "scaledobjects": _switch(_SCALED_OBJECTS, "guard"),
    "secrets": f"rbac.create=true ({_NAMED} to rbac.secretNames)",
    "pods": "rbac.create=true",
    "events": "rbac.create=true",
    PLURAL: "rbac.create=true",
}
# How the API server begins what an admission webhook refused; that is no lack of a right.
ADMISSION = "admission webhook"
# The cause with which the API server refuses to create anything in a namespace that goes away.
_NAMESPACE_TERMINATING = "NamespaceTerminating"
# Any other resource is a target of another kind.
CHART_TARGETS = "rbac.extraScaleTargets"
# The API server's own words are quoted up to here: enough for a field path, not for a page.
QUOTED_CHARACTERS = 300


class FaultKind(StrEnum):
    """The kinds of answer that callers distinguish."""

    NOT_FOUND = "NotFound"
    CONFLICT = "Conflict"
    FORBIDDEN = "Forbidden"
    DENIED = "Denied"  # by an admission webhook
    NAMESPACE_TERMINATING = "NamespaceTerminating"  # nothing is created in it any more
    UNAUTHORIZED = "Unauthorized"
    INVALID = "Invalid"
    THROTTLED = "Throttled"
    TIMEOUT = "Timeout"
    UNREACHABLE = "Unreachable"
    SERVER = "ServerError"


_WHY: dict[FaultKind, Why] = {
    FaultKind.FORBIDDEN: Why.NO_PERMISSION,
    FaultKind.DENIED: Why.ADMISSION_REFUSED,
    FaultKind.UNAUTHORIZED: Why.NO_PERMISSION,
    FaultKind.TIMEOUT: Why.TIMEOUT,
    FaultKind.THROTTLED: Why.UNREACHABLE,
    FaultKind.UNREACHABLE: Why.UNREACHABLE,
}

_BY_STATUS: dict[int, FaultKind] = {
    401: FaultKind.UNAUTHORIZED,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NOT_FOUND,
    409: FaultKind.CONFLICT,
    410: FaultKind.NOT_FOUND,
    429: FaultKind.THROTTLED,
    503: FaultKind.UNREACHABLE,
    504: FaultKind.TIMEOUT,
}
_FIRST_SERVER_ERROR = 500
_FIRST_CLIENT_ERROR = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the API server, in the words of RBAC."""

    verb: str  # get, list, create, update, patch
    resource: str  # plural, with the subresource: "deployments/scale"
    group: str  # "" is the core group
    namespace: str | None
    name: str | None = None

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f' "{self.name}"' if self.name else ""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{what}{name}{where}"


class ClusterFault(Fault):
    """The API server did not do what was asked. `message` is a sentence that says how to fix it."""

    def __init__(self, kind: FaultKind, why: Why, message: str) -> None:
        super().__init__(why, message)
        self.kind = kind


def fault_from_status(asked: Asked, status: int, body: bytes) -> ClusterFault:
    """Translate an answer that is not 2xx."""
    kind = _BY_STATUS.get(status)
    if kind is None:
        if status >= _FIRST_SERVER_ERROR:
            kind = FaultKind.SERVER
        else:
            kind = FaultKind.INVALID if status >= _FIRST_CLIENT_ERROR else FaultKind.SERVER
    if kind is FaultKind.FORBIDDEN and _NAMESPACE_TERMINATING in _causes(body):
        kind = FaultKind.NAMESPACE_TERMINATING
    said = _said(body)
    if _FIRST_CLIENT_ERROR <= status < _FIRST_SERVER_ERROR and said.startswith(ADMISSION):
        kind = FaultKind.DENIED  # a webhook answers with whatever status it likes
    return ClusterFault(kind, _WHY.get(kind, Why.ERROR), _sentence(kind, asked, status, said))


def fault_from_exception(asked: Asked, error: BaseException) -> ClusterFault:
    """Translate a request that got no answer."""
    if isinstance(error, asyncio.TimeoutError):
        message = f"the API server did not answer in time when asked to {asked.verb} {asked}"
        return ClusterFault(FaultKind.TIMEOUT, Why.TIMEOUT, message)
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLError)):
        message = (
            "the API server's certificate is not trusted; check the certificate authority in the "
            f"kubeconfig or the ServiceAccount's ca.crt ({_quote(str(error))})"
        )
        return ClusterFault(FaultKind.UNREACHABLE, Why.UNREACHABLE, message)
    message = (
        f"the API server cannot be reached to {asked.verb} {asked} "
        f"({type(error).__name__}: {_quote(str(error))})"
    )
    return ClusterFault(FaultKind.UNREACHABLE, Why.UNREACHABLE, message)


def _sentence(kind: FaultKind, asked: Asked, status: int, said: str) -> str:
    match kind:
        case FaultKind.NOT_FOUND:
            return f"{asked} does not exist"
        case FaultKind.CONFLICT:
            return f"{asked} was changed by another client ({said})"
        case FaultKind.DENIED:
            return f"{said}; let it take what the operator writes"
        case FaultKind.FORBIDDEN:
            return f"the operator may not {asked.verb} {asked}; {_grant(asked)}"
        case FaultKind.NAMESPACE_TERMINATING:
            return (
                f"namespace {asked.namespace} is being deleted, so the API server takes no new"
                f" {asked.resource} there"
            )
        case FaultKind.UNAUTHORIZED:
            return (
                f"the API server does not know the operator's credentials (asked to {asked.verb} "
                f"{asked}); check that its ServiceAccount exists and its token is mounted"
            )
        case FaultKind.THROTTLED:
            return f"the API server is too busy to {asked.verb} {asked} (429); the next pass asks"
        case FaultKind.INVALID:
            return f"the API server refused to {asked.verb} {asked} ({status}): {said}"
        case FaultKind.TIMEOUT | FaultKind.UNREACHABLE | FaultKind.SERVER:
            return f"the API server failed to {asked.verb} {asked} ({status}): {said}"


def _grant(asked: Asked) -> str:
    resource = asked.resource.split("/", 1)[0]
    value = CHART_VALUES.get(f"{asked.verb} {asked.resource}") or CHART_VALUES.get(resource)
    if value is not None:
        return f"set the chart value {value}, or grant the verb {asked.verb} to its ServiceAccount"
    kind = f"{resource}.{asked.group}" if asked.group else resource
    return f"add {kind} to the chart value {CHART_TARGETS}"


def _causes(body: bytes) -> set[str]:
    """The reasons in `details.causes` of a `metav1.Status`."""
    parsed = _parsed(body)
    details = parsed.get("details") if isinstance(parsed, dict) else None
    causes = details.get("causes") if isinstance(details, dict) else None
    listed = causes if isinstance(causes, list) else []
    return {str(cause.get("reason")) for cause in listed if isinstance(cause, dict)}


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _said(body: bytes) -> str:
    """The `message` of a `metav1.Status`, or the start of whatever came instead of one."""
    parsed = _parsed(body)
    if isinstance(parsed, dict) and isinstance(parsed.get("message"), str):
        return _quote(parsed["message"])
    return _quote(body.decode(errors="replace"))


def _quote(text: str) -> str:
    return shortened(" ".join(text.split()), QUOTED_CHARACTERS) or "no message"
