"""pika's connection with its writes put together."""

import asyncio

from pika.adapters.asyncio_connection import AsyncioConnection


class CorkedConnection(AsyncioConnection):  # type: ignore[misc]
    """pika's connection, which writes what one turn of the event loop produced in one piece.

    By itself it writes each frame by a system call of its own: three for a message.
    """

    _pieces: list[bytes]

    def _adapter_emit_data(self, data: bytes) -> None:
        pieces = self.__dict__.setdefault("_pieces", [])
        if not pieces:
            asyncio.get_running_loop().call_soon(self._flush)
        pieces.append(data)

    def _adapter_disconnect_stream(self) -> None:
        self._flush()
        super()._adapter_disconnect_stream()

    def _flush(self) -> None:
        pieces = self.__dict__.get("_pieces")
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._transport is not None:
                super()._adapter_emit_data(data)
