"""S-expressions with their places in the file: the surface of both VNN-LIB languages."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from hullmark.errors import BadInput, Unsupported
from hullmark.spec.numbers import NUMBER_PATTERN

_NAME = r"[A-Za-z_][A-Za-z0-9_.]*(?:\s*\[[0-9,\s]*\])?"

# A name takes the index that follows it (`X[0, 3]`, `X [0,3]`) into its token.
_TOKEN = re.compile(
    rf"""
      (?P<bound>\(\s*assert\s*\(\s*(<=|>=)\s+({_NAME})\s+({NUMBER_PATTERN})\s*\)\s*\))
    | (?P<comparison>\(\s*(<=|>=)\s+({_NAME})\s+({_NAME}|{NUMBER_PATTERN})\s*\))
    | (?P<comment>;[^\n]*)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<text>"[^"]*")
    | (?P<word>[^\s();"\[\]]+(?:\s*\[[^()\[\]";]*\])?)
    | (?P<stray>\S)
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """A word of the file and the offset at which it starts."""

    text: str
    offset: int


class Form(NamedTuple):
    """A parenthesised list and the offset of its parenthesis."""

    items: "tuple[Token | Form, ...]"
    offset: int


class SimpleBound(NamedTuple):
    """`(assert (<= name number))` or `>=`, read in one step since files hold so many."""

    name: str
    is_upper: bool
    number: str
    offset: int


Expression = Token | Form
Command = Form | SimpleBound


class Source(NamedTuple):
    """The text of a file and the name it goes by in messages."""

    name: str
    text: str

    def at(self, offset: int) -> str:
        """`name, line 12`."""
        return f"{self.name}, line {self.text.count(chr(10), 0, offset) + 1}"

    def bad(self, offset: int, message: str) -> BadInput:
        """An error about the text at `offset`."""
        return BadInput(f"{self.at(offset)}: {message}")

    def unsupported(self, offset: int, message: str) -> Unsupported:
        """An error about a construct at `offset` that is legal and not handled."""
        return Unsupported(f"{self.at(offset)}: {message}")


def commands(source: Source) -> Iterator[Command]:
    """The top-level forms of a file, in order.

    Raises:
        BadInput: if parentheses do not match, or text stands outside of them; names the line.
    """
    stack: list[tuple[list[Expression], int]] = []
    for match in _TOKEN.finditer(source.text):
        kind, offset = match.lastgroup, match.start()
        if kind == "bound":
            if stack:
                raise source.bad(stack[0][1], "a parenthesis is not closed before the next command")
            _, sign, name, number = match.group(1, 2, 3, 4)
            yield SimpleBound(name, sign == "<=", number, offset)
        elif kind == "comment":
            continue
        elif kind == "open":
            stack.append(([], offset))
        elif kind == "close":
            if not stack:
                raise source.bad(offset, "a parenthesis is closed that was never opened")
            items, start = stack.pop()
            form = Form(tuple(items), start)
            if stack:
                stack[-1][0].append(form)
            else:
                yield form
        elif kind == "stray":
            raise source.bad(offset, f"unexpected {match.group()!r}")
        elif not stack:
            raise source.bad(offset, f"{match.group()!r} stands outside of any command")
        elif kind == "comparison":
            words = (Token(match.group(i), match.start(i)) for i in (6, 7, 8))
            stack[-1][0].append(Form(tuple(words), offset))
        else:
            stack[-1][0].append(Token(match.group(), offset))
    if stack:
        raise source.bad(stack[0][1], "a parenthesis is not closed before the end of the file")
