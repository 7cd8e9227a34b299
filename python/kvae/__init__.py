"""k-mer features of DNA sequences, and a variational autoencoder on them.

Counting and feature assembly need numpy only; what needs Arrow or torch is
loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvae._core import __version__
from kvae.errors import KvaeError

if TYPE_CHECKING:
    from kvae.checkup import Checkup, doctor
    from kvae.clustering import Clusters, cluster
    from kvae.comparison import Comparison, compare
    from kvae.description import Description, describe
    from kvae.drawing import ModelGraph, graph
    from kvae.encoding import encode
    from kvae.evaluation import Evaluation, evaluate
    from kvae.exporting import Exported, export
    from kvae.featurizing import FeaturizeResult, count_kmers, featurize, featurize_sequences
    from kvae.layout import Block, Layout, kmers
    from kvae.merging import MergeResult, merge
    from kvae.model import KmerVAE
    from kvae.planning import Plan, plan
    from kvae.reporting import Report, report
    from kvae.searching import Hits, LatentIndex, index, search
    from kvae.sequences import open_sequences
    from kvae.store import FeatureStore
    from kvae.training import TrainResult, train
    from kvae.training.pretraining import PretrainResult, pretrain

__all__ = [
    "Block",
    "Checkup",
    "Clusters",
    "Comparison",
    "Description",
    "Evaluation",
    "Exported",
    "FeatureStore",
    "FeaturizeResult",
    "Hits",
    "KmerVAE",
    "KvaeError",
    "LatentIndex",
    "Layout",
    "MergeResult",
    "ModelGraph",
    "Plan",
    "PretrainResult",
    "Report",
    "TrainResult",
    "__version__",
    "cluster",
    "compare",
    "count_kmers",
    "describe",
    "doctor",
    "encode",
    "evaluate",
    "export",
    "featurize",
    "featurize_sequences",
    "graph",
    "index",
    "kmers",
    "merge",
    "open_sequences",
    "plan",
    "pretrain",
    "report",
    "search",
    "train",
]

_HOME = {
    "Block": "kvae.layout",
    "Checkup": "kvae.checkup",
    "Clusters": "kvae.clustering",
    "Comparison": "kvae.comparison",
    "Description": "kvae.description",
    "Evaluation": "kvae.evaluation",
    "Exported": "kvae.exporting",
    "FeatureStore": "kvae.store",
    "FeaturizeResult": "kvae.featurizing",
    "Hits": "kvae.searching",
    "KmerVAE": "kvae.model",
    "LatentIndex": "kvae.searching",
    "Layout": "kvae.layout",
    "MergeResult": "kvae.merging",
    "ModelGraph": "kvae.drawing",
    "Plan": "kvae.planning",
    "PretrainResult": "kvae.training.pretraining",
    "Report": "kvae.reporting",
    "TrainResult": "kvae.training",
    "cluster": "kvae.clustering",
    "compare": "kvae.comparison",
    "count_kmers": "kvae.featurizing",
    "describe": "kvae.description",
    "doctor": "kvae.checkup",
    "encode": "kvae.encoding",
    "evaluate": "kvae.evaluation",
    "export": "kvae.exporting",
    "featurize": "kvae.featurizing",
    "featurize_sequences": "kvae.featurizing",
    "graph": "kvae.drawing",
    "index": "kvae.searching",
    "kmers": "kvae.layout",
    "merge": "kvae.merging",
    "open_sequences": "kvae.sequences",
    "plan": "kvae.planning",
    "pretrain": "kvae.training.pretraining",
    "report": "kvae.reporting",
    "search": "kvae.searching",
    "train": "kvae.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kvae' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
