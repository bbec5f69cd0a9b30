"""The table of messages, written out by hand: other programs rely on every word of it."""

import pytest

from taskbell.catalogue import message_of
from taskbell.contracts import CATALOGUE, COMMANDS, EVENTS, Contract
from taskbell.contracts import commands as command_contracts
from taskbell.contracts import events as event_contracts

# routing key: (exchange, required, optional, queue, may anybody publish it)
TABLE: dict[str, tuple[str, set[str], set[str], str | None, bool]] = {
    "reminder.due": (
        "taskbell.events",
        set(),
        {"occurrence", "timezone", "user_ids", "force"},
        "notifier.reminder_due",
        True,
    ),
    "overdue.due": (
        "taskbell.events",
        set(),
        {"occurrence", "timezone", "user_ids", "force"},
        "notifier.overdue_due",
        True,
    ),
    "weekly.due": (
        "taskbell.events",
        set(),
        {"occurrence", "timezone", "user_ids", "force"},
        "notifier.weekly_due",
        True,
    ),
    "mailing.completed": (
        "taskbell.events",
        {"mailing_id", "kind", "occurrence", "counts"},
        {"note"},
        None,
        False,
    ),
    "mail.failed": ("taskbell.events", {"delivery_id", "user_id", "kind", "reason"}, set(), None, False),
    "report.generated": ("taskbell.events", {"date", "as_of"}, set(), "notifier.report_generated", False),
    "tasks.archived": ("taskbell.events", {"batch_id", "tasks", "held", "mode"}, set(), None, False),
    "task.status_changed": (
        "taskbell.events",
        {"task_id", "old_status", "new_status", "requested_by"},
        set(),
        None,
        False,
    ),
    "maintenance.generate_task_report": (
        "taskbell.commands",
        set(),
        {"occurrence", "date"},
        "maintenance.generate_task_report",
        True,
    ),
    "maintenance.cleanup_completed_tasks": (
        "taskbell.commands",
        set(),
        {"occurrence", "older_than_days", "mode", "dry_run", "force"},
        "maintenance.cleanup_completed_tasks",
        True,
    ),
    "maintenance.update_task_status": (
        "taskbell.commands",
        {"task_id", "new_status"},
        {"expected_status", "requested_by"},
        "maintenance.update_task_status",
        True,
    ),
    "notifier.send_test_mail": ("taskbell.commands", {"to"}, set(), "notifier.send_test_mail", True),
    "notifier.report_bounce": (
        "taskbell.commands",
        {"type"},
        {"message_id", "address", "reason"},
        "notifier.report_bounce",
        True,
    ),
    "notifier.send_batch": ("taskbell.commands", {"delivery_ids"}, set(), "notifier.send_batch", False),
}


def test_there_are_exactly_these_messages() -> None:
    assert set(CATALOGUE) == set(TABLE)


@pytest.mark.parametrize("key", TABLE)
def test_a_message_is_as_the_table_says(key: str) -> None:
    exchange, required, optional, queue, by_anyone = TABLE[key]
    message = CATALOGUE[key]
    fields = message.contract.model_fields
    assert message.routing_key == key
    assert message.exchange == exchange
    assert {name for name, field in fields.items() if field.is_required()} == required
    assert {name for name, field in fields.items() if not field.is_required()} == optional
    assert message.queue == queue
    assert message.mandatory == (queue is not None)
    assert message.by_anyone == by_anyone


def test_the_exchanges_have_the_names_that_others_bind_to() -> None:
    assert (EVENTS, COMMANDS) == ("taskbell.events", "taskbell.commands")


def test_commands_have_outcomes_but_for_the_notifiers_own_batches() -> None:
    assert {key for key, message in CATALOGUE.items() if message.has_outcome} == {
        "maintenance.generate_task_report",
        "maintenance.cleanup_completed_tasks",
        "maintenance.update_task_status",
        "notifier.send_test_mail",
        "notifier.report_bounce",
    }


def test_every_contract_is_a_message_and_knows_which() -> None:
    defined = {
        contract
        for module in (command_contracts, event_contracts)
        for contract in vars(module).values()
        if isinstance(contract, type) and issubclass(contract, Contract) and contract is not Contract
    } - {event_contracts.MailingDue, event_contracts.UserEvent}  # bases of others
    assert {message.contract for message in CATALOGUE.values()} == defined
    for message in CATALOGUE.values():
        assert message_of(message.contract.model_construct()) is message
