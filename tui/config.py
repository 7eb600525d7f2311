"""What the user's config file says: archives to open, theme, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, ValidationError, convert
from platformdirs import user_config_path

NAME = "config.toml"


class ConfigError(Exception):
    """The config file cannot be used; the text says where and why in one sentence."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """`archives` are paths, opened when none is named; `keymap` maps the id of a binding to its keys."""

    archives: list[str] = []
    theme: str | None = None
    keymap: dict[str, str] = {}


def path() -> Path:
    """Where the config file is looked for."""
    return user_config_path("sessionscope") / NAME


def load() -> Config:
    """The config, or the defaults where there is none. Raises ConfigError."""
    file = path()
    if not file.exists():
        return Config()
    # Imported only where there is something to parse: most people have no config.
    import tomllib

    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return convert(values, Config)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not valid TOML ({error}).") from None
    except ValidationError as error:
        raise ConfigError(f"{file}: {error}; known are archives, theme and keymap.") from None
