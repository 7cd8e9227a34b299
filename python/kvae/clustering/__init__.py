"""Clusters of contigs by their latents."""

from __future__ import annotations

from kvae.clustering.bins import write_bins
from kvae.clustering.contigs import Contigs, contigs_of
from kvae.clustering.run import Clusters, cluster

__all__ = ["Clusters", "Contigs", "cluster", "contigs_of", "write_bins"]
