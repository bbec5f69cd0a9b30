"""Taskbell: the background work of a task-management app, over RabbitMQ and PostgreSQL."""

__version__ = "0.1.0"
