"""Speaker verification with α-divergence losses."""

__version__ = "0.1.0"

_NAMES = {"load_model": "verify.model", "export": "exchange.export"}


def __getattr__(name: str) -> object:
    # PEP 562: `import alpha_sv` costs nothing
    if name in _NAMES:
        import importlib

        return getattr(importlib.import_module(f"alpha_sv.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'alpha_sv' has no attribute {name!r}")
