"""The published files of IJB-B and IJB-C, read as they are,
and refused where they contradict each other."""

import numpy as np
import pytest

from alpha_sv.face.ijb import read_protocol
from tests.fixtures.faces import make_ijb


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_ijb(tmp_path_factory.mktemp("ijb") / "IJBX", people=4, size=32)


def test_images_templates_and_pairs(tree):
    protocol = read_protocol(tree)
    assert len(protocol.images) == 4 * 6 and len(protocol.template_ids) == 12 and len(protocol.labels) == 66
    assert protocol.labels.sum() == 4 * 3 and protocol.template_ids[0] == 13
    assert np.bincount(protocol.template).tolist() == [1, 2, 3] * 4
    counts = [len(set(protocol.media[protocol.template == row])) for row in range(3)]
    assert counts == [1, 2, 1], "three frames of a video are one media"
    assert protocol.points.shape == (24, 5, 2) and ((protocol.detector >= 0.5) & (protocol.detector <= 1)).all()
    who = protocol.identities()
    assert len(set(who)) == 4 and np.array_equal(who[protocol.left] == who[protocol.right], protocol.labels)


def changed(tree, tmp_path, kind, change):
    (tmp_path / "meta").mkdir(exist_ok=True)
    for file in (tree / "meta").iterdir():
        text = file.read_text()
        (tmp_path / "meta" / file.name).write_text(change(text) if kind in file.name else text)
    return tmp_path


def test_the_lists_may_have_other_orders(tree, tmp_path):
    turned = read_protocol(changed(tree, tmp_path, "5pts", lambda text: "\n".join(text.splitlines()[::-1])))
    assert np.array_equal(turned.points, read_protocol(tree).points)


@pytest.mark.parametrize(
    "kind, change, message",
    [
        ("5pts", lambda text: text.split("\n", 1)[1], "same images"),
        ("5pts", lambda text: text + text, "same images"),
        ("5pts", lambda text: text.replace("1.jpg", "1.jpg x", 1), r"5pts_score.txt:1: not an image and 11 numbers"),
        ("5pts", lambda text: text.replace(" ", " nan ", 1).replace("nan ", "nan x", 1), "5pts_score.txt:1"),
        ("5pts", lambda text: "1.jpg nan" + text[text.index(" ", 6) :], "not finite|same images"),
        ("tid_mid", lambda text: "", "is empty"),
        ("tid_mid", lambda text: text.replace("1.jpg", "../../etc/passwd"), "not an image"),
        ("tid_mid", lambda text: text.replace("13 1", "13.5 1", 1), "not whole"),
        ("pair_label", lambda text: text + "13 999 0\n", "template 999 has no image"),
        ("pair_label", lambda text: text.replace(" 1\n", " 2\n", 1), "label 0 or 1"),
        ("pair_label", lambda text: text.replace(" 1\n", " 0\n"), "pairs of one person and pairs of two"),
        ("pair_label", lambda text: text + "13 x 0\n", "template template label"),
        ("pair_label", lambda text: "", "template template label"),
    ],
)
def test_files_that_say_something_else_are_refused(tree, tmp_path, kind, change, message):
    with pytest.raises(ValueError, match=message):
        read_protocol(changed(tree, tmp_path, kind, change))


def test_a_missing_or_a_second_file(tree, tmp_path):
    folder = changed(tree, tmp_path, "none", str)
    (folder / "meta" / "other_face_tid_mid.txt").write_text("1.jpg 1 1\n")
    with pytest.raises(ValueError, match="2 files"):
        read_protocol(folder)
    with pytest.raises(ValueError, match="0 files"):
        read_protocol(tmp_path / "nowhere")


def test_labels_that_contradict_each_other_are_told(tree, tmp_path):
    folder = changed(tree, tmp_path, "pair_label", lambda text: text + "13 19 0\n")  # 13 16 1, 16 19 1 are there
    with pytest.raises(ValueError, match="such as 13 and 19"):
        read_protocol(folder).identities()
