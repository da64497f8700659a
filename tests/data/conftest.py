import sys

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    _quieten_lazy_modules()


def pytest_runtest_setup():
    _quieten_lazy_modules()


def _quieten_lazy_modules():
    """Hypothesis asks every module for its `__file__`;
    SpeechBrain's lazy ones then import what is not installed."""
    for module in list(sys.modules.values()):
        if "Lazy" in type(module).__name__ or "Redirect" in type(module).__name__:
            vars(module).setdefault("__file__", None)
