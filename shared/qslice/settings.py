"""Settings come from the environment (`QSLICE_…`) and from files in `QSLICE_SECRETS_DIR`."""

import os
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import SecretsSettingsSource

from qslice import ids
from qslice.messages.base import problems


class Settings(BaseSettings):
    """What every service needs; a service adds its own in a subclass."""

    model_config = SettingsConfigDict(env_prefix="QSLICE_", extra="ignore", frozen=True)

    amqp_url: SecretStr = Field(description="the broker, amqp:// or amqps://, with its vhost")
    authority: str = Field(ids.DEFAULT_AUTHORITY, description="the authority in identifiers")
    log_format: str = Field(
        "console", pattern="^(console|json)$", description="`console` for people, or `json` lines"
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="the least that is written"
    )

    @field_validator("amqp_url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        parts = urlsplit(value.get_secret_value())
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError("must be an address such as amqp://user:password@host:5672/vhost")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        folder = os.environ.get("QSLICE_SECRETS_DIR")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (
            (*sources, SecretsSettingsSource(settings_cls, secrets_dir=folder))
            if folder
            else sources
        )


S = TypeVar("S", bound=Settings)


def load(model: type[S], **given: Any) -> S:
    """The settings, or the end of the program with a message that names each wrong variable."""
    try:
        return model(**given)
    except ValidationError as wrong:
        lines = [
            f"  QSLICE_{field.upper()}: {why}" if field else f"  {why}"
            for field, why in problems(wrong)
        ]
        raise SystemExit("\n".join(["These settings are missing or wrong:", *lines])) from None
