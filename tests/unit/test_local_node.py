"""The node's pure parts: what the kubelet's rules say, without a cluster."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from local.node.backoff import BackOff
from local.node.configuration import NotConfiguredError, pod_field, resource_field
from local.node.environment import expand
from local.node.images import LocalImage, dump_images, find_image, load_images, python_image
from local.node.quantity import quantity
from local.node.volumes import rewrite


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NOBODY)", "$(NOBODY)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A}", "$A ${A}"),
        ("100%", "100%"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/app", "/root/etc/app"),
        ("/etc/app/a.yaml", "/root/etc/app/a.yaml"),
        ("--config=/etc/app/a.yaml", "--config=/root/etc/app/a.yaml"),
        ("/etc/app/x:/etc/app/y", "/root/etc/app/x:/root/etc/app/y"),
        ("/etc/application", "/etc/application"),
        ("/usr/etc/app", "/usr/etc/app"),
        ("http://host/etc/app", "http://host/etc/app"),
        ("nothing", "nothing"),
    ],
)
def test_rewrite_touches_mounted_paths_only(text: str, expected: str) -> None:
    assert rewrite(text, ["/etc/app"], Path("/root")) == expected


def test_rewrite_prefers_the_deeper_mount_and_ignores_the_root() -> None:
    assert rewrite("/a/b/c", ["/a", "/a/b", "/"], Path("/r")) == "/r/a/b/c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("250m", Decimal("0.25")),
        ("64Mi", 64 << 20),
        ("1k", 1000),
        ("1e3", 1000),
        ("2Gi", 2 << 30),
        ("128974848000m", 128974848),
    ],
)
def test_quantity(text: str, expected: Decimal | int) -> None:
    assert quantity(text) == expected


@pytest.mark.parametrize("text", ["", "12Qi", "x", "1 Mi"])
def test_what_is_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


def test_backoff_doubles_to_a_limit_and_forgets_after_a_long_run() -> None:
    backoff = BackOff(10)
    waits = [backoff.after_run_of(1) for _ in range(8)]
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.after_run_of(600) == 0
    assert backoff.after_run_of(1) == 10


def test_images_are_found_by_name_whatever_registry_and_tag(tmp_path: Path) -> None:
    images = {"app": LocalImage(("a",)), "team/app": LocalImage(("b",)), "py": python_image("-V")}
    assert find_image("app:1.0", images) == images["app"]
    assert find_image("localhost:5000/x/app@sha256:0", images) == images["app"]
    assert find_image("example.org/team/app:v1", images) == images["team/app"]
    assert find_image("myapp", images) is None
    dump_images(images, tmp_path / "images.json")
    assert load_images(tmp_path / "images.json") == images


POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "c"}},
    "spec": {"nodeName": "local", "serviceAccountName": "s"},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['a/b']", "c"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a/b="c"'),
        ("spec.serviceAccountName", "s"),
        ("status.podIP", "127.0.0.2"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_pod_field(path: str, expected: str) -> None:
    assert pod_field(POD, path, pod_ip="127.0.0.2", host_ip="127.0.0.1") == expected


def test_unknown_pod_field_is_named() -> None:
    with pytest.raises(NotConfiguredError, match=r"status\.color"):
        pod_field(POD, "status.color", pod_ip="", host_ip="")


def test_resource_field_rounds_up_and_falls_back_to_the_node() -> None:
    container = {"resources": {"limits": {"cpu": "1500m"}}}
    assert resource_field(container, {"resource": "limits.cpu"}, {}) == "2"
    in_mi = {"resource": "limits.memory", "divisor": "1Mi"}
    assert resource_field(container, in_mi, {"memory": "1Gi"}) == "1024"
