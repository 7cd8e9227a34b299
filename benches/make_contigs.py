"""Cut contigs of about 5 kb from genomes: the input of the benchmarks.

    python benches/make_contigs.py GENOMES -o contigs.fa [-n 100000] [--width 80]

The contigs are consecutive pieces of random length (a normal distribution of
mean 5,000 and deviation 500, at least 1,000), begun again from the first genome
until there are enough; the same seed gives the same file.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
from collections.abc import Iterator
from pathlib import Path


def sequences(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the letters of every record in a folder of .fna.gz files."""
    for path in sorted(folder.glob("*.fna.gz")):
        with gzip.open(path) as file:
            text = file.read()
        for record in text.split(b">")[1:]:
            header, _, body = record.partition(b"\n")
            yield header.split()[0].decode(), b"".join(body.split())


def contigs(folder: Path, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield pieces of the sequences, without end."""
    rng = random.Random(seed)
    lap = 0
    while True:
        for name, letters in sequences(folder):
            start = 0
            while len(letters) - start >= 1000:
                stop = min(len(letters), start + max(1000, round(rng.gauss(5000, 500))))
                yield f"{name}_{lap}_{start}", letters[start:stop]
                start = stop
        lap += 1


def main() -> None:
    """Write the contigs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genomes", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", "--number", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    width = arguments.width
    bases = 0
    with open(arguments.output, "wb") as out:
        for i, (name, letters) in enumerate(contigs(arguments.genomes, arguments.seed)):
            if i == arguments.number:
                break
            lines = (letters[at : at + width] for at in range(0, len(letters), width))
            out.write(f">{name}\n".encode() + b"\n".join(lines) + b"\n")
            bases += len(letters)
    print(f"{arguments.output}: {arguments.number:,} contigs, {bases:,} bases", file=sys.stderr)


if __name__ == "__main__":
    main()
