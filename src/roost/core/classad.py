r"""ClassAd text: Python values into it and out of it, and whether it is an expression at all.

Attributes of a job are expressions of HTCondor's ClassAd language, kept and sent as text. Nothing
here evaluates them; a literal is a value, whatever else is well formed is an `Expression`.

Strings are written in two ways (`Syntax`). In *old* syntax, which attributes are set and shown in,
a backslash is an ordinary character unless a `"` follows it, and there is no way to write a line
feed. In *new* syntax, which delayed updates are read in, escapes are those of C. Both agree on
strings without backslashes.

Pure; standard library only, as the Chirp client inside jobs imports it.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Literal

from roost.errors import Invalid

Syntax = Literal["old", "new"]
Value = int | float | bool | str | None | list["Value"]

DEPTH_MAX = 100
"""Brackets within brackets; also keeps hostile text from exhausting Python's stack."""
UNDEFINED = "UNDEFINED"
INTEGER_MAX = 2**63 - 1


class Expression(str):
    """ClassAd text that is not a literal, such as `ImageSize * 2`. It is sent as it is."""

    __slots__ = ()


# --- names ------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = {"true", "false", "undefined", "error", "is", "isnt", "parent"}


def is_name(text: str) -> bool:
    """May an attribute be called so? Letters, digits and `_`, ASCII, and no word of the language.

    Names are the same without regard to case.
    """
    return _NAME.fullmatch(text) is not None and text.lower() not in _RESERVED


# --- values into text -------------------------------------------------------------------------


def format_value(value: Value, syntax: Syntax = "old") -> str:
    """`7`, `2.5`, `true`, `UNDEFINED`, `"text"`, `{ 1,"two" }`; an `Expression` stays as it is.

    Raises `Invalid` for integers beyond 64 bits and for what has no ClassAd form.
    """
    if isinstance(value, Expression):
        return str(value)
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
            raise Invalid("A ClassAd integer has 64 bits; give a smaller number or a float.")
        return str(int(value))
    if isinstance(value, float):
        return _format_real(value)
    if isinstance(value, str):
        return quote(value, syntax)
    if isinstance(value, (list, tuple)):
        items = ",".join(format_value(item, syntax) for item in value)
        return f"{{ {items} }}" if items else "{  }"
    raise Invalid(
        f"{type(value).__name__} has no ClassAd form; give a number, a bool, None, a string or a "
        "list of them."
    )


def _format_real(value: float) -> str:
    """The shortest text that is the same number again, and cannot be taken for an integer."""
    if math.isnan(value):
        return 'real("NaN")'
    if math.isinf(value):
        return 'real("INF")' if value > 0 else 'real("-INF")'
    return repr(float(value)).upper()


_NEW_ESCAPES = {
    "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f",
}  # fmt: skip
_TO_ESCAPE = re.compile(r'[\\"\x00-\x1f\x7f]')


def quote(text: str, syntax: Syntax = "old") -> str:
    """`text` as a ClassAd string, with its quotes."""
    if syntax == "old":
        return '"' + text.replace('"', '\\"') + '"'
    return '"' + _TO_ESCAPE.sub(_new_escape, text) + '"'


def _new_escape(found: re.Match[str]) -> str:
    return _NEW_ESCAPES.get(found.group()) or f"\\{ord(found.group()):03o}"


# --- text into values -------------------------------------------------------------------------

_STRINGS: dict[Syntax, str] = {"old": r'"(?:\\"|[^"])*"', "new": r'"(?:[^"\\]|\\.)*"'}
_NUMBER = (
    r"(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+"
    r"|[0-9]+[BKMGTbkmgt]?)(?![A-Za-z0-9_])"
)
_OPERATOR = r"=\?=|=!=|>>>|<<|>>|&&|\|\||==|!=|<=|>=|\?:|[-+*/%<>!~&|^?:.,;=()\[\]{}]"


@cache
def _token(syntax: Syntax) -> re.Pattern[str]:
    # Compiled when it is first needed: most jobs that talk Chirp never do.
    return re.compile(
        rf"\s*(?:(?P<string>{_STRINGS[syntax]})|(?P<number>{_NUMBER})"
        rf"|(?P<name>[A-Za-z_][A-Za-z0-9_]*|'(?:[^'\\]|\\.)+')"
        rf"|(?P<operator>{_OPERATOR})|(?P<end>\Z))",
        re.DOTALL,
    )


_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,18})")
_REALS = {'real("nan")': math.nan, 'real("inf")': math.inf, 'real("-inf")': -math.inf}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "undefined": None}


def parse_value(text: str, syntax: Syntax = "old") -> Value:
    """What a literal says, else an `Expression` of the same text. Never raises."""
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.lower() in _REALS:
        return _REALS[text.lower()]
    try:
        tokens = _Tokens(text, syntax)
        value = _literal(tokens, syntax, 0)
        return value if tokens.kind == "end" else Expression(text)
    except (_NotLiteral, Invalid):
        return Expression(text)


class _NotLiteral(Exception):
    pass


def _literal(tokens: _Tokens, syntax: Syntax, depth: int) -> Value:
    kind, text = tokens.take()
    if kind == "string":
        return unquote(text, syntax)
    if kind == "name" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text in ("-", "+") and tokens.kind == "number":
        number = _number(tokens.take()[1])
        return -number if text == "-" else number
    if kind == "number":
        return _number(text)
    if text != "{" or depth > DEPTH_MAX:
        raise _NotLiteral
    items: list[Value] = []
    while tokens.text != "}":
        items.append(_literal(tokens, syntax, depth + 1))
        if tokens.text == "}":
            break
        if tokens.take()[1] != ",":
            raise _NotLiteral
    tokens.take()
    return items


