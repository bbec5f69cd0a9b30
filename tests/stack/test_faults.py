"""A mailing of 5,000 during which something fails or is replaced: nothing is lost, and nobody is mailed twice.

The one exception is the data window of the guarantee: a mail whose process or whose PostgreSQL went away between its
first byte and the commit of the server's reply is sent once more, under the same Message-ID, and its row says so.
"""

from collections.abc import Callable

import pytest

from tests.stack import ledger
from tests.stack.compose import Compose
from tests.stack.ledger import MAILS

POOL = 8  # MAIL_POOL_SIZE: mails that one notifier can have in their data window


def _completed(stack: Compose, message_id: str, *, killed: int) -> ledger.Outcome:
    """The mailing's outcome once it is complete, which must keep the guarantee."""
    ledger.wait_completed(stack, message_id)
    outcome = ledger.outcome(stack, message_id)
    print(f"{message_id}: {outcome.states}, {len(outcome.doubled)} taken twice, {outcome.resends} resends")
    assert outcome.states == {"sent": MAILS}
    assert outcome.lost == []
    assert outcome.unexplained == []
    assert set(outcome.doubled.values()) <= {2}
    assert outcome.resends <= killed * 2 * POOL
    return outcome


def kill_the_notifiers(stack: Compose) -> None:
    stack("kill", "--signal", "SIGKILL", "notifier")
    stack("start", "notifier")


def restart_rabbitmq(stack: Compose) -> None:
    stack("restart", "rabbitmq")


def stop_and_start_postgres(stack: Compose) -> None:
    stack("stop", "postgres")
    stack("start", "postgres")
    stack("up", "--detach", "--wait", "--no-recreate", "postgres")


@pytest.mark.parametrize(
    ("fault", "killed"),
    [
        pytest.param(kill_the_notifiers, 2, id="SIGKILL of both notifiers"),
        pytest.param(restart_rabbitmq, 0, id="restart of RabbitMQ"),
        pytest.param(stop_and_start_postgres, 2, id="stop and start of PostgreSQL"),
    ],
)
def test_a_fault_in_the_middle_loses_nothing_and_doubles_nothing(
    stack: Compose, fault: Callable[[Compose], None], killed: int
) -> None:
    message_id = f"overdue-{fault.__name__}"
    ledger.begin(stack, message_id)
    ledger.wait_until_sent(stack, message_id, MAILS // 10)
    fault(stack)
    assert ledger.sent(stack, message_id) < MAILS, "it was over before the fault: this shows nothing"
    _completed(stack, message_id, killed=killed)
    stack.settle()


def test_a_rolling_restart_loses_nothing_doubles_nothing_and_each_stops_within_30_s(stack: Compose) -> None:
    message_id = "overdue-rolling"
    ledger.begin(stack, message_id)
    ledger.wait_until_sent(stack, message_id, MAILS // 10)
    took: dict[str, list[float]] = {}
    for service in ("notifier", "scheduler", "maintenance"):
        for container in stack.ids(service):
            assert ledger.sent(stack, message_id) < MAILS, "it was over too early: this shows nothing"
            took.setdefault(service, []).append(stack.stop_gently(container))
            stack.start(container)
    print({service: [round(seconds, 1) for seconds in all_] for service, all_ in took.items()})
    assert max(max(all_) for all_ in took.values()) < 30
    outcome = _completed(stack, message_id, killed=0)
    assert outcome.doubled == {}


def test_more_copies_during_a_mailing_change_nothing_but_its_speed(stack: Compose) -> None:
    message_id = "overdue-scaled"
    ledger.begin(stack, message_id)
    ledger.wait_until_sent(stack, message_id, MAILS // 10)
    stack("up", "--detach", "--wait", "--no-recreate", "--scale", "notifier=3", "--scale", "scheduler=3")
    assert ledger.sent(stack, message_id) < MAILS, "it was over too early: this shows nothing"
    outcome = _completed(stack, message_id, killed=0)
    assert outcome.doubled == {}
    stack.settle()
    assert len(stack.ids("notifier")) == 2
