"""Pure functions on tensors: per example, classes on the last axis, any leading axes; torch only."""

from alpha_sv.functional.divergence import divergence, vertex_divergence
from alpha_sv.functional.fenchel_young import fenchel_young_loss
from alpha_sv.functional.softargmax import alpha_softargmax

__all__ = ["alpha_softargmax", "divergence", "fenchel_young_loss", "vertex_divergence"]
