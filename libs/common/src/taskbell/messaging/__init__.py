"""RabbitMQ: topology as code, publishing with confirms, supervised consuming, retries and dead letters."""
