"""The statements that plan, and that list tasks, are the former version's: so are their plans.

Only that long texts are cut is new.
"""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE

import pytest

from taskbell.kinds import Kind
from taskbell_notifier.repository.conditions import predicate
from taskbell_notifier.repository.contents import list_statement
from taskbell_notifier.repository.planning import page_statement
from tests.support.kinds import OVERDUE, REMINDER, WEEKLY
from tests.upgrade.versions import Version

_FORMER = """
import json
from taskbell_notifier.repository.material import DAY, OVERDUE, WEEK, _list
from taskbell_notifier.repository.planning import Planning

pages = {f"{kind.value} {listed} {force}": text for (kind, listed, force), text in Planning("public")._pages.items()}
lists = {name: _list("public", due) for name, due in {"overdue": OVERDUE, "day": DAY, "week": WEEK}.items()}
print(json.dumps({"pages": pages, "lists": lists}))
"""


def words(statement: str) -> str:
    """The statement without its line breaks."""
    return " ".join(statement.split())


def uncut(statement: str) -> str:
    """The statement without limits on texts, and without the casts that these need."""
    statement = re.sub(r"left\((CAST\([\w.]+ AS text\)|[\w.]+), \d+\)", r"\1", statement)
    statement = re.sub(r"CAST\(([\w.]+) AS text\)", r"\1", statement)
    return re.sub(r"\b(\w+)\.(\w+) AS \2\b", r"\1.\2", statement)


@pytest.fixture(scope="module")
async def said(former: Version) -> dict[str, dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FORMER, stdout=PIPE, stderr=PIPE, env=os.environ | former.environment, cwd="/"
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, dict[str, str]] = json.loads(out)
    return found


@pytest.mark.parametrize("kind", [REMINDER, OVERDUE, WEEKLY], ids=lambda kind: kind.name)
@pytest.mark.parametrize("listed", [False, True], ids=["all", "listed"])
@pytest.mark.parametrize("force", [False, True], ids=["once", "forced"])
def test_a_page_is_planned_by_the_former_statement(
    said: dict[str, dict[str, str]], kind: Kind, listed: bool, force: bool
) -> None:
    ours = page_statement("public", kind, listed=listed, force=force)
    assert words(ours) == words(said["pages"][f"{kind.name} {listed} {force}"])


def test_tasks_are_listed_by_the_former_statements(said: dict[str, dict[str, str]]) -> None:
    lists = {"overdue": OVERDUE.what.lists["tasks"], "day": REMINDER.what.lists["tasks"]}
    lists["week"] = WEEKLY.what.lists["upcoming"]
    ours = {name: words(list_statement("public", predicate(it.condition))) for name, it in lists.items()}
    assert {name: uncut(it) for name, it in ours.items()} == {
        name: uncut(words(it)) for name, it in said["lists"].items()
    }
