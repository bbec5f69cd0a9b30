"""The demo's data in a real database."""

from datetime import UTC, datetime, timedelta

import asyncpg

from taskbell_devstack import demo_data

NOW = datetime(2026, 11, 22, 10, 37, tzinfo=UTC)


async def test_the_data_can_be_loaded_again_and_then_have_the_new_times(database_url: str) -> None:
    await demo_data.load(database_url, NOW)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE tasks SET status = 'in_progress' WHERE id = 40")
        await connection.execute("DELETE FROM tasks WHERE id = 170")

        await demo_data.load(database_url, NOW + timedelta(days=1))

        rows = await connection.fetch("SELECT * FROM tasks ORDER BY id")
        people = await connection.fetch("SELECT * FROM users ORDER BY id")
        assert await connection.fetchval("INSERT INTO projects (name) VALUES ('another') RETURNING id") == 4
    finally:
        await connection.close()
    expected = demo_data.tasks(NOW + timedelta(days=1))
    assert [{name: row[name] for name in vars(it)} for row, it in zip(rows, expected, strict=True)] == [
        vars(it) for it in expected
    ]
    assert [(row["id"], row["name"], row["timezone"]) for row in people] == [
        (it.id, it.name, it.timezone) for it in demo_data.PEOPLE
    ]
