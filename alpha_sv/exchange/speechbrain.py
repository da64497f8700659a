"""SpeechBrain's pretrained folders:
`hyperparams.yaml` and `embedding_model.ckpt`, as `from_hparams` reads them.

A `hyperparams.yaml` is a program: SpeechBrain builds whatever classes it names. Here it is read
as data. The two networks we share are looked for in it, by the names of their classes, and
their arguments taken over.
"""

from __future__ import annotations

import os
from pathlib import Path

import ruamel.yaml
import torch
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from torch import Tensor

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.files import InputError, atomic_write, read_text

NETWORKS = {
    "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN": "ecapa_tdnn",
    "speechbrain.lobes.models.ResNet.ResNet": "resnet",
}
_FBANK = "speechbrain.lobes.features.Fbank"
_NORM = "speechbrain.processing.features.InputNormalization"
_PLAIN = {"deltas": False, "context": False, "requires_grad": False, "f_min": 0, "filter_shape": "triangular"}
_PLAIN |= {"win_length": 25, "hop_length": 10}
_WITHOUT_CONTEXT = {"left_frames", "right_frames", "param_change_factor", "param_rand_factor"}  # then of no meaning
_LARGEST_YAML = 200_000  # bytes; the published ones have 2,000
_DEEPEST = 20  # levels; the published ones have 3


def is_pretrained_folder(folder: str | os.PathLike) -> bool:
    """Whether a folder looks like one that `from_hparams` reads."""
    return (Path(folder) / "hyperparams.yaml").is_file()


def read_pretrained(folder: str | os.PathLike) -> SpeakerEmbedder:
    """The embedder of a SpeechBrain pretrained folder; runs no code from it.

    Raises
    ------
    ValueError
        A file is missing or damaged, or the folder holds something else than ECAPA-TDNN or
        ResNet on mean-normalised filter banks, which is all that we can compute in the same
        way; the message says what.
    """
    file = Path(folder) / "hyperparams.yaml"
    keys = _read_yaml(file)
    try:
        network, arguments = _node(keys, "embedding_model", NETWORKS)
        _, fbank = _node(keys, "compute_features", {_FBANK: ""})
        _, norm = _node(keys, "mean_var_norm", {_NORM: ""})
        if norm.get("norm_type", "global") != "sentence" or norm.get("std_norm", True) is not False:
            raise ValueError(f"mean_var_norm is {norm}, not the mean of each sentence (sentence, std_norm: False)")
        rate, bands = fbank.pop("sample_rate", 16000), fbank.pop("n_mels", 40)
        fbank.setdefault("n_fft", 400)
        plain = _PLAIN | {"f_max": rate // 2, "n_fft": 400 * rate // 16000}
        given = {name: value for name, value in fbank.items() if name not in _WITHOUT_CONTEXT}
        if odd := {name: value for name, value in given.items() if name not in plain or value != plain[name]}:
            raise ValueError(f"compute_features has {odd}, which our filter bank cannot follow")
        if (width := arguments.pop("input_size", bands)) != bands:
            raise ValueError(f"the network takes {width} bands, compute_features gives {bands}")
        dim = arguments.pop("lin_neurons", 192 if network == "ecapa_tdnn" else 256)
        embedder = SpeakerEmbedder(network, dim, n_mels=bands, sample_rate=rate, features="speechbrain", **arguments)
    except Exception as error:  # each network complains in its own way of sizes that do not fit
        raise ValueError(f"{file}: {str(error) or repr(error)}") from error
    weights = read_checkpoint(_weights_file(Path(folder)))
    load_into(embedder, weights, folder)
    return embedder.eval()


def write_pretrained(embedder: SpeakerEmbedder, folder: str | os.PathLike) -> Path:
    """Write what stock `SpeakerRecognition.from_hparams` loads;
    it gives the same embeddings of the same samples.

    Raises
    ------
    ValueError
        The network is none of SpeechBrain's, or was trained on other features.
    """
    config, folder = dict(embedder.config), Path(folder)
    network = config.pop("architecture")
    classes = {name: path for path, name in NETWORKS.items()}
    if network not in classes or config.pop("features", "speechbrain") != "speechbrain":
        raise ValueError(
            f"SpeechBrain has {', '.join(sorted(classes))} on its own features only, this is {network} on "
            f"{embedder.config.get('features', 'speechbrain')} features; export it to onnx instead"
        )
    rate, bands, dim = config.pop("sample_rate"), config.pop("n_mels"), config.pop("embedding_dim")
    sizes = "".join(f"    {name}: {value}\n" for name, value in config.items())
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "embedding_model.ckpt", "wb") as file:
        torch.save({name: tensor.cpu() for name, tensor in embedder.backbone.state_dict().items()}, file)
    with atomic_write(folder / "hyperparams.yaml") as file:
        file.write(
            f"""\
# Written by alpha_sv. Load it with
#   from speechbrain.inference.speaker import SpeakerRecognition
#   model = SpeakerRecognition.from_hparams(source="<this folder>")
sample_rate: {rate}

compute_features: !new:{_FBANK}
    sample_rate: {rate}
    n_fft: {400 * rate // 16000}
    n_mels: {bands}
mean_var_norm: !new:{_NORM}
    norm_type: sentence
    std_norm: False
embedding_model: !new:{classes[network]}
    input_size: {bands}
    lin_neurons: {dim}
{sizes}mean_var_norm_emb: !new:{_NORM}
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
"""
        )
    return folder


