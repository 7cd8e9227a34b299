"""Defaults that the command line shows: plain constants, so that help stays fast."""

from __future__ import annotations

PRESET = "kvae"
PRESETS = ("kvae", "outline", "deep", "slim", "lowrank", "dot")
EPOCHS = 20
DEMO_EPOCHS = 6
# Of the weights that a run starts from, where these are the package's own.
INIT_SHARE = 0.75
BATCH_SIZE = 128
LR = 1e-3
SEED = 0
ENCODE_BATCH_SIZE = 1024
EVALUATE_ROWS = 10_000
EVALUATE_SEEDS = 3
MIN_BIN_BASES = 200_000
CLUSTER_NEIGHBOURS = 20
SEARCH_HITS = 10
