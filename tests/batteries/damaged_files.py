"""What a file from elsewhere may hold instead of what it should:
no reader may accept it, crash or fill the memory."""

import io

import numpy as np

JSON = {
    "garbage": bytes(range(256)),
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "huge": b"1" + b"0" * 400,
    "digits": b"9" * 10_000,
    "null": b"null",
    "text": b'"x"',
    "list": b"[[]]",
    "cut": b'{"a": 1',
    "not finite": b"[NaN, Infinity]",
    "half a character": b'{"a": "\xc3',
}


def npy(shape, descr="<f4", content=bytes(64)):
    """A .npy file whose header claims `shape`, whatever follows it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


_OBJECTS = io.BytesIO()
np.save(_OBJECTS, np.array([{}], dtype=object), allow_pickle=True)

NPY = {
    "garbage": bytes(range(256)),
    "empty": b"",
    "cut magic": npy((2, 3))[:5],
    "cut header": npy((2, 3))[:40],
    "cut data": npy((2, 3))[:-60],
    "header of no literal": npy((2, 3)).replace(b"(2, 3)", b"(2, ((")[:],
    "header of a call": npy((2, 3)).replace(b"(2, 3)", b"exit()"),
    "absurd": npy((2**63 - 1,)),
    "absurd in two": npy((2**62, 4)),
    "beyond an integer": npy((2**64, 2)),
    "larger than the file": npy((10**9, 192)),
    "negative": npy((-2, 3)),
    "objects": _OBJECTS.getvalue(),
    "zip": b"PK\x03\x04" + bytes(100),
}
