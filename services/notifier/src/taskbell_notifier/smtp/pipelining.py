"""Whether a server that announces PIPELINING keeps the commands that come together; some lose all but the first."""

import re
from collections.abc import Callable

from taskbell_notifier.smtp.replies import Loss, Stage, Submission

LOSSES_IN_A_ROW = 3
"""Losses after which a server is suspected although it has answered groups of commands before."""

VAIN_SECONDS = 600.0
"""How long losses are no reason for suspicion, after a mail whose commands went one by one was lost as well."""

_OUT_OF_STEP = frozenset({500, 501, 502, 503})
"""Replies to commands that came in pieces, or out of order."""

_COMPLAINT = re.compile(r"pipelin|synchroni[sz]ation", re.IGNORECASE)


class Pipelining:
    """What is known of one server, for as long as the process lives.

    If a server that has never answered a group loses one, commands go one by one. If the same mail then gets further,
    the server is lossy, and this stays so; if it does not, the server is only slow, and groups are sent again. A server
    that has answered groups may have been slow, and is suspected after its third loss in a row.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._works = False
        self._losses = 0
        self._suspected = False
        self._trusted_until = 0.0
        self.is_lossy = False

    @property
    def allowed(self) -> bool:
        """True if commands may be sent together."""
        return not (self.is_lossy or self._suspected)

    def lost(self, submission: Submission, loss: Loss | None) -> bool:
        """Whether a group of commands seems to have been lost in part; then the next commands go one by one.

        Args:
            submission: how the mail ended; its message was not begun.
            loss: how the connection ended, if it did so without a reply to each command.
        """
        if not self._seems_lost(submission, loss) or self._now() < self._trusted_until:
            return False
        self._losses += 1
        self._suspected = not self._works or self._losses >= LOSSES_IN_A_ROW
        return self._suspected

    def answered(self) -> None:
        """A group of commands was answered as it should be."""
        self._works, self._losses = True, 0

    def went_alone(self, submission: Submission, loss: Loss | None, *, begun: bool) -> None:
        """A mail's commands went one by one; `begun`: its message was begun."""
        if not self._suspected:
            return
        further = begun or not self._seems_lost(submission, loss)
        self._suspected, self._losses = False, 0
        self.is_lossy = further
        if not further:
            self._trusted_until = self._now() + VAIN_SECONDS

    def _seems_lost(self, submission: Submission, loss: Loss | None) -> bool:
        code = submission.code or 0
        # A mail that ends by a 2xx or 3xx got the reply to another command.
        if loss is Loss.TIMED_OUT or code // 100 in (2, 3) or code in _OUT_OF_STEP:
            return True
        if _COMPLAINT.search(submission.text):
            return True
        # A connection may break at any time; only if no group was ever answered, the group may be why.
        return submission.loss is Loss.DROPPED and submission.stage is not Stage.MAIL and not self._works
