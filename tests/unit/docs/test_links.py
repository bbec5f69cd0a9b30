"""A link in the documentation leads somewhere, and every page can be found from the index."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]
INDEX = ROOT / "docs" / "README.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every page that belongs to the repository, also those that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def prose(page: Path) -> str:
    """Its text without blocks of code, where brackets mean something else."""
    return re.sub(r"^(```|~~~).*?^\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of each of its links into the repository."""
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        yield (page.parent / unquote(name)).resolve() if name else page, anchor


def anchors(page: Path) -> set[str]:
    """What GitHub makes of its headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def test_headings_are_found_under_the_names_that_github_gives_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A *first* `one`, again\n```\n# a comment\n```\n## Twice\n## Twice\n")
    assert anchors(page) == {"a-first-one-again", "twice", "twice-1"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = [
        (str(file), anchor)
        for file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert lost == []


def test_the_index_lists_every_page() -> None:
    listed = {file for file, _ in links(INDEX)}
    apart = {ROOT / "README.md", INDEX, *(ROOT / "docs" / "decisions").glob("0*.md")}
    packages = {
        page for page in pages() if page.is_relative_to(ROOT / "libs") or page.is_relative_to(ROOT / "services")
    }
    github = {page for page in pages() if page.is_relative_to(ROOT / ".github")}
    test_data = {page for page in pages() if page.is_relative_to(ROOT / "tests")}
    assert set(pages()) - listed - apart - packages - github - test_data == set()


def test_the_list_of_decisions_has_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = [file for file, _ in links(folder / "README.md")]
    assert listed == sorted(folder.glob("0*.md"))
    assert [int(file.name[:4]) for file in listed] == list(range(1, len(listed) + 1))
    # Its heading begins with its number, as its file's name does.
    assert [file.name for file in listed if not file.read_text().startswith(f"# {file.name[:4]} ")] == []
