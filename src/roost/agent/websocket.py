"""The connection to the server, as the agent has it: opened, kept alive, and why it ended.

It goes to the server itself, never through a proxy, and trusts whom the platform trusts.
"""

from __future__ import annotations

import asyncio
import ssl

from msgspec import Struct
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import CloseCode
from websockets.http11 import USER_AGENT, Request, Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from roost.errors import ProtocolError
from roost.websocket import WebSocket


class Patience(Struct, frozen=True):
    """How long we wait for a server, in seconds."""

    open_s: float = 10.0
    """Until there is a connection, and once more until the server has answered the hello."""
    ping_s: float = 20.0
    """The server is pinged so often, and given up if it has said nothing from one to the next."""
    close_s: float = 0.5
    """Until it has agreed to the end."""


class ClientWebSocket(WebSocket):
    """See the module's text. `open_websocket` makes one."""

    _protocol: ClientProtocol

    def __init__(self, uri: WebSocketURI, message_bytes_max: int, patience: Patience) -> None:
        protocol = ClientProtocol(uri, max_size=message_bytes_max)
        super().__init__(protocol, patience.ping_s, patience.close_s)
        self.answered = asyncio.Event()
        """The server has taken or refused the connection, or there is none any more."""
        self.lost = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def refusal(self) -> Exception | None:
        """Why the server did not take the connection."""
        return self._protocol.handshake_exc

    @property
    def failure(self) -> Exception | None:
        """Why it was `lost`, unless either side closed it in all order."""
        if self._failure is not None:
            return self._failure
        end = self._protocol.close_exc
        return None if isinstance(end, ConnectionClosedOK) else end

    def fail(self, failure: Exception) -> None:
        """Close it for this reason."""
        self._failure = failure
        self.close(CloseCode.GOING_AWAY)

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        request = self._protocol.connect()
        request.headers["User-Agent"] = USER_AGENT
        self._protocol.send_request(request)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.answered.set()
        self.lost.set()

    def _shake_hands(self, response: Request | Response) -> None:
        self.answered.set()
        if self._protocol.state is State.OPEN:
            self._watch()

    def _ask_for_a_sign(self) -> None:
        self._protocol.send_ping(b"")
        self._flush()

    def _on_silence(self) -> None:
        self._failure = TimeoutError("it says nothing any more")

    def _on_breach(self, what: str) -> None:
        self._failure = ProtocolError(f"it breaks the protocol: {what}")


async def open_websocket(url: str, message_bytes_max: int, patience: Patience) -> ClientWebSocket:
    """One that is open. Raises `OSError` or `WebSocketException`, with a text to follow "The server
    cannot be reached"."""
    uri = parse_uri(url)
    try:
        async with asyncio.timeout(patience.open_s):
            _, socket = await asyncio.get_running_loop().create_connection(
                lambda: ClientWebSocket(uri, message_bytes_max, patience),
                uri.host,
                uri.port,
                ssl=uri.secure or None,
            )
            try:
                await socket.answered.wait()
            except asyncio.CancelledError:
                socket.abort()
                raise
    except ssl.SSLCertVerificationError as error:
        raise ConnectionError(f"its certificate is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        raise TimeoutError("it does not answer") from error
    if socket.refusal is not None:
        socket.abort()
        raise socket.refusal
    return socket
