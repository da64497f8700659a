"""Pure functions on tensors: per example, classes on the last axis, any leading axes; torch only.

`plain.py` is the whole family on one page;
`solver.py` finds the same numbers without looking at every class twice.
"""

from alpha_sv.functional import divergence
from alpha_sv.functional.fenchel_young import fenchel_young_loss
from alpha_sv.functional.plain import alpha_divergence, vertex_divergence
from alpha_sv.functional.softargmax import alpha_softargmax

__all__ = ["alpha_divergence", "alpha_softargmax", "divergence", "fenchel_young_loss", "vertex_divergence"]
