"""What Taskbell's speed is, measured on the machine it runs on: `make bench`, or `python -m benchmarks CASE`.

Real services as processes, real PostgreSQL with fsync, real RabbitMQ with quorum queues, a real SMTP server that takes
all mail. Every case also checks that the work was done: each mail taken once, each command's row and event there.
docs/performance.md tells what the figures mean. Nothing of this is imported by a service.
"""
