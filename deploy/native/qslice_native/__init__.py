"""Starts private RabbitMQ, PostgreSQL and a Docker engine on a bare Debian machine, as root.

`python -m qslice_native up demo` is the door; `instance.Instance` is the same from Python.
"""
