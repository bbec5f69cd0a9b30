"""Every message that is for this service has its line."""

from functools import partial
from typing import Any, cast

from taskbell.contracts import CATALOGUE
from taskbell_maintenance.handlers import subscriptions


class _Anything:
    """Has every attribute, as far as a table of handlers looks."""

    def __getattr__(self, name: str) -> str:
        return name


def test_every_queue_of_the_service_has_one_line_with_its_contract() -> None:
    room = cast(Any, _Anything())
    lines = subscriptions(room, room, room, room)
    assert [(line.queue, line.contract) for line in lines] == [
        ("maintenance.update_task_status", CATALOGUE["maintenance.update_task_status"].contract),
        ("maintenance.cleanup_completed_tasks", CATALOGUE["maintenance.cleanup_completed_tasks"].contract),
        ("maintenance.generate_task_report", CATALOGUE["maintenance.generate_task_report"].contract),
    ]
    assert {line.queue for line in lines} == {it.queue for it in CATALOGUE.values() if it.consumer == "maintenance"}
    for line in map(partial(cast, Any), lines):
        assert (line.on_invalid, line.on_dead) == ("refuse", "fail")
