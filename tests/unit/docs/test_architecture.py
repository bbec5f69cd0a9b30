"""docs/architecture.md names only what exists, and CONTRIBUTING.md, too."""

import ast
import re
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = (ARCHITECTURE, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "docs" / "README.md")

SOURCES = {folder.name: folder.parent for folder in ROOT.glob("[ls]*/*/src/*") if folder.name.startswith("taskbell")}
"""The folder `src` of each package."""

BESIDE = {"layout.html.j2", "mail.css"}
"""Files that a recipe names after their folder."""


def code(page: Path) -> list[str]:
    """What stands in backticks outside of blocks of code."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def paths(page: Path) -> list[str]:
    """The paths among it: they begin with a package, or with what lies at the top of the repository."""
    top = {path.name for path in ROOT.iterdir()} - {".dev"}
    begins = SOURCES.keys() | top
    found = [it for it in code(page) if re.fullmatch(r"[\w./-]+", it)]
    return [it for it in found if it.partition("/")[0] in begins and ("/" in it or it in top)]


def located(path: str) -> Path:
    """Where a path of the documentation is."""
    first, slash, _ = path.partition("/")
    return SOURCES[first] / path if first in SOURCES and slash else ROOT / path


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """Every class, method and constant of our packages."""
    found: set[str] = set()
    for source in SOURCES.values():
        for file in source.rglob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    methods = (it for it in node.body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef))
                    found |= {node.name, *(f"{node.name}.{it.name}" for it in methods)}
                elif isinstance(node, ast.Assign):
                    found |= {it.id for it in node.targets if isinstance(it, ast.Name)}
    return frozenset(found)


def variables() -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_exists(page: Path) -> None:
    assert [path for path in paths(page) if not located(path).exists()] == []


def test_the_page_is_about_files() -> None:
    """Otherwise the test before this one would look at nothing."""
    assert len(set(paths(ARCHITECTURE))) > 80


def test_every_file_that_it_names_is_named_with_its_folder() -> None:
    """A name alone is for those that every service has, and for what the sentence before has the folder of."""
    alone = {it for it in code(ARCHITECTURE) if re.fullmatch(r"[\w-]+(\.\w+)?\.(py|toml|yml|j2|css)", it)}
    of_each = {"app.py", "settings.py", "handlers.py", "domain.py"}
    top = {path.name for path in ROOT.iterdir()}
    assert alone - of_each - BESIDE - top == {"schedules.toml"}
    templates = SOURCES["taskbell_notifier"] / "taskbell_notifier" / "mail" / "templates"
    assert [it for it in BESIDE if not (templates / it).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_class_method_and_constant_exists(page: Path) -> None:
    named = {it for it in code(page) if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*(\.[a-z_]+)?|[A-Z][A-Z0-9_]{2,}", it)}
    elsewhere = {"Dockerfile", "Makefile", "SecretStr", "VERSION"} | {it for it in named if it.startswith("TEST_")}
    assert named - names() - variables() - elsewhere == set()


def test_it_tells_every_rule_that_import_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    told = re.search(r"<!-- import-linter.*?-->\n(.*?)<!-- end -->", ARCHITECTURE.read_text(), re.DOTALL)
    assert told
    assert re.findall(r"^- \*\*(.+?)\*\*", told[1], re.MULTILINE) == [contract["name"] for contract in contracts]


def test_no_word_of_the_glossary_is_explained_twice() -> None:
    (glossary,) = re.findall(r"^## Glossary\n(.*?)^## ", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| ([^|`]+) \| [^|]+ \| `", glossary, re.MULTILINE)
    words = [word for cell in cells for word in cell.split(", ")]
    assert len(words) > 50
    assert sorted({word for word in words if words.count(word) > 1}) == []
