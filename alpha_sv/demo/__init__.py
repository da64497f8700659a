"""The embedded demo: a synthetic corpus and the whole chain on it.
Nothing below this room imports it."""


def __getattr__(name: str) -> object:
    if name == "run_demo":  # lazily: the corpus alone needs no torch
        from alpha_sv.demo.run import run_demo

        return run_demo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
