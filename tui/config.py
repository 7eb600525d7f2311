"""The user's config file: archives to open, theme, keys, time zone, summarizer."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Any

from msgspec import Struct, ValidationError, convert
from platformdirs import user_config_path

NAME = "config.toml"


class ConfigError(Exception):
    """The config file cannot be used. The text says where and why, in one sentence."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """`archives` are paths that are opened if none is named. `keymap` maps the id of a binding to its keys.

    `timezone` names the zone of times that are stored without one; the default is the machine's. `summarizer` is a
    command that turns messages into the note of a compaction.
    """

    archives: list[str] = []
    theme: str | None = None
    keymap: dict[str, str] = {}
    timezone: str | None = None
    summarizer: str | None = None

    def zone(self) -> tzinfo | None:
        """Return the zone of times without one, None for the machine's. Raises ConfigError."""
        if self.timezone is None:
            return None
        import zoneinfo

        try:
            return zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(
                f"the config names a timezone {self.timezone!r} that this machine does not know; "
                "name one such as Europe/Berlin."
            ) from None


def path() -> Path:
    """Return the path of the config file."""
    return user_config_path("sessionscope") / NAME


def load() -> Config:
    """Return the config, or the defaults if there is no file. Raises ConfigError."""
    file = path()
    if not file.exists():
        return Config()
    # Imported only if there is something to parse: most users have no config.
    import tomllib

    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return convert(values, Config)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not valid TOML ({error}).") from None
    except ValidationError as error:
        raise ConfigError(f"{file}: {error}; known are archives, theme, keymap, timezone and summarizer.") from None
