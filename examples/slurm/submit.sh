#!/bin/bash
# Submits both steps; the second waits for all of the first.
set -euo pipefail
cd "$(dirname "$0")"
export SHARDS=${SHARDS:-32}
shards=$(sbatch --parsable --array="1-$SHARDS" featurize.sbatch)
sbatch --dependency="afterok:${shards%%;*}" encode.sbatch
