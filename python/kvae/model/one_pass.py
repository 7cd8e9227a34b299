"""The loss of the widest outputs, its gradient and its metrics in one pass over the rows.

Of every row the decoder says 8,192 values and as many logits of presence, and most of what
a loss and its metrics need of them is cheap arithmetic on tensors of that size. Written down
operation by operation (`kvae.model.losses`, which defines what is computed here) each of some
fifty tensors is written to memory and read again, twice with the way back. Here a few rows at
a time are taken through all of it, in buffers that stay in the cache, and all that is kept
is one gradient for each input.

Float32 on the host, which most training on a laptop is, goes to the crate instead
(`kvae.model.host_pass`).

Not every loss has this form: those with optional terms, or blocks that are derived from
outputs with a gradient, go the long way. So does a compiled step, in which the compiler
joins the operations.

Dimensions: B rows, K k-mers, R rows of a piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kvae.model.decoder import LEAST_FREQUENCY
from kvae.model.host_pass import HostCriterion, errors_on_host, fits_host, profiles_on_host

if TYPE_CHECKING:
    from kvae.config import LossConfig, ModelConfig
    from kvae.model.decoder import Decoder
    from kvae.model.targets import TargetReader

# Cells of a piece: half a megabyte for each of a few buffers. An accelerator has enough to
# do with 16 MB.
_CELLS, _CELLS_ELSEWHERE = 1 << 17, 1 << 22
# Rows of a product of profiles, and of a call of the crate.
_AT_ONCE = 128
# Below it a chance is no longer exact in float32, and its logarithm -87 and less.
_LEAST_CHANCE = 1e-38


@dataclass(frozen=True)
class Watch:
    """What is summed beside the loss.

    Attributes
    ----------
    thresholds
        Frequencies by name, at which output and rows are compared.
    nonzero_log
        Log frequency above which a 7-mer counts as non-zero.
    """

    thresholds: Mapping[str, float]
    nonzero_log: float


def has_one_pass(model: ModelConfig, loss: LossConfig) -> bool:
    """Tell whether a design and its loss can be computed in one pass."""
    if torch.compiler.is_compiling():
        return False
    if model.output_space == "profile":
        return not loss.counts_errors
    plain = loss.cosine_weight == 0.0 and loss.zero_penalty == 0.0 and loss.zero_weight == 1.0
    return plain and not model.decoder.derived


@dataclass(frozen=True)
class Passed:
    """What a pass has found.

    Attributes
    ----------
    totals
        Sums of the loss's terms by name; those that the loss uses have gradients.
    sums
        Sums for the metrics by name, in double precision where there is one.
    derived
        Frequencies of the derived blocks and the GC fraction in the profile space,
        shape (rows, fields), without gradients.
    """

    totals: dict[str, Tensor]
    sums: dict[str, Tensor]
    derived: Tensor | None


def pass_over(
    value_BK: Tensor,
    gate_BK: Tensor | None,
    x_BF: Tensor,
    shift: int,
    decoder: Decoder,
    reader: TargetReader,
    watch: Watch,
) -> Passed:
    """Compute the loss's terms and the metrics' sums of a batch.

    Parameters
    ----------
    value_BK, gate_BK
        What the readouts say, shape (rows, k-mers); there may be no gate.
    x_BF
        Feature rows.
    shift
        Each row is decoded as the one so many rows after it, around the end.
    decoder, reader
        Those of the model.
    watch
        What to sum for the metrics.
    """
    job = _Job(x_BF, shift, decoder, reader, watch)
    with torch.autocast(x_BF.device.type, enabled=False):
        terms_2, sums_N, derived = cast(
            tuple[Tensor, Tensor, Tensor | None], _OnePass.apply(value_BK, gate_BK, job)
        )
    sums = dict(zip(job.names, sums_N.unbind(), strict=True))
    totals = {
        name.removeprefix("total "): sums.pop(name).to(terms_2.dtype)
        for name in job.names
        if name.startswith("total ")
    }
    sums["cells"] = sums_N.new_full((), float(value_BK.numel()))
    # In the place of the same numbers without gradients.
    totals |= dict(zip(job.learned, terms_2.unbind(), strict=False))
    return Passed(totals, sums, derived)


class _OnePass(torch.autograd.Function):
    """Both inputs to two sums; the gradients are computed along with them."""

    @staticmethod
    def forward(
        ctx: Any, value_BK: Tensor, gate_BK: Tensor | None, job: _Job
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        gradients: list[Tensor | None] = [
            torch.empty_like(input_BK) if input_BK is not None and needed else None
            for input_BK, needed in zip((value_BK, gate_BK), ctx.needs_input_grad, strict=False)
        ]
        sums_N, derived = job.run(value_BK, gate_BK, *gradients)
        ctx.save_for_backward(*gradients)
        ctx.is_shared = job.is_profile
        found = [sums_N[job.names.index(f"total {name}")] for name in job.learned]
        terms_2 = torch.stack(found).to(torch.promote_types(value_BK.dtype, torch.float32))
        ctx.mark_non_differentiable(*[sums_N] if derived is None else [sums_N, derived])
        return terms_2, sums_N, derived

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, scale_2: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        value_BK, gate_BK = ctx.saved_tensors
        if value_BK is not None:
            # Of a square, the 2 is still missing.
            value_BK = _scaled(value_BK, scale_2[0] if ctx.is_shared else 2.0 * scale_2[0])
        if gate_BK is not None:
            gate_BK = _scaled(gate_BK, scale_2[0 if ctx.is_shared else 1])
        return value_BK, gate_BK, None


def _scaled(gradient_BK: Tensor, scale: Tensor) -> Tensor:
    """Scale in place: nobody else has the gradient, and it is asked for once."""
    return gradient_BK.mul_(scale)


# Sums by name of a piece, with buffers to work in.
_Compute: TypeAlias = "Callable[[_Piece, list[Tensor]], dict[str, Tensor]]"


class _Job:
    """One pass over a batch."""

    def __init__(
        self, x_BF: Tensor, shift: int, decoder: Decoder, reader: TargetReader, watch: Watch
    ) -> None:
        self._x_BK = x_BF[:, reader.sparse]
        self._shift = shift
        self._reader = reader
        self._floor = decoder.floor
        self._space = decoder.space
        self.is_profile = decoder.space == "profile"
        self._is_gated = decoder.sparse.gate is not None
        pseudocount = reader.pseudocount
        self._nonzero = math.exp(watch.nonzero_log) - pseudocount
        self._cuts = {
            name: (self._cut(threshold), threshold) for name, threshold in watch.thresholds.items()
        }
        self._windows_B1 = reader.n_windows(x_BF) if self.is_profile else None
        self._weight_KD = decoder.derived_weight if self.is_profile else None
        names = ["total valMSE", "present", "out", "out_present", "gate_hits"]
        names += ["log_error", "log_error_nonzero", "nonzero"]
        names += [f"hits {name}" for name in self._cuts]
        self.learned = ["valMSE", "BCE"]
        if self.is_profile:
            self.learned = ["nats"]
        elif not self._is_gated:
            self.learned = ["mse7"]
        self.names = names + [
            f"total {name}"
            for name in ("nats", "BCE", "mse7")
            if name in self.learned or (name == "BCE" and self.is_profile)
        ]

    def _cut(self, threshold: float) -> float:
        """Output above which a frequency exceeds a threshold."""
        if self._space != "log":
            return threshold
        return math.log(threshold + self._reader.pseudocount)

    def _pieces(self, on_host: bool) -> Iterator[tuple[slice, slice]]:
        """Rows of the outputs, and those of the features that they are held against."""
        n_rows, n_columns = self._x_BK.shape
        cells = _CELLS if self._x_BK.device.type == "cpu" else _CELLS_ELSEWHERE
        step = _AT_ONCE if on_host else max(1, cells // n_columns)
        # No piece goes around the end.
        edge = n_rows - self._shift
        starts = [*range(0, edge, step), *range(edge, n_rows, step)]
        # There may be no rows: those of a batch can be fewer than the processes.
        for start, stop in pairwise([*starts, n_rows]):
            target = (start + self._shift) % n_rows
            yield slice(start, stop), slice(target, target + stop - start)

    def run(
        self,
        value_BK: Tensor,
        gate_BK: Tensor | None,
        value_gradient_BK: Tensor | None,
        gate_gradient_BK: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Sum in the order of `names`, give what is derived, and fill the gradients in."""
        dtype = torch.promote_types(value_BK.dtype, torch.float32)
        on_host = fits_host(self._x_BK, value_BK, gate_BK)
        pieces = list(self._pieces(on_host))
        n_most = max((rows.stop - rows.start for rows, _ in pieces), default=0)
        n_work = 0 if on_host else 7
        work = list(value_BK.new_empty(n_work, n_most, value_BK.shape[1], dtype=dtype))
        profiles = _Profiles(self._weight_KD, value_BK, dtype, max(n_most, _AT_ONCE))
        precise = torch.float32 if value_BK.device.type == "mps" else torch.float64
        total_N = value_BK.new_zeros(len(self.names), dtype=precise)

        def part(tensor_BK: Tensor | None, rows: slice) -> Tensor | None:
            return None if tensor_BK is None else tensor_BK[rows]

        compute: _Compute = self._profile if self.is_profile else self._errors
        if on_host:
            compute = self._on_host
        for rows, wanted in pieces:
            piece = _Piece(
                self._x_BK[wanted],
                value_BK[rows],
                part(gate_BK, rows),
                part(value_gradient_BK, rows),
                part(gate_gradient_BK, rows),
                part(self._windows_B1, wanted),
                profiles.room(rows),
            )
            found = compute(piece, [buffer[: rows.stop - rows.start] for buffer in work])
            total_N += torch.stack([found[name] for name in self.names]).to(precise)
        return total_N, profiles.derived()

    def _on_host(self, piece: _Piece, _: list[Tensor]) -> dict[str, Tensor]:
        """Have the crate find what the others do."""
        reader = self._reader
        criterion = HostCriterion(
            pseudocount=reader.pseudocount,
            threshold=reader.threshold,
            threshold_cut=self._cut(reader.threshold),
            target_floor=-math.inf if reader.floor is None else reader.floor,
            floor=self._floor,
            nonzero=self._nonzero,
            cuts=[(threshold, cut) for cut, threshold in self._cuts.values()],
        )
        x, value, gate = piece.x, piece.value, piece.gate
        by_value, by_gate = piece.value_gradient, piece.gate_gradient
        if self.is_profile:
            assert gate is not None
            assert piece.windows is not None
            assert piece.profile is not None
            gradients = None
            if by_value is not None or by_gate is not None:
                # Both, or neither: what nobody asked for is forgotten.
                gradients = (
                    torch.empty_like(value) if by_value is None else by_value,
                    torch.empty_like(value) if by_gate is None else by_gate,
                )
            sums, hits = profiles_on_host(
                x, value, gate, piece.profile, piece.windows, gradients, criterion
            )
        else:
            is_linear = self._space == "linear"
            sums, hits = errors_on_host(x, value, gate, by_value, by_gate, is_linear, criterion)
        sums |= {f"hits {name}": n for name, n in zip(self._cuts, hits, strict=True)}
        return {name: torch.tensor(n, dtype=torch.float64) for name, n in sums.items()}

    def _read(self, x_RK: Tensor, f: Tensor, y: Tensor) -> None:
        """Fill in frequencies and presence, the latter as 0 and 1.

        Comparisons that give numbers are several times faster than those that give
        booleans, which have to become numbers later.
        """
        torch.exp(x_RK, out=f) if x_RK.dtype == f.dtype else f.copy_(x_RK).exp_()
        f.sub_(self._reader.pseudocount).clamp_(min=0.0)
        torch.gt(f, self._reader.threshold, out=y)

    def _errors(self, piece: _Piece, work: list[Tensor]) -> dict[str, Tensor]:
        """Squared errors of the values, and the cross-entropy of the gate."""
        f, y, out, error, a, b, c = work
        x, g = piece.x, piece.gate
        self._read(x, f, y)
        if self._reader.floor is not None:
            x = x.clamp(min=self._reader.floor)
        found = {"present": y.sum()}
        wanted, slope = x, None
        if self._space == "linear":
            wanted, slope = f, c
            _softplus(_as(piece.value, b), out, slope, a)
        else:
            out.copy_(piece.value)
        torch.sub(out, wanted, out=error)
        if g is None:
            found["total mse7"] = _square(error)
            _product(error, slope, piece.value_gradient)
            found["total valMSE"] = _square(error.mul_(y))
            cut = self._cut(self._reader.threshold)
            found["gate_hits"] = _agreements(torch.gt(out, cut, out=a), y)
        else:
            found["total valMSE"] = _square(error.mul_(y))
            _product(error, slope, piece.value_gradient)
            logit, chance = _as(g, b), error
            torch.sigmoid(logit, out=chance)
            if piece.gate_gradient is not None:
                _write(torch.sub(chance, y, out=_room(piece.gate_gradient, a)), piece.gate_gradient)
            found["gate_hits"] = _agreements(torch.gt(logit, 0.0, out=a), y)
            # The logit of what is true, the logarithm of its chance, which it becomes itself
            # where the chance is too small for a number.
            torch.addcmul(logit, logit, y, value=-2.0, out=a).neg_()
            torch.sigmoid(a, out=c).clamp_(min=_LEAST_CHANCE).log_()
            found["total BCE"] = -torch.minimum(a, c, out=a).sum()
            if self._space == "log":
                out.sub_(self._floor).mul_(chance).add_(self._floor)
            else:
                out.mul_(chance)
        torch.sub(out, wanted, out=a)
        found["out"] = _square(a)
        found["out_present"] = _square(a.mul_(y))
        self._look(found, out, f, x, a, b)
        return found

    def _profile(self, piece: _Piece, work: list[Tensor]) -> dict[str, Tensor]:
        """Negative log likelihood of the profile; all else is for the eye alone."""
        f, y, u, slope, a, b, c = work
        assert piece.gate is not None
        assert piece.windows is not None
        assert piece.profile is not None
        self._read(piece.x, f, y)
        found = {"present": y.sum()}
        _softplus(_as(piece.value, b), u, slope, a)
        chance = torch.sigmoid(_as(piece.gate, b), out=c)
        u.mul_(chance)
        total_R1 = u.sum(dim=1, keepdim=True)
        q = torch.div(u, total_R1, out=piece.profile)
        torch.add(q, LEAST_FREQUENCY, out=a)
        if piece.value_gradient is not None or piece.gate_gradient is not None:
            # With respect to u: what the sum takes from all, less what a share gains. The
            # rows of softplus times chance are done with.
            slope.mul_(chance)
            against = chance.sub_(1.0).mul_(u)
            gain = torch.div(f, a, out=u)
            loss_R1 = torch.linalg.vecdot(gain, q).unsqueeze(1)
            gain.sub_(loss_R1).div_(total_R1)
            if piece.gate_gradient is not None:
                _product(gain, against, piece.gate_gradient)
            if piece.value_gradient is not None:
                _product(gain.neg_(), slope, piece.value_gradient)
        found["total nats"] = -torch.dot(a.log_().view(-1), f.view(-1))
        torch.sub(q, f, out=a)
        found["out"] = _square(a)
        found["out_present"] = found["total valMSE"] = _square(a.mul_(y))
        # Found at least once in n windows: 1 - exp(-m), m to be expected.
        torch.mul(q, piece.windows.to(q.dtype), out=a).clamp_(min=LEAST_FREQUENCY)
        found["gate_hits"] = _agreements(torch.gt(a, math.log(2.0), out=c), y)
        missed = a.sum() - torch.dot(a.view(-1), y.view(-1))
        torch.neg(a, out=c).expm1_().neg_().log_()
        found["total BCE"] = missed - torch.dot(c.view(-1), y.view(-1))
        self._look(found, b.copy_(q), f, piece.x, a, c)
        return found

    def _look(
        self, found: dict[str, Tensor], out: Tensor, f: Tensor, x: Tensor, a: Tensor, b: Tensor
    ) -> None:
        """Compare an output with the rows. It is a logarithm afterwards."""
        for name, (cut, threshold) in self._cuts.items():
            above = torch.gt(f, threshold, out=b)
            found[f"hits {name}"] = _agreements(torch.gt(out, cut, out=a), above)
        if self._space != "log":
            out.add_(self._reader.pseudocount).log_().clamp_(min=self._floor)
        nonzero = torch.gt(f, self._nonzero, out=b)
        found["nonzero"] = nonzero.sum()
        torch.sub(out, x, out=a)
        found["log_error"] = _square(a)
        found["log_error_nonzero"] = _square(a.mul_(nonzero))


