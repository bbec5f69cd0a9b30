"""The drawing in errors.py has every error of every package, below the one that it derives from."""

import ast
import builtins
import re
from functools import lru_cache
from pathlib import Path

from taskbell import errors
from taskbell_devstack import errors as devstack_errors

ROOT = Path(__file__).parents[3]
BUILTIN = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}
_NAME = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?P<text>  .*)?$")


def drawn(drawing: str | None) -> dict[str, str]:
    """The errors of a drawing, and what each derives from."""
    assert drawing is not None
    found: dict[str, str] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        match = _NAME.match(line)
        if match is None or not (match["branch"] or match["text"] is None):
            continue
        depth = len(match["branch"]) // 4
        del above[depth:]
        if above:
            assert match["name"] not in found, f"{match['name']} is drawn twice"
            found[match["name"]] = above[-1]
        above.append(match["name"])
    return found


@lru_cache(maxsize=1)
def defined() -> dict[str, str]:
    """The errors that the packages' source defines, and what each derives from."""
    classes = {}
    for path in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name):
                classes[node.name] = node.bases[0].id
    found: dict[str, str] = {}
    while more := {
        name: base for name, base in classes.items() if name not in found and (base in BUILTIN or base in found)
    }:
        found |= more
    return found


def test_every_error_is_drawn_below_what_it_derives_from() -> None:
    everything = drawn(errors.__doc__) | drawn(devstack_errors.__doc__)
    apart = {"TaskbellError": "Exception", "CronError": "ValueError"}
    assert everything | apart == defined()
    assert "CronError of taskbell_scheduler.cron is a ValueError" in (errors.__doc__ or "")


def test_the_librarys_errors_stand_in_errors_py() -> None:
    elsewhere = {
        (path.name, name)
        for path in ROOT.glob("libs/common/src/**/*.py")
        for name in re.findall(r"^class (\w+)\(", path.read_text(), re.MULTILINE)
        if name in defined() and path.name != "errors.py"
    }
    assert elsewhere == set()
