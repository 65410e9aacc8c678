"""A transport is an ordinary object to whoever assigns an attribute, or patches one in a test."""

import asyncio
from unittest import mock

import wire


async def test_a_method_can_be_patched(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol) as peer:
        with mock.patch.object(protocol.transport, "write") as write:
            protocol.transport.write(b"to the mock")
        write.assert_called_once_with(b"to the mock")
        protocol.transport.write(b"to the peer")
        assert await wire.read(peer, 11) == b"to the peer"


async def test_any_attribute_can_be_assigned(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        transport = protocol.transport
        transport.note = "kept"
        assert transport.note == "kept"
        del transport.note
        assert not hasattr(transport, "note")


async def test_the_class_stays_as_it_is(link: wire.Link) -> None:
    protocol = wire.Recorder()
    async with link(protocol):
        transport = protocol.transport
        transport.is_closing = lambda: True
        assert transport.is_closing()
        del transport.is_closing
        assert not transport.is_closing()
        assert isinstance(transport, asyncio.Transport)
