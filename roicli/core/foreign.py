"""Text that others wrote: names, attributes and paths, safe to print wherever they end up.

A name may hold what steers a terminal (ESC, BEL, C1), what turns text around (bidirectional
controls), a line that a CI system obeys (``::error``), or bytes that are no UTF-8. Such text is
made safe where it is read, so that whoever prints it cannot forget to.
"""

from __future__ import annotations

import codecs
import re

# GitHub obeys ``::command ...::`` at the start of a line, and a folded table begins one at a blank,
# or in the middle of a long word. It, Azure and TeamCity obey ``##[``, ``##vso[``, ``##teamcity[``
# anywhere.
_COMMAND = (
    r"(?i)(?<!\S):(?=:)|"
    r":(?=:(?:error|warning|notice|debug|(?:end)?group|echo|(?:add|remove)-matcher|"
    r"add-mask|add-path|save-state|set-env|set-output|stop-commands)\b.*::)|"
    r"#(?=#(?:vso|teamcity)?\[)"
)

# UTF-32's little-endian mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMPY_NUMBER = re.compile(r"\b(?:np|numpy)\.(?:float|int|uint)\d+\(([^()]*)\)")


class ForeignText(str):  # noqa: SLOT000 - copied and pickled with its attribute
    """A text as it may be shown; ``raw`` is as it was read, for whoever looks it up again."""

    raw: str

    @property
    def stored(self) -> str:
        """The text as UTF-8 files and JSON can hold it: raw, or as shown where it is no UTF-8."""
        return self.raw if _is_utf8(self.raw) else str.__str__(self)


def foreign(text: str | bytes) -> ForeignText:
    """Show ``text`` with every character that does not print escaped, as Python's ``repr`` would.

    So are bytes that are no UTF-8, and the surrogates that Python reads them as. Text that is safe
    stays as it is, so that what was made safe can be part of another text.
    """
    if isinstance(text, ForeignText):
        return text
    raw = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    shown = raw if raw.isprintable() else "".join(map(_escape, raw))
    if "::" in shown or "##" in shown:
        shown = re.sub(_COMMAND, lambda mark: f"\\x{ord(mark[0]):02x}", shown)
    found = ForeignText(shown)
    found.raw = raw
    return found


def decode_text(data: bytes) -> str:
    """A text in UTF-8, or in UTF-16 or UTF-32 where its mark says so, as Windows writes it."""
    return data.decode(next((name for mark, name in MARKS if data.startswith(mark)), "utf-8"))


def plain_numbers(text: str) -> str:
    """A text with ``0.5`` for ``np.float64(0.5)``, as NumPy 2 shows numbers in lists."""
    return _NUMPY_NUMBER.sub(r"\1", text) if "(" in text else text


def raw_text(text: str) -> str:
    """The text as it was read, of one that was made safe or never needed to be."""
    return text.raw if isinstance(text, ForeignText) else text


def stored_text(text: str) -> str:
    """The text as UTF-8 files and JSON can hold it."""
    return foreign(text).stored


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(
        character, f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
