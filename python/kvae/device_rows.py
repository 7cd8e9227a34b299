"""Log-space rows, computed on the device that trains.

The packed sequences of a data set are a thirtieth of its rows. Where they fit
into the memory of an accelerator they stay there, and a batch costs no transfer:
it is unpacked, counted and turned into logarithms where it is used. The rows
are those of `kvae.store.FeatureStore.rows`, to within the rounding of float32.

Dimensions: B rows of a batch, L letters of its longest row, K columns of a k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from kvae.gathering import PackedGatherer
    from kvae.layout import Layout

# Code of a letter that is no base, and of the space behind a short row.
INVALID = 4

# Letters that are counted at a time: several int64 of each are needed.
LETTERS_AT_A_TIME = 1 << 26


def canonical_columns(k: int) -> NDArray[np.int64]:
    """Column of every k-mer, by the k-mer as an integer of base 4 (ACGT), shape (4^k,)."""
    words = np.arange(4**k)
    reverse, rest = np.zeros_like(words), words.copy()
    for _ in range(k):
        reverse, rest = reverse * 4 + 3 - rest % 4, rest // 4
    # Columns are in lexicographic order, which is that of the integers.
    return np.unique(np.minimum(words, reverse), return_inverse=True)[1]


class SequenceCounter(nn.Module):
    """Counts canonical k-mers of many sequences at once, by scattered additions.

    Parameters
    ----------
    ks
        The k to count.
    """

    def __init__(self, ks: tuple[int, ...]) -> None:
        super().__init__()
        self.ks = ks
        for k in ks:
            columns = torch.from_numpy(canonical_columns(k))
            self.register_buffer(f"columns_{k}", columns, persistent=False)

    def forward(self, codes_BL: Tensor) -> dict[int, Tensor]:
        """Count the k-mers of sequences.

        Parameters
        ----------
        codes_BL
            Letters as uint8: 0 to 3 for ACGT, `INVALID` for anything else.

        Returns
        -------
        dict
            int32 counts of shape (B, K) for every k.
        """
        invalid_BL = codes_BL == INVALID
        codes_BL = codes_BL.masked_fill(invalid_BL, 0).int()
        words_BW, broken_BW = codes_BL, invalid_BL
        counts: dict[int, Tensor] = {}
        for k in range(1, max(self.ks) + 1):
            if k > 1:
                # A window of k letters is one of k - 1 and the next letter.
                words_BW = words_BW[:, :-1] * 4 + codes_BL[:, k - 1 :]
                broken_BW = broken_BW[:, :-1] | invalid_BL[:, k - 1 :]
            if k in self.ks:
                counts[k] = self._scatter(k, words_BW, broken_BW)
        return counts

    def _scatter(self, k: int, words_BW: Tensor, broken_BW: Tensor) -> Tensor:
        columns = self.get_buffer(f"columns_{k}")
        n_columns = int(columns.max()) + 1
        # Windows with other letters go to a column past the last.
        column_BW = columns[words_BW.long()].masked_fill_(broken_BW, n_columns)
        counts_BK = torch.zeros(
            len(words_BW), n_columns + 1, dtype=torch.int32, device=words_BW.device
        )
        ones = torch.ones((), dtype=torch.int32, device=words_BW.device)
        counts_BK.scatter_add_(1, column_BW, ones.expand_as(column_BW))
        return counts_BK[:, :n_columns]


class RowAssembler(nn.Module):
    """Turns counts into log-space rows.

    Parameters
    ----------
    layout
        The fields of a row.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout

    def forward(self, counts: dict[int, Tensor], length_B: Tensor, gc_B: Tensor) -> Tensor:
        """Assemble rows.

        Parameters
        ----------
        counts
            Integers of shape (B, K) for every k of the layout.
        length_B, gc_B
            Letters and GC fraction of each row.

        Returns
        -------
        Tensor
            float32, shape (B, fields).
        """
        layout = self._layout
        x_BF = torch.empty(len(length_B), layout.n_fields, device=length_B.device)
        x_BF[:, layout.block("length").start] = length_B.float().log()
        x_BF[:, layout.block("gc").start] = (gc_B.float() + layout.pseudocount).log()
        for k in layout.ks:
            counts_BK = counts[k]
            total_B1 = counts_BK.sum(dim=1, keepdim=True).clamp(min=1)
            frequency_BK = counts_BK.float() / total_B1.float()
            x_BF[:, layout.block(f"{k}-mers").slice] = frequency_BK.add_(layout.pseudocount).log_()
        return x_BF


