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
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from types import NoneType
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

from msgspec import Struct

from roost.core.records import Moment
from roost.errors import ProtocolError

_CONTENT_TYPES = frozenset({"text/xml", "application/xml"})

HEAVY_VALUES = 1_000
HEAVY_CHARS = 64 * 1024
_TEXTS, _LISTS, _NUMBERS = (str, bytes), (list, tuple), (int, float, NoneType)
_MAPPINGS = (dict, Mapping)
"""Asked for last, and as a dictionary first: whether a value is any mapping takes long to find."""

_SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

ROWS_MIN = 8
FORM_MEMBERS_MAX = 100
FORMS_KEPT = 256
"""Of structs with as many members at most."""

_HEAD = "<?xml version='1.0'?>\n<methodResponse>"
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
        """`YYYYMMDDTHH:MM:SS`: UTC, no fraction and no zone."""
        return _second(self.moment // 1000)


@lru_cache(1024)
def _second(seconds: int) -> str:
    return "{:04}{:02}{:02}T{:02}:{:02}:{:02}".format(*time.gmtime(seconds)[:6])


def is_content_type(text: str) -> bool:
    """Whether a call may be sent as this; anything else could be forged by a web page (decision
    41)."""
    return text.partition(";")[0].strip().lower() in _CONTENT_TYPES


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
    return f"{_HEAD}<params><param>{_value(value)}</param></params>{_TAIL}".encode()


def encode_fault(fault: Fault) -> bytes:
    return f"{_HEAD}<fault>{_value(fault.as_dict())}</fault>{_TAIL}".encode()


def is_heavy(value: object) -> bool:
    """Whether encoding (or walking) a value takes long enough to be worth a thread.

    Looks at no more than `HEAVY_VALUES` values.
    """
    chars = values = 0
    pending = [value]
    while pending:
        value = pending.pop()
        values += 1
        if isinstance(value, _TEXTS):
            chars += len(value)
        elif isinstance(value, _LISTS):
            if len(value) > HEAVY_VALUES:
                return True
            pending.extend(value)
        elif not isinstance(value, _NUMBERS) and isinstance(value, _MAPPINGS):
            values += len(value)
            pending.extend(value.values())
        if values > HEAVY_VALUES or chars > HEAVY_CHARS:
            return True
    return False


# --- writing -------------------------------------------------------------------------------------
# No white space between elements: a reader in Python calls a function for each piece of it.


def _value(value: object) -> str:
    """The `<value>` element. Recurses: what a method answers is shallow."""
    return _WRITERS[type(value)](value)


def _string(value: str) -> str:
    return f"<value><string>{_clean(value)}</string></value>"


def _integer(value: int) -> str:
    if -(2**31) <= value < 2**31:
        return f"<value><int>{value}</int></value>"
    if -(2**63) <= value < 2**63:
        return f"<value><i8>{value}</i8></value>"
    raise OverflowError("XML-RPC has no form for integers beyond 64 bits")


def _double(value: float) -> str:
    return f"<value><double>{value if math.isfinite(value) else 0.0!r}</double></value>"


def _time(value: UtcTime) -> str:
    return f"<value><dateTime.iso8601>{value}</dateTime.iso8601></value>"


def _base64(value: bytes) -> str:
    text = base64.encodebytes(value).decode("ascii")
    return f"<value><base64>{text}</base64></value>"


def _struct(value: Mapping[str, object]) -> str:
    if not value:
        return _STRUCT + _STRUCT_END
    names = tuple(value)
    form = _kept_form(names) if len(names) <= FORM_MEMBERS_MAX else _form(names)
    return form % tuple([_WRITERS[type(item)](item) for item in value.values()])


def _form(names: tuple[str, ...]) -> str:
    """What is the same in all structs with these members; their values fill it in."""
    members = [
        f"<member><name>{_clean(name).replace('%', '%%')}</name>%s</member>" for name in names
    ]
    return f"{_STRUCT}{''.join(members)}{_STRUCT_END}"


_kept_form = lru_cache(FORMS_KEPT)(_form)


def _array(value: Sequence[object]) -> str:
    if not value:
        return "<value><array><data></data></array></value>"
    items = _rows(value) if len(value) >= ROWS_MIN and type(value[0]) is dict else None
    if items is None:
        items = [_WRITERS[type(item)](item) for item in value]
    return f"<value><array><data>{''.join(items)}</data></array></value>"


def _rows(structs: Sequence[Any]) -> Iterable[str] | None:
    """Structs with the same members, written column by column: what many of them share is written
    once. None when they are not of this kind."""
    names = tuple(structs[0])
    if not names or not all(type(one) is dict and tuple(one) == names for one in structs):
        return None
    columns = map(_column, names, zip(*[one.values() for one in structs], strict=True))
    return map("".join, zip(repeat(_STRUCT), *columns, repeat(_STRUCT_END), strict=False))


def _column(name: str, values: tuple[object, ...]) -> Iterable[str]:
    """The member of this name in each of the structs."""
    head, tail = f"<member><name>{_clean(name)}</name>", "</member>"
    kinds = set(map(type, values)) - {NoneType}
    # Two types are told apart, since True == 1 == 1.0.
    if len(kinds) > 1 or not kinds <= _HASHABLE:
        return [f"{head}{_WRITERS[type(value)](value)}{tail}" for value in values]
    written = {value: f"{head}{_WRITERS[type(value)](value)}{tail}" for value in set(values)}
    return map(written.__getitem__, values)


_STRUCT, _STRUCT_END = "<value><struct>", "</struct></value>"
_HASHABLE = {str, int, bool, float, UtcTime}


class _Writers(dict[type, Callable[[Any], str]]):
    """By the exact type of a value; one that is met for the first time is written as the type that
    it is derived from."""

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        for known, write in (
            (str, _string),  # an enum of strings
            (float, _double),
            (bytes, _base64),
            (Mapping, _struct),
        ):
            if issubclass(kind, known):
                self[kind] = write
                return write
        raise TypeError(f"XML-RPC has no form for {kind.__name__}")


_WRITERS = _Writers(
    {
        str: _string,
        int: _integer,
        bool: lambda value: f"<value><boolean>{value:d}</boolean></value>",
        float: _double,
        NoneType: lambda _: "<value><nil/></value>",
        UtcTime: _time,
        dict: _struct,
        list: _array,
        tuple: _array,
    }
)


def _clean(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare CR would be read as LF (XML 1.0, 2.11).
    return _FORBIDDEN.sub("\ufffd", text.replace("\r", "&#13;"))
