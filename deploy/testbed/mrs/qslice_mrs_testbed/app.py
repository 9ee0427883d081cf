"""The registry as a Flask application: API v0.2, the realm, the pages and the admin route."""

import flask

from qslice_mrs_testbed import admin, objects, pages, realm, striking
from qslice_mrs_testbed.registry import Registry


def create_app(registry: Registry) -> flask.Flask:
    """The application over a registry."""
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024 * 1024
    striking.install(app, registry)
    for module in (objects, realm, pages, admin):
        app.register_blueprint(module.routes(registry))
    return app