@dataclass(frozen=True)
class PackedSequences:
    """All packed sequences of a data set, on a device.

    Attributes
    ----------
    packed
        Four letters a byte, all sequences, uint8.
    offset, length
        First byte and letters of every row, int64.
    first_gap, n_gaps
        Where a row's gaps begin among all, and how many it has, int64.
    gap_start, gap_length
        First letter and letters of every gap, int64.
    """

    packed: Tensor
    offset: Tensor
    length: Tensor
    first_gap: Tensor
    n_gaps: Tensor
    gap_start: Tensor
    gap_length: Tensor

    @classmethod
    def of(cls, sequences: PackedGatherer, device: torch.device) -> PackedSequences:
        """Copy the sequences of a packed store to a device."""
        packed, offset = sequences.packed_bytes()
        arrays = (
            offset,
            sequences.lengths,
            sequences.first_gap,
            sequences.n_gaps,
            sequences.gap_starts,
            sequences.gap_lengths,
        )
        tensors = [torch.from_numpy(array.astype(np.int64)).to(device) for array in arrays]
        return cls(torch.from_numpy(packed).to(device), *tensors)

    def codes(self, rows_B: Tensor) -> Tensor:
        """Letters of rows as codes, uint8 of shape (B, L): 0 to 3 for ACGT, else `INVALID`."""
        length_B1 = self.length[rows_B, None]
        letter_L = torch.arange(int(length_B1.max()), device=rows_B.device)
        outside_BL = letter_L >= length_B1
        byte_BL = self.offset[rows_B, None] + torch.div(letter_L, 4, rounding_mode="floor")
        byte_BL = self.packed[byte_BL.masked_fill_(outside_BL, 0)]
        codes_BL = (byte_BL >> (2 * (letter_L % 4)).to(torch.uint8)) & 3
        codes_BL.masked_fill_(outside_BL, INVALID)
        return self._mask_gaps(codes_BL, rows_B)

    def _mask_gaps(self, codes_BL: Tensor, rows_B: Tensor) -> Tensor:
        n_gaps_B = self.n_gaps[rows_B]
        n_all = int(n_gaps_B.sum())
        if n_all == 0:
            return codes_BL
        row_G = torch.repeat_interleave(torch.arange(len(rows_B), device=rows_B.device), n_gaps_B)
        before_B = n_gaps_B.cumsum(0) - n_gaps_B
        gap_G = self.first_gap[rows_B][row_G] - before_B[row_G]
        gap_G = gap_G + torch.arange(n_all, device=rows_B.device)
        start_G, width = self.gap_start[gap_G], codes_BL.shape[1] + 1
        # +1 where a gap begins and -1 behind it: the running sum is 1 within gaps.
        edges = torch.zeros(len(rows_B) * width, dtype=torch.int8, device=rows_B.device)
        ones = torch.ones(n_all, dtype=torch.int8, device=rows_B.device)
        edges.index_add_(0, row_G * width + start_G, ones)
        edges.index_add_(0, row_G * width + start_G + self.gap_length[gap_G], -ones)
        inside_BL = edges.view(-1, width).cumsum(1)[:, :-1] > 0
        return codes_BL.masked_fill_(inside_BL, INVALID)


class DeviceRows(nn.Module):
    """Rows of a data set whose packed sequences are on the device.

    Parameters
    ----------
    sequences
        The sequences.
    layout
        The fields of a row.
    """

    def __init__(self, sequences: PackedSequences, layout: Layout) -> None:
        super().__init__()
        self._sequences = sequences
        self._count = SequenceCounter(layout.ks).to(sequences.packed.device)
        self._assemble = RowAssembler(layout)

    @torch.no_grad()
    def forward(self, rows_B: Tensor) -> Tensor:
        """Compute rows by their numbers, float32 of shape (B, fields)."""
        longest = int(self._sequences.length[rows_B].max())
        parts = torch.split(rows_B, max(1, LETTERS_AT_A_TIME // longest))
        return torch.cat([self._rows(part) for part in parts])

    def _rows(self, rows_B: Tensor) -> Tensor:
        codes_BL = self._sequences.codes(rows_B)
        is_base_BL = codes_BL < INVALID
        is_gc_BL = (codes_BL == 1) | (codes_BL == 2)
        gc_B = is_gc_BL.sum(dim=1).double() / is_base_BL.sum(dim=1).clamp(min=1)
        counts = self._count(codes_BL)
        return cast(Tensor, self._assemble(counts, self._sequences.length[rows_B], gc_B))