@dataclass(frozen=True)
class _Piece:
    """A few rows: features, what is said of them, and where gradients and the rest go."""

    x: Tensor
    value: Tensor
    gate: Tensor | None
    value_gradient: Tensor | None
    gate_gradient: Tensor | None
    windows: Tensor | None
    profile: Tensor | None


class _Profiles:
    """What is derived from profiles, of so many rows at a time as products are fast with."""

    def __init__(
        self, weight_KD: Tensor | None, like_BK: Tensor, dtype: torch.dtype, n_rows: int
    ) -> None:
        self._weight_KD = weight_KD
        self._done: list[Tensor] = []
        self._start = self._stop = 0
        if weight_KD is not None:
            n_rows = min(n_rows, len(like_BK))
            self._room_RK = like_BK.new_empty(n_rows, like_BK.shape[1], dtype=dtype)

    def room(self, rows: slice) -> Tensor | None:
        """Where the profiles of the next rows go."""
        if self._weight_KD is None:
            return None
        if rows.stop - self._start > len(self._room_RK):
            self._derive()
        self._stop = rows.stop
        return self._room_RK[rows.start - self._start : rows.stop - self._start]

    def _derive(self) -> None:
        assert self._weight_KD is not None
        self._done.append(self._room_RK[: self._stop - self._start] @ self._weight_KD)
        self._start = self._stop

    def derived(self) -> Tensor | None:
        """Give what is derived from all rows, shape (rows, fields)."""
        if self._weight_KD is None:
            return None
        self._derive()
        return torch.cat(self._done)


