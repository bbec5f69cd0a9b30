"""What metrics say of the mail server."""

from datetime import UTC, datetime

import pytest

from taskbell.metrics import Metrics
from taskbell_notifier.delivery.mail_server import PoolObserver
from taskbell_notifier.metrics import NotifierMetrics
from taskbell_notifier.smtp.breaker import NOT_THE_RECIPIENT, BreakerState, BreakerStatus

REFUSED = f"{NOT_THE_RECIPIENT}: RCPT: 554 no"


@pytest.mark.parametrize(
    ("state", "reason", "sends"),
    [
        (BreakerState.CONFIGURATION_FAULT, REFUSED, 0),
        (BreakerState.RESUMING, REFUSED, 0),
        (BreakerState.RESUMING, "connect: refused", 1),
        (BreakerState.SERVER_FAULT, "connect: refused", 0),
        (BreakerState.SENDING, "", 1),
    ],
)
def test_sending_counts_as_paused_until_the_server_takes_a_mail_again(
    state: BreakerState, reason: str, sends: int
) -> None:
    metrics = Metrics()
    observer = PoolObserver(NotifierMetrics(metrics))
    observer.breaker_changed(BreakerStatus(state, reason, datetime(2026, 11, 20, tzinfo=UTC)))
    assert metrics.registry.get_sample_value("taskbell_smtp_sending") == sends
