"""The SDK's client for programs with an event loop: the methods of `Client`, for `await` and `async for`.

async with AsyncClient() as ft:
    job = await ft.submit(spec)
    async for event in ft.metrics(job):
        print(event.seq, event.kind)
"""

from __future__ import annotations

from typing import Self

from ftclient.calls import Calls
from ftclient.connection import PATIENCE, Connection
from ftclient.contexts import target
from ftclient.transport import OnLoop


class AsyncClient(Calls):
    """As `Client`. It belongs to the event loop of its first call; close a stream left early with `aclosing`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        context: str | None = None,
        token: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(Connection(target(address, context=context, token=token), OnLoop(), patience))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every call and stream that is open."""
        await self._connection.close()