def load_into(embedder: SpeakerEmbedder, weights: dict[str, Tensor], name: str | os.PathLike) -> None:
    """Load a backbone's weights strictly;
    ValueError names what is missing, too many, of another shape or NaN."""
    try:
        embedder.backbone.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(f"{name}: the weights do not fit the network: {'; '.join(lines[:3])[:600]}") from error
    if bad := [key for key, tensor in weights.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{name}: NaN or infinite weights in {', '.join(bad[:3])}")


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name. Nothing is unpickled but tensors.

    A dictionary that wraps them ("state_dict", "model",
    "embedding_model", as others save theirs) is opened.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load

            return load(file.read_bytes())
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever kind: a damaged pickle raises anything
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ValueError(f"{file} is damaged, or holds more than tensors, which is never loaded ({reason})") from error
    for wrap in ("state_dict", "model_state_dict", "model", "embedding_model"):
        if isinstance(content, dict) and isinstance(content.get(wrap), dict):
            content = content[wrap]
    kinds = {(type(k), type(v)) for k, v in content.items()} if isinstance(content, dict) else set()
    if not kinds or not all(key is str and issubclass(value, Tensor) for key, value in kinds):
        raise ValueError(f"{file} holds no dictionary of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _weights_file(folder: Path) -> Path:
    for name in ("embedding_model.ckpt", "embedding_model.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no embedding_model.ckpt; download the whole folder")


def _read_yaml(file: Path) -> dict:
    """The keys of a YAML file. Tags are kept as words, references looked up, nothing is built."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    text = read_text(file, _LARGEST_YAML)
    try:
        depth = 0
        for event in ruamel.yaml.YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > _DEEPEST:  # the loader below would count to Python's limit, for seconds
                raise ValueError(f"line {event.start_mark.line + 1}: more than {_DEEPEST} levels")
        keys = ruamel.yaml.YAML().load(text)
    except Exception as error:  # of whatever kind: the parser's constructors raise their own
        raise InputError(f"{file} is not YAML: {str(error)[:300]}") from error
    if not isinstance(keys, dict):
        raise ValueError(f"{file} has no keys")
    return keys


def _node(keys: dict, name: str, known: dict[str, str]) -> tuple[str, dict]:
    """(what `known` says of the class, arguments) of a node `name: !new:class`."""
    node = keys.get(name)
    tag = _tag(node)
    kind = tag.removeprefix("!new:")
    if not tag.startswith("!new:") or kind not in known:
        wanted = " or ".join(path.rpartition(".")[2] for path in known)
        raise ValueError(f"{name} is {tag or 'not there'}; only {wanted} can be imported")
    if not isinstance(node, dict):
        raise ValueError(f"{name} has no named arguments")
    relu = {key for key, value in node.items() if _tag(value) == "!name:torch.nn.ReLU" and key == "activation"}
    return known[kind], {key: _value(keys, value) for key, value in node.items() if key not in relu | {"device"}}


def _tag(node: object) -> str:
    return getattr(getattr(node, "tag", None), "value", None) or ""


def _value(keys: dict, value: object, depth: int = 0, in_list: bool = False) -> object:
    """A number, word or list of them; `!ref <key>` is what that key says."""
    tag = _tag(value)
    if tag == "!ref":
        key = str(getattr(value, "value", value)).strip()
        if not (key.startswith("<") and key.endswith(">") and key[1:-1] in keys) or depth > 9:
            raise ValueError(f"!ref {key!r} is not the name of a key")
        return _value(keys, keys[key[1:-1]], depth + 1, in_list)
    if tag.startswith("!"):
        raise ValueError(f"an argument is {tag}, not a number")
    if isinstance(value, dict) or (in_list and isinstance(value, list)):  # aliases in them could multiply without end
        raise ValueError("an argument is neither a number, a word nor a list of them")
    if isinstance(value, list):
        return [_value(keys, entry, depth, True) for entry in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)
