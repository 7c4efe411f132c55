"""XML-RPC by table, with rubbish, with bombs, and against the standard library's own reading."""

from __future__ import annotations

import contextlib
import xmlrpc.client
from datetime import datetime
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.records import Moment
from roost.errors import ProtocolError
from roost.wire.xmlrpc import (
    Call,
    Fault,
    UtcTime,
    decode_call,
    encode_answer,
    encode_fault,
    is_heavy,
)


def read(answer: bytes) -> object:
    (value,), _ = xmlrpc.client.loads(answer.decode())
    return value


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (-(2**31), -(2**31)),
        (2 * 1024**3, 2 * 1024**3),
        (2**63 - 1, 2**63 - 1),
        (0.25, 0.25),
        (float("nan"), 0.0),
        (float("-inf"), 0.0),
        ("a<b>&c ö \t\n", "a<b>&c ö \t\n"),
        ("50%\r100%\r\n", "50%\r100%\r\n"),
        ("\x1b[0m\0\ufffe\ud800", "\ufffd[0m\ufffd\ufffd\ufffd"),
        (Colour.RED, "red"),
        ([1, "a", [None]], [1, "a", [None]]),
        ((1, 2), [1, 2]),
        ({"a&b": {"c": []}}, {"a&b": {"c": []}}),
    ],
)
def test_values_are_written_as_python_reads_them(value: object, expected: object) -> None:
    got = read(encode_answer(value))
    assert got == expected
    assert type(got) is type(expected)


def test_times_have_the_pattern_callers_parse() -> None:
    got = read(encode_answer(UtcTime(Moment(1_760_000_000_999))))
    assert isinstance(got, xmlrpc.client.DateTime)
    assert got.value == "20251009T08:53:20"
    assert datetime.strptime(str(got), "%Y%m%dT%H:%M:%S") == datetime(2025, 10, 9, 8, 53, 20)


def test_integers_beyond_31_bits_are_marked() -> None:
    assert b"<i8>2147483648</i8>" in encode_answer(2**31)
    assert b"<int>2147483647</int>" in encode_answer(2**31 - 1)


@pytest.mark.parametrize(("value", "error"), [(object(), TypeError), (2**63, OverflowError)])
def test_what_has_no_form_is_a_bug(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_answer(value)


def test_faults_are_raised_by_the_caller() -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(encode_fault(Fault(404, "no <job>")).decode())
    assert (caught.value.faultCode, caught.value.faultString) == (404, "no <job>")


def test_calls_are_read() -> None:
    params = (1, 2.5, True, None, "ö\n", [1, {"a": "b"}], xmlrpc.client.Binary(b"\0"))
    body = xmlrpc.client.dumps(params, "getJob", allow_none=True).encode()
    assert decode_call(body) == Call("getJob", (*params[:-1], b"\0"))
    assert decode_call(b"<methodCall><methodName>ping</methodName></methodCall>").params == ()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], include_characters="\n\t"))
    | st.binary()
    | st.datetimes(datetime(1970, 1, 1)).map(lambda moment: moment.replace(microsecond=0)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(categories=["L"])), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.lists(values, max_size=3))
def test_values_are_read_as_python_reads_them(params: list[object]) -> None:
    body = xmlrpc.client.dumps(tuple(params), "a.b", allow_none=True).encode()
    assert decode_call(body) == Call("a.b", tuple(params))
    theirs, method = xmlrpc.client.loads(body, use_builtin_types=True)
    assert decode_call(body) == Call(str(method), theirs)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        (" <string> a </string> ", " a "),
        ("a<![CDATA[<b>]]>&amp;<!-- c -->d", "a<b>&d"),
        ("<i8> 7 </i8>", 7),
        ("<ex:i8>7</ex:i8>", 7),
        ("<boolean> 1 </boolean>", True),
        ("<ex:nil/>", None),
        ("<array><data/></array>", []),
        ("<array></array>", []),
        ("<struct/>", {}),
        ("<array><data><value/><value>a</value></data></array>", ["", "a"]),
    ],
)
def test_what_other_programs_write_is_read(value: str, expected: object) -> None:
    params = f"<params><param><value>{value}</value></param></params>"
    body = f"<methodCall><methodName>a</methodName>{params}</methodCall>"
    assert decode_call(body.encode()) == Call("a", (expected,))


BOMB = b"""<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<methodCall><methodName>ping</methodName><params><param><value>&b;</value></param></params>
</methodCall>"""


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (BOMB, "DOCTYPE"),
        (b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><methodCall/>', "DOCTYPE"),
        (b"", "not well-formed"),
        (b"hello", "not well-formed"),
        (b"<methodCall>", "not well-formed"),
        (b"<methodCall/>", "not an XML-RPC call"),
        (b"<methodCall><params></params></methodCall>", "names no method"),
        (b"<x>&undefined;</x>", "not well-formed"),
        (
            b"<methodCall><methodName>a</methodName><params><param><value><int>x</int></value>"
            b"</param></params></methodCall>",
            "cannot be read",
        ),
        (
            b"<methodCall><methodName>a</methodName><params><param><value><real>1</real></value>"
            b"</param></params></methodCall>",
            "no type real",
        ),
        (
            b"<methodCall><methodName>a</methodName><params><param><value><boolean>2</boolean>"
            b"</value></param></params></methodCall>",
            "'2' is no boolean",
        ),
        (
            b"<methodCall><methodName>a</methodName><params><param><value><struct><member>"
            b"<name>lonely</name></member></struct></value></param></params></methodCall>",
            "cannot be read",
        ),
        (b"<methodResponse><fault><value/></fault></methodResponse>", "not an XML-RPC call"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence) as caught:
        decode_call(body)
    assert "\n" not in str(caught.value)


TAGS = [
    "methodCall",
    "methodName",
    "params",
    "param",
    "value",
    "int",
    "i8",
    "double",
    "boolean",
    "string",
    "array",
    "data",
    "struct",
    "member",
    "name",
    "nil",
    "base64",
    "dateTime.iso8601",
    "fault",
]


@given(st.lists(st.sampled_from(TAGS).map("<{}>".format) | st.sampled_from(TAGS).map("</{}>".format)
                | st.sampled_from(["7", "x", " "])))  # fmt: skip
def test_tags_in_any_order_are_a_call_or_refused(pieces: list[str]) -> None:
    with contextlib.suppress(ProtocolError):
        decode_call(f"<methodCall>{''.join(pieces)}</methodCall>".encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_every_answer_can_be_read(value: object) -> None:
    read(encode_answer(value))


def test_only_large_values_are_heavy() -> None:
    assert not is_heavy([{"id": 1, "name": "x" * 100}] * 20)
    assert is_heavy("x" * 100_000)
    assert is_heavy([0] * 10_000)
    assert is_heavy({"a": [{"b": "x" * 1000}] * 100})


HEAD, TAIL = encode_answer([""]).split(b"<value><string></string></value>")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "a": st.none() | st.text(max_size=3) | st.sampled_from(["<&>", "%s", "same"]),
                "b%<": st.booleans() | st.integers(0, 1) | st.sampled_from([0.0, 1.0, 0.5]),
                "when": st.none() | st.integers(0, 2).map(lambda n: UtcTime(Moment(n * 1000))),
                "list": st.lists(st.integers(0, 3), max_size=2),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_many_structs_of_one_kind_are_written_as_each_is_alone(
    structs: list[dict[str, object]],
) -> None:
    alone = b"".join(encode_answer([one])[len(HEAD) : -len(TAIL)] for one in structs)
    assert encode_answer(structs) == HEAD + alone + TAIL