def _as(tensor: Tensor, buffer: Tensor) -> Tensor:
    """Give a tensor in the numbers of a buffer, copied there if they are others."""
    return tensor if tensor.dtype == buffer.dtype else buffer.copy_(tensor)


def _room(gradient: Tensor, buffer: Tensor) -> Tensor:
    """Where a gradient can be computed: where it belongs, if the numbers are the same."""
    return gradient if gradient.dtype == buffer.dtype else buffer


def _write(found: Tensor, gradient: Tensor) -> None:
    if found is not gradient:
        gradient.copy_(found)


def _product(error: Tensor, slope: Tensor | None, gradient: Tensor | None) -> None:
    """Fill in a gradient, of which the slope is no longer needed."""
    if gradient is None:
        return
    if slope is None:
        gradient.copy_(error)
    else:
        _write(torch.mul(error, slope, out=_room(gradient, slope)), gradient)


def _softplus(v: Tensor, value: Tensor, slope: Tensor, a: Tensor) -> None:
    """Fill in the softplus of ``v`` and its slope, the sigmoid.

    The smaller one of s and 1 - s, s being the slope, is exact enough for
    softplus(v) = max(v, 0) - log(1 - t): where 1 - s is not exact, v is large beside t.
    """
    torch.sigmoid(v, out=slope)
    torch.sub(1.0, slope, out=a)
    torch.minimum(a, slope, out=a).neg_().log1p_()
    torch.clamp(v, min=0.0, out=value).sub_(a)


def _square(a: Tensor) -> Tensor:
    """Sum of squares."""
    flat = a.view(-1)
    return torch.dot(flat, flat)


def _agreements(a: Tensor, b: Tensor) -> Tensor:
    """Count where two tensors of 0 and 1 are equal; the first is used up."""
    return a.numel() - _square(a.sub_(b))
