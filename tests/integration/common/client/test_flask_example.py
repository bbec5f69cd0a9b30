"""The Flask example, with the real maintenance service behind it."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from uuid import NAMESPACE_URL, uuid5

import pytest
import pytest_asyncio
from flask.testing import FlaskClient
from tests.support.inbox import Inbox
from tests.support.installation import Installation
from tests.support.vhosts import Vhost
from tests.support.waiting import eventually
from werkzeug.test import TestResponse

EXAMPLE = Path(__file__).parents[4] / "examples" / "flask" / "app.py"
STATUS_QUEUE = "maintenance.update_task_status"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("flask_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture(scope="module")
async def installation(module_database_url: str, module_vhost: Vhost) -> AsyncIterator[Installation]:
    """Maintenance runs; the notifier does not, so that its queue can be looked into."""
    inbox = Inbox()
    await inbox.start()
    installation = Installation(module_database_url, module_vhost, inbox)
    await installation.insert("users", [{"id": 1, "name": "Ada"}])
    await installation.insert("tasks", [{"id": number, "title": f"task {number}"} for number in range(1, 101)])
    await installation.rows("SELECT setval('tasks_id_seq', 100)")
    try:
        await installation.start("maintenance")
        yield installation
    finally:
        await installation.stop()
        await inbox.stop()


@pytest.fixture
def web(example: ModuleType, installation: Installation) -> FlaskClient:
    app = example.create_app(installation.database_url, installation.vhost.url)
    return app.test_client()  # type: ignore[no-any-return]  # the module is loaded by path


async def put_status(web: FlaskClient, task: int, status: str, key: str | None = None) -> TestResponse:
    headers = {"Idempotency-Key": key} if key else {}
    return await asyncio.to_thread(web.put, f"/tasks/{task}/status", json={"new_status": status}, headers=headers)


def command_of(path: str, key: str) -> str:
    """The message_id of a command that was asked for at that path with that key."""
    return str(uuid5(NAMESPACE_URL, f"{path}#{key}"))


async def test_a_status_is_changed_when_the_answer_comes(web: FlaskClient, installation: Installation) -> None:
    answer = await put_status(web, 1, "done", "form-1")
    assert answer.status_code == 200
    assert answer.json is not None
    assert (answer.json["state"], answer.json["reason"]) == ("done", None)
    assert await installation.value("SELECT status FROM tasks WHERE id = 1") == "done"


async def test_sent_again_with_the_same_key_it_is_changed_once(web: FlaskClient, installation: Installation) -> None:
    first = await put_status(web, 2, "done", "form-2")
    await put_status(web, 2, "pending")
    again = await put_status(web, 2, "done", "form-2")
    assert again.json == first.json
    assert await installation.value("SELECT status FROM tasks WHERE id = 2") == "pending"


async def test_the_same_key_for_another_task_is_another_command(web: FlaskClient, installation: Installation) -> None:
    await put_status(web, 3, "done", "form-3")
    assert (await put_status(web, 4, "done", "form-3")).status_code == 200
    assert await installation.value("SELECT count(*) FROM tasks WHERE id IN (3, 4) AND status = 'done'") == 2


async def test_what_is_refused_says_why(web: FlaskClient) -> None:
    unknown = await put_status(web, 999, "done")
    assert unknown.status_code == 409
    assert unknown.json is not None
    assert unknown.json["state"] == "rejected"
    assert unknown.json["reason"]

    wrong = await put_status(web, 3, "finished")
    assert wrong.status_code == 422
    assert wrong.json is not None
    assert wrong.json["error"][0]["loc"] == ["new_status"]


async def test_many_requests_in_threads_get_each_its_own_answer(
    example: ModuleType, installation: Installation
) -> None:
    app = example.create_app(installation.database_url, installation.vhost.url)

    def change(task: int) -> int:
        answer = app.test_client().put(
            f"/tasks/{task}/status", json={"new_status": "cancelled"}, headers={"Idempotency-Key": f"many-{task}"}
        )
        return answer.status_code

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(change, task) for task in range(20, 100)]
        answers = await asyncio.gather(*map(asyncio.wrap_future, calls))
    assert answers == [200] * 80
    assert await installation.value("SELECT count(*) FROM tasks WHERE status = 'cancelled'") == 80


async def test_a_task_and_its_reminder_are_committed_together(web: FlaskClient, installation: Installation) -> None:
    task = {"title": "call the bank", "due_date": "2026-11-20T09:00:00Z", "assignee_id": 1}
    answer = await asyncio.to_thread(web.post, "/tasks", json=task)
    assert answer.status_code == 201
    (reminder,) = await eventually(lambda: installation.management.take("notifier.reminder_due"))
    assert reminder.json() == {"user_ids": [1]}


async def test_a_task_that_cannot_be_created_reminds_nobody(web: FlaskClient, installation: Installation) -> None:
    before = await installation.value("SELECT count(*) FROM taskbell.outbox")
    task = {"title": "for nobody", "due_date": None, "assignee_id": 404}
    answer = await asyncio.to_thread(web.post, "/tasks", json=task)
    assert answer.status_code == 500
    assert await installation.value("SELECT count(*) FROM taskbell.outbox") == before
    assert await installation.value("SELECT count(*) FROM tasks WHERE title = 'for nobody'") == 0


async def test_somebody_is_reminded_by_one_line(web: FlaskClient, installation: Installation) -> None:
    answer = await asyncio.to_thread(web.post, "/users/1/reminder")
    assert answer.status_code == 202
    assert answer.json is not None
    (reminder,) = await installation.management.take("notifier.reminder_due")
    assert reminder.properties["message_id"] == answer.json["message_id"]


async def test_without_a_broker_the_routes_answer_503(
    example: ModuleType, database_url: str, unused_tcp_port: int
) -> None:
    web = example.create_app(database_url, f"amqp://127.0.0.1:{unused_tcp_port}/").test_client()
    answer = await put_status(web, 1, "done", "form-9")
    assert (answer.status_code, answer.json) == (
        503,
        {"message_id": command_of("/tasks/1/status", "form-9"), "error": "try again in a minute"},
    )


async def test_without_maintenance_the_answer_is_that_it_is_under_way(
    example: ModuleType, database_url: str, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = example.Client.request
    monkeypatch.setattr(
        example.Client, "request", lambda self, *args, **options: impatient(self, *args, **options | {"timeout": 0.3})
    )
    web = example.create_app(database_url, vhost.url).test_client()
    answer = await put_status(web, 1, "done", "form-10")
    assert answer.status_code == 202
    assert answer.json["message_id"] == command_of("/tasks/1/status", "form-10")
    assert (await vhost.management.depth(STATUS_QUEUE)).ready == 1
