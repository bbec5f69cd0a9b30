"""Our wheels and the examples', installed by pip into an environment that knows no checkout."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from tests.integration.examples.installed import EXAMPLES, Examples, examples_installed
from tests.support.environments import Environment
from tests.support.packages import build_wheel
from tests.support.servers import ServerUrls

OURS = ("libs/common", "services/scheduler", "services/notifier", "services/maintenance")
MODULES = ("taskbell", "taskbell_scheduler", "taskbell_notifier", "taskbell_maintenance")
PACKAGES = ("taskbell-unassigned", "taskbell-assigned")
GRANTS = ("--grant", "taskbell-unassigned", "--grant", "taskbell-assigned")


@pytest.fixture
def environment(wheels: Mapping[str, Path], tmp_path: Path) -> Environment:
    """Everything is installed in it."""
    built = {build_wheel(EXAMPLES.parent / package, tmp_path).name.partition("-")[0] for package in OURS}
    assert built == set(MODULES)
    for wheel in wheels.values():
        (tmp_path / wheel.name).symlink_to(wheel)
    environment = Environment(tmp_path / "environment")
    environment.install(tmp_path, *(name.replace("_", "-") for name in MODULES), *PACKAGES)
    return environment


@pytest_asyncio.fixture
async def examples(servers: ServerUrls, environment: Environment) -> AsyncIterator[Examples]:
    async with examples_installed(servers, python=environment.python) as examples:
        yield examples


async def test_wheels_do_all_of_it_and_nothing_is_left_when_they_are_removed(
    examples: Examples, environment: Environment
) -> None:
    files = environment.files(*MODULES, "taskbell_unassigned", "taskbell_assigned", "taskbell.extend")
    assert all(environment.packages in file.parents for file in files.values()), files
    await examples.set_up(*GRANTS)
    await examples.start()
    await examples.member(1)
    await examples.member(2)
    await examples.task(10, "Nobody's")
    await examples.task(11, "Taken", assignee_id=1)
    assert await examples.mailed("unassigned.due", {"team": "support"}, "m1") == {"sent": 2}
    assert await examples.mailed("task.assigned", {"user_id": 1, "task_id": 11, "key": "a1"}, "m2") == {"sent": 1}
    subjects = [mail.message["Subject"] for mail in examples.installation.inbox.to("1@example.org")]
    assert subjects == ["1 task is unassigned", "Assigned to you: Taken"]
    assert "unassigned" in await examples.said("mail", "why", "--user", "1")
    assert await examples.metric("taskbell_mails_total", kind="assigned", state="sent") == 1
    (first, _) = examples.installation.inbox.to("1@example.org")
    assert await examples.installation.ask("POST", examples.link(first)) == 200
    again = {"team": "support", "force": True}
    assert await examples.mailed("unassigned.due", again, "m3") == {"sent": 1, "skipped": 1}

    await examples.installation.stop()
    environment.uninstall(*PACKAGES)
    await examples.start()
    assert await examples.installation.ask("POST", examples.link(first)) == 200
    assert "kind" in await examples.said("mail", "why", "--user", "1", "--kind", "unassigned")
    for service in ("scheduler", "notifier", "maintenance"):
        assert examples.errors(service) == []
