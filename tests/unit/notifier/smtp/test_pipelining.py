"""When a server is taken for one that loses commands which come together."""

from taskbell_notifier.smtp.pipelining import VAIN_SECONDS, Pipelining
from taskbell_notifier.smtp.replies import Loss, Reply, Stage, Submission, classify, lost, odd


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


SILENT = lost(Stage.RCPT, Loss.TIMED_OUT)
DROPPED = lost(Stage.RCPT, Loss.DROPPED)


def refused(stage: Stage, code: int, text: str = "no") -> Submission:
    found = classify(stage, Reply(code, text))
    assert found is not None
    return found


def test_a_first_loss_that_one_by_one_mends_is_remembered() -> None:
    pipelining = Pipelining(Clock())
    assert pipelining.allowed
    assert pipelining.lost(SILENT, Loss.TIMED_OUT)
    assert not pipelining.allowed
    pipelining.went_alone(refused(Stage.RCPT, 550), None, begun=False)
    assert pipelining.is_lossy
    assert not pipelining.allowed


def test_a_loss_that_one_by_one_does_not_mend_is_forgotten_for_a_while() -> None:
    clock = Clock()
    pipelining = Pipelining(clock)
    assert pipelining.lost(SILENT, Loss.TIMED_OUT)
    pipelining.went_alone(SILENT, Loss.TIMED_OUT, begun=False)
    assert pipelining.allowed
    assert not pipelining.lost(SILENT, Loss.TIMED_OUT)
    clock.now = VAIN_SECONDS + 1
    assert pipelining.lost(SILENT, Loss.TIMED_OUT)


def test_a_server_that_has_answered_groups_is_suspected_after_three_losses_in_a_row() -> None:
    pipelining = Pipelining(Clock())
    pipelining.answered()
    assert not pipelining.lost(SILENT, Loss.TIMED_OUT)
    assert not pipelining.lost(SILENT, Loss.TIMED_OUT)
    pipelining.answered()
    assert [pipelining.lost(SILENT, Loss.TIMED_OUT) for _ in range(3)] == [False, False, True]
    pipelining.went_alone(SILENT, None, begun=True)
    assert pipelining.is_lossy


def test_what_counts_as_lost() -> None:
    for submission in (
        refused(Stage.RCPT, 503),
        refused(Stage.DATA, 500),
        refused(Stage.MAIL, 501),
        refused(Stage.RCPT, 554, "5.5.0 SMTP synchronization error"),
        refused(Stage.DATA, 550, "improper command pipelining"),
        odd(Stage.RCPT, Reply(354, "go on")),
        odd(Stage.DATA, Reply(250, "ok")),
    ):
        assert Pipelining(Clock()).lost(submission, None), submission
    assert Pipelining(Clock()).lost(DROPPED, Loss.DROPPED)


def test_what_does_not_count_as_lost() -> None:
    for submission in (
        refused(Stage.RCPT, 550),
        refused(Stage.RCPT, 451),
        refused(Stage.DATA, 554),
        lost(Stage.MAIL, Loss.DROPPED),
        odd(Stage.RCPT, Reply(0, "not SMTP")),
    ):
        assert not Pipelining(Clock()).lost(submission, None), submission
    working = Pipelining(Clock())
    working.answered()
    assert not working.lost(DROPPED, Loss.DROPPED)


def test_mails_that_went_alone_without_a_suspicion_teach_nothing() -> None:
    pipelining = Pipelining(Clock())
    pipelining.went_alone(SILENT, None, begun=True)
    assert not pipelining.is_lossy
