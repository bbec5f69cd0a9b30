"""`taskbell setup`: everything that must exist before a service runs. Safe to run again, and by several at once."""
