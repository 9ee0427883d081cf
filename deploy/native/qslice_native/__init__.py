"""Starts private RabbitMQ, PostgreSQL and Docker on a Debian machine."""
