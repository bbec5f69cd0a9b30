"""python -m benchmarks CASE… | all: measures, prints, and writes JSON.

Cases: {cases}.
Without --size each case has its own: M (10,000 users, 100,000 tasks) for mailings and commands, L (ten times that)
for cleanup and report. Servers are the benchmarks' own, under .dev/benchmarks; their data stay for the next run.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.chart import svg
from benchmarks.dataset import SIZES
from benchmarks.installation import Bench
from benchmarks.peers import PEERS, Peers
from benchmarks.result import Result, Run
from benchmarks.servers import Servers
from benchmarks.table import NOTEWORTHY, markdown, summary, told


async def measure(given: argparse.Namespace) -> Run:
    """Runs what was asked for, on servers that are stopped at the end."""
    servers = Servers(nodes=given.nodes)
    try:
        await servers.up()
        peers = Peers(given.peers, servers) if given.peers else None
        if peers:
            peers.install()
        machine = await servers.machine() | {"command": command(given.words)}
        _say(f"load {machine['load']:.2f}, {machine['cores']} cores, {machine['processor']}")
        bench = Bench(servers, dict(given.set), own_sink=given.own_sink)
        results: list[Result] = []
        for case in given.cases:
            for _ in range(given.rounds):
                if peers:
                    results += [_shown(await peers.run(peer)) for peer in PEERS if peer.case == case]
                results.append(await run_case(bench, case, given.size, twice=given.patient))
                keep(given.json, Run(machine, results))  # whatever becomes of the next one
        return Run(machine, results)
    finally:
        servers.down()


async def run_case(bench: Bench, case: str, size: str | None, *, twice: bool) -> Result:
    """Runs a case; if wanted once more, where other processes took too much of the machine meanwhile."""
    began = time.monotonic()
    result = _shown(await CASES[case](bench, size))
    _say(f"  ({time.monotonic() - began:.0f} s with making its data)")
    if twice and result.others > NOTEWORTHY:
        _say("  once more:")
        return await run_case(bench, case, size, twice=False)
    return result


def _shown(result: Result) -> Result:
    _say(*told(result))
    return result


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def command(words: Sequence[str]) -> str:
    """The command line, without where things lie on this machine."""
    shown = [
        "DIR" if before == "--peers" else "FILE" if before == "--json" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    return " ".join(["python -m benchmarks", *shown])


def keep(file: Path | None, run: Run) -> None:
    """Writes all figures there."""
    if file:
        file.write_text(json.dumps(run.to_json(), indent=1) + "\n")


def setting(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, found, value = text.partition("=")
    if not found or not name.isupper():
        msg = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(msg)
    return name, value


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").format(cases=", ".join(CASES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, "all", []], help="or all")
    parser.add_argument("--size", choices=SIZES, help="of the data, for all cases")
    parser.add_argument("--rounds", type=int, default=1, help="run each case so many times; the median counts")
    parser.add_argument("--patient", action="store_true", help="run a case again if the machine was busy otherwise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="run these in turn with ours, and tell the ratios")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help="a setting of the services"
    )
    parser.add_argument(
        "--own-sink", action="store_true", help="our own mail server, also where smtp-sink is installed"
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="of RabbitMQ, in a cluster; default 1")
    parser.add_argument("--from", dest="former", type=Path, metavar="FILE", help="measure nothing, show that JSON")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the figures there, as SVG")
    parser.add_argument("--clean", action="store_true", help="remove the servers with their data, and end")
    given = parser.parse_args(words)
    given.words = words
    given.cases = list(CASES) if "all" in given.cases else given.cases
    if not (given.cases or given.former or given.clean):
        parser.error("name a case, or all")
    return given


def main() -> int:
    """The program."""
    given = arguments(sys.argv[1:])
    if given.clean:
        Servers().remove()
        return 0
    if given.former:
        run = Run.of_json(json.loads(given.former.read_text()))
        _say(*markdown(run), "")
    else:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        run = asyncio.run(measure(given))
    _say(*summary(run))
    keep(given.json, run)
    if given.draw:
        given.draw.write_text(svg(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
