"""The parts of a real node that need neither root nor a kernel: addresses, files, archives."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import tarfile
from itertools import combinations
from pathlib import Path

import yaml

from local.certificates import Authority
from local.image.archive import write_archive
from local.kubelet import configuration
from local.kubelet.networks import SLOTS, SPACE, Networks

LINK_NAME_CHARACTERS = 15  # IFNAMSIZ of Linux, less its end


def test_no_two_nodes_share_a_name_or_an_address() -> None:
    nodes = [Networks(slot) for slot in range(SLOTS)]
    assert len({node.name for node in nodes}) == len({node.link for node in nodes}) == SLOTS
    assert all(len(node.link) <= LINK_NAME_CHARACTERS for node in nodes)
    networks = [
        ipaddress.IPv4Network(text, strict=False)
        for node in nodes
        for text in (f"{node.host}/24", node.pods, node.services)
    ]
    assert all(network.subnet_of(SPACE) for network in networks)
    assert not [pair for pair in combinations(networks, 2) if pair[0].overlaps(pair[1])]


def test_the_api_server_and_the_node_are_where_certificates_say() -> None:
    node = Networks(0)
    assert ipaddress.ip_address(node.node) in ipaddress.ip_interface(f"{node.host}/24").network
    assert next(ipaddress.ip_network(node.services).hosts()) == ipaddress.ip_address(
        node.api_service
    )


def test_the_files_of_a_node(tmp_path: Path) -> None:
    node, authority = Networks(1), Authority(tmp_path / "ca")
    kubelet = yaml.safe_load(configuration.kubelet(tmp_path, authority, node).read_text())
    assert kubelet["failCgroupV1"] is False
    assert kubelet["cgroupRoot"] == f"/{node.name}"
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    runtime = configuration.containerd(tmp_path, tmp_path / "data", node).read_text()
    assert f'root = "{tmp_path}/data/containerd"' in runtime
    (bridge,) = json.loads((tmp_path / "cni" / "pods.conflist").read_text())["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": node.pods}]]
    logins = [
        configuration.login(tmp_path, authority, "https://h:1", user)
        for user in ("system:node:x", "system:kube-proxy")
    ]
    assert len(set(logins)) == 2, "one must not overwrite the other"


def test_an_archive_is_what_its_digests_say(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "pause").write_text("#!")
    file = tmp_path / "image.tar"
    write_archive(file, "localhost/pause:1", tmp_path / "tree", entrypoint=("/pause",))
    with tarfile.open(file) as tar:
        content = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]  # files only
    (described,) = json.loads(content["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "localhost/pause:1"
    for name, data in content.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    manifest = json.loads(content["blobs/sha256/" + described["digest"].partition(":")[2]])
    (layer,) = manifest["layers"]
    config = json.loads(content["blobs/sha256/" + manifest["config"]["digest"].partition(":")[2]])
    assert config["rootfs"]["diff_ids"] == [layer["digest"]], "the layer is not compressed"
    assert len(config["history"]) == len(manifest["layers"])
    assert config["config"]["Entrypoint"] == ["/pause"]
