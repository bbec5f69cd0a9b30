"""A maintenance service that asks the broker for its consumers every half second instead of every ten.

Everything else is as in the real service; tests at full size run the real one. A test runs this as
`python -m tests.chaos.support.frequent_checks_maintenance`.
"""

import sys

from taskbell.messaging.consuming import session
from taskbell.service import main
from taskbell_maintenance.app import service

if __name__ == "__main__":
    session.COUNT = 0.5
    sys.exit(main(service))
