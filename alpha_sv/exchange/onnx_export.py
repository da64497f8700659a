"""An embedder as two networks in ONNX, with batch and time left open.

    model.onnx      waveform [batch, time] in [−1, 1] → embs [batch, D], the features inside
    features.onnx   feats [batch, frames, M] → embs [batch, D], WeSpeaker's and sherpa-onnx's names
    <name>.json     what each takes, for `load_model`; the same stands in the file's own metadata

Both are run on real lengths and compared with the embedder before they are written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.features import MIN_SECONDS, fill, whole_length
from alpha_sv.embedding.onnx import OnnxInput
from alpha_sv.files import atomic_write

TOLERANCE = 1e-4  # of the embedding's norm
_MIN_FRAMES = 8  # of Kaldi's in 0.1 s
logger = logging.getLogger(__name__)


class _FromFeatures(nn.Module):
    def __init__(self, embedder: SpeakerEmbedder):
        super().__init__()
        self.backbone, self.dim = embedder.backbone, embedder.embedding_dim

    def forward(self, feats: Tensor) -> Tensor:
        return self.backbone(feats).reshape(feats.shape[0], self.dim)


class _FromWaveform(_FromFeatures):
    def __init__(self, embedder: SpeakerEmbedder):
        super().__init__(embedder)
        self.features = embedder.features

    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(self.features(waveform))


def write_onnx(embedder: SpeakerEmbedder, folder: str | os.PathLike, int8: bool = False) -> list[Path]:
    """Write both networks and their JSON files; returns the .onnx files.

    Parameters
    ----------
    embedder : SpeakerEmbedder
    folder : path-like
        Made if need be.
    int8 : bool
        Write `features.int8.onnx` too, with weights of 8 bits:
        a quarter of the size, at some cost in error rates.

    Raises
    ------
    ValueError
        The network cannot be exported, or gives other embeddings there.
    ImportError
        onnx, onnxscript or onnxruntime is not installed: pip install 'alpha_sv[onnx]'.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export to ONNX needs the extra ({error}): pip install 'alpha_sv[onnx]'") from error
    folder, config = Path(folder), embedder.config
    if int8 and config.get("features") == "waveform":
        raise ValueError("8 bits are for networks on features, and this one takes the waveform; export it without int8")
    facts = {
        "features": config.get("features", "speechbrain"),
        "sample_rate": embedder.sample_rate,
        "n_mels": config["n_mels"],
        "mean_norm": embedder.features.mean_norm,
    }
    device = next((parameter.device for parameter in embedder.parameters()), torch.device("cpu"))
    was_training = embedder.training
    embedder = embedder.cpu().eval()
    written = []
    try:
        waveforms = _example(embedder, 3.1)
        with torch.no_grad():
            feats = embedder.features(waveforms)
        rate = embedder.sample_rate
        shortest = {"waveform": round(MIN_SECONDS * rate), "feats": _MIN_FRAMES + 1}
        graphs = [("model", _FromWaveform(embedder), "waveform", waveforms)]
        if facts["features"] != "waveform":
            graphs.append(("features", _FromFeatures(embedder), "feats", feats))
        for name, module, kind, example in graphs:
            spec = OnnxInput("waveform" if kind == "waveform" else "features", **facts)
            content = _export(module.eval(), kind, example, shortest[kind], spec)
            _check(content, embedder, kind, f"{name}.onnx")
            with atomic_write(folder / f"{name}.onnx", "wb") as file:
                file.write(content)
            with atomic_write(folder / f"{name}.json") as file:
                file.write(spec.to_json())
            written.append(folder / f"{name}.onnx")
        if int8:
            written.append(_quantize(folder))
    finally:
        embedder.to(device).train(was_training)
    return written


def _export(module: nn.Module, kind: str, example: Tensor, shortest: int, spec: OnnxInput) -> bytes:
    time = "time" if kind == "waveform" else "frames"
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim(time, min=shortest)},)
    try:
        with warnings.catch_warnings(), _speechbrain_for_any_batch(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's exporter speaks of its own future
            program = torch.export.export(
                module,
                (example,),
                dynamic_shapes=shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            onnx_program = torch.onnx.export(
                program, dynamo=True, input_names=[kind], output_names=["embs"], verbose=False
            )
    except Exception as error:  # of whatever kind the exporter has
        raise ValueError(f"this network cannot be exported to ONNX: {str(error).splitlines()[0][:300]}") from error
    model = onnx_program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "alpha_sv", spec.to_json()
    return model.SerializeToString()


@contextlib.contextmanager
def _speechbrain_for_any_batch() -> Iterator[None]:
    """Within, SpeechBrain's mask of an attentive pooling takes the batch's size from a
    shape instead of `len`, which torch.export would take for a constant. Whole
    utterances have a mask of ones."""
    from speechbrain.lobes.models import ECAPA_TDNN

    def ones(length: Tensor, max_len=None, dtype=None, device=None) -> Tensor:
        return torch.ones(length.shape[0], max_len, dtype=dtype or length.dtype, device=length.device)

    original = ECAPA_TDNN.length_to_mask
    ECAPA_TDNN.length_to_mask = ones
    try:
        yield
    finally:
        ECAPA_TDNN.length_to_mask = original


def _example(embedder: SpeakerEmbedder, seconds: float, batch: int = 2) -> Tensor:
    """Something like speech: noise whose loudness and colour change."""
    generator = np.random.default_rng(0)
    samples = round(seconds * embedder.sample_rate)
    noise = generator.standard_normal((batch, samples)).cumsum(axis=1)
    noise = np.diff(noise, axis=1, prepend=0) + 0.1 * np.sin(np.arange(samples) / 20)
    wave = 0.1 * noise * (1.1 + np.sin(np.arange(samples) / 3000))
    return torch.from_numpy(wave.astype(np.float32))


def _check(content: bytes, embedder: SpeakerEmbedder, kind: str, name: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    for batch, seconds in ((1, 0.13), (3, 1.0), (1, 5.003)):
        waves = _example(embedder, seconds, batch).numpy()
        length = whole_length(waves.shape[1], embedder.sample_rate)
        waves = np.stack([fill(wave, length) for wave in waves])
        expected = embedder.embed_batch(waves)
        values = waves
        if kind == "feats":
            with torch.no_grad():
                values = embedder.features(torch.from_numpy(waves)).numpy()
        error = np.abs(session.run(None, {kind: values})[0] - expected).max(axis=1)
        worst = float((error / np.linalg.norm(expected, axis=1)).max())
        if not worst <= TOLERANCE:
            raise ValueError(
                f"{name} would differ from the model by {worst:.1e} of the embedding's norm at {seconds} s, more than "
                f"{TOLERANCE:g}; it is not written"
            )


def _quantize(folder: Path) -> Path:
    """Not of model.onnx: 8 bits are too few for the energies inside the features."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target, part = folder / "features.int8.onnx", folder / ".features.int8.onnx.part"
    try:
        quantize_dynamic(folder / "features.onnx", part, weight_type=QuantType.QUInt8)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    with atomic_write(target.with_suffix(".json")) as file:
        file.write((folder / "features.json").read_text(encoding="utf-8"))
    return target
