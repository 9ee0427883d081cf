"""The identity provider's routes, as Keycloak names them."""

import flask

from qslice_mrs_testbed.registry import Registry, answer
from qslice_mrs_testbed.tokens import ALGORITHM


def routes(registry: Registry) -> flask.Blueprint:
    blueprint = flask.Blueprint("realm", __name__, url_prefix=f"/realms/{registry.realm_name}")
    tokens = registry.tokens

    @blueprint.post("/protocol/openid-connect/token")
    def token() -> flask.Response:
        form, basic = flask.request.form, flask.request.authorization
        if form.get("grant_type") != "client_credentials":
            return answer({"error": "unsupported_grant_type"}, 400)
        client_id = form.get("client_id") or (basic.username if basic else None) or ""
        secret = form.get("client_secret") or (basic.password if basic else None) or ""
        made = tokens.issue(client_id, secret, registry.build.token_life_s)
        if made is None:
            return answer(
                {
                    "error": "unauthorized_client",
                    "error_description": "Invalid client or Invalid client credentials",
                },
                401,
            )
        return answer(
            {
                "access_token": made,
                "expires_in": registry.build.token_life_s,
                "refresh_expires_in": 0,
                "token_type": "Bearer",
                "not-before-policy": 0,
                "scope": "profile email",
            }
        )

    @blueprint.get("/protocol/openid-connect/certs")
    def certificates() -> flask.Response:
        return answer(tokens.jwks())

    @blueprint.get("/.well-known/openid-configuration")
    def discovery() -> flask.Response:
        issuer = tokens.realm.issuer
        return answer(
            {
                "issuer": issuer,
                "token_endpoint": f"{issuer}/protocol/openid-connect/token",
                "jwks_uri": f"{issuer}/protocol/openid-connect/certs",
                "grant_types_supported": ["client_credentials"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
            }
        )

    return blueprint
