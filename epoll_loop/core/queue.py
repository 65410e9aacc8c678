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

    def interrupted(self) -> None:
        """Note that an exception (KeyboardInterrupt, SystemExit) came out of `turn()`, in the middle of it."""


class Queue:
    """A queue of links."""

    __slots__ = ("head", "tail")

    def __init__(self) -> None:
        self.head: Link | None = None
        self.tail: Link | None = None

    def append(self, link: Link) -> None:
        """Put a link at the end."""
        if self.head is None:
            self.head = link
        else:
            self.tail.next = link  # type: ignore[union-attr]
        self.tail = link

    def pop(self) -> Link | None:
        """Take the first link, or None."""
        link = self.head
        if link is not None:
            self.head = link.next
            link.next = None
            if self.head is None:
                self.tail = None
        return link

    def clear(self) -> None:
        """Take all links. One after the other: a chain that is dropped whole would be freed recursively."""
        while self.pop() is not None:
            pass
