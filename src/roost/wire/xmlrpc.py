"""XML-RPC: the bytes of a call become a method and its arguments, values become an answer.

Knows the encoding of XML-RPC (xmlrpc.com/spec) with the two extensions every Python client reads,
`<nil/>` and `<i8>`, and what XML 1.0 forbids. Must not know any method, or what a value means.

Always holds: whatever comes in, `decode_call` returns a call or raises `ProtocolError`; documents
with a DOCTYPE are refused unread, so no entity can be declared and none can grow. Whatever text
goes out, the answer is well-formed: forbidden characters and lone surrogates become U+FFFD,
carriage returns survive as references, and no double is NaN or infinite (they become 0.0), since
a client's parser would fail on them and the caller would learn nothing.

Both are done here and not by `xmlrpc.client`. Its marshaller neither checks characters nor writes
64-bit integers; its unmarshaller takes half as long again as this one, for the same values.
"""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from xml.parsers.expat import ExpatError, ParserCreate

from msgspec import Struct

from roost.core.records import Moment
from roost.errors import ProtocolError

CONTENT_TYPES = frozenset({"text/xml", "application/xml"})
"""What a call may be sent as; anything else could be forged by a web page (decision 41)."""

HEAVY_VALUES = 1_000
HEAVY_CHARS = 64 * 1024

_SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_HEAD = "<?xml version='1.0'?>\n<methodResponse>\n"
_TAIL = "</methodResponse>\n"


class Call(Struct, frozen=True):
    method: str
    params: tuple[object, ...]
    """ints, floats, bools, str, None, lists, dicts; `bytes` for base64, `datetime` for dates."""


class Fault(Struct, frozen=True):
    """An error as a caller sees it: `xmlrpc.client.Fault`."""

    code: int
    text: str

    def as_dict(self) -> dict[str, object]:
        """Its form inside the answer of a `system.multicall`."""
        return {"faultCode": self.code, "faultString": self.text}


class UtcTime(Struct, frozen=True):
    """A moment that is written as `<dateTime.iso8601>`, which a plain integer could not tell."""

    moment: Moment

    def __str__(self) -> str:
        """`YYYYMMDDTHH:MM:SS`: UTC, no fraction and no zone (spec §2.3)."""
        return "{:04}{:02}{:02}T{:02}:{:02}:{:02}".format(*time.gmtime(self.moment // 1000)[:6])


def decode_call(body: bytes) -> Call:
    """Read a `methodCall` document. Raises `ProtocolError` with one sentence."""
    try:
        method, params = _read(body)
    except ExpatError as error:
        raise ProtocolError(f"The call is not well-formed XML: {error}.") from None
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        # Tags in the wrong place, and text that is no number.
        raise ProtocolError(f"The call holds a value that cannot be read: {error}.") from None
    if method is None:
        raise ProtocolError("The document is not an XML-RPC call.")
    if not method:
        raise ProtocolError("The document names no method.")
    return Call(method, params)


def _boolean(text: str) -> bool:
    if (word := text.strip()) not in ("0", "1"):
        raise ValueError(f"{word[:40]!r} is no boolean")
    return word == "1"


def _nothing(_: str) -> None:
    return None


_SCALARS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("string", "name"), str),
    **dict.fromkeys(("int", "i1", "i2", "i4", "i8", "biginteger"), int),
    **dict.fromkeys(("double", "float"), float),
    "boolean": _boolean,
    "nil": _nothing,
    "base64": lambda text: base64.decodebytes(text.encode("ascii")),
    "dateTime.iso8601": lambda text: datetime.strptime(text.strip(), "%Y%m%dT%H:%M:%S"),
}
"""How the text of an element becomes a value, or the name of one."""


