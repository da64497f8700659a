"""The one form in which names are compared and written:
what a trial list, a manifest and an exclusion can hold.

* Unicode NFC. A folder copied from a Mac may be called "e" +
  combining acute where a list has "é"; both are one name.
* White space, control characters and bytes that are no UTF-8 are written as in a URL, `%`
  and two hexadecimal digits a byte: `my file.wav` is `my%20file.wav` in lists. All else
  stays as it is, `%` too.

Paths keep the form of the file system; only IDs and speakers have this one.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

from alpha_sv.data.trials.files import Trials


def one_form(name: str) -> str:
    """The form of a name that is a word already: NFC.

    >>> one_form("Jose\\u0301") == "Jos\\u00e9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def as_word(name: str) -> str:
    """The form of any file name, without white space.

    >>> as_word("s 1/my file.wav"), as_word("s1/100%.wav")
    ('s%201/my%20file.wav', 's1/100%.wav')
    """
    if name.isascii() and name.isprintable() and " " not in name:  # nearly all of a million
        return name
    return "".join(
        "".join(f"%{byte:02X}" for byte in os.fsencode(letter)) if _unfit(letter) else letter
        for letter in one_form(name)
    )


def is_unicode(name: str) -> bool:
    """Whether a file name is text: bytes that are no UTF-8
    come as lone surrogates, which no UTF-8 file can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def trials_in_one_form(trials: Trials) -> Trials:
    """The trials with their names in `one_form`."""
    sides = [trials.enroll.tolist(), trials.test.tolist()]
    if all(map(str.isascii, (name for side in sides for name in side))):
        return trials
    return Trials(*(list(map(one_form, side)) for side in sides), trials.labels, trials.conditions)


def some(names: Sequence[str]) -> str:
    """The first three, for a message: written in ASCII,
    because two forms of a name look the same."""
    return ", ".join(map(ascii, names[:3])) + (", ..." if len(names) > 3 else "")


def _unfit(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) in ("Cc", "Cs")
