"""The packages of examples/ are removed while mailings, mails and links of theirs are under way."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.examples.installed import HOUR, Examples, examples_installed
from tests.support.packages import Packages
from tests.support.servers import ServerUrls
from tests.support.waiting import eventually

TO_SUPPORT = {"team": "support"}


@pytest.fixture
def packages(wheels: Mapping[str, Path], tmp_path: Path) -> Packages:
    """A folder in which all examples are installed."""
    packages = Packages(tmp_path)
    for wheel in wheels.values():
        packages.unpack(wheel)
    return packages


@pytest_asyncio.fixture
async def examples(servers: ServerUrls, packages: Packages) -> AsyncIterator[Examples]:
    async with examples_installed(servers, packages.path) as examples:
        await examples.set_up("--grant", "taskbell-unassigned", "--grant", "taskbell-assigned")
        yield examples


async def test_a_removed_package_leaves_no_error_but_the_one_that_names_its_kind(
    examples: Examples, packages: Packages
) -> None:
    await examples.start("notifier", "scheduler", MAIL_EXPIRY_HOURS_UNASSIGNED="6")
    await examples.member(1)
    await examples.member(2)
    await examples.task(10, "Nobody's")
    await examples.task(11, "Ada's", assignee_id=1, due_date=examples.now - HOUR)
    examples.installation.inbox.refusals["2@example.org"] = ["450 4.2.1 later"]
    await examples.publish("unassigned.due", TO_SUPPORT, "first")
    (mail,) = await examples.installation.inbox.wait_for(1)
    await examples.mailed("task.assigned", {"user_id": 1, "task_id": 11, "key": "a1"}, "assigned")

    async def waits() -> bool:
        return (await examples.reasons("unassigned"))["user:2"][0] == "retry"

    await eventually(waits)
    await examples.installation.stop("notifier", "scheduler")
    await examples.publish("unassigned.due", TO_SUPPORT | {"force": True}, "not handled")
    await examples.installation.insert(
        "taskbell.mailing",
        [{"message_id": "planning", "kind": "unassigned", "at": examples.now, "state": "planning", "body_digest": ""}],
    )

    for name in ("taskbell-unassigned", "taskbell-assigned"):
        packages.remove(name)
    await examples.start("notifier", "scheduler", "maintenance", MAIL_EXPIRY_HOURS_UNASSIGNED="6")
    await examples.retry_now()

    assert await examples.completed("first") == {"sent": 1, "skipped": 1}
    assert await examples.completed("planning") == {}
    reasons = await examples.reasons("unassigned")
    assert reasons["user:2"] == ("skipped", "kind unassigned is not installed")
    note = await examples.installation.value("SELECT note FROM taskbell.mailing WHERE message_id = 'planning'")
    assert note == "kind unassigned is not installed"
    assert await examples.mailed("overdue.due", {}, "ours") == {"sent": 1}

    why = await examples.said("mail", "why", "--user", "2")
    assert "kind unassigned is not installed" in why
    assert "unassigned" in await examples.said("mail", "why", "--user", "1", "--kind", "unassigned")
    assert (await examples.taskbell("mail", "preview", "unassigned")).err.startswith(
        "taskbell: there is no kind of mail 'unassigned'"
    )
    assert await examples.installation.ask("GET", examples.link(mail)) == 200
    assert await examples.installation.ask("POST", examples.link(mail)) == 200
    stored = await examples.installation.rows("SELECT user_id, kind, enabled FROM taskbell.preference")
    assert stored == [{"user_id": 1, "kind": "unassigned", "enabled": False}]

    said = await examples.set_up()
    left_over = [line for line in said.splitlines() if line.startswith("left over: ")]
    for queue in ("notifier.task_assigned", "notifier.unassigned_due"):
        assert any(queue in line for line in left_over), said
    assert (await examples.readiness())["status"] == "ready"
    assert examples.errors("notifier") == ["mailing.unknown_kind"]
    assert examples.errors("scheduler") == examples.errors("maintenance") == []


async def test_installed_again_it_goes_on_with_what_waited_in_its_queue(
    examples: Examples, packages: Packages, wheels: Mapping[str, Path]
) -> None:
    await examples.member(1)
    await examples.task(10, "Nobody's")
    packages.remove("taskbell-unassigned")
    await examples.start("notifier")
    await examples.publish("unassigned.due", TO_SUPPORT, "waits")
    await examples.installation.stop("notifier")
    packages.unpack(wheels["unassigned"])
    await examples.start("notifier")
    assert await examples.completed("waits") == {"sent": 1}
