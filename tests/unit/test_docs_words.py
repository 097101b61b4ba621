"""What a person reads is written in standard words: docs/words.md lists those that are not used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = ROOT / "docs" / "words.md"
PAGES = ("*.md", "docs/**/*.md", "charts/**/*.md", "deploy/**/*.md")
MANIFESTS = (
    "crds/*.yaml",
    "charts/*/values.yaml",
    "charts/*/values.schema.json",
    "charts/*/templates/*",
    "deploy/samples/*.yaml",
    "deploy/gitops/**/*.yaml",
)
CODE = ("operator/**/*.py", "deploy/demo/*.py", "deploy/reference/**/*.py")
DESCRIPTIONS = "operator/starforge_backlog/api/"
"""Docstrings of this folder become descriptions of the CRD."""
IDENTIFIER = re.compile(r"`[^`\s]+`|\]\([^)\s]+\)")
"""A quoted identifier, and where a link leads."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is not used, and the standard one."""

    word: str
    instead: str

    def found(self, text: str) -> Iterator[int]:
        """Where it stands in the text, outside of its own standard term."""
        allowed = [range(*m.span()) for m in _whole(self.instead).finditer(text)]
        for match in _whole(self.word).finditer(text):
            if not any(match.start() in span for span in allowed):
                yield match.start()


def _whole(words: str) -> re.Pattern[str]:
    """Whole words in any case; a line may break between them."""
    parts = r"(?:\s+(?:#\s+)?)".join(re.escape(part) for part in words.split())
    return re.compile(rf"(?<![\w-]){parts}(?![\w-])", re.IGNORECASE)


def listed() -> tuple[Word, ...]:
    """The table of docs/words.md; words that share a replacement are in one row."""
    rows = re.findall(r"^\| (?!not \|)([^|]+) \| ([^|]+) \|$", WORDS.read_text(), re.MULTILINE)
    return tuple(
        Word(word.strip(), instead.strip()) for words, instead in rows for word in words.split(",")
    )


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """What a person reads of a file, with the line at which it begins."""
    if path.suffix != ".py":
        yield 1, IDENTIFIER.sub(lambda m: " " * len(m[0]), path.read_text())
        return
    tree = ast.parse(path.read_text())
    described = path.relative_to(ROOT).as_posix().startswith(DESCRIPTIONS)
    unread: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant() as docstring) if not described:
                unread.add(docstring)
            case ast.JoinedStr(values=parts):
                unread.update(part for part in parts if isinstance(part, ast.Constant))
            case _:
                pass
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if node not in unread and " " in text.strip():
                yield node.lineno, text
            case ast.JoinedStr(values=parts, lineno=line):
                yield (
                    line,
                    "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "{}"
                        for part in parts
                    ),
                )
            case _:
                pass


def checked() -> list[Path]:
    """Every file with texts that a person reads."""
    found = {path for pattern in (*PAGES, *MANIFESTS, *CODE) for path in ROOT.glob(pattern)}
    return sorted(found - {WORDS})


def complaints(path: Path) -> list[str]:
    """Each word that is not used: file, line, word and replacement."""
    name = path.relative_to(ROOT).as_posix()
    return [
        f"{name}:{first + text.count(chr(10), 0, at)}: “{word.word}”: write “{word.instead}”"
        for first, text in texts(path)
        for word in listed()
        for at in word.found(text)
    ]


@pytest.mark.parametrize("path", checked(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_text_is_written_in_standard_words(path: Path) -> None:
    found = complaints(path)
    assert not found, "\n".join(found)


def test_a_complaint_names_file_line_word_and_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.test_docs_words.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("A connection pooler is fine.\nA\npooler, a `pooler`: not.\n")
    assert complaints(page) == ["page.md:3: “pooler”: write “connection pooler”"]
