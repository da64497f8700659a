"""Prototypes and loss in one module: embeddings and labels in,
scalar loss out; and what trains the prototypes."""

from alpha_sv.heads.checkpoint import load_shards, save_shards
from alpha_sv.heads.cosine import CosineHead
from alpha_sv.heads.optim import PrototypeSGD
from alpha_sv.heads.reinit import class_means, reinitialise
from alpha_sv.heads.sharded import ShardedHead
from alpha_sv.heads.sparse import SparseHead
from alpha_sv.heads.sub_center import SubCenterHead

__all__ = [
    "CosineHead",
    "PrototypeSGD",
    "ShardedHead",
    "SparseHead",
    "SubCenterHead",
    "class_means",
    "load_shards",
    "reinitialise",
    "save_shards",
]
