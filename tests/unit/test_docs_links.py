"""What the documents point at exists: links, headings, files, tests, and the names of proofs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(
    sorted(
        (
            *ROOT.glob("*.md"),
            *ROOT.joinpath("docs").rglob("*.md"),
            *ROOT.joinpath("charts").rglob("*.md"),
            ROOT / "deploy/local/README.md",
        )
    )
)
OPERATOR: Final = ROOT / "operator/starforge_backlog"

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
# With one of our endings; what else stands in code font is no path.
_PATH = re.compile(r"[\w.{},*-]+(?:/[\w.{},*-]+)*/?")
_ENDINGS = (".py", ".sql", ".lua", ".md", ".tpl", ".yaml", ".mjs", ".png", ".toml")
_BRACES = re.compile(r"\{([^{}]+)\}")
_ITALIC = re.compile(r"(?<!\*)\*([^*|]+)\*(?!\*)")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def _anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _spelt_out(path: str) -> Iterator[str]:
    """`a_{b,c}.py` is two paths."""
    braces = _BRACES.search(path)
    if braces is None:
        yield path
        return
    for part in braces[1].split(","):
        yield from _spelt_out(path[: braces.start()] + part + path[braces.end() :])


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(_prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{_name(page)} links to {target}, which does not exist"
        if anchor:
            assert anchor in _anchors(there), f"{_name(page)}: no heading for {target}"


def _paths(page: Path) -> Iterator[str]:
    for code in _CODE.findall(_prose(page)):
        if _PATH.fullmatch(code) and code.endswith((*_ENDINGS, "/")) and code not in _ENDINGS:
            yield from _spelt_out(code)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/runbook.md",
        "docs/operations.md",
    ],
)
def test_every_file_and_folder_that_a_page_names_exists(name: str) -> None:
    """Paths there are below the package; inside of a package they may stand without it."""
    page = ROOT / name
    for path in _paths(page):
        near = any(ROOT.glob(path)) or (page.parent / path).exists()
        assert near or any(OPERATOR.rglob(path.rstrip("/"))), f"{name} names {path}"


_FUNCTIONS = re.compile(r"`([\w/]+\.py)`: ((?:`\w+`(?: \([^)]*\))?(?:, )?)+)")


def _functions() -> Iterator[tuple[str, str]]:
    """File and function, as docs/runbook.md names them."""
    for path, names in _FUNCTIONS.findall((ROOT / "docs/runbook.md").read_text()):
        for name in re.findall(r"`(\w+)`", names):
            yield path, name


@pytest.mark.parametrize(("path", "name"), sorted(set(_functions())))
def test_every_function_that_the_runbook_page_names_is_there(path: str, name: str) -> None:
    assert re.search(rf"def {name}\(", (OPERATOR / path).read_text()), f"no {name} in {path}"


@cache
def _tests() -> str:
    """Their text with words apart, so that a name can be read as a sentence."""
    found = (f.read_text() for f in sorted(ROOT.joinpath("tests").rglob("test_*.py")))
    return "\n".join(found).replace("_", " ").replace("-", " ").lower()


def _proofs() -> Iterator[tuple[str, str]]:
    """Sentence and proof."""
    for line in (ROOT / "docs/proofs.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 2 and cells[0] not in {"sentence", "---"}:
            yield cells[0], cells[1]


@pytest.mark.parametrize(("sentence", "proof"), list(_proofs()))
def test_every_proof_is_there(sentence: str, proof: str) -> None:
    """Files by their path (below tests/, if it does not begin there); stories and tests by name."""
    for code in _CODE.findall(proof):
        for path in _spelt_out(code):
            base = ROOT if path.startswith(("tests/", "docs/", "operator/")) else ROOT / "tests"
            if path.endswith((".py", ".md")):
                found = [*base.glob(path), *base.glob(f"*/{path}")]
                assert found, f"{sentence}: no {path}"
            elif path.startswith("test_"):
                assert path.replace("_", " ") in _tests(), f"{sentence}: no test {path}"
    for title in _ITALIC.findall(proof):
        assert title.lower().replace("-", " ") in _tests(), f"{sentence}: no test says *{title}*"
