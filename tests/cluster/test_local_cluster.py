"""The local cluster keeps its word: what other tests and the demo take for granted about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from local.cluster import LocalCluster, NodeOptions
from local.commands import CommandError
from local.processes import leftovers

pytestmark = pytest.mark.cluster

Object = dict[str, Any]


def container(script: str, **extra: Any) -> Object:
    return {"name": "main", "image": "local/python", "args": ["-c", script], **extra}


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [*containers], **spec},
    }


def deployment(name: str, replicas: int, template: Object, **annotations: str) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": template["spec"],
            },
        },
    }


FOREVER = "import time; time.sleep(3600)"
SERVER = (
    "import http.server, os;"
    "http.server.HTTPServer((os.environ['POD_IP'], 8080),"
    " http.server.SimpleHTTPRequestHandler).serve_forever()"
)
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def log_of(cluster: LocalCluster, namespace: str, name: str) -> str:
    path = cluster.run_dir / "pods" / f"{namespace}_{name}_main.log"
    return path.read_text() if path.exists() else ""


def main_status(cluster: LocalCluster, namespace: str, name: str) -> Object:
    found = cluster.get("pod", name, "-n", namespace)["status"].get("containerStatuses")
    status: Object = found[0] if found else {}
    return status


def test_deployment_of_real_processes_becomes_ready(cluster: LocalCluster, namespace: str) -> None:
    """Two servers on the same port, each on its own address, ready when their probe says so."""
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    server = container(
        SERVER,
        env=[POD_IP],
        ports=[{"name": "http", "containerPort": 8080}],
        readinessProbe=probe,
    )
    cluster.apply(deployment("web", 2, pod("web", server)), namespace=namespace)
    cluster.wait("-n", namespace, "deployment/web", "--for=condition=Available")
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=110s")
    pods = cluster.get("pods", "-n", namespace)["items"]
    addresses = {p["status"]["podIP"] for p in pods}
    assert len(addresses) == 2
    assert all(p["status"]["phase"] == "Running" for p in pods)
    logs = cluster.kubectl("logs", "-n", namespace, pods[0]["metadata"]["name"])
    assert "GET / HTTP/1.1" in logs


def test_configuration_reaches_the_process(cluster: LocalCluster, namespace: str) -> None:
    """Every way to configure a container, in one that prints what it got."""
    script = (
        "import json, os, sys;"
        "print(json.dumps([dict(os.environ), sys.argv[1:], open(sys.argv[1]).read()]), flush=True);"
        + FOREVER
    )
    printer = container(
        script,
        env=[
            {"name": "PLAIN", "value": "plain"},
            {"name": "EXPANDED", "value": "$(PLAIN)-$(FROM_b)-$$(PLAIN)-$(NOBODY)"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
            {
                "name": "ABSENT",
                "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y", "optional": True}},
            },
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}},
            {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {"name": "FILE", "value": "/etc/app/a.txt"},
            POD_IP,
        ],
        envFrom=[{"prefix": "FROM_", "configMapRef": {"name": "c"}}],
        volumeMounts=[{"name": "config", "mountPath": "/etc/app"}],
        resources={"limits": {"memory": "1Gi"}},
    )
    printer["args"] += ["/etc/app/a.txt", "--name=$(NAME)"]
    printing = pod("p", printer, volumes=[{"name": "config", "configMap": {"name": "c"}}])
    printing["metadata"]["labels"] = {"l": "label"}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            "data": {"a.txt": "file", "b": "bee"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s"},
            "stringData": {"password": "p@ss"},
        },
        printing,
        namespace=namespace,
    )
    cluster.wait("-n", namespace, "pod/p", "--for=condition=Ready")
    seen = cluster.eventually(lambda: log_of(cluster, namespace, "p"), what="the pod's output")
    env, args, content = json.loads(seen)
    expected = {
        "PLAIN": "plain",
        "EXPANDED": "plain-bee-$(PLAIN)-$(NOBODY)",
        "KEY": "p@ss",
        "NAME": "p",
        "LABEL": "label",
        "MIB": str(1 << 30),
        "FROM_b": "bee",
        "FILE": args[0],
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "ABSENT" not in env
    assert env["POD_IP"].startswith("127.")
    assert args[0].startswith(env["LOCAL_ROOT"])
    assert args[1] == "--name=p"
    assert content == "file"


def test_missing_secret_is_a_configuration_error_until_it_is_there(
    cluster: LocalCluster, namespace: str
) -> None:
    env = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}
    cluster.apply(
        pod("p", container(FOREVER, env=[env])),
        pod("q", {"name": "main", "image": "example.org/nobody:1"}),
        namespace=namespace,
    )
    reason = "CreateContainerConfigError"
    cluster.eventually(lambda: _waits_for(cluster, namespace, "p", reason, '"late" not found'))
    cluster.kubectl("create", "secret", "generic", "late", "-n", namespace, "--from-literal=k=v")
    cluster.wait("-n", namespace, "pod/p", "--for=condition=Ready")
    cluster.eventually(lambda: _waits_for(cluster, namespace, "q", "ImagePullBackOff", "nobody"))


def _waits_for(cluster: LocalCluster, namespace: str, name: str, reason: str, text: str) -> bool:
    waiting = main_status(cluster, namespace, name).get("state", {}).get("waiting", {})
    return waiting.get("reason") == reason and text in waiting["message"]


def test_crashing_container_backs_off_and_counts_its_restarts(
    cluster: LocalCluster, namespace: str
) -> None:
    cluster.apply(
        deployment("crash", 1, pod("crash", container("raise SystemExit(3)"))), namespace=namespace
    )

    def looping() -> Object | None:
        found = cluster.get("pods", "-n", namespace)["items"][0]
        status: Object = found["status"]["containerStatuses"][0]
        waiting = status["state"].get("waiting", {})
        enough = waiting.get("reason") == "CrashLoopBackOff" and status["restartCount"] >= 1
        return status if enough else None

    status = cluster.eventually(looping, what="CrashLoopBackOff after the first restart")
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert not status["ready"]
    assert cluster.get("pods", "-n", namespace)["items"][0]["status"]["phase"] == "Running"


def test_failed_liveness_probe_restarts(cluster: LocalCluster, namespace: str) -> None:
    dead = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.apply(pod("p", container(FOREVER, livenessProbe=dead)), namespace=namespace)
    status = cluster.eventually(
        lambda: (s := main_status(cluster, namespace, "p")).get("restartCount") and s,
        what="a restart",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 143


def test_killed_process_is_restarted_and_has_another_pid(
    cluster: LocalCluster, namespace: str
) -> None:
    cluster.apply(pod("p", container(FOREVER)), namespace=namespace)
    first = cluster.eventually(lambda: cluster.pid_of("p", namespace), what="a process")
    os.kill(first, signal.SIGKILL)
    status = cluster.eventually(
        lambda: (s := main_status(cluster, namespace, "p"))["restartCount"] and s, what="a restart"
    )
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert cluster.pid_of("p", namespace) != first


def test_deletion_gives_grace_and_then_kills(cluster: LocalCluster, namespace: str) -> None:
    """One pod cleans up on SIGTERM, the other ignores it and is killed after its grace period."""
    polite = (
        "import signal, sys, time;"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)));"
        "print('up', flush=True); time.sleep(3600)"
    )
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(3600)"
    )
    cluster.apply(
        pod("polite", container(polite)),
        pod("deaf", container(deaf), terminationGracePeriodSeconds=1),
        namespace=namespace,
    )
    cluster.eventually(
        lambda: all("up" in log_of(cluster, namespace, name) for name in ("polite", "deaf"))
    )
    began = time.monotonic()
    cluster.kubectl("delete", "pod", "-n", namespace, "polite")
    assert time.monotonic() - began < 28, "its grace is 30 s"
    assert log_of(cluster, namespace, "polite") == "up\nbye\n"
    began = time.monotonic()
    cluster.kubectl("delete", "pod", "-n", namespace, "deaf")
    assert 0.9 < time.monotonic() - began < 28


def test_pod_has_the_rights_of_its_service_account(cluster: LocalCluster, namespace: str) -> None:
    """The reader may list pods and nothing else; the other may not even that."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}}
    kubectl = str(cluster.kubectl.program)
    asking = {
        "name": "main",
        "image": "local/sh",
        "args": ["-c", f"for r in pods secrets; do {kubectl} get $r -o name; echo $r=$?; done"],
    }
    cluster.apply(
        account,
        role,
        binding,
        pod("reader", asking, serviceAccountName="reader", restartPolicy="Never"),
        pod("other", asking, restartPolicy="Never"),
        pod("none", asking, restartPolicy="Never", automountServiceAccountToken=False),
        namespace=namespace,
    )
    for name in ("reader", "other", "none"):
        cluster.wait("-n", namespace, f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded")
    assert "pods=0" in log_of(cluster, namespace, "reader")
    assert "secrets=1" in log_of(cluster, namespace, "reader")
    assert f"system:serviceaccount:{namespace}:reader" in log_of(cluster, namespace, "reader")
    assert "pods=1" in log_of(cluster, namespace, "other")
    assert f"system:serviceaccount:{namespace}:default" in log_of(cluster, namespace, "other")
    assert "pods=1" in log_of(cluster, namespace, "none")
    assert "system:serviceaccount" not in log_of(cluster, namespace, "none")


def test_pods_without_a_process_scale_quickly(cluster: LocalCluster, namespace: str) -> None:
    idle = deployment(
        "idle", 50, pod("idle", container(FOREVER)), **{"local.starforge.dev/process": "none"}
    )
    cluster.apply(idle, namespace=namespace)
    cluster.wait("-n", namespace, "deployment/idle", "--for=jsonpath={.status.readyReplicas}=50")
    cluster.kubectl("scale", "-n", namespace, "deployment/idle", "--replicas=0")
    cluster.eventually(lambda: not cluster.get("pods", "-n", namespace)["items"], what="no pods")


def test_memory_limit_kills(cluster: LocalCluster, namespace: str) -> None:
    greedy = "x = bytearray(200_000_000); import time; time.sleep(3600)"
    limited = container(greedy, resources={"limits": {"memory": "64Mi"}})
    cluster.apply(pod("p", limited, restartPolicy="Never"), namespace=namespace)
    ended = cluster.eventually(
        lambda: main_status(cluster, namespace, "p").get("state", {}).get("terminated"),
        what="the end of the container",
    )
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_init_containers_run_before_the_others(cluster: LocalCluster, namespace: str) -> None:
    scratch = {"name": "scratch", "mountPath": "/scratch"}
    writing = container("import sys; open(sys.argv[1], 'w').write('made')", volumeMounts=[scratch])
    writing["args"].append("/scratch/file")
    writing["name"] = "init"
    reading = container(
        "import sys; print(open(sys.argv[1]).read(), flush=True)", volumeMounts=[scratch]
    )
    reading["args"].append("/scratch/file")
    spec = {
        "restartPolicy": "Never",
        "initContainers": [writing],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    cluster.apply(pod("p", reading, **spec), namespace=namespace)
    cluster.wait("-n", namespace, "pod/p", "--for=jsonpath={.status.phase}=Succeeded")
    assert log_of(cluster, namespace, "p") == "made\n"


def test_job_completes_although_its_sidecar_would_run_for_ever(
    cluster: LocalCluster, namespace: str
) -> None:
    side = {"restartPolicy": "Always", **container(FOREVER), "name": "side"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "initContainers": [side],
                    "containers": [container("print('done', flush=True)")],
                }
            }
        },
    }
    cluster.apply(job, namespace=namespace)
    cluster.wait("-n", namespace, "job/j", "--for=condition=Complete")
    assert cluster.kubectl("logs", "-n", namespace, "job/j", "-c", "main") == "done\n"


