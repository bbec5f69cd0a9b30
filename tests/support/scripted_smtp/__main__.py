"""The scripted server as a process of its own."""

import argparse
import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from tests.support import scripted_smtp
from tests.support.scripted_smtp.certificate import Certificate
from tests.support.scripted_smtp.records import Rule
from tests.support.scripted_smtp.server import ScriptedSmtp


def configure(server: ScriptedSmtp, script: dict[str, Any]) -> None:
    """Sets attributes and rules as a script file names them.

    Raises:
        ValueError: it names something that there is not.
    """
    settable = {"pipelining", "extensions", "users", "mechanisms", "bytes_per_second"}
    known = {made.name for made in fields(Rule) if made.init}
    for name, value in script.items():
        if name == "rules":
            if unknown := {key for rule in value for key in rule} - known:
                msg = f"a rule knows no {', '.join(sorted(unknown))}; it knows {', '.join(sorted(known))}"
                raise ValueError(msg)
            server.rules[:] = [Rule(**rule) for rule in value]
        elif name in settable:
            setattr(server, name, tuple(value) if isinstance(value, list) else value)
        else:
            msg = f"a script knows no {name!r}; it knows rules, {', '.join(sorted(settable))}"
            raise ValueError(msg)
    server.release()


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    with Path(path).open("a", encoding="utf-8") as log:
        yield log


async def _serve_until_told(arguments: argparse.Namespace, log: IO[str] | None) -> None:
    certificate = None
    if arguments.tls != "none":
        certificate = Certificate(Path(arguments.certificate), Path(arguments.key))
    server = ScriptedSmtp(
        host=arguments.host,
        port=arguments.port,
        tls=arguments.tls,
        certificate=certificate,
        seed=arguments.seed,
        log=log,
        log_raw=arguments.log_raw,
        keep=False,
    )

    def read_script() -> None:
        if arguments.script:
            configure(server, json.loads(Path(arguments.script).read_text(encoding="utf-8")))

    read_script()
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
    loop.add_signal_handler(signal.SIGHUP, read_script)
    async with server:
        print(json.dumps({"event": "listening", "port": server.port}), flush=True)
        await told.wait()


def main() -> None:
    """Runs the server until SIGTERM; prints one line with its port once it listens."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.scripted_smtp", description=scripted_smtp.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--script", help="JSON file; SIGHUP reads it again")
    parser.add_argument("--log", help="file to which one JSON object an event is appended")
    parser.add_argument("--log-raw", action="store_true", help="log the bytes of messages too, in base64")
    parser.add_argument("--tls", choices=("none", "starttls", "implicit"), default="none")
    parser.add_argument("--certificate", help="PEM file")
    parser.add_argument("--key", help="PEM file")
    parser.add_argument("--seed", type=int, default=0, help="for rules with a chance")
    arguments = parser.parse_args()
    with _opened(arguments.log) as log:
        asyncio.run(_serve_until_told(arguments, log))


if __name__ == "__main__":
    main()
