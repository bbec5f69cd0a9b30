"""docs/decisions/0006 lists every private attribute of a library that the packages use, and nothing else."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "decisions" / "0006-private-attributes.md").read_text()
SOURCES = sorted([*ROOT.glob("libs/*/src"), *ROOT.glob("services/*/src")])

INTERNAL = {
    "channel.confirmations", "channel.create_future", "channel.delivery_tag", "channel.lock",
    "channel.max_content_size", "channel.message_id_delivery_tag", "channel.write_queue",
    "smtp.protocol", "smtp.transport",
}  # fmt: skip
"""Attributes without an underscore that their libraries do not document."""
INTERNAL_METHODS = {"capture_signals", "install_signal_handlers"}
"""Methods of a library's class that a subclass of ours may replace only if the table says so."""
INTERNAL_CLASSES = {("jinja2.runtime", "Context")}
"""Classes whose documentation says that they are not to be made by hand."""
OPENINGS = {"__globals__", "__code__", "__closure__", "__wrapped__", "__dict__"}
"""Ways into a function or an object that are nobody's interface."""
DOCUMENTED = {"_replace", "_asdict", "_exit", "_fields", "_mapping"}
"""Public though they begin with an underscore: of named tuples, and of rows of SQLAlchemy."""


class Row(NamedTuple):
    """One row of the table."""

    file: str
    uses: frozenset[str]
    library: str
    version: str
    test: str


def rows() -> list[Row]:
    table = re.search(r"<!-- what is used -->\n(.*?)<!-- end -->", DOCUMENT, re.DOTALL)
    assert table is not None
    found = []
    for line in table[1].splitlines()[2:]:
        file, uses, library, _, test = (cell.strip() for cell in line.strip("|").split(" | "))
        name, _, version = library.partition(" ")
        found.append(Row(file.strip("`"), frozenset(re.findall(r"`([^`]+)`", uses)), name, version, test.strip("` ")))
    return found


def used_in(source: str) -> set[str]:
    """The private attributes of libraries that a module uses."""
    tree = ast.parse(source)
    return {*_attributes(tree), *_by_name(tree), *_imports(tree), *_subclasses(tree)}


def _attributes(tree: ast.Module) -> Iterator[str]:
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    own |= {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls")}
    for node in attributes:
        written = ast.unparse(node)
        if node.attr in OPENINGS:
            yield ".".join(written.split(".")[-2:])
        elif written in INTERNAL or (_is_private_name(node.attr) and node.attr not in own | DOCUMENTED):
            yield written


def _by_name(tree: ast.Module) -> Iterator[str]:
    """Attributes that are named by a text: of a library's object, as others need no such detour."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in ("getattr", "setattr", "hasattr") and isinstance(node.args[1], ast.Constant):
            owner, name = ast.unparse(node.args[0]), str(node.args[1].value)
            if name.startswith("_") or owner.startswith(("error", "cause")):
                yield f"{owner}.{name}"


def _imports(tree: ast.Module) -> Iterator[str]:
    """Private modules and names of libraries, and classes that are not to be made by hand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (it.name for it in node.names if _is_private(it.name))
        if isinstance(node, ast.ImportFrom) and node.module is not None and not _is_ours(node.module):
            for it in node.names:
                if _is_private(f"{node.module}.{it.name}"):
                    yield f"{node.module}.{it.name}"
                if (node.module, it.name) in INTERNAL_CLASSES and f"{it.name}(" in ast.unparse(tree):
                    yield f"{it.name}()"


def _subclasses(tree: ast.Module) -> Iterator[str]:
    """Private members of a library's class that a subclass replaces."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        members = {it.name for it in node.body if isinstance(it, (ast.FunctionDef, ast.AsyncFunctionDef))}
        yield from (f"{name}()" for name in members & INTERNAL_METHODS)
        members |= {
            it.attr for it in ast.walk(node) if isinstance(it, ast.Attribute) and ast.unparse(it.value) == "self"
        }
        for base in _bases(tree, node):
            yield from (f"{node.name}.{name}" for name in members if _is_private_name(name) and hasattr(base, name))


def _bases(tree: ast.Module, class_: ast.ClassDef) -> Iterator[type]:
    """The libraries' classes that it derives from."""
    imported = {
        it.asname or it.name: (node.module, it.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and not _is_ours(node.module)
        for it in node.names
    }
    for base in class_.bases:
        written = ast.unparse(base).partition("[")[0]
        module, name = imported.get(written, (None, written))
        if module is None and "." in written:
            module, _, name = written.rpartition(".")
        if module is not None and module.partition(".")[0] not in sys.stdlib_module_names:
            yield getattr(importlib.import_module(module), name)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0].startswith("taskbell") or module == "__future__"


def _is_private_name(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_private(name: str) -> bool:
    return any(part.startswith("_") and part != "__future__" for part in name.split("."))


def test_what_is_used_is_what_the_table_says() -> None:
    used = {
        str(path.relative_to(source)): found
        for source in SOURCES
        for path in source.glob("**/*.py")
        if (found := frozenset(used_in(path.read_text())))
    }
    assert used == {row.file: row.uses for row in rows()}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.file)
def test_each_was_tested_with_the_pinned_version_and_names_the_test_that_fails_first(row: Row) -> None:
    assert f"{row.library}=={row.version}" in (ROOT / "constraints.txt").read_text().splitlines()
    file, _, name = row.test.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("engine._pool", {"engine._pool"}),
        ("connection.connection._protocol.ping()", {"connection.connection._protocol"}),
        ("getattr(engine, '_pool')", {"engine._pool"}),
        ("from asyncpg._asyncio_compat import wait_for", {"asyncpg._asyncio_compat.wait_for"}),
        ("import uvicorn._types", {"uvicorn._types"}),
        ("render.__globals__['escape'] = print", {"render.__globals__"}),
        ("channel.write_queue", {"channel.write_queue"}),
        ("from jinja2.runtime import Context\nContext(None, {}, None, {})", {"Context()"}),
        ("import uvicorn\nclass S(uvicorn.Server):\n  def capture_signals(self): ...", {"capture_signals()"}),
        (
            "from faststream.rabbit import RabbitBroker\nclass B(RabbitBroker):\n  async def _connect(self): ...",
            {"B._connect"},
        ),
        ("class Mine:\n  def _own(self): ...\n  def use(self, other): return other._own()", set()),
        ("class Mine:\n  def __init__(self): self._own = 1\n  def use(self, other): return other._own", set()),
        ("parts._replace(path='')", set()),
        ("loop.create_future()", set()),
        ("from taskbell.client import _private", set()),
    ],
)
def test_it_finds_whatever_way_is_taken(source: str, found: set[str]) -> None:
    assert used_in(source) == found
