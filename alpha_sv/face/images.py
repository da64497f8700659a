"""Reading images, and cutting an aligned face out of one.

Pillow does the decoding: it is small, maintained, and there already, since matplotlib needs
it. Only the four formats below are tried, and an image of more pixels than any face crop is
refused before it is decoded.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm")
_MOST_PIXELS = 64_000_000
# Where eyes, nose and corners of the mouth lie in an
# aligned face of 112 × 112 (insightface's reference points)
REFERENCE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def read_image(source: str | os.PathLike | bytes, size: int | None = None, name: str = "") -> np.ndarray:
    """An image as RGB.

    Parameters
    ----------
    source : path-like or bytes
        A file, or the content of one: JPEG, PNG, BMP, PGM or PPM; grey becomes RGB.
    size : int, optional
        Scale it to size × size pixels, each output pixel a weighted mean of those it covers.
    name : str
        What to call bytes in an error.

    Returns
    -------
    uint8 [H, W, 3]

    Raises
    ------
    ValueError
        It cannot be decoded as a whole, or has more than 64 million pixels.

    Example
    -------
    >>> buffer = io.BytesIO()
    >>> Image.new("L", (6, 4), 200).save(buffer, "PNG")
    >>> image = read_image(buffer.getvalue())
    >>> image.shape, int(image[0, 0, 2])
    ((4, 6, 3), 200)
    """
    with _opened(source, name) as image:
        try:
            rgb = image.convert("RGB")  # decodes
            if size is not None and rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(rgb)
        except Exception as error:  # each decoder complains in its own way
            raise ValueError(f"{_called(source, name)} is damaged: {error!r}; replace or remove it") from error


def check_header(path: str | os.PathLike) -> str:
    """What is wrong with an image, as far as its first bytes tell; "" if nothing is."""
    try:
        _opened(path, "").close()
    except ValueError as error:
        return str(error)
    return ""


def align(image: np.ndarray, points: np.ndarray, size: int = 112) -> np.ndarray:
    """Cut the face out: the similarity that moves five
    points nearest to `REFERENCE`, bilinear, black outside.

    Parameters
    ----------
    image : uint8 [H, W, 3]
    points : float [5, 2]
        x, y in pixels, 0 the centre of the first pixel: left eye, right eye,
        nose, left and right corner of the mouth, as seen in the image.

    Returns
    -------
    uint8 [size, size, 3]

    Raises
    ------
    ValueError
        The points are not finite, all the same, or nothing like a face.
    """
    turn, shift = similarity(np.asarray(points, np.float64), REFERENCE * size / 112)
    if np.linalg.det(turn) <= 0:
        raise ValueError(f"no turn of these five points looks like a face: {np.asarray(points).tolist()}")
    rows, columns = np.mgrid[:size, :size]
    return _bilinear(image, *np.tensordot(np.linalg.inv(turn), [columns - shift[0], rows - shift[1]], 1))


def _bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] at places [S, S];
    zeros around it, as cv2.warpAffine has them by default."""
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    (left, right_weight), (top, bottom_weight) = (
        (np.clip(np.floor(place), -2, length).astype(int) + 2, (place - np.floor(place))[..., None])
        for place, length in ((x, image.shape[1]), (y, image.shape[0]))
    )
    upper, lower = (
        (1 - right_weight) * padded[row, left] + right_weight * padded[row, left + 1] for row in (top, top + 1)
    )
    return np.rint((1 - bottom_weight) * upper + bottom_weight * lower).astype(np.uint8)


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation with scale A [2, 2] and the shift
    b [2] that minimise Σ |A source_i + b − target_i|².

    Umeyama, "Least-squares estimation of transformation parameters
    between two point patterns", PAMI 1991, equations 40 to 43.

    Example
    -------
    >>> corners = np.array([[0.0, 0], [1, 0], [0, 1]])
    >>> turn, shift = similarity(corners, corners @ np.array([[0.0, 2], [-2, 0]]) + [3, 4])
    >>> np.allclose(turn, [[0, -2], [2, 0]]), shift.round(9).tolist()
    (True, [3.0, 4.0])
    """
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError(f"points must be finite, got {source.tolist()} and {target.tolist()}")
    from_mean, to_mean = source.mean(0), target.mean(0)
    a, b = source - from_mean, target - to_mean
    if np.abs(a).max() <= 1e-9 * max(np.abs(source).max(), 1):
        raise ValueError(f"points in one place say nothing of a face, got {source.tolist()}")
    u, singular, v = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])  # never a mirror image
    turn = (u * sign) @ v * (singular @ sign) / np.square(a).sum()
    return turn, to_mean - turn @ from_mean


def _opened(source: str | os.PathLike | bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        if image.width * image.height > _MOST_PIXELS:
            image.close()
            raise ValueError(f"{image.width} × {image.height} pixels")
        return image
    except Exception as error:
        called = _called(source, name)
        raise ValueError(f"{called} is no image in {', '.join(FORMATS)} that can be read: {error}") from error


def _called(source: str | os.PathLike | bytes, name: str) -> str:
    return name or ("an image" if isinstance(source, bytes) else os.fspath(source))