def _number(text: str) -> int | float:
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text.isdigit():
        if len(text) > 1 and text.startswith("0"):
            if "8" in text or "9" in text:
                raise _NotLiteral
            return int(text, 8)
        if len(text) > 100:
            raise _NotLiteral
        return int(text)
    if text[-1].isalpha():
        raise _NotLiteral
    return float(text)


_OLD_ESCAPE = re.compile(r'\\"')
_NEW_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_MEANINGS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}


def unquote(literal: str, syntax: Syntax = "old") -> str:
    """What a ClassAd string, given with its quotes, says."""
    inner = literal[1:-1]
    if syntax == "old":
        return _OLD_ESCAPE.sub('"', inner)
    return _NEW_ESCAPE.sub(_meaning, inner)


def _meaning(found: re.Match[str]) -> str:
    text = found.group(1)
    return chr(int(text, 8)) if text[0] in "01234567" else _MEANINGS.get(text, text)


# --- expressions ------------------------------------------------------------------------------

_BINARY = {
    "||", "&&", "|", "^", "&", "==", "!=", "=?=", "=!=", "<", "<=", ">", ">=", "<<", ">>", ">>>",
    "+", "-", "*", "/", "%", "?:",
}  # fmt: skip
_UNARY = {"+", "-", "!", "~"}


def check_expression(text: str, syntax: Syntax = "old") -> None:
    """Raises `Invalid` unless `text` is one well-formed expression. Functions are not looked up.

    HTCondor answers success to a malformed one and leaves the attribute undefined.
    """
    if _INTEGER.fullmatch(text):
        return
    tokens = _Tokens(text, syntax)
    _expression(tokens, 0)
    if tokens.kind != "end":
        raise tokens.unexpected()


def canonical(text: str, syntax: Syntax = "old") -> str:
    """Checked and in one form where that is cheap: literals as `format_value` writes them, in old
    syntax; other expressions without the blanks around them, and with their strings in old syntax.

    Raises `Invalid` as `check_expression` does.
    """
    check_expression(text, syntax)
    value = parse_value(text, syntax)
    if not isinstance(value, Expression):
        return format_value(value)
    if syntax == "old" or "\\" not in value:
        return str(value)
    return re.sub(_STRINGS["new"], lambda found: quote(unquote(found.group(), "new")), value)


class _Tokens:
    """The text, token by token; `kind` and `text` are of the one that `take` would take."""

    def __init__(self, text: str, syntax: Syntax) -> None:
        self._all = text
        self._pattern = _token(syntax)
        self._at = 0
        self.kind: str = ""
        self.text = ""
        self.take()

    def take(self) -> tuple[str, str]:
        taken = (self.kind, self.text)
        found = self._pattern.match(self._all, self._at)
        if found is None:
            rest = self._all[self._at :].strip()
            raise Invalid(f"This is no ClassAd expression: it cannot be read from {_cut(rest)} on.")
        self.kind = found.lastgroup or ""
        self.text = found[self.kind]
        self._at = found.end()
        return taken

    def unexpected(self) -> Invalid:
        if self.kind == "end":
            return Invalid("This is no ClassAd expression: it ends too early.")
        return Invalid(f"This is no ClassAd expression: {_cut(self.text)} is in the wrong place.")

    def expect(self, text: str) -> None:
        if self.kind != "operator" or self.text != text:
            raise self.unexpected()
        self.take()

    def is_operator(self, *texts: str) -> bool:
        return self.kind == "operator" and self.text in texts


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _expression(tokens: _Tokens, depth: int) -> None:
    # Whether it is well formed does not depend on which operator binds more tightly.
    if depth > DEPTH_MAX:
        raise Invalid(f"This ClassAd expression is nested more than {DEPTH_MAX} deep.")
    _operand(tokens, depth)
    while True:
        if _is_binary(tokens):
            tokens.take()
        elif tokens.is_operator("?"):
            tokens.take()
            _expression(tokens, depth + 1)
            tokens.expect(":")
        else:
            return
        _operand(tokens, depth)


def _is_binary(tokens: _Tokens) -> bool:
    if tokens.kind == "operator":
        return tokens.text in _BINARY
    return tokens.kind == "name" and tokens.text.lower() in ("is", "isnt")


def _operand(tokens: _Tokens, depth: int) -> None:
    while tokens.kind == "operator" and tokens.text in _UNARY:
        tokens.take()
    if tokens.is_operator("("):
        tokens.take()
        _expression(tokens, depth + 1)
        tokens.expect(")")
    elif tokens.is_operator("{"):
        _sequence(tokens, "}", depth)
    elif tokens.is_operator("["):
        _record(tokens, depth)
    elif tokens.kind in ("string", "number"):
        tokens.take()
    else:
        if tokens.is_operator("."):
            tokens.take()
        _name(tokens)
        if tokens.is_operator("("):
            _sequence(tokens, ")", depth)
    while tokens.is_operator(".", "["):
        if tokens.take()[1] == ".":
            _name(tokens)
        else:
            _expression(tokens, depth + 1)
            tokens.expect("]")


def _name(tokens: _Tokens) -> None:
    if tokens.kind != "name" or tokens.text.lower() in ("is", "isnt"):
        raise tokens.unexpected()
    tokens.take()


def _sequence(tokens: _Tokens, end: str, depth: int) -> None:
    tokens.take()
    while not tokens.is_operator(end):
        _expression(tokens, depth + 1)
        if tokens.is_operator(end):
            break
        tokens.expect(",")
    tokens.take()


def _record(tokens: _Tokens, depth: int) -> None:
    tokens.take()
    while not tokens.is_operator("]"):
        _name(tokens)
        tokens.expect("=")
        _expression(tokens, depth + 1)
        if tokens.is_operator("]"):
            break
        tokens.expect(";")
    tokens.take()
