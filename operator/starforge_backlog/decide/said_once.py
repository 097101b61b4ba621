"""One fault makes many readings unknown: its sentence is said once, of all of them."""

from __future__ import annotations

from collections.abc import Iterable


def said_once(sentences: Iterable[tuple[str, str]], link: str = ": ") -> str:
    """From (subject, sentence) to "queue jobs, producer flag: the sentence; …".

    A sentence that only adds a place in brackets to another's is the same one: a lost database is
    lost for each row in it.
    """
    groups: list[tuple[list[str], str]] = []
    for subject, sentence in sentences:
        for subjects, said in groups:
            if sentence == said or sentence.startswith(f"{said} ("):
                if subject not in subjects:
                    subjects.append(subject)
                break
        else:
            groups.append(([subject], sentence))
    return "; ".join(f"{', '.join(subjects)}{link}{said}" for subjects, said in groups)
