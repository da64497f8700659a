"""Images are read whole or refused; a face is cut out where its points say."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alpha_sv.face.images import REFERENCE, align, check_header, read_image, similarity
from tests.fixtures.faces import encoded, face

turns = st.tuples(st.floats(-np.pi, np.pi), st.floats(0.2, 5), st.floats(-200, 200), st.floats(-200, 200))


def moved(points, angle, scale, x, y):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + [x, y]


@given(turns)
def test_a_similarity_is_found_again(turn):
    matrix, shift = similarity(REFERENCE, moved(REFERENCE, *turn))
    np.testing.assert_allclose(REFERENCE @ matrix.T + shift, moved(REFERENCE, *turn), atol=1e-9)


@given(st.integers(0, 10_000), turns)
def test_no_other_similarity_is_nearer(seed, other):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 5, 2))
    matrix, shift = similarity(source, target)
    assert np.isclose(np.linalg.det(matrix), np.square(matrix).sum() / 2)  # a rotation with a scale, no mirror

    def error(points):
        return np.square(points - target).sum()

    best = error(source @ matrix.T + shift)
    assert best <= error(moved(source, *other)) + 1e-9
    for step in 1e-3 * rng.normal(size=(5, 4)):  # and the neighbours
        near = moved(source @ matrix.T + shift, step[0], 1 + step[1], *step[2:])
        assert best <= error(near) + 1e-12


def plain_align(image, points, size):
    """Pixel by pixel, as cv2.warpAffine defines it inside of the image."""
    matrix, shift = similarity(points, REFERENCE * size / 112)
    result = np.zeros((size, size, 3))
    for y in range(size):
        for x in range(size):
            u, v = np.linalg.solve(matrix, np.array([x, y]) - shift)
            a, b = int(np.floor(u)), int(np.floor(v))
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if 0 <= a + dx < image.shape[1] and 0 <= b + dy < image.shape[0]:
                    result[y, x] += abs(1 - dx - (u - a)) * abs(1 - dy - (v - b)) * image[b + dy, a + dx]
    return result


@pytest.mark.parametrize("noise", [0, 2])
def test_alignment_is_the_bilinear_one_with_black_around(noise):
    rng = np.random.default_rng(3)
    image = np.asarray(Image.fromarray(face(1, 1, 64)).resize((50, 45), Image.Resampling.BICUBIC))
    points = moved(REFERENCE, 0.3, 0.5, 22, 5) + rng.normal(0, noise, (5, 2))
    assert np.abs(align(image, points, 56) - plain_align(image, points, 56)).max() <= 0.5 + 1e-9


def test_points_in_place_leave_the_image_as_it_is():
    image = face(2, 1, 112)
    assert np.array_equal(align(image, REFERENCE), image)
    with pytest.raises(ValueError, match="in one place"):
        align(image, np.ones((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        align(image, np.full((5, 2), np.nan))


def test_formats_and_sizes(tmp_path):
    image = face(1, 1)
    for kind in ("PNG", "BMP", "PPM"):
        assert np.array_equal(read_image(encoded(image, kind)), image)
    grey = encoded(image[..., 0])
    assert np.array_equal(read_image(grey), np.repeat(image[..., :1], 3, axis=2))
    assert read_image(encoded(image, "JPEG"), size=20).shape == (20, 20, 3)
    gif = io.BytesIO()
    Image.fromarray(image).save(gif, "GIF")
    with pytest.raises(ValueError, match="no image in JPEG"):
        read_image(gif.getvalue())
    (tmp_path / "a.png").write_bytes(encoded(image)[:200])
    assert check_header(tmp_path / "a.png") == ""
    with pytest.raises(ValueError, match="a.png is damaged"):
        read_image(tmp_path / "a.png")


def test_a_bomb_is_refused_before_it_is_decoded():
    head = encoded(face(1, 1))
    bomb = head[:16] + (60_000).to_bytes(4, "big") * 2 + head[24:]
    with pytest.raises(ValueError, match="no image|pixels"):
        read_image(bomb)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["JPEG", "PNG", "BMP", "PPM"]))
def test_damaged_bytes_are_a_value_error_or_an_image(data, kind):
    content = bytearray(encoded(face(1, 1), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_image(content, size=16).shape == (16, 16, 3)
    except ValueError:
        pass
