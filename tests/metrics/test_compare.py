"""A paired comparison: nothing differs from itself, and what two systems share cancels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alpha_sv.metrics import compare_systems, speaker_bootstrap

SPEAKERS, UTTERANCES = 20, 5


def comparison(*systems, replicates=200):
    """Bootstrap and comparison of systems, each a matrix of scores [utterances, utterances]."""
    first, second = np.triu_indices(SPEAKERS * UTTERANCES, 1)
    who = np.repeat([f"s{k:02d}" for k in range(SPEAKERS)], UTTERANCES)
    scores = np.stack([system[first, second] for system in systems])
    boot = speaker_bootstrap(scores, who[first], who[second], who[first] == who[second], replicates=replicates)
    return boot, compare_systems(boot, [f"system {k}" for k in range(len(systems))])


def voices(seed, within=0.7):
    rng = np.random.default_rng(seed)
    speakers = rng.normal(size=(SPEAKERS, 8)).repeat(UTTERANCES, axis=0)
    return speakers + within * rng.normal(size=speakers.shape)


def similarity(x):
    return -((x[:, None] - x[None]) ** 2).sum(-1)


def test_a_system_does_not_differ_from_itself():
    scores = similarity(voices(0))
    for entry in comparison(scores, scores)[1]["pairs"][0]["metrics"]:
        assert entry["baseline"] == entry["system"]
        assert (entry["difference"], entry["interval"], entry["sign"]) == (0, [0, 0], 0)


def test_a_rising_map_is_the_same_system():
    scores = similarity(voices(0))
    for entry in comparison(scores, np.exp(scores / 10))[1]["pairs"][0]["metrics"]:
        assert (entry["difference"], entry["interval"]) == (0, [0, 0])


def test_exchanging_two_systems_mirrors_the_difference():
    x = voices(1)
    one, other = similarity(x), similarity(x + 0.3 * np.random.default_rng(2).normal(size=x.shape))
    forth, back = (comparison(*pair)[1]["pairs"][0]["metrics"] for pair in ((one, other), (other, one)))
    for a, b in zip(forth, back, strict=True):
        assert a["metric"] == b["metric"] and a["difference"] == -b["difference"]
        assert a["interval"] == pytest.approx([-b["interval"][1], -b["interval"][0]], abs=1e-15)
        assert a["sign"] + b["sign"] <= 1


def test_what_two_systems_share_cancels():
    # The second system hears the same voices with a little more noise:
    # a small difference, seen through speakers that scatter much more than it.
    x = voices(3)
    boot, result = comparison(similarity(x), similarity(x + 0.4 * np.random.default_rng(4).normal(size=x.shape)))
    entry = result["pairs"][0]["metrics"][0]
    assert entry["metric"] == "eer"
    assert entry["difference"] == entry["system"] - entry["baseline"] > 0
    low, high = entry["interval"]
    alone = [np.ptp(boot.intervals(system)["eer"]) for system in range(2)]
    assert high - low < 0.8 * np.hypot(*alone)
    assert low > 0 and entry["sign"] < 0.025


def test_the_result_names_its_settings_and_is_json():
    scores = [similarity(voices(seed)) for seed in range(3)]
    boot, result = comparison(*scores, replicates=40)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {key: result[key] for key in boot.settings()} == boot.settings()
    assert (result["baseline"], [pair["system"] for pair in result["pairs"]]) == ("system 0", ["system 1", "system 2"])
    # 4,750 nontarget trials allow 47, 4 and no false accepts: only the first rate is compared
    names = ["eer", "min_dcf 0.01", "min_dcf 0.05", "fnr at fpr 1e-2", "min_cllr"]
    assert [entry["metric"] for entry in result["pairs"][0]["metrics"]] == names


def test_one_system_or_a_missing_name_is_refused():
    scores = similarity(voices(0))
    with pytest.raises(ValueError, match="two or more systems"):
        comparison(scores, replicates=40)
    boot, _ = comparison(scores, scores, replicates=40)
    with pytest.raises(ValueError, match="a name for each"):
        compare_systems(boot, ["only one"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_rate_that_either_system_does_not_support_is_not_compared(order):
    scores = similarity(voices(0))
    tied = np.zeros_like(scores)  # any threshold accepts all or none: no rate of 1e-2 can be counted
    boot, result = comparison(*[scores, tied][::order], replicates=40)
    assert boot.supported[:, boot.metrics.index("fnr at fpr 1e-2")].tolist() == [True, False][::order]
    assert "fnr at fpr 1e-2" not in [entry["metric"] for entry in result["pairs"][0]["metrics"]]
