import sys


def pytest_runtest_setup():
    """Hypothesis asks every module for its `__file__`; SpeechBrain's lazy ones then import what is not installed."""
    for module in list(sys.modules.values()):
        if "Lazy" in type(module).__name__ or "Redirect" in type(module).__name__:
            vars(module).setdefault("__file__", None)
