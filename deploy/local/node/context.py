"""What all pods of a node share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from local.node.addresses import Addresses
from local.node.api import Api
from local.node.images import LocalImage


@dataclass(frozen=True)
class NodeContext:
    name: str
    api: Api
    addresses: Addresses
    images: Mapping[str, LocalImage]
    run_dir: Path
    run: str
    probing: aiohttp.ClientSession
    capacity: Mapping[str, str]
    restart_backoff: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Kept here until they end: the event loop itself holds tasks weakly."""

    def keep(self, task: asyncio.Task[None]) -> None:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def cancel_all(self) -> None:
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
