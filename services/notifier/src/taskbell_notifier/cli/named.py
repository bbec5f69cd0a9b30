"""What the commands have in common: the kind that a name stands for, and the largest user id."""

from taskbell.errors import Mistake
from taskbell.kinds import Kind
from taskbell_notifier.kinds.table import UnknownKind, installed_kinds

MAX_ID = 2**63 - 1


def kind_named(name: str) -> Kind:
    """The installed kind of that name. Raises Mistake if there is none."""
    try:
        return installed_kinds()[name]
    except UnknownKind as error:
        raise Mistake(str(error)) from None