def _read(body: bytes) -> tuple[str | None, tuple[object, ...]]:
    """The method, "" if there is none and None if this is no call; and its arguments.

    Called by the parser at each tag, so it is as little as can be: values are put on a stack, where
    a struct or an array takes what has come since it began. Tags that hold nothing by themselves
    are passed over, and so is a prefix such as that of `ex:nil`.
    """
    stack: list[object] = []
    begun: list[int] = []
    """Where on the stack the structs and arrays begin that have not ended."""
    text: list[str] = []
    """Since the last tag that began."""
    is_bare = False
    """A value has begun and nothing in it: what comes is a string."""
    method: str | None = None

    def start(tag: str, _: object) -> None:
        nonlocal is_bare
        if is_bare and tag not in _WITHIN_VALUE and tag.rpartition(":")[2] not in _WITHIN_VALUE:
            raise ValueError(f"there is no type {tag}")
        is_bare = tag == "value"
        if tag == "struct" or tag == "array":
            begun.append(len(stack))
        text.clear()

    def end(tag: str) -> None:
        nonlocal is_bare, method
        if tag == "value":
            if is_bare:
                stack.append("".join(text))
        elif read := _SCALARS.get(tag):
            stack.append(read("".join(text)))
        elif tag == "struct":
            first = begun.pop()
            members = stack[first:]
            stack[first:] = [dict(zip(members[::2], members[1::2], strict=True))]
        elif tag == "array":
            first = begun.pop()
            stack[first:] = [stack[first:]]
        elif tag == "methodName":
            method = "".join(text)
        elif tag == "params":
            method = method or ""
        elif ":" in tag and (read := _SCALARS.get(tag.rpartition(":")[2])):
            stack.append(read("".join(text)))
        is_bare = False

    def refuse(*_: object) -> None:
        raise ProtocolError("The call holds a DOCTYPE, which is not allowed.")

    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(body, True)
    return method, tuple(stack)


_WITHIN_VALUE = frozenset((*_SCALARS, "struct", "array"))


def encode_answer(value: object) -> bytes:
    """A `methodResponse` with one value.

    Raises `TypeError` or `OverflowError` for what XML-RPC has no form for: a bug of the method.
    """
    parts = [_HEAD, "<params>\n<param>\n"]
    _write(value, parts.append)
    parts += ("</param>\n</params>\n", _TAIL)
    return "".join(parts).encode()


def encode_fault(fault: Fault) -> bytes:
    parts = [_HEAD, "<fault>\n"]
    _write(fault.as_dict(), parts.append)
    parts += ("</fault>\n", _TAIL)
    return "".join(parts).encode()


def is_heavy(value: object) -> bool:
    """Whether encoding (or walking) a value takes long enough to be worth a thread.

    Looks at no more than `HEAVY_VALUES` values.
    """
    chars = values = 0
    pending = [value]
    while pending:
        value = pending.pop()
        values += 1
        if isinstance(value, str | bytes):
            chars += len(value)
        elif isinstance(value, Mapping):
            values += len(value)
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            if len(value) > HEAVY_VALUES:
                return True
            pending.extend(value)
        if values > HEAVY_VALUES or chars > HEAVY_CHARS:
            return True
    return False


def _write(value: object, add: Callable[[str], None]) -> None:
    """Add the `<value>` element. Recurses: what a method answers is shallow."""
    kind = type(value)
    if kind is str:
        add(f"<value><string>{_clean(value)}</string></value>\n")  # type: ignore[arg-type]
    elif kind is int:
        add(_integer(value))  # type: ignore[arg-type]
    elif value is None:
        add("<value><nil/></value>")
    elif kind is bool:
        add(f"<value><boolean>{value:d}</boolean></value>\n")
    elif kind is UtcTime:
        add(f"<value><dateTime.iso8601>{value}</dateTime.iso8601></value>\n")
    elif kind is dict or isinstance(value, Mapping):
        add("<value><struct>\n")
        for key, item in value.items():  # type: ignore[attr-defined]
            add(f"<member>\n<name>{key if key.isalnum() else _clean(key)}</name>\n")
            _write(item, add)
            add("</member>\n")
        add("</struct></value>\n")
    elif kind is list or kind is tuple:
        add("<value><array><data>\n")
        for item in value:  # type: ignore[attr-defined]
            _write(item, add)
        add("</data></array></value>\n")
    elif isinstance(value, float):
        finite = value if math.isfinite(value) else 0.0
        add(f"<value><double>{finite!r}</double></value>\n")
    elif isinstance(value, str):  # an enum of strings
        add(f"<value><string>{_clean(str(value))}</string></value>\n")
    elif isinstance(value, bytes):
        text = base64.encodebytes(value).decode("ascii")
        add(f"<value><base64>\n{text}</base64></value>\n")
    else:
        raise TypeError(f"XML-RPC has no form for {kind.__name__}")


def _integer(value: int) -> str:
    if -(2**31) <= value < 2**31:
        return f"<value><int>{value}</int></value>\n"
    if -(2**63) <= value < 2**63:
        return f"<value><i8>{value}</i8></value>\n"
    raise OverflowError("XML-RPC has no form for integers beyond 64 bits")


def _clean(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare CR would be read as LF (XML 1.0, 2.11).
    return _FORBIDDEN.sub("\ufffd", text.replace("\r", "&#13;"))
