"""The body of a request, up to a limit."""

from __future__ import annotations

from starlette.requests import Request

from roost.errors import TooLarge


async def whole_body(request: Request, bytes_max: int) -> bytes:
    """All of it. Raises `TooLarge` as soon as it is clear that it is: by the declared length, or
    else by what has come; and starlette's `ClientDisconnect`."""
    length = request.headers.get("content-length", "0")
    is_too_large = length.isdecimal() and int(length) > bytes_max
    chunks: list[bytes] = []
    size = 0
    if not is_too_large:
        async for chunk in request.stream():
            size += len(chunk)
            if is_too_large := size > bytes_max:
                break
            chunks.append(chunk)
    if is_too_large:
        raise TooLarge(f"The body is larger than {bytes_max} bytes, the limit of this server.")
    return b"".join(chunks)
