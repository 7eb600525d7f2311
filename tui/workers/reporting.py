"""How a worker's exception becomes a message: whatever it raises reaches the screen and never ends the app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from textual.message import Message

Post = Callable[[Message], object]
"""Post a message to the screen, from any thread."""


@contextmanager
def reporting(post: Post, message_for: Callable[[Exception], Message | None]) -> Iterator[None]:
    """Post the message for an exception that is raised inside, if there is one, instead of raising it."""
    try:
        yield
    except Exception as error:
        message = message_for(error)
        if message is not None:
            post(message)
