"""The sentences of the demo corpus: each has a number, which decides its words.

A sentence says who did what, and where or when.
The corpus draws numbers without replacement, so that no two utterances say the same.
"""

from __future__ import annotations

import math

# A sentence is one entry of each column: 24 * 20 * 24 * 16 = 184,320 different ones.
_SUBJECTS = """the old farmer|my younger sister|a careful doctor|our noisy neighbour|the village baker|
her first teacher|a tired soldier|the quiet painter|your best friend|the ship's captain|a clever student|
the new mayor|his grandmother|this young pilot|the night nurse|a famous singer|that shy boy|
the chief engineer|some lucky tourist|the lighthouse keeper|a friendly judge|our piano player|
the river fisherman|every good cook"""
_VERBS = """carried|painted|forgot|repaired|measured|borrowed|discovered|examined|polished|followed|
described|collected|bought|hid|photographed|watched|recognised|delivered|washed|misplaced"""
_OBJECTS = """seven baskets|a golden ring|the broken clock|two blue jackets|an unusual map|fresh oranges|
the wooden boat|his gray horse|a long letter|cheap umbrellas|the church bells|five empty bottles|
a strange machine|their yellow kite|warm bread|the garden fence|her leather shoes|a puzzle box|
some juicy peaches|the zoo keys|a heavy suitcase|smooth pebbles|the video camera|thick blankets"""
_PLACES = """near the station|after lunch|on Thursday|before sunrise|in the kitchen|under the bridge|
with great joy|by the harbour|last winter|for a while|behind the school|during the storm|without help|
at midnight|along the shore|this morning"""
_COLUMNS = tuple(text.replace("\n", "").split("|") for text in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES))
NUM_SENTENCES = math.prod(len(column) for column in _COLUMNS)


def sentence(index: int) -> str:
    """Sentence number `index` of the grammar; different numbers are different sentences.

    Raises
    ------
    ValueError
        If `index` is not in ``range(NUM_SENTENCES)``.

    Example
    -------
    >>> sentence(0)
    'The old farmer carried seven baskets near the station.'
    """
    if not 0 <= index < NUM_SENTENCES:
        raise ValueError(f"sentence: index {index} is outside 0 .. {NUM_SENTENCES - 1}; the grammar has no more")
    words = []
    for column in reversed(_COLUMNS):
        index, entry = divmod(index, len(column))
        words.append(column[entry])
    text = " ".join(reversed(words))
    return text[0].upper() + text[1:] + "."
