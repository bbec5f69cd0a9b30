"""Exchanges, queues and bindings, written out by hand: the arguments of a queue that exists cannot be changed."""

from typing import Any

from taskbell.messaging.topology import topology

LIMITLESS = 1_000_000


def work_queue(dead: str) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "taskbell.dead",
        "x-dead-letter-routing-key": dead,
        "x-dead-letter-strategy": "at-least-once",
    }


def retry_queue(milliseconds: int) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": LIMITLESS,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-message-ttl": milliseconds,
    }


DEAD_QUEUE = {"x-queue-type": "quorum", "x-delivery-limit": LIMITLESS, "x-overflow": "reject-publish"}

QUEUES = {
    "notifier.dead": DEAD_QUEUE,
    "maintenance.dead": DEAD_QUEUE,
    "taskbell.retry.10s": retry_queue(10_000),
    "taskbell.retry.1m": retry_queue(60_000),
    "taskbell.retry.10m": retry_queue(600_000),
    "notifier.reminder_due": work_queue("notifier.dead"),
    "notifier.overdue_due": work_queue("notifier.dead"),
    "notifier.weekly_due": work_queue("notifier.dead"),
    "notifier.report_generated": work_queue("notifier.dead"),
    "notifier.send_test_mail": work_queue("notifier.dead"),
    "notifier.report_bounce": work_queue("notifier.dead"),
    "notifier.send_batch": work_queue("notifier.dead"),
    "maintenance.generate_task_report": work_queue("maintenance.dead"),
    "maintenance.cleanup_completed_tasks": work_queue("maintenance.dead"),
    "maintenance.update_task_status": work_queue("maintenance.dead"),
}

EXCHANGES = {
    "taskbell.events": "topic",
    "taskbell.commands": "topic",
    "taskbell.dead": "direct",
    "taskbell.retry.10s": "fanout",
    "taskbell.retry.1m": "fanout",
    "taskbell.retry.10m": "fanout",
}

BINDINGS = {
    ("taskbell.dead", "notifier.dead", "notifier.dead"),
    ("taskbell.dead", "maintenance.dead", "maintenance.dead"),
    ("taskbell.retry.10s", "taskbell.retry.10s", ""),
    ("taskbell.retry.1m", "taskbell.retry.1m", ""),
    ("taskbell.retry.10m", "taskbell.retry.10m", ""),
    ("taskbell.events", "notifier.reminder_due", "reminder.due"),
    ("taskbell.events", "notifier.overdue_due", "overdue.due"),
    ("taskbell.events", "notifier.weekly_due", "weekly.due"),
    ("taskbell.events", "notifier.report_generated", "report.generated"),
    ("taskbell.commands", "notifier.send_test_mail", "notifier.send_test_mail"),
    ("taskbell.commands", "notifier.report_bounce", "notifier.report_bounce"),
    ("taskbell.commands", "notifier.send_batch", "notifier.send_batch"),
    ("taskbell.commands", "maintenance.generate_task_report", "maintenance.generate_task_report"),
    ("taskbell.commands", "maintenance.cleanup_completed_tasks", "maintenance.cleanup_completed_tasks"),
    ("taskbell.commands", "maintenance.update_task_status", "maintenance.update_task_status"),
}


def test_queues_have_these_names_and_arguments_and_no_others() -> None:
    assert {queue.name: queue.arguments for queue in topology().queues} == QUEUES


def test_exchanges_have_these_names_and_types() -> None:
    assert {exchange.name: exchange.type for exchange in topology().exchanges} == EXCHANGES


def test_queues_are_bound_by_these_keys() -> None:
    assert {(it.exchange, it.queue, it.routing_key) for it in topology().bindings} == BINDINGS


def test_nothing_is_declared_twice_and_nothing_is_bound_that_is_not_declared() -> None:
    declared = topology()
    assert len(declared.queues) == len(QUEUES)
    assert len(declared.bindings) == len(BINDINGS)
    assert {it.queue for it in declared.bindings} <= set(QUEUES)
    assert {it.exchange for it in declared.bindings} <= set(EXCHANGES)


def test_dead_letters_and_retries_are_declared_before_what_dies_into_them() -> None:
    names = [queue.name for queue in topology().queues]
    first_work = min(index for index, name in enumerate(names) if "x-dead-letter-routing-key" in QUEUES[name])
    assert set(names[:first_work]) == {
        "notifier.dead",
        "maintenance.dead",
        "taskbell.retry.10s",
        "taskbell.retry.1m",
        "taskbell.retry.10m",
    }
