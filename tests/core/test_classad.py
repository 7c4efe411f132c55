"""ClassAd text: values into it and out of it, in both syntaxes, and what is no expression."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core import classad
from roost.core.classad import Expression, Syntax, Value
from roost.errors import Invalid

SYNTAXES: list[Syntax] = ["old", "new"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (-(2**63), "-9223372036854775808"),
        (2.5, "2.5"),
        (3.0, "3.0"),
        (0.1, "0.1"),
        (1e300, "1E+300"),
        (True, "true"),
        (False, "false"),
        (None, "UNDEFINED"),
        ("a string", '"a string"'),
        ('a "q" b', '"a \\"q\\" b"'),
        ("", '""'),
        ([1, "two", 3.0], '{ 1,"two",3.0 }'),
        ([], "{  }"),
        (math.inf, 'real("INF")'),
        (-math.inf, 'real("-INF")'),
    ],
)
def test_each_value_has_one_text_and_comes_back(value: Value, text: str) -> None:
    assert classad.format_value(value) == text
    back = classad.parse_value(text)
    assert back == value
    assert type(back) is type(value)
    classad.check_expression(text)


def test_not_a_number_comes_back() -> None:
    back = classad.parse_value(classad.format_value(math.nan))
    assert isinstance(back, float)
    assert math.isnan(back)


def test_strings_of_the_two_syntaxes_differ_in_backslashes_only() -> None:
    assert classad.quote("C:\\dir\\n") == '"C:\\dir\\n"'
    assert classad.quote("C:\\dir\\n", "new") == '"C:\\\\dir\\\\n"'
    assert classad.quote("a\nb\x01", "new") == '"a\\nb\\001"'
    assert classad.unquote('"C:\\new"') == "C:\\new"
    assert classad.unquote('"a\\new\\061"', "new") == "a\new1"


def test_a_backslash_may_end_a_string_of_old_syntax() -> None:
    assert classad.quote("C:\\dir\\") == '"C:\\dir\\"'
    assert classad.parse_value('"C:\\dir\\"') == "C:\\dir\\"


@given(st.text(), st.sampled_from(SYNTAXES))
def test_every_string_comes_back(text: str, syntax: Syntax) -> None:
    literal = classad.quote(text, syntax)
    classad.check_expression(literal, syntax)
    assert classad.parse_value(literal, syntax) == text


@given(st.floats(allow_nan=False))
def test_every_real_comes_back_exactly(value: float) -> None:
    text = classad.format_value(value)
    assert classad.parse_value(text) == value
    assert isinstance(classad.parse_value(text), float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("  7 ", 7),
        ("0x1F", 31),
        ("0755", 493),
        ("-5", -5),
        ("- 5", -5),
        ("+2.5", 2.5),
        ("2.500000000000000E+00", 2.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("TRUE", True),
        ("undefined", None),
        ("{ }", []),
        ("{1, {true}}", [1, [True]]),
    ],
)
def test_literals_in_other_dress_are_read_too(text: str, value: Value) -> None:
    assert classad.parse_value(text) == value


@pytest.mark.parametrize(
    "text", ["ProbeInt + 1", "bareword", "10K", "error", "{1, x}", '"a" + "b"', "1 +", "", "089"]
)
def test_what_is_no_literal_stays_text_and_says_so(text: str) -> None:
    value = classad.parse_value(text)
    assert isinstance(value, Expression)
    assert value == text
    assert classad.format_value(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 * -3", "!a && (b || c)", "a ? b : c ? d : e", "x ?: 5", "MY.x =?= TARGET.y",
        "x is undefined", "x isnt error", "f()", "f(1, g(2))", "a[0].b", "{1,2,}[1]", ".abs",
        "[ a = 1; b = [c = 2]; ]", "[]", "'odd name' + 1", "a << 2 >>> 1 & ~b ^ c | d", "5.", "1e5",
        '(TARGET.Arch == "X86_64") && (versionGE(split(TARGET.CondorVersion)[1],"25.12.0"))',
        "--1", "a =!= b", "10K < 5G", '"é漢"',
    ],
)  # fmt: skip
def test_expressions(text: str) -> None:
    for syntax in SYNTAXES:
        classad.check_expression(text, syntax)
    assert classad.canonical(f" {text} ") == text or not isinstance(
        classad.parse_value(text), Expression
    )


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 +", "+", "1 2", "a b", "(1", "1)", '"open', "a = 1", "f(1", "{1;2}", "[a 1]",
        "a ? b", "a..b", "a.1", "1Bad", "is", "a &&& b", "hello world", "@", "a[", "[a=1", "é",
        "x; y", "'", "0x", "#", "a is", "1 === 2",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        classad.check_expression(text)
    assert str(caught.value).startswith("This is no ClassAd expression: ")
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 150


def test_the_two_syntaxes_see_different_ends_of_strings() -> None:
    classad.check_expression('"a\\"')
    with pytest.raises(Invalid):
        classad.check_expression('"a\\"', "new")


@pytest.mark.parametrize("text", ["(" * 4000, "{" * 4000, "[a=" * 1500, "f(" * 2000, "1?" * 2500])
def test_deep_nesting_is_refused_and_not_followed(text: str) -> None:
    with pytest.raises(Invalid):
        classad.check_expression(text)
    assert isinstance(classad.parse_value(text), Expression)


def test_long_but_flat_is_fine() -> None:
    classad.check_expression("-" * 2000 + "1" + "+1" * 1500)
    classad.check_expression('"' + '\\"' * 2500 + '"')


@given(st.text(alphabet="a1\"\\'(){}[].,;=<>!?:&|+- \t", max_size=60), st.sampled_from(SYNTAXES))
def test_any_text_is_either_an_expression_or_refused(text: str, syntax: Syntax) -> None:
    classad.parse_value(text, syntax)
    try:
        canonical = classad.canonical(text, syntax)
    except Invalid:
        return
    assert canonical.strip()


@pytest.mark.parametrize(
    ("text", "syntax", "canonical"),
    [
        ("True", "old", "true"),
        (" undefined", "old", "UNDEFINED"),
        ("2.500000000000000E+00", "new", "2.5"),
        ('"a\\\\b"', "new", '"a\\b"'),
        ('"a\\\\b"', "old", '"a\\\\b"'),
        ('x == "a\\\\b"', "new", 'x == "a\\b"'),
        ("{1,2}", "old", "{ 1,2 }"),
        (" x  + 1 ", "old", "x  + 1"),
    ],
)
def test_one_form_where_that_is_cheap(text: str, syntax: Syntax, canonical: str) -> None:
    assert classad.canonical(text, syntax) == canonical


@pytest.mark.parametrize("name", ["A", "_x9", "ChirpLoss", "x" * 500])
def test_names_of_attributes(name: str) -> None:
    assert classad.is_name(name)


@pytest.mark.parametrize("name", ["", "1Bad", "Bad Name", "a-b", "a.b", "é", "True", "is", "a\n"])
def test_what_is_no_name(name: str) -> None:
    assert not classad.is_name(name)


@pytest.mark.parametrize("value", [2**63, b"bytes", {"a": 1}, object(), 1j])
def test_what_has_no_classad_form_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        classad.format_value(value)  # type: ignore[arg-type]
