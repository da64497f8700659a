"""The layouts of trial lists and score files, and which of them a file has.

    trial lists   voxceleb     label enroll test
                  kaldi        enroll test label
                  unlabeled    enroll test
    score files   speechbrain  enroll test label score
                  wespeaker    enroll test score label
                  voxsrc       score enroll test        the order of VoxSRC submissions
                  unlabeled    enroll test score        Kaldi

Or the first line names the columns, in any order: `label enroll test gender nationality`. Columns of a trial
list beyond these three are conditions. A header is a line with both words, enroll and test, or NIST's modelid and
segmentid, in capitals or not.

Columns are separated by white space, or by commas or semicolons. A label is 0 | 1 or nontarget | target; other
words, such as imp | tgt or False | True, are labels if the file has both of a pair.

The layout is a property of the whole file, never of a line: a column is a label column only if all its
entries are labels of one vocabulary, and a score column only if all are numbers, so one odd line is an error
instead of a trial read the wrong way round. Where two layouts fit every line, the reader refuses and asks which
one it is. Where none does, the one with most readable entries is the one meant, and its first unreadable one is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

Roles = tuple[str, ...]
Layouts = Mapping[str, Roles]

TRIAL_LAYOUTS: Layouts = {
    "voxceleb": ("label", "enroll", "test"),
    "kaldi": ("enroll", "test", "label"),
    "unlabeled": ("enroll", "test"),
}
SCORE_LAYOUTS: Layouts = {
    "speechbrain": ("enroll", "test", "label", "score"),
    "wespeaker": ("enroll", "test", "score", "label"),
    "voxsrc": ("score", "enroll", "test"),
    "unlabeled": ("enroll", "test", "score"),
}
LONGEST_NAME = 4096  # characters; a path has no more
FOREIGN_TO_NAMES = r"[\pZ\p{Cc}\x{FEFF}]"  # of RE2: white space, control characters, a byte-order mark

# (nontarget, target); the first two are labels wherever they stand, the others if the file has both words
VOCABULARIES = (
    ("0", "1"),
    ("nontarget", "target"),
    ("-1", "1"),
    ("false", "true"),
    ("imp", "tgt"),
    ("non", "tgt"),
    ("nontgt", "tgt"),
    ("non-target", "target"),
    ("impostor", "genuine"),
    ("imposter", "genuine"),
    ("impostor", "client"),
    ("different", "same"),
    ("diff", "same"),
    ("nonmatch", "match"),
    ("non-match", "match"),
    ("nonmated", "mated"),
    ("non-mated", "mated"),
    ("negative", "positive"),
    ("neg", "pos"),
    ("no", "yes"),
)
_SURE = 2
_HEADS = {"enrol": "enroll", "modelid": "enroll", "segmentid": "test", "segment": "test", "targettype": "label"}
_HEADS |= {"llr": "score", "scores": "score", "key": "label", "target": "label", "labels": "label"}
_HEADS |= {role: role for role in ("enroll", "test", "label", "score")}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def header_roles(fields: Sequence[str]) -> Roles | None:
    """The roles of the columns if `fields` is a header; further columns keep their names.

    >>> header_roles(["modelid", "segmentid", "side", "LLR"]), header_roles(["a.wav", "b.wav", "1"])
    (('enroll', 'test', 'side', 'score'), None)
    """
    roles = tuple(_HEADS.get(field.lower().replace("_", ""), field) for field in fields)
    return roles if {"enroll", "test"}.issubset(roles) else None


def separator(line: str) -> str | None:
    """What separates the columns of a file with this first line: None for white space, ";" or ",".

    >>> separator("a b 0,51"), separator("a.wav,b.wav,0.51"), separator("a; b; 0,51")
    (None, ',', ';')
    """
    fields = line.split()
    for mark in ";,":
        if line.rstrip(mark) and mark in line and all(field.endswith(mark) for field in fields[:-1]):
            return mark
    return None


def is_number(text: str) -> bool:
    """Whether it is a decimal number in ASCII digits, or inf or nan; `float` takes 1_0 and digits of any script.

    >>> [is_number(text) for text in ("-1e-3", "1_0", "٣", "0x1p3", "+-")]
    [True, False, False, False, False]
    """
    return _NUMBER.fullmatch(text) is not None


def label_values(words: Collection[str], sure: bool, part: bool = False) -> dict[str, bool] | None:
    """The labels that these words mean, or None.

    Parameters
    ----------
    sure : bool
        Only 0 | 1 and nontarget | target as they are; else every vocabulary, in capitals or not.
    part : bool
        The words are of a part of a file: the other word of a pair may follow.

    Example
    -------
    >>> label_values({"Tgt", "imp"}, sure=False) == {"Tgt": True, "imp": False}, label_values({"tgt"}, sure=False)
    (True, None)
    """
    if len(words) > 8:
        return None
    found = {word: word if sure else word.lower() for word in words}
    used = set(found.values())
    for pair in VOCABULARIES[: _SURE if sure else None]:
        if used <= set(pair) and (sure or part or len(used) == 2):
            return {word: plain == pair[1] for word, plain in found.items()}
    return None


def fitting(columns: Sequence[Sequence[str]], layouts: Layouts, part: bool = False) -> tuple[dict[str, Roles], bool]:
    """The layouts that every line fits, and whether with sure labels only; `part` as `label_values`."""
    numbers: dict[int, bool] = {}
    distinct: dict[int, set[str]] = {}

    def fits(roles: Roles, sure: bool) -> bool:
        for place, role in enumerate(roles):
            if role == "label":
                if place not in distinct:
                    distinct[place] = set(columns[place])
                if label_values(distinct[place], sure, part) is None:
                    return False
            elif role == "score":
                if place not in numbers:
                    numbers[place] = all(map(is_number, columns[place]))
                if not numbers[place]:
                    return False
        return True

    wide = {name: roles for name, roles in layouts.items() if len(roles) == len(columns)}
    for sure in (True, False):
        if found := {name: roles for name, roles in wide.items() if fits(roles, sure)}:
            break
    return found, sure


def first_misfit(columns: Sequence[Sequence[str]], roles: Roles) -> tuple[int, str] | None:
    """The first row that these roles cannot read, and why; None if they can."""
    found = None
    for role, column in zip(roles, columns, strict=True):
        if role == "label" and label_values(set(column), True) is None and label_values(set(column), False) is None:
            pair = _likely(column)
            row = next((row for row, word in enumerate(column) if word.lower() not in pair), 0)
            known = " | ".join(pair)
            if column[row].lower() in pair:  # all of them are of a pair of which the file has one word only
                known = (
                    f"{' | '.join(VOCABULARIES[0])} or {' | '.join(VOCABULARIES[1])}, and the file has no other word"
                )
            found = row, f"label {short(column[row])!r} is not one of {known}"
        elif role == "score" and (row := next((r for r, x in enumerate(column) if not is_number(x)), None)) is not None:
            comma = _COMMA.fullmatch(column[row])
            remedy = f"write {column[row].replace(',', '.')}, with a point" if comma else "repair or remove the line"
            found = row, f"score {short(column[row])!r} is not a number; {remedy}"
        if found:
            break
    return found


def likeliest(columns: Sequence[Sequence[str]], layouts: Layouts) -> Roles:
    """The layout with most readable entries; a number with a decimal comma can be read by people, so it counts."""

    def readable(roles: Roles) -> int:
        count = 0
        for role, column in zip(roles, columns, strict=True):
            if role == "label":
                pair = _likely(column)
                count += sum(word.lower() in pair for word in column)
            elif role == "score":
                count += sum(1 for text in column if is_number(text) or _COMMA.fullmatch(text))
        return count

    return max((roles for roles in layouts.values() if len(roles) == len(columns)), key=readable)


def hint(columns: Sequence[Sequence[str]], layouts: Layouts, row: int) -> str:
    """What a file of no layout, unreadable from `row` on, may be, and what to do then; "" if that is not known."""
    head = [{field.lower() for field in column[:10_000]} for column in columns]
    for place, words in enumerate(head, start=1):
        if len(columns) > 2 and words <= {"spoof", "bonafide", "bona-fide"}:
            return (
                f"This looks like a protocol of ASVspoof (column {place} is spoof | bonafide), which has no pairs of "
                f"utterances; if a bona fide utterance of the speaker is the target, make a list of it: "
                f"awk '{{print (${place} == \"spoof\" ? 0 : 1), $1, $2}}'"
            )
    if row == 0 < len(columns[0]) - 1 and fitting([column[1:] for column in columns], layouts)[0]:
        return "If line 1 is a header, name its columns enroll, test, label, score"
    return ""


def short(text: str, most: int = 100) -> str:
    """As much of a text as an error message can show."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _likely(column: Sequence[str]) -> tuple[str, str]:
    """The vocabulary that most of a column is of; of equals, that of the first entry."""
    counts = Counter(map(str.lower, column))
    return max(VOCABULARIES, key=lambda pair: (sum(counts[word] for word in pair), column[0].lower() in pair))