def test_refusal_of_the_api_server_can_be_read(cluster: LocalCluster, namespace: str) -> None:
    with pytest.raises(CommandError) as refused:
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Bad Name"}})
    assert "Bad Name" in refused.value.stderr


PARENT = """
import sys, time
from local.cluster import LocalCluster, NodeOptions
cluster = LocalCluster("test-killed", node=NodeOptions())
cluster.start()
cluster.apply(sys.argv[1])
cluster.wait("pod/p", "--for=condition=Ready")
print(cluster.run_dir, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_is_left(how: str) -> None:
    """After an orderly stop, and after SIGKILL of the process that started the cluster."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    forking = pod("p", container(child))
    forking["spec"]["containers"][0]["args"].append(FOREVER)
    if how == "stop":
        with LocalCluster("test-stopped", node=NodeOptions()) as cluster:
            cluster.apply(forking)
            cluster.wait("pod/p", "--for=condition=Ready")
            run_dir = cluster.run_dir
            assert len(leftovers(cluster.run)) >= 7  # four servers, node, container and its child
        assert leftovers(str(run_dir)) == []
    else:
        deploy = str(Path(__file__).parents[2] / "deploy")
        with subprocess.Popen(
            [sys.executable, "-c", PARENT, json.dumps(forking)],
            env={**os.environ, "PYTHONPATH": deploy},
            stdout=subprocess.PIPE,
            text=True,
        ) as parent:
            assert parent.stdout is not None
            run_dir = Path(parent.stdout.readline().strip())
            assert len(leftovers(str(run_dir))) >= 6
            parent.kill()
        deadline = time.monotonic() + 60
        while leftovers(str(run_dir)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert leftovers(str(run_dir)) == []
    assert not (run_dir / "etcd").exists() or how == "kill"
