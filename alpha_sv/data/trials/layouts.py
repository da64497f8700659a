"""The layouts of trial lists and score files, and which of them a file has.

    trial lists   voxceleb     label enroll test
                  kaldi        enroll test label
                  unlabeled    enroll test
    score files   voxceleb     label enroll test score    a trial list with the score behind
                  speechbrain  enroll test label score
                  wespeaker    enroll test score label
                  voxsrc       score enroll test        the order of VoxSRC submissions
                  unlabeled    enroll test score        Kaldi

Or the first line names the columns, in any order: `label enroll test gender nationality`.
Columns of a trial list beyond these three are conditions. A header is a line with both words,
enroll and test, or others for them (modelid and segmentid of NIST, test_path, utt1 and utt2
beside label or score), in capitals or not. It alone may begin with "#": any other line that does
is a comment, which is refused.

Columns are separated by white space, or by commas or semicolons. A label is 0 | 1 or
nontarget | target; other words, such as imp | tgt or False | True, are labels if the file
has one word for each kind.

The layout is a property of the whole file, never of a line: a column is a label column only if all
its entries are labels of one vocabulary, and a score column only if all are numbers, so one odd
line is an error instead of a trial read the wrong way round. Where two layouts fit every line, the
reader refuses and asks which one it is. Where none does, the one with most readable entries is the
one meant, and its first unreadable one is named.
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
    "voxceleb": ("label", "enroll", "test", "score"),
    "speechbrain": ("enroll", "test", "label", "score"),
    "wespeaker": ("enroll", "test", "score", "label"),
    "voxsrc": ("score", "enroll", "test"),
    "unlabeled": ("enroll", "test", "score"),
}
LONGEST_NAME = 4096  # characters; a path has no more
FOREIGN_TO_NAMES = r"[\pZ\p{Cc}\x{AD}\x{200B}\x{2060}\x{FEFF}]"  # of RE2: white space, control, what is not seen

# (nontarget, target); the first two are labels wherever they stand,
# the others if the file has both; of words, any of the first kind goes with any of the second
NUMBERS = (("0", "1"), ("-1", "1"), ("-1", "+1"), ("0.0", "1.0"), ("-1.0", "1.0"))
WORDS = (
    ("nontarget", "target"),
    ("false", "true"),
    ("imp", "tgt"),
    ("non", "tar"),
    ("nontgt", "tgt"),
    ("impostor", "genuine"),
    ("imposter", "gen"),
    ("impostor", "client"),
    ("different", "same"),
    ("diff", "same"),
    ("differentspeaker", "samespeaker"),
    ("diffspeaker", "samespeaker"),
    ("nonmatch", "match"),
    ("mismatch", "match"),
    ("nonmated", "mated"),
    ("negative", "positive"),
    ("neg", "pos"),
    ("no", "yes"),
    ("n", "y"),
    ("n", "p"),
    ("f", "t"),
)
SURE = (NUMBERS[0], WORDS[0])
_NEGATIVE, _POSITIVE = ({pair[kind] for pair in WORDS} for kind in (0, 1))
_HEADS = {"enrol": "enroll", "enrollment": "enroll", "enrolment": "enroll", "model": "enroll", "segment": "test"}
_HEADS |= {"llr": "score", "scores": "score", "similarity": "score", "cosine": "score"}
_HEADS |= {"key": "label", "target": "label", "labels": "label", "targettype": "label", "istarget": "label"}
_HEADS |= {role: role for role in ("enroll", "test", "label", "score")}
_SIDE = re.compile("(enroll|enrol|enrollment|enrolment|model|test|segment)(id|utt|utterance|file|path|wav)")
_NUMBERED = re.compile("(?:utt|utterance|file|path|wav|audio|segment|enroll|test)(?:id)?([12])")
_BESIDE = {"label", "labels", "score", "scores", "key"}  # a name such as utt1 is one of a column beside these only
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
_WRAPPED = re.compile(r"(?:tensor|array)?[\[\]()\"'{}<>=:%]*([+\u2212-]?[\d.]+)[\[\]()\"'{}<>=:%]*", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def header_roles(fields: Sequence[str]) -> Roles | None:
    """The roles of the columns if `fields` is a header; further columns keep their names.

    >>> header_roles(["modelid", "segmentid", "side", "LLR"])
    ('enroll', 'test', 'side', 'score')
    >>> header_roles(["a.wav", "b.wav", "1"]) is None
    True
    """
    plain = [_letters(field) for field in fields]
    numbered = not _BESIDE.isdisjoint(plain)

    def role(word: str, otherwise: str) -> str:
        if numbered and (found := _NUMBERED.fullmatch(word)):
            return ("enroll", "test")[int(found[1]) - 1]
        side = _SIDE.fullmatch(word)
        return _HEADS.get(side[1] if side else word, otherwise)

    roles = tuple(map(role, plain, fields))
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
    """Whether it is a decimal number in ASCII digits, inf or nan; `float` takes 1_0 and ٣ too.

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
    >>> label_values({"Tgt", "imp"}, sure=False) == {"Tgt": True, "imp": False}
    True
    >>> label_values({"tgt"}, sure=False) is None
    True
    """
    if len(words) > 8:
        return None
    found = {word: word if sure else plain_label(word) for word in words}
    used = set(found.values())
    for pair in SURE if sure else NUMBERS:
        if used <= set(pair) and (sure or part or len(used) == 2):
            return {word: plain == pair[1] for word, plain in found.items()}
    negative, positive = used & _NEGATIVE, used & _POSITIVE
    if not sure and len(negative) + len(positive) == len(used) and max(len(negative), len(positive)) == 1:
        if part or negative and positive:
            return {word: plain in positive for word, plain in found.items()}
    return None


def plain_label(word: str) -> str:
    """A label as `NUMBERS` and `WORDS` have it.

    >>> plain_label("Non-Target"), plain_label("same_speaker"), plain_label("-1")
    ('nontarget', 'samespeaker', '-1')
    """
    return word if word[-1:].isdigit() else _letters(word)


def _letters(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def look_like_labels(names: Collection[str]) -> bool:
    """Whether all names are words for labels, or for the attacks of ASVspoof.

    >>> look_like_labels(["target", "spoof", "nontarget"])
    True
    >>> look_like_labels(["target", "b.wav"])
    False
    """
    words = set(names)
    known = _NEGATIVE | _POSITIVE | {"spoof", "bonafide"}
    return len(words) <= 8 and all(len(word) > 1 and _letters(word) in known for word in words)


def fitting(columns: Sequence[Sequence[str]], layouts: Layouts, part: bool = False) -> tuple[dict[str, Roles], bool]:
    """The layouts that every line fits, and whether with sure labels; `part` as `label_values`."""
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
            row = next((row for row, word in enumerate(column) if plain_label(word) not in pair), 0)
            known = " | ".join(pair)
            if plain_label(column[row]) in pair:  # all of them are of a pair of which the file has one word only
                known = f"{' | '.join(SURE[0])} or {' | '.join(SURE[1])}, and the file has no other word"
            found = row, f"label {short(column[row])!r} is not one of {known}"
        elif role == "score" and (row := next((r for r, x in enumerate(column) if not is_number(x)), None)) is not None:
            remedy = "repair or remove the line"
            if _COMMA.fullmatch(column[row]):
                remedy = f"write {column[row].replace(',', '.')}, with a point"
            elif wrapped := _WRAPPED.fullmatch(column[row]):
                remedy = f"write {wrapped[1].replace(chr(0x2212), '-')} and nothing else"
            found = row, f"score {short(column[row])!r} is not a number; {remedy}"
        if found:
            break
    return found


def likeliest(columns: Sequence[Sequence[str]], layouts: Layouts) -> Roles:
    """The layout with most readable entries, of equals the last;
    what people can read as a number is readable, too."""

    def readable(roles: Roles) -> int:
        count = 0
        for role, column in zip(roles, columns, strict=True):
            if role == "label":
                pair = _likely(column)
                count += sum(plain_label(word) in pair for word in column)
            elif role == "score":
                count += sum(
                    1 for text in column if is_number(text) or _COMMA.fullmatch(text) or _WRAPPED.fullmatch(text)
                )
        return count

    return max([roles for roles in layouts.values() if len(roles) == len(columns)][::-1], key=readable)


def hint(columns: Sequence[Sequence[str]], layouts: Layouts, row: int) -> str:
    """What a file of no layout, unreadable from `row` on, may be, and the remedy; or ""."""
    head = [{field.lower() for field in column[:10_000]} for column in columns]
    for place, words in enumerate(head, start=1):
        if len(columns) > 2 and words <= {"spoof", "bonafide", "bona-fide"}:
            return (
                f"This looks like a protocol of ASVspoof (column {place} is spoof | bonafide), which has no pairs of "
                f"utterances; if a bona fide utterance of the speaker is the target, make a list of it: "
                f"awk '{{print (${place} == \"spoof\" ? 0 : 1), $1, $2}}'"
            )
        if "spoof" in words and words <= {"spoof", "target", "nontarget"}:
            return (
                f"This looks like trials of ASVspoof (column {place} is target | nontarget | spoof); leave the spoofs "
                f'out: awk \'${place} != "spoof" {{print (${place} == "target"), $1, $2}}\''
            )
    if row == 0 < len(columns[0]) - 1 and fitting([column[1:] for column in columns], layouts)[0]:
        return "If line 1 is a header, name its columns enroll, test, label, score"
    return ""


def short(text: str, most: int = 100) -> str:
    """As much of a text as an error message can show."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _likely(column: Sequence[str]) -> tuple[str, str]:
    """The two labels that most of a column are; of equals, those of the first entry."""
    counts = Counter(map(plain_label, column))
    best = [max(kind, key=lambda word: (counts[word], word)) for kind in (_NEGATIVE, _POSITIVE)]
    pairs = [*NUMBERS, *WORDS, *([(best[0], best[1])] if all(counts[word] for word in best) else [])]
    first = plain_label(column[0])
    return max(pairs, key=lambda pair: (sum(counts[word] for word in pair), first in pair))
