"""Statements of packages: which parameters they use, and how those are put into place."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from taskbell.kinds import Statement, Task


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1", set()),
        ("SELECT u FROM unnest(:users) AS u WHERE at > :at", {"users", "at"}),
        ("SELECT unnest(:users::bigint[]), x::text", {"users"}),
        (r"SELECT '\:users', '12:30', a[1:2]", set()),
        ("SELECT '{app}:users'", {"users"}),
        ("SELECT a[1 :2], ':30', ':ü'", {"2", "30", "ü"}),
    ],
)
def test_a_statement_knows_the_parameters_that_postgresql_would_be_given(sql: str, names: set[str]) -> None:
    statement = Statement(sql)
    assert statement.parameters == names
    typed = statement.with_parameters(lambda name: f"CAST(:{name} AS x)", '"app"')
    assert set(text(typed).compile().params) == names


def test_the_schema_and_the_types_are_put_into_place() -> None:
    written = Statement("\n  SELECT id FROM {app}.team WHERE id > :cursor AND at < :at::timestamptz;\n")
    assert written.with_parameters(lambda name: f"<{name}>", '"the app"') == (
        'SELECT id FROM "the app".team WHERE id > <cursor> AND at < <at>::timestamptz'
    )


def test_a_task_is_made_of_a_row_with_the_columns_that_there_are() -> None:
    due = datetime(2026, 11, 20, tzinfo=UTC)
    row = {"user_id": 7, "id": 1, "title": None, "priority": "high", "due_date": due}
    assert Task.of(row) == Task(1, "", None, "pending", "high", due, None)
    whole = {"project": "Engine", "status": "done", "completed_at": due}
    assert Task.of(row | whole) == Task(1, "", "Engine", "done", "high", due, due)
