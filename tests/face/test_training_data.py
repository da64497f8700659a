"""Who is trained on, and that an example is a function of (seed, epoch, image)."""

import pickle

import numpy as np
import pytest

from alpha_sv.face.training_data import FaceCorpus
from tests.fixtures.faces import encoded, face, insightface_records, make_folder, write_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("faces"))


def test_an_example_depends_on_seed_epoch_and_image_alone(folder):
    one, two = (FaceCorpus(folder, 32, num_valid_identities=2).read(7).train_set for _ in range(2))
    flipped = set()
    for epoch in range(1, 5):
        for number in reversed(range(len(one))):
            image, label = one[epoch, number]
            again, same = two[epoch, number]
            assert np.array_equal(image, again) and label == same and image.shape == (3, 32, 32)
            path = one.source.names[one.numbers[number]]
            plain = face(int(path[1]), int(path[3])).transpose(2, 0, 1)
            assert np.array_equal(image, plain) or np.array_equal(image, plain[..., ::-1])
            flipped.add((epoch, bool((image != plain).any())))
    assert len(flipped) == 8, "each epoch mirrors some images and not all"
    plain = FaceCorpus(folder, 32, num_valid_identities=2, flip=False).read(7).train_set
    assert all(np.array_equal(plain[1, n][0], plain[2, n][0]) for n in range(len(plain)))


def test_test_and_development_people_are_not_trained_on(folder, tmp_path):
    (tmp_path / "test.txt").write_text("1 p0/0.png p0/1.png\n0 p0/0.png p1/0.png\n")
    (tmp_path / "dev.txt").write_text("1 p2/0.png p2/1.png\n0 p2/0.png p3/0.png\n")
    data = FaceCorpus(folder, 32, trials=tmp_path / "test.txt", valid_trials=tmp_path / "dev.txt").read(1)
    assert data.classes == {"p4": 0, "p5": 1} and data.people == 2
    assert data.whole_labels.tolist() == [0] * 8 + [1] * 8
    drawn = FaceCorpus(folder, 32, trials=tmp_path / "test.txt", num_valid_identities=2).read(1)
    developed = {name.partition("/")[0] for name in drawn.valid[1].enroll.tolist()}
    assert len(developed) == 2 and not developed & {"p0", "p1", *drawn.classes}
    with pytest.raises(ValueError, match="2 .* must stay|ask for"):
        FaceCorpus(folder, 32, num_valid_identities=6).read(1)
    (tmp_path / "all.txt").write_text("".join(f"0 p{i}/0.png p{i + 1}/0.png\n" for i in range(5)))
    with pytest.raises(ValueError, match="0 people to train on"):
        FaceCorpus(folder, 32, trials=tmp_path / "all.txt").read(1)


def test_a_record_file_trains_with_pairs_of_a_bin(tmp_path):
    path = write_records(tmp_path / "train.rec", insightface_records(people=4, images=4))
    images = [encoded(face(9, n)) for n in range(4)]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, [True, False])))
    data = FaceCorpus(path, 32, valid_trials=tmp_path / "lfw.bin").read(1)
    assert data.classes == {"0": 0, "1": 1, "2": 2, "3": 3} and len(data.train_set) == 16
    names, trials, whole = data.valid
    assert np.array_equal(whole([names["1-other/b"]])[0][0], face(9, 3).transpose(2, 0, 1))
    assert trials.labels.tolist() == [True, False]
    assert FaceCorpus(path, 32, num_valid_identities=2).read(1).people == 2
    (tmp_path / "list.txt").write_text("1 a/b a/c\n")
    with pytest.raises(ValueError, match="use a .bin"):
        FaceCorpus(path, 32, valid_trials=tmp_path / "list.txt").read(1)
    with pytest.raises(ValueError, match="pairs to test on"):
        FaceCorpus(tmp_path / "lfw.bin", 32).read(1)


def test_other_images_are_other_data(tmp_path):
    first = FaceCorpus(make_folder(tmp_path / "a"), 32).read(1).digest
    assert FaceCorpus(make_folder(tmp_path / "b"), 32).read(1).digest == first, "wherever they lie"
    (tmp_path / "b" / "p1" / "3.png").unlink()
    assert FaceCorpus(tmp_path / "b", 32).read(1).digest != first


def test_what_is_no_image_is_told_before_the_training(tmp_path):
    make_folder(tmp_path, people=3, images=2)
    (tmp_path / "p1" / "1.png").write_bytes(b"not an image")
    (tmp_path / "p1" / "notes.txt").write_text("passed over")
    with pytest.raises(ValueError, match="1 of 6 images cannot be read: .*p1/1.png"):
        FaceCorpus(tmp_path, 32).read(1)
    for other in (tmp_path / "nowhere", tmp_path / "p0"):
        with pytest.raises(ValueError, match="no folder|no image"):
            FaceCorpus(other, 32).read(1)
