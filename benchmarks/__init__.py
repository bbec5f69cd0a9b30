"""Measures Taskbell's speed on this machine: `make bench`, or `python -m benchmarks CASE`.

The services are real processes, with a real PostgreSQL with fsync, a real RabbitMQ with quorum queues, and a real SMTP
server that takes all mail. Every case also checks that the work was done: that each mail was taken once, and that each
command has its row and its event. docs/performance.md explains the figures. No service imports this package.
"""
