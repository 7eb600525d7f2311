"""The one place where the main screen and its controllers catch what a read of an archive raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeVar, cast

from sessionscope.store import StoreError

from .notices import Notices


class Guarding(Protocol):
    """A screen with notices."""

    @property
    def notices(self) -> Notices:
        """Where to say what went wrong."""


Method = TypeVar("Method", bound=Callable[..., Any])


@contextmanager
def guard(notices: Notices) -> Iterator[None]:
    """Show a `StoreError` that is raised inside as a notice."""
    try:
        yield
    except StoreError as error:
        notices.failed(str(error))


def guarded(method: Method) -> Method:
    """Wrap a method of the screen, which Textual calls, in `guard`."""
    if iscoroutinefunction(method):

        @wraps(method)
        async def awaited(self: Guarding, *args: Any) -> Any:
            with guard(self.notices):
                return await method(self, *args)

        return cast(Method, awaited)

    @wraps(method)
    def called(self: Guarding, *args: Any) -> Any:
        with guard(self.notices):
            return method(self, *args)

    return cast(Method, called)
