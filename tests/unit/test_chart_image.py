"""What Docker and kind would read, checked without either."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
TEMPLATE = ROOT / "charts" / "starforge-backlog" / "templates" / "deployment.yaml"
IGNORED = ROOT / ".dockerignore"


class Step(NamedTuple):
    """An instruction and its arguments; exec form only, so no shell reads them."""

    name: str
    arguments: list[str]
    stage: int


def steps(text: str) -> list[Step]:
    """Parse a Dockerfile that uses a few instructions in their plainest form."""
    found, stage = [], -1
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        exec_form = name in ("RUN", "ENTRYPOINT", "CMD")
        found.append(Step(name, json.loads(rest) if exec_form else shlex.split(rest), stage))
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[Step]:
    """The steps of the operator's Dockerfile."""
    return steps(DOCKERFILE.read_text(encoding="utf-8"))


def named(found: list[Step], name: str) -> list[Step]:
    """The steps of one kind."""
    return [step for step in found if step.name == name]


def pins(path: str) -> dict[str, set[str]]:
    """`name==version` (and marker) → hashes of a lock file."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            requirement = line.partition(" --hash")[0].strip()
            found[requirement] = set(re.findall(r"--hash=(\S+)", line))
    return found


def test_only_plain_instructions(dockerfile: list[Step]) -> None:
    assert {step.name for step in dockerfile} == {
        "ARG", "FROM", "RUN", "COPY", "ENV", "USER", "ENTRYPOINT",
    }  # fmt: skip
    assert all(step.arguments[0] not in ("sh", "bash") for step in named(dockerfile, "RUN"))


def test_one_base_with_a_version_that_the_operator_supports(dockerfile: list[Step]) -> None:
    (base,) = {step.arguments[0] for step in named(dockerfile, "FROM")}
    assert base == "${BASE}"
    (argument,) = named(dockerfile, "ARG")
    assert argument.stage == -1, "before the first FROM, or it is no argument of that"
    version = re.fullmatch(r"BASE=python:3\.(\d+)-slim", argument.arguments[0])
    assert version is not None
    assert int(version.group(1)) >= 11


def test_copied_files_exist_and_are_not_ignored(dockerfile: list[Step]) -> None:
    kept = [line[1:] for line in IGNORED.read_text("utf-8").splitlines() if line.startswith("!")]
    assert "*" in IGNORED.read_text("utf-8").splitlines()
    from_context = [s for s in named(dockerfile, "COPY") if not s.arguments[0].startswith("--")]
    assert [step.arguments[0] for step in from_context] == ["requirements/runtime.txt", "operator/"]
    for step in from_context:
        source = step.arguments[0].rstrip("/")
        assert (ROOT / source).exists()
        assert any(PurePosixPath(source).is_relative_to(path) for path in kept)


def test_what_is_copied_between_stages_was_made_there(dockerfile: list[Step]) -> None:
    made = " ".join(word for step in dockerfile if step.stage == 0 for word in step.arguments)
    for step in named(dockerfile, "COPY"):
        if step.stage == 1:
            origin, source, target = step.arguments
            assert origin == "--from=packages"
            assert source == target  # a virtual environment knows its own path
            assert source in made


def test_packages_are_installed_as_make_does(dockerfile: list[Step]) -> None:
    (install,) = (s for s in named(dockerfile, "RUN") if "pip" in s.arguments)
    assert install.arguments[1:4] == ["-m", "pip", "install"]
    assert "--require-hashes" in install.arguments
    assert install.arguments[-2:] == ["-r", "/tmp/runtime.txt"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"-m pip install .*--require-hashes -r requirements/dev\.txt", makefile)


def test_the_image_gets_what_the_tests_ran_with() -> None:
    """Each package of the image, with its version and hashes, is in the lock of the tests."""
    runtime, tested = pins("requirements/runtime.txt"), pins("requirements/dev.txt")
    assert runtime
    assert all(runtime.values())
    assert runtime.items() <= tested.items()


def test_it_runs_as_the_chart_says(dockerfile: list[Step]) -> None:
    (user,) = named(dockerfile, "USER")
    (entry,) = named(dockerfile, "ENTRYPOINT")
    chart = TEMPLATE.read_text(encoding="utf-8")
    uid, gid = user.arguments[0].split(":")
    assert f"runAsUser: {uid}\n" in chart
    assert f"runAsGroup: {gid}\n" in chart
    assert f"command: [{', '.join(entry.arguments)}]" in chart


def test_python_finds_the_operator(dockerfile: list[Step]) -> None:
    (environment,) = named(dockerfile, "ENV")
    variables = dict(pair.split("=", 1) for pair in environment.arguments)
    (source, target) = next(
        s.arguments
        for s in named(dockerfile, "COPY")
        if s.stage == 0 and "operator/" in s.arguments
    )
    assert variables["PYTHONPATH"] == target.rstrip("/")
    assert variables["PATH"].split(":")[0] == "/venv/bin"
    module = named(dockerfile, "ENTRYPOINT")[0].arguments[-1]
    assert (ROOT / source / module / "__init__.py").is_file()
    assert not (ROOT / source / "__init__.py").exists()  # it would shadow Python's own `operator`


# kind's v1alpha4 Cluster, written by hand: the fields that are used here, and no others.
KIND = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "apiVersion", "nodes"],
    "properties": {
        "kind": {"const": "Cluster"},
        "apiVersion": {"const": "kind.x-k8s.io/v1alpha4"},
        "name": {"type": "string", "pattern": "^[a-z0-9.-]+$"},
        "networking": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "apiServerAddress": {"const": "127.0.0.1"},
                "apiServerPort": {"type": "integer"},
            },
        },
        "nodes": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["role"],
                "properties": {
                    "role": {"enum": ["control-plane", "worker"]},
                    "image": {"type": "string"},
                },
            },
        },
    },
}


def test_the_kind_cluster_is_one() -> None:
    cluster: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kind/kind.yaml").read_text("utf-8"))
    jsonschema.validate(cluster, KIND)
    assert any(node["role"] == "control-plane" for node in cluster["nodes"])
