"""The command `taskbell`, run as a person runs it."""

import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

SETTINGS = ("DATABASE_URL", "BROKER_URL", "BROKER_MANAGEMENT_URL", "APP_SCHEMA", "TASKBELL_ENV")


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, parsed."""
        return json.loads(self.out)


async def taskbell(*arguments: str, stdin: str = "", python: str = sys.executable, **settings: str) -> Done:
    """Runs it in a folder of its own, with these settings and no others; names in capitals, as in the environment."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            python,
            "-c",
            "from taskbell.cli import main; main()",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment | settings,
            cwd=folder,
        )
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())
