"""What the status keeps of a hold of job types: which due times are ours, and of which jobs. Pure.

It is there before the first job is moved (P6), so it covers whatever a killed write has done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from starforge_backlog.databases import held_back
from starforge_backlog.decide.pauses.items import stored
from starforge_backlog.producers.protocol import named_in

# Held jobs that are read again when none is held any more: the last in order of the first
# write and of the newest one, which workers would take last.
SAMPLE = 4
# Status keeps some of them for as long as the hold lasts; a longer one is not read again.
LONGEST_ID = 100


@dataclass(frozen=True, slots=True)
class HoldPlan:
    """A hold: jobs of these types, in this slot, which was free before."""

    slot: int
    types: tuple[str, ...]  # empty: of any type, as holds were before types were kept
    held: int = 0  # jobs that were moved; a killed write is not counted
    ids: tuple[str, ...] = ()  # a few of them

    @property
    def version(self) -> str:
        """Rows are distinguished one by one; as a whole they have no version but where they are."""
        return f"slot {self.slot}"

    @property
    def text(self) -> str:
        """As it is kept."""
        kept = {"slot": self.slot, "types": self.types, "held": self.held, "ids": self.ids}
        return json.dumps(kept, separators=(",", ":"))

    def with_moved(self, moved: int, ids: Iterable[str]) -> HoldPlan:
        """After so many more were moved, some of which are named."""
        short = (key for key in ids if len(key) <= LONGEST_ID)
        all_ids = dict.fromkeys([*self.ids, *short])
        first = [*all_ids][:SAMPLE]
        return replace(
            self,
            held=self.held + moved,
            ids=(*first, *(key for key in [*all_ids][-SAMPLE:] if key not in first)),
        )

    def with_types(self, types: Iterable[str]) -> HoldPlan:
        """Covering these as well: the policy's may have changed since."""
        if not self.types:
            return self
        return replace(self, types=tuple(dict.fromkeys([*self.types, *types])))


def parse_plan(previous: str | None, version: str, token: str) -> HoldPlan | None:
    """The plan in `previous`. None: nothing was ever moved under this entry, because nothing is
    moved before a plan is kept.

    Older versions kept only how many jobs were held. Their slot is that of the holder.
    """
    found = stored(previous)
    held = found.get("held")
    if not isinstance(held, int):
        return None
    slot = found.get("slot")
    if isinstance(slot, int):
        return HoldPlan(slot, _words(found.get("types")), held, _words(found.get("ids")))
    given = re.fullmatch(r"slot (\d+)", version)
    return HoldPlan(int(given[1]) if given else held_back.slot_of(named_in(token)), (), held)


def _words(found: object) -> tuple[str, ...]:
    return tuple(str(word) for word in found) if isinstance(found, list) else ()
