"""`taskbell setup`: makes everything that must exist before a service runs.

It is safe to run it again, and to run several at once.
"""
