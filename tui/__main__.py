"""The console entry: runs a command line and turns every error into an exit status, never into a traceback."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

try:
    from sessionscope.store import StoreError

    from . import cli
    from .headless.arguments import UsageError
    from .headless.interrupts import INTERRUPTS
    from .headless.outcome import Interrupted, NotPrinted
except KeyboardInterrupt:
    # Loading takes most of the time of a verb, so an interrupt is most likely now.
    raise SystemExit(130) from None


def main(argv: list[str] | None = None) -> int:
    """Run sessionscope and return its exit status.

    0 done, 1 not printed, 2 wrong usage or not found, 3 refused by state.
    """
    if sys.stdout is None:
        # The parent process closed it. Writing must not fail nonetheless.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except NotPrinted as error:
        _drop_output()
        cli.complain(error)
        return 1
    except Interrupted as error:
        cli.complain(error)
        return error.status
    except BrokenPipeError:
        # The reader of a pipe has seen enough.
        _drop_output()
        return 0
    except KeyboardInterrupt:
        _drop_output()
        if INTERRUPTS.holding:
            cli.complain(UsageError("Interrupted. The change may have been made; look before you repeat it."))
        return 130
    except (UsageError, StoreError) as error:
        return cli.complain(error)
    except OSError as error:
        _drop_output()
        return cli.complain(error)
    finally:
        INTERRUPTS.release()


def _run(argv: list[str]) -> int:
    try:
        return cli.run(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that it does not fail once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
