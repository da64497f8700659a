"""Speaker verification with α-divergence losses.

>>> import alpha_sv
>>> alpha_sv.metrics.eer([0.9, 0.8], [0.1, 0.2])[0]
0.0
"""

import importlib

from alpha_sv import moved

__version__ = "0.2.0"

_ROOMS = (
    "data",
    "demo",
    "device",
    "embedding",
    "exchange",
    "face",
    "files",
    "functional",
    "heads",
    "losses",
    "metrics",
    "monitor",
    "pipeline",
    "report",
    "sb",
    "schedule",
    "scoring",
    "verify",
)
_NAMES = {  # the dozen of the README, by the room that has them
    "load_model": "verify.model",
    "Gallery": "verify.gallery",
    "export": "exchange.export",
    "A3M": "losses",
    "AAMSoftmax": "losses",
    "AMSoftmax": "losses",
    "QMargin": "losses",
    "CosineHead": "heads",
    "PrototypeSGD": "heads",
    "SparseHead": "heads",
    "SubCenterHead": "heads",
    "SpeakerEmbedder": "embedding",
    "as_norm": "scoring",
    "cosine_scores": "scoring",
    "eer": "metrics",
    "fnr_at_fpr": "metrics",
    "min_dcf": "metrics",
}
__all__ = ["__version__", *_ROOMS, *_NAMES]

moved.install()


def __getattr__(name: str) -> object:
    # PEP 562: `import alpha_sv` costs nothing, and a room is imported when it is first asked for
    if name in _ROOMS:
        return importlib.import_module(f"alpha_sv.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"alpha_sv.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'alpha_sv' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
