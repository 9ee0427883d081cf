"""The peer of a single submit: a Flask view that calls Celery's `apply_async` with confirms."""

from typing import Any

from flask import Flask, request

from tests.benchmarks.peers.celery_app import noop

app = Flask("peer")


@app.post("/submit")
def submit() -> tuple[dict[str, Any], int]:
    asked = request.get_json()
    if not asked.get("repository") or not asked.get("command"):
        return {"error": "repository and command are required"}, 422
    return {"id": noop.apply_async().id}, 202


@app.get("/ready")
def ready() -> str:
    """It answers."""
    return "ready"
