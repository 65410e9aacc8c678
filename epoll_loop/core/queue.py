"""Queue: first in, first out, of things that carry the link to the next one themselves.

Appending and taking allocate nothing, and what an exception leaves behind is simply still there.
"""

from __future__ import annotations


class Link:
    """Something that waits in a queue for its turn; in one queue at most, and once."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        self.next: Link | None = None

    def turn(self) -> None:
        """Do what there is to do; called when it has just left the queue."""

    def failed(self, exc: BaseException) -> None:
        """Deal with an exception that came out of `turn()`."""

    def interrupted(self) -> None:
        """Note that KeyboardInterrupt or SystemExit came out of `turn()`, in the middle of it."""


class Queue:
    """A queue of links."""

    __slots__ = ("_head", "_tail", "size")

    def __init__(self) -> None:
        self._head: Link | None = None
        self._tail: Link | None = None
        self.size = 0

    def append(self, link: Link) -> None:
        """Put a link at the end."""
        if self.size == 0:
            self._head = link
        else:
            self._tail.next = link  # type: ignore[union-attr]
        self._tail = link
        self.size += 1

    def pop(self) -> Link | None:
        """Take the first link, or None."""
        link = self._head
        if link is not None:
            self._head = link.next
            link.next = None
            self.size -= 1
            if self.size == 0:
                self._tail = None
        return link

    def clear(self) -> None:
        """Take all links. One after the other: a chain that is dropped whole would be freed recursively."""
        while self.pop() is not None:
            pass
