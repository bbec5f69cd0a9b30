"""Functions, operators and tables that fit our SQL better than PostgreSQL's own, in schemas where others may make them.

Whoever looks a name up there calls one of them, which raises, or reads an empty table.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import asyncpg

import taskbell

SOURCES = Path(taskbell.__file__).parents[4]
CALLED = re.compile(r"\b([a-z][a-z_0-9]+)\(")
TYPES = ("text", "varchar", "integer", "bigint", "smallint", "jsonb", "timestamptz", "date", "boolean", "unknown_enum")
OPERATORS = ("=", "<>", "<", "<=", ">", ">=", "||", "->", "->>", "+", "-", "%", "/")
OURS = ("delivery", "mailing", "outbox", "command", "occurrence", "schedule_state", "preference", "suppression")

MADE = """
    CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'look-alike {name}({arguments}) was called'; END $$
"""


def called_in_sources() -> set[str]:
    """Every word before a bracket in our code: all functions that our SQL calls are among them."""
    files = [*SOURCES.glob("libs/*/src/**/*.py"), *SOURCES.glob("services/*/src/**/*.py")]
    assert len(files) > 100
    return {name for file in files for name in CALLED.findall(file.read_text())}


async def plant(url: str, schemas: Sequence[str]) -> None:
    """Plants them, as the administrator, where there is an enum `unknown_enum` besides PostgreSQL's own types."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT p.proname, p.pronargs FROM pg_proc AS p WHERE pronamespace = 'pg_catalog'::regnamespace "
            "AND prokind = 'f' AND proname = ANY($1::text[]) AND pronargs <= 2",
            sorted(called_in_sources()),
        )
        names = {(row["proname"], row["pronargs"]) for row in rows}
        assert ("hashtextextended", 2) in names
        for schema in schemas:
            await connection.execute(";\n".join(_statements(schema, names)))
    finally:
        await connection.close()


def _statements(schema: str, names: set[tuple[str, int]]) -> Iterator[str]:
    yield f"CREATE TYPE {schema}.unknown_enum AS ENUM ('pending')"
    types = [*TYPES[:-1], f"{schema}.unknown_enum"]
    for name, count in sorted(names):
        for arguments in product(types, repeat=count):
            yield MADE.format(schema=schema, name=name, arguments=", ".join(arguments), returns="text")
    for number, (operator, (left, right)) in enumerate(product(OPERATORS, product(types, repeat=2))):
        function = f"look_alike_{number}"
        yield MADE.format(schema=schema, name=function, arguments=f"{left}, {right}", returns="boolean")
        yield (
            f"CREATE OPERATOR {schema}.{operator} "
            f"(LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {schema}.{function})"
        )
    for table in (*OURS, "pg_class", "pg_roles", "pg_stat_activity", "pg_namespace"):
        yield f"CREATE TABLE {schema}.{table} (nothing int)"
