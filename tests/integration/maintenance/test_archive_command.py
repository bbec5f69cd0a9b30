"""`taskbell archive`, run as a person runs it."""

from tests.integration.maintenance.use_cases import Maintenance
from tests.support.command import taskbell


async def test_list_and_show_tell_what_a_cleanup_took(maintenance: Maintenance, database_url: str) -> None:
    nothing = await taskbell("archive", "list", DATABASE_URL=database_url)
    assert (nothing.status, nothing.out) == (0, "No cleanup has taken a task yet.\n")

    task = await maintenance.done(31, title="Ünïcödé \x1b[31m🎉")
    await maintenance.clean_up("m1")
    listed = await taskbell("archive", "list", DATABASE_URL=database_url)
    assert listed.status == 0
    assert "archive" in listed.out

    (batch,) = (await taskbell("archive", "list", "--json", DATABASE_URL=database_url)).json()
    assert {name: batch[name] for name in ("id", "message_id", "mode", "tasks", "held", "restored")} == {
        "id": 1,
        "message_id": "m1",
        "mode": "archive",
        "tasks": 1,
        "held": 0,
        "restored": 0,
    }
    shown = await taskbell("archive", "show", "1", DATABASE_URL=database_url)
    assert shown.status == 0
    assert "Ünïcödé" in shown.out
    assert "\x1b[31m" not in shown.out
    (archived,) = (await taskbell("archive", "show", "1", "--json", DATABASE_URL=database_url)).json()["archived"]
    assert (archived["task_id"], archived["restored_at"]) == (task, None)

    assert (
        len((await taskbell("archive", "list", "--task", str(task), "--json", DATABASE_URL=database_url)).json()) == 1
    )
    other = await taskbell("archive", "list", "--task", "999", DATABASE_URL=database_url)
    assert other.out == "No batch has task 999.\n"


async def test_restore_brings_back_and_says_what_it_could_not(maintenance: Maintenance, database_url: str) -> None:
    first, second, third = [await maintenance.done(31) for _ in range(3)]
    await maintenance.clean_up()
    one = await taskbell("archive", "restore", "1", "--task", str(second), DATABASE_URL=database_url)
    assert (one.status, one.out.splitlines()[0]) == (0, "1 restored from batch 1.")
    assert await maintenance.ids() == [second]

    await maintenance.task(id=first, title="A newer one")
    rest = await taskbell("archive", "restore", "1", DATABASE_URL=database_url)
    assert rest.status == 1
    assert rest.out.splitlines()[0] == "1 restored from batch 1."
    assert "1 stay in the archive" in rest.out
    assert "a task with this id exists already" in rest.out
    assert await maintenance.ids() == [first, second, third]

    as_json = await taskbell("archive", "restore", "1", "--json", DATABASE_URL=database_url)
    assert (as_json.status, as_json.json()) == (
        1,
        {"restored": 0, "left": 1, "reasons": {str(first): "a task with this id exists already"}},
    )
    await maintenance.execute("DELETE FROM tasks WHERE id = $1", first)
    await taskbell("archive", "restore", "1", DATABASE_URL=database_url)
    again = await taskbell("archive", "restore", "1", DATABASE_URL=database_url)
    assert (again.status, again.out) == (0, "Nothing of batch 1 is left to restore.\n")


async def test_what_cannot_be_meant_is_told_in_one_sentence(maintenance: Maintenance, database_url: str) -> None:
    deleted = await maintenance.done(31)
    await maintenance.clean_up(mode="delete")
    task = await maintenance.done(31)
    await maintenance.clean_up()
    await taskbell("archive", "restore", "2", DATABASE_URL=database_url)
    for arguments, sentence in (
        (("show", "9"), "batch 9 does not exist; `taskbell archive list` lists all"),
        (("restore", "9"), "batch 9 does not exist; `taskbell archive list` lists all"),
        (("restore", "1"), "batch 1 cannot be restored: its cleanup deleted the tasks instead of archiving them"),
        (
            ("restore", "2", "--task", str(deleted)),
            f"task {deleted} is not in batch 2; `taskbell archive list --task {deleted}` finds it",
        ),
        (("restore", "2", "--task", str(task)), f"task {task} of batch 2 was already restored, at "),
    ):
        done = await taskbell("archive", *arguments, DATABASE_URL=database_url)
        assert done.status == 2, arguments
        assert done.err.startswith(f"taskbell: {sentence}")
        assert done.out == ""
