"""The mail server of a run, and what it took: the one witness that does not ask the ledger."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.scripted_smtp import ScriptedSmtp


@dataclass
class Sink:
    """A scripted server whose log is on disk: a long run would fill the memory."""

    server: ScriptedSmtp
    log: Path

    def taken(self) -> Counter[str]:
        """How often each Message-ID was accepted."""
        return Counter(line["message_id"] for line in self._accepted())

    def by_recipient(self) -> dict[str, set[str]]:
        """The Message-IDs that each address got."""
        found: dict[str, set[str]] = defaultdict(set)
        for line in self._accepted():
            (recipient,) = line["recipients"]
            found[recipient].add(line["message_id"])
        return found

    def _accepted(self) -> list[dict[str, object]]:
        with self.log.open(encoding="utf-8") as lines:
            return [line for line in map(json.loads, lines) if line["event"] == "accepted"]


@asynccontextmanager
async def logged_sink(folder: Path, *, seed: int = 0) -> AsyncIterator[Sink]:
    """It runs until the end, and logs to that folder."""
    path = folder / "smtp.jsonl"
    with path.open("a", encoding="utf-8") as log:
        async with ScriptedSmtp(seed=seed, log=log, keep=False) as server:
            yield Sink(server, path)
