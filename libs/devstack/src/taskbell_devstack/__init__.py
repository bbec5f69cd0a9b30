"""A real PostgreSQL, a RabbitMQ and a mail inbox for Taskbell's demo and tests."""
