"""Training examples: a function of (seed, epoch, utterance)."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.augment.time_domain import DropChunk, DropFreq

from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.audio.speed import change_speed, class_names, source_length
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.embedding.extract import read_whole
from alpha_sv.sb.chunks import EpochSampler, RandomChunks
from alpha_sv.sb.datasets import WholeUtterances


def utterances(folder, seconds=(0.4, 1.0, 2.0)):
    rows = []
    for i, length in enumerate(seconds):
        size = round(16000 * length)
        ramp = np.arange(size) / 40000  # the sample's value tells its place
        soundfile.write(folder / f"{i}.wav", ramp, 16000, subtype="FLOAT")
        rows.append(Utterance(f"{i}.wav", str(folder / f"{i}.wav"), f"s{i % 2}", "", size, 16000, 1, "train"))
    return rows


def test_chunk_is_a_contiguous_piece_and_short_utterances_repeat(tmp_path):
    chunks = RandomChunks(utterances(tmp_path), {"s0": 0, "s1": 1}, seconds=0.5)
    for number in range(3):
        wave, label = chunks[1, number]
        assert wave.shape == (8000,) and wave.dtype == np.float32 and label == number % 2
        steps = np.round(np.diff(wave) * 40000)
        assert (steps == 1).sum() >= 7998 and set(steps) <= {1, -6399}
    starts = {chunks[epoch, 2][0][0] for epoch in range(30)}
    assert len(starts) > 25, "another epoch, another chunk"


def test_example_depends_on_seed_epoch_and_utterance_alone(tmp_path):
    rows, labels = utterances(tmp_path), {"s0": 0, "s1": 1}
    one, two = (RandomChunks(rows, labels, 0.5, seed=3) for _ in range(2))
    two[4, 0], two[9, 2]  # another history
    np.testing.assert_array_equal(one[1, 2][0], two[1, 2][0])
    assert not np.array_equal(one[1, 2][0], RandomChunks(rows, labels, 0.5, seed=4)[1, 2][0])


class Noisy(torch.nn.Module):
    """Draws from torch's own generator, as SpeechBrain's modules do."""

    def forward(self, waveforms, lengths):
        return waveforms + torch.rand(()) * torch.randn_like(waveforms) * lengths[0]


def test_modules_draw_by_seed_epoch_and_utterance_whatever_the_batch_and_the_process(tmp_path):
    rows, labels, modules = utterances(tmp_path), {"s0": 0, "s1": 1}, [Noisy(), DropChunk(100, 200, 1, 3), DropFreq()]
    plain = RandomChunks(rows, labels, 0.5, seed=3)
    one, two = (RandomChunks(rows, labels, 0.5, seed=3, modules=modules) for _ in range(2))
    torch.manual_seed(1)
    first = [one[2, number][0] for number in range(3)]
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    for number in (2, 0, 1):  # another order, as of another rank or worker
        np.testing.assert_array_equal(two[2, number][0], first[number])
        assert not np.array_equal(plain[2, number][0], first[number])
    assert torch.rand(1) == expected, "the global generator is as it was"
    assert not np.array_equal(one[3, 2][0] - plain[3, 2][0], first[2] - plain[2, 2][0]), "another epoch, another draw"


def test_a_module_that_changes_the_length_is_refused(tmp_path):
    chunks = RandomChunks(utterances(tmp_path), {"s0": 0, "s1": 1}, 0.5, modules=[torch.nn.AvgPool1d(2)])
    with pytest.raises(ValueError, match=r"AvgPool1d makes \[1, 4000\] of \[1, 8000\].* key speeds"):
        chunks[1, 0]


def test_sampler_gives_each_utterance_once_in_a_new_order_each_epoch():
    sampler = EpochSampler(50, seed=1)
    orders = []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        epochs, numbers = zip(*sampler, strict=True)
        assert set(epochs) == {epoch} and sorted(numbers) == list(range(50))
        orders.append(numbers)
    assert orders[0] != orders[1]
    sampler.set_epoch(1)
    assert tuple(n for _, n in sampler) == orders[0]


def test_unknown_speaker_is_named(tmp_path):
    with pytest.raises(ValueError, match="1 speakers have no label: s1"):
        RandomChunks(utterances(tmp_path), {"s0": 0}, 0.5)


def sines(folder, frequency=1000.0, seconds=4.0):
    size = round(16000 * seconds)
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(size) / 16000)
    soundfile.write(folder / "sine.wav", wave, 16000, subtype="FLOAT")
    return [Utterance("sine.wav", str(folder / "sine.wav"), "s0", "", size, 16000, 1, "train")]


def test_speed_goes_the_right_way_and_is_a_class_of_its_own(tmp_path):
    """The fault of SpeechBrain 1.0: speeds were inverted.
    Played 1.1 times as fast, 1000 Hz are 1100 Hz."""
    speeds, labels = (1.0, 0.9, 1.1), {"s0": 0, "s1": 1, "s2": 2}
    chunks = RandomChunks(sines(tmp_path), labels, 2.0, speeds=speeds)
    seen = set()
    for epoch in range(20):
        wave, label = chunks[epoch, 0]
        assert wave.shape == (32000,) and wave.dtype == np.float32
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(32000)))
        speed = speeds[label // 3]
        assert label % 3 == 0 and np.argmax(spectrum) / 2 == pytest.approx(1000 * speed, abs=0.5)
        assert 0.48 < np.abs(wave[100:-100]).max() < 0.52, "nothing but the speed changes"
        seen.add(speed)
    assert seen == set(speeds)


def test_each_speed_is_drawn_as_often_as_the_others(tmp_path):
    chunks = RandomChunks(sines(tmp_path, seconds=0.1), {"s0": 0}, 0.1, speeds=(1.0, 0.9, 1.1))
    counts = np.bincount([chunks[epoch, 0][1] for epoch in range(600)], minlength=3)
    assert np.all(np.abs(counts - 200) < 5 * np.sqrt(600 * 2 / 9))  # binomial: five standard deviations


def test_without_speeds_the_examples_are_what_they_always_were(tmp_path):
    """One draw, the start, from a generator of (seed,
    epoch, number): runs of before can be resumed."""
    rows = utterances(tmp_path)
    for number, utterance in enumerate(rows):
        wave, label = RandomChunks(rows, {"s0": 0, "s1": 1}, 0.5, seed=7)[3, number]
        start = np.random.default_rng((7, 3, number)).integers(max(utterance.num_samples - 8000, 0) + 1)
        whole, _ = soundfile.read(utterance.path, dtype="float32")
        assert np.array_equal(wave, np.resize(whole[start : start + 8000], 8000)) and label == number % 2


def test_a_chunk_at_another_speed_is_the_resampled_utterance(tmp_path):
    """Against a direct evaluation of the band-limited signal at the times n · speed."""
    rng = np.random.default_rng(0)
    frequencies, phases = rng.uniform(100, 6000, 8), rng.uniform(0, 6, 8)

    def signal(time):
        return 0.1 * np.sin(2 * np.pi * frequencies * time[:, None] + phases).sum(axis=1)

    for speed in (0.9, 1.1, 0.95, 1.25):
        length = source_length(8000, speed)
        wave = change_speed(signal(np.arange(length) / 16000).astype(np.float32), speed, 8000)
        assert wave.dtype == np.float32
        np.testing.assert_allclose(wave[200:-200], signal(speed * np.arange(8000) / 16000)[200:-200], atol=4e-3)


def test_class_names_are_in_the_order_of_the_classes(tmp_path):
    speakers, speeds = ["ann", "bob"], (1.0, 0.9, 1.1)
    names = class_names(speakers, speeds)
    assert names == ["ann", "bob", "ann#0.9", "bob#0.9", "ann#1.1", "bob#1.1"]
    rows = [dataclasses.replace(u, speaker=speakers[int(u.speaker[1])]) for u in utterances(tmp_path)]
    chunks = RandomChunks(rows, {"ann": 0, "bob": 1}, 0.3, speeds=speeds)
    labels = {(rows[number].speaker, chunks[epoch, number][1]) for epoch in range(30) for number in range(3)}
    assert labels == {(names[label].split("#")[0], label) for label in range(6)}
    with pytest.raises(ValueError, match="several classes would be named 'ann#0.9'"):
        class_names(["ann", "ann#0.9"], speeds)


@pytest.mark.parametrize("speeds", [(), (0.9,), (1.0, 1.0), (1.0, 0.0), (1.0, -1.1), (1.0, 9.0), (1.0, 0.90001)])
def test_speeds_that_cannot_be(tmp_path, speeds):
    with pytest.raises(ValueError, match="speed"):
        RandomChunks(utterances(tmp_path), {"s0": 0, "s1": 1}, 0.5, speeds=speeds)
    with pytest.raises(ValueError, match="speed"):
        class_names(["ann"], speeds)


def test_labels_with_gaps_leave_no_room_for_speeds(tmp_path):
    rows = utterances(tmp_path)
    RandomChunks(rows, {"s0": 0, "s1": 5}, 0.5)
    with pytest.raises(ValueError, match="number them from 0"):
        RandomChunks(rows, {"s0": 0, "s1": 5}, 0.5, speeds=(1.0, 0.9))


def test_examples_are_those_of_a_plain_list_of_utterances(tmp_path):
    rows, labels = utterances(tmp_path), {"s1": 5, "s0": 2}
    chunks = RandomChunks(rows, labels, 0.5, seed=3)
    for epoch, number in EpochSampler(3, seed=3):
        row, rng = rows[number], np.random.default_rng((3, epoch, number))
        start = int(rng.integers(max(row.num_samples - 8000, 0) + 1))
        plain = np.resize(read_audio(row.path, start, min(8000, row.num_samples)), 8000)
        wave, label = chunks[epoch, number]
        np.testing.assert_array_equal(wave, plain)
        assert (label, type(label)) == (labels[row.speaker], int)
    whole = WholeUtterances(rows, speeds=(1.0, 0.8))
    for number in range(3):
        plain, filled = read_whole(rows[number], 16000), whole[number][0]
        np.testing.assert_array_equal(filled[: len(plain)], plain)
        assert not filled[len(plain) :].any(), "filled with zeros to the length of its batch"
        assert whole[number][1] == number and whole[number + 3][1] == number + 3
        assert len(whole[number + 3][0]) == pytest.approx(len(whole[number][0]) / 0.8, abs=1000)
    assert sorted(n for batch in whole.batches(2) for n in batch) == list(range(6))


GROWTH = """
import os, sys
import numpy as np
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.sb import chunks

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private")) * 1024

size = int(sys.argv[1])
rows = [
    Utterance(f"id{i // 50:05}/{i // 8:011}/{i % 8:05}.wav", f"/corpora/voxceleb2/dev/wav/id{i // 50:05}/{i // 8:011}/"
              f"{i % 8:05}.wav", f"id{i // 50:05}", "", 128000, 16000, 1, "train")
    for i in range(size)
]
speakers = sorted({row.speaker for row in rows})
examples = chunks.RandomChunks(rows, {name: label for label, name in enumerate(speakers)}, 0.001)
first, speakers = rows[0], None
del rows
chunks.read_audio = lambda path, start, count, rate: np.zeros(count, np.float32)
if os.fork() == 0:
    examples[1, 0]
    before = private()
    total = sum(examples[1, number][1] for number in range(size))
    assert total == sum(i // 50 for i in range(size)), total
    print((private() - before) / size)
    os._exit(sys.stdout.flush() or 0)
sys.exit(os.wait()[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="smaps_rollup is Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("size", [30_000, 300_000])
def test_a_worker_copies_little_of_the_corpus(size):
    """Objects are copied page by page when they are looked at:
    a list took 275 bytes per utterance and worker here."""
    run = subprocess.run([sys.executable, "-c", GROWTH, str(size)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 100
