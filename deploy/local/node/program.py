"""From a container's spec to a program that can be started: everything in it resolved."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.node.access import ServiceAccountAccess, mounts_token
from local.node.api import Object
from local.node.configuration import NotConfiguredError, Sources
from local.node.context import NodeContext
from local.node.environment import expand, resolve_environment
from local.node.images import SYSTEM_PATH, LocalImage
from local.node.probes import Surroundings
from local.node.volumes import Volumes, rewrite
from local.processes import RUN_VARIABLE


@dataclass(frozen=True)
class Program:
    argv: tuple[str, ...]
    around: Surroundings


class BadEnvironmentError(NotConfiguredError):
    """What the kubelet calls CreateContainerConfigError."""


async def resolve_program(
    node: NodeContext,
    pod: Object,
    spec: Object,
    image: LocalImage,
    *,
    folder: Path,
    pod_ip: str,
    volumes: Volumes,
    access: ServiceAccountAccess,
) -> Program:
    """Volumes are written first, as a kubelet mounts them before it reads the environment."""
    sources = Sources(node.api, pod["metadata"]["namespace"])
    await volumes.write(sources, access, node.api.access.authority)
    try:
        env = await resolve_environment(
            pod,
            spec,
            sources,
            pod_ip=pod_ip,
            host_ip=node.addresses.node,
            capacity=node.capacity,
        )
    except NotConfiguredError as error:
        raise BadEnvironmentError(str(error)) from error
    root = volumes.root(spec)
    mount_paths = [mount["mountPath"] for mount in spec.get("volumeMounts") or ()]

    def here(text: str) -> str:
        return rewrite(text, mount_paths, root)

    if mounts_token(pod, spec):
        await access.write()
        kubeconfig = str(access.kubeconfig)
    else:
        # Otherwise a client would find the kubeconfig of whoever started us.
        kubeconfig = os.devnull
    around = Surroundings(
        pod_ip=pod_ip,
        ports={
            port["name"]: int(port["containerPort"])
            for port in spec.get("ports") or ()
            if "name" in port
        },
        env={
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "HOSTNAME": pod["metadata"]["name"],
            **image.env,
            "LOCAL_ROOT": str(root),
            "KUBECONFIG": kubeconfig,
            **{name: here(value) for name, value in env.items()},
            RUN_VARIABLE: node.run,
        },
        cwd=_workdir(spec, image, here, root),
        rewrite=here,
    )
    argv = [*(spec.get("command") or image.entrypoint), *(spec.get("args") or ())]
    return Program(tuple(here(expand(part, env)) for part in argv), around)


def _workdir(spec: Object, image: LocalImage, here: Callable[[str], str], root: Path) -> Path:
    wanted = spec.get("workingDir")
    if not wanted:
        return Path(image.workdir)
    if here(wanted) != wanted:
        return Path(here(wanted))
    if Path(wanted).is_dir():
        return Path(wanted)
    place = root / str(wanted).strip("/")
    place.mkdir(parents=True, exist_ok=True)
    return place
