"""The mail server of a run, and what it accepted, known without the ledger."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.scripted_smtp import ScriptedSmtp


@dataclass
class Sink:
    """A scripted server that logs to disk, because a long run would fill the memory."""

    server: ScriptedSmtp
    log: Path
    _taken: Counter[str] = field(default_factory=Counter)
    _read: int = 0

    def taken(self) -> Counter[str]:
        """How often each Message-ID was accepted."""
        # Reads only what is new: this is called often, in the event loop in which the server runs.
        with self.log.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    found = json.loads(line)
                    if found["event"] == "accepted":
                        self._taken[found["message_id"]] += 1
        return self._taken.copy()

    def by_recipient(self) -> dict[str, set[str]]:
        """The Message-IDs that were accepted for each address."""
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
    """A sink that logs to that folder, and runs until the block is left."""
    path = folder / "smtp.jsonl"
    with path.open("a", encoding="utf-8") as log:
        async with ScriptedSmtp(seed=seed, log=log, keep=False) as server:
            yield Sink(server, path)
