"""Who asks: what a verified token says about its bearer."""

from dataclasses import dataclass
from typing import Any

from qslice import names
from qslice.ids import EXPERIMENT

from qslice_gateway.settings import Issuer

ADMIN_SCOPE = "qslice:admin"


@dataclass(frozen=True, slots=True)
class Identity:
    #: `sub` of the token, with the issuer's prefix.
    subject: str
    issuer: str
    #: Projects that the token names.
    projects: frozenset[str]
    admin: bool
    #: Whether a project that the token does not name may be made.
    makes_any: bool
    #: The experiment, where the token is an experiment's.
    experiment: str | None
    #: Unix seconds.
    expires_at: float
    #: Name, email and organisation, as far as the token tells them.
    about: tuple[tuple[str, str], ...] = ()

    def may_use(self, project: str, owner: str) -> bool:
        """Whether the project of this owner is theirs to use."""
        return self.admin or project in self.projects or owner == self.subject

    def may_make(self, project: str) -> bool:
        return self.admin or self.makes_any or project in self.projects

    def as_creator(self) -> dict[str, Any]:
        """For the record of who made something; no proof of anything later."""
        who = {"sub": self.subject, "iss": self.issuer, "experiment": self.experiment}
        return who | dict(self.about)


def of_claims(claims: dict[str, Any], issuer: Issuer) -> Identity:
    """The bearer of a token whose signature and times were checked.

    Raises `ValueError` where a claim has the wrong type.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise ValueError("sub: must be a text")
    scope = claims.get("scope", "")
    scopes = scope.split() if isinstance(scope, str) else scope
    if not isinstance(scopes, list):
        raise ValueError("scope: must be a text")
    named = issuer.grants_admin and ADMIN_SCOPE in scopes
    return Identity(
        subject=issuer.subject_prefix + subject,
        issuer=issuer.issuer,
        projects=_projects(claims.get("proj_name")),
        admin=named or subject in issuer.admins,
        makes_any=issuer.makes_projects == "any",
        experiment=subject if subject.startswith(f"{EXPERIMENT}_") else None,
        expires_at=float(claims["exp"]),
        about=_about(claims),
    )


#: What is kept of a person, and the claims that tell it: OpenID Connect's names first, then those
#: of the SLICES portal.
_ABOUT = {
    "name": ("name",),
    "given_name": ("given_name", "first_name"),
    "family_name": ("family_name", "last_name"),
    "preferred_username": ("preferred_username",),
    "email": ("email",),
    "organization": ("organization", "organisation", "affiliation"),
    "orcid": ("orcid",),
}
_MAX_ABOUT = 200


def _about(claims: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    found = {}
    for name, keys in _ABOUT.items():
        value = next((claims[key] for key in keys if isinstance(claims.get(key), str)), "")
        text = "".join(character for character in value if character.isprintable()).strip()
        if text:
            found[name] = text[:_MAX_ABOUT]
    return tuple(found.items())


def _projects(value: Any) -> frozenset[str]:
    """The names in `proj_name`, one or a list; what is no project name here names nothing."""
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(name for name in found if isinstance(name, str) and _is_project(name))


def _is_project(name: str) -> bool:
    try:
        names.check_project(name)
    except ValueError:
        return False
    return True
