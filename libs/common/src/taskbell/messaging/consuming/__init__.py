"""From a queue to a handler: sessions, dispatchers, failures."""
