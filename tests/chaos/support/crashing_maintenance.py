"""A maintenance service with a fault: the status update of one task kills its process, as a crash in C code would.

Run by a test as `python -m tests.chaos.support.crashing_maintenance`.
"""

import os
import signal
import sys
from collections.abc import Sequence

from taskbell.service import main
from taskbell_maintenance.app import service
from taskbell_maintenance.statuses import StatusUpdates, UpdateCommand

TASK = 666

_update = StatusUpdates.update


async def _update_or_die(self: StatusUpdates, commands: Sequence[UpdateCommand]) -> None:
    if any(command.body.task_id == TASK for command in commands):
        os.kill(os.getpid(), signal.SIGKILL)
    await _update(self, commands)


if __name__ == "__main__":
    StatusUpdates.update = _update_or_die  # type: ignore[method-assign] - that is the fault
    sys.exit(main(service))
