"""python -m benchmarks CASE… | all: measures the cases, prints the figures, and writes them as JSON.

Cases: {cases}.
Without --size each case uses its own size: M (10,000 users, 100,000 tasks) for mailings and commands, L (ten times
that) for cleanup and report. The benchmarks have their own servers, under .dev/benchmarks; their data are kept for the
next run.
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
from benchmarks.table import NOTEWORTHY, lines_of, markdown, summary


async def measure(given: argparse.Namespace) -> Run:
    """Runs the cases that were asked for. The servers are stopped at the end."""
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
                keep(given.json, Run(machine, results))  # now, in case the next one fails
        return Run(machine, results)
    finally:
        servers.down()


async def run_case(bench: Bench, case: str, size: str | None, *, twice: bool) -> Result:
    """Runs a case. `twice`: runs it once more if unrelated processes took too much of the machine."""
    began = time.monotonic()
    result = _shown(await CASES[case](bench, size))
    _say(f"  ({time.monotonic() - began:.0f} s including making the data)")
    if twice and result.others > NOTEWORTHY:
        _say("  runs once more:")
        return await run_case(bench, case, size, twice=False)
    return result


def _shown(result: Result) -> Result:
    _say(*lines_of(result))
    return result


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def command(words: Sequence[str]) -> str:
    """The command line, without the paths of this machine."""
    shown = [
        "DIR" if before == "--peers" else "FILE" if before == "--json" else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    return " ".join(["python -m benchmarks", *shown])


def keep(file: Path | None, run: Run) -> None:
    """Writes all figures to that file; None: does nothing."""
    if file:
        file.write_text(json.dumps(run.to_json(), indent=1) + "\n")


def setting(text: str) -> tuple[str, str]:
    """Parses NAME=VALUE."""
    name, found, value = text.partition("=")
    if not found or not name.isupper():
        msg = f"{text!r} is not NAME=VALUE with a NAME in capitals"
        raise argparse.ArgumentTypeError(msg)
    return name, value


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").format(cases=", ".join(CASES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", choices=[*CASES, "all", []], help="a case to run, or all")
    parser.add_argument("--size", choices=SIZES, help="size of the data, for all cases")
    parser.add_argument("--rounds", type=int, default=1, help="how often to run each case; the median counts")
    parser.add_argument("--patient", action="store_true", help="run a case once more if the machine was busy otherwise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="run these peers in turn with ours, and show ratios")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help="set a setting of the services"
    )
    parser.add_argument("--own-sink", action="store_true", help="use our mail server even if smtp-sink is installed")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes of RabbitMQ; default 1")
    parser.add_argument("--from", dest="former", type=Path, metavar="FILE", help="measure nothing, show this JSON file")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the figures into this SVG file")
    parser.add_argument("--clean", action="store_true", help="remove the servers and their data, and do nothing else")
    given = parser.parse_args(words)
    given.words = words
    given.cases = list(CASES) if "all" in given.cases else given.cases
    if not (given.cases or given.former or given.clean):
        parser.error("name at least one case, or all")
    return given


def main() -> int:
    """Runs the program; returns its exit status."""
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
