"""`python -m taskbell_devstack`: the same as `taskbell dev`, for when the command `taskbell` is not on PATH."""

import sys

from taskbell.errors import TaskbellError
from taskbell_devstack.cli import commands

try:
    commands(prog_name="python -m taskbell_devstack")
except TaskbellError as error:
    sys.exit(f"taskbell: {error}")
