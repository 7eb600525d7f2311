"""The typing half of `sessionscope.store`'s public names, made from the one list of them.

`python -m tests.public_names` writes `store/__init__.pyi`.
"""

from __future__ import annotations

from pathlib import Path

from sessionscope import store

STUB = Path(__file__).parent.parent / "store" / "__init__.pyi"


def stub() -> str:
    """The stub: each public name, imported from its module under its own name, as a stub exports it."""
    lines = ["# Written by `python -m tests.public_names`, from the names in __init__.py.", ""]
    for home, names in sorted(store.PUBLIC.items()):
        lines += [f"from .{home} import {name} as {name}" for name in sorted(names)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    STUB.write_text(stub())
