"""`python -m taskbell_devstack`: `taskbell dev` where the root command is not at hand."""

import sys

from taskbell.errors import TaskbellError
from taskbell_devstack.cli import commands

try:
    commands(prog_name="python -m taskbell_devstack")
except TaskbellError as error:
    sys.exit(f"taskbell: {error}")
