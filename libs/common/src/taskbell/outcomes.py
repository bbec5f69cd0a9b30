"""The outcome of a command, as its handler returns it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskbell.contracts import CommandOutcome, CommandState


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    state: CommandState
    result: Mapping[str, Any] | None = None
    reason: str | None = None

    @classmethod
    def done(cls, **result: Any) -> "Outcome":
        """It took effect."""
        return cls("done", result)

    @classmethod
    def unchanged(cls, **result: Any) -> "Outcome":
        """There was nothing to do."""
        return cls("unchanged", result)

    @classmethod
    def rejected(cls, reason: str, **result: Any) -> "Outcome":
        """It validates but is refused; whoever asked gets the reason."""
        return cls("rejected", result or None, reason)

    def result_as_json(self) -> str | None:
        """The result as it is stored: values that JSON cannot express, such as dates, become texts."""
        return None if self.result is None else json.dumps(self.result, ensure_ascii=False, default=str)

    def as_reply(self, message_id: str) -> CommandOutcome:
        """The reply to the command with that message_id. Its result is the stored one."""
        result = self.result_as_json()
        fields: dict[str, Any] = {} if result is None else {"result": json.loads(result)}
        if self.reason is not None:
            fields["reason"] = self.reason
        return CommandOutcome(message_id=message_id, state=self.state, **fields)
