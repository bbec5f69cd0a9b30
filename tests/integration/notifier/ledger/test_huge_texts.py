"""Texts of a mebibyte in the web app's tables: they are cut in the statement, and the memory stays flat."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.notifier.ledger.support import DAY, NotifierTables
from tests.support.kinds import KINDS, REMINDER

from taskbell.database import quoted
from taskbell.kinds import NamedTask
from taskbell_notifier.mail.headers import valid_address
from taskbell_notifier.repository import contents, history, preferences

MIB = 1024 * 1024
APP = quoted("public")


@pytest.fixture(autouse=True)
async def _huge(tables: NotifierTables) -> None:
    await tables.user(1)
    await tables.execute(f"""
        UPDATE users SET name = repeat('n', {MIB}), email = 'user1@example.org' || repeat(' ', {MIB}) || 'x',
            timezone = 'UTC' || repeat('z', {MIB}), locale = 'de' || repeat('l', {MIB})
    """)
    await tables.execute(f"INSERT INTO projects (id, name) VALUES (1, repeat('p', {MIB}))")
    for _ in range(30):
        await tables.task(1, due=-DAY, project_id=1)
    await tables.execute(f"UPDATE tasks SET title = repeat('t', {MIB}), priority = repeat('p', {MIB})")


async def test_a_person(tables: NotifierTables) -> None:
    row: Any = SimpleNamespace(id=7, user_id=1, kind="overdue", address=None)
    async with tables.database.transaction() as tx:
        person = (await contents.people(tx, APP, [row]))[7]
        shown = await history.person(tx, APP, 1)
        status = await history.user_status(tx, APP, 1, [], tables.now)
        locale = await preferences.locale_of(tx, APP, 1)
    assert shown is not None
    assert status is not None
    assert [len(it or "") for it in (person.name, person.email, person.timezone, person.locale)] == [
        1500,
        401,
        100,
        100,
    ]
    assert [len(it) for it in shown] == [1500, 401, 100, 100]
    assert (len(status.timezone), len(locale or "")) == (100, 100)
    assert valid_address((person.email or "").strip(), person.name) is None, "its beginning alone would be valid"


async def test_the_tasks_of_a_mail(tables: NotifierTables) -> None:
    tracemalloc.start()
    try:
        async with tables.database.transaction() as tx:
            found: Any = (await contents.of_users(tx, APP, KINDS["overdue"], tables.now, [1]))[1]
            row: Any = SimpleNamespace(id=7, user_id=1, kind="named", at=tables.now, props={"task_id": 1})
            named: Any = (await contents.contents(tx, APP, {"named": replace(REMINDER, what=NamedTask())}, [row]))[7]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB
    tasks = [named, *(task for listed in found.lists.values() for task in listed.tasks)]
    assert len(tasks) > 20
    assert {(len(it.title), len(it.priority), len(it.project)) for it in tasks} == {(1500, 100, 1500)}
