"""A model's graph, found by running the model once on tensors without data.

Nothing here knows how a model is put together. Every tensor carries the nodes it
comes from: a module that is drawn as a block makes its outputs come from it, and
what happens to tensors between blocks either hands their origins on or, where
they meet, becomes a node of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kvae.drawing.nodes import ModelGraph, Node, reachable
from kvae.model import KmerVAE
from kvae.model.profile_encoder import InputNoise, Shrunk
from kvae.model.readout.registry import is_readout

# Modules that belong to the block before them, and their short names.
_ABSORBED: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "BN",
    nn.LayerNorm: "LN",
    nn.GELU: "GELU",
    InputNoise: "noise",
    Shrunk: "shrunk",
    nn.LeakyReLU: "LReLU",
    nn.ReLU: "ReLU",
    nn.Dropout: "dropout",
    nn.Identity: "",
}
# Parts of a module's name that say nothing to a reader.
_SILENT = {"encoder", "decoder", "branches", "dense", "hidden", "derived"}
_WORDS = {"gc": "GC", "derived_gc": "GC of the 7-mers"}
_PRODUCT = "gate times value"
# A map by a matrix that a module holds itself: learned from the rows, not trained.
_MAP = "Linear, fixed"
_ROWS = 2


def trace(model: KmerVAE, title: str, settings: Sequence[str] = ()) -> ModelGraph:
    """Find the graph of a model.

    Parameters
    ----------
    model
        A model on the meta device: no weight is read and nothing is computed.
    title, settings
        What to call it, and what was changed of it.
    """
    tracer = _Tracer(model)
    output = tracer.run()
    nodes = reachable([output])
    rest = model.n_parameters - sum(node.n_parameters for node in nodes)
    if rest:
        nodes.append(Node("other", "not part of the flow", n_parameters=rest))
    blocks = tuple(block.name for block in model.layout.blocks if block.k is not None)
    return ModelGraph(title, tuple(settings), tuple(nodes), blocks, model.n_parameters)


class _Tracer(TorchFunctionMode):
    """Watches a model compute, and keeps the origins of all tensors."""

    def __init__(self, model: KmerVAE) -> None:
        super().__init__()
        self._model = model
        self._layout = model.layout
        # By identity; the tensor is kept so that its identity is not given away.
        self._origins: dict[int, tuple[Tensor, tuple[Node, ...]]] = {}
        # Whatever is in a readout, it is one block.
        self._readouts = [path for path, module in model.named_modules() if is_readout(module)]
        self._row = Node("row", "input", width=model.layout.n_fields)
        self._pieces: set[Node] = {self._row}
        self._notes: list[str] = []
        self._joined: dict[tuple[str, tuple[Node, ...]], Node] = {}
        self._counted: set[nn.Module] = set()
        self._depth = 0
        # Tensors that a module holds beside its parts, and where.
        self._held = dict(_held_tensors(model))
        self._uncounted = 0

    def run(self) -> Node:
        """Run the model on a row; the node of its output."""
        hooks = [
            hook
            for name, module in self._model.named_modules()
            for hook in self._watch(name, module)
        ]
        x_BF = torch.empty(_ROWS, self._layout.n_fields, device="meta")
        self._set(x_BF, (self._row,))
        try:
            with torch.no_grad(), self:
                latent = self._model.inference(x_BF)
                z_BL = self._name_sample(latent)
                decoded = self._model.generative(z_BL)
                row_BF = decoded.row()
        finally:
            for hook in hooks:
                hook.remove()
        self._rename(decoded.gc, "GC", "average of the branches")
        return self._rename(row_BF, "output", ", ".join(self._target_blocks()))

    def _name_sample(self, latent: Any) -> Tensor:
        z_BL: Tensor = latent.sample()
        sample = Node("z", "sample", width=z_BL.shape[1], inputs=list(self._of(latent)))
        self._set(z_BL, (sample,))
        return z_BL

    def _rename(self, tensor: Tensor, name: str, what: str) -> Node:
        """Name the operation that a tensor comes from; one is added where it is a block."""
        origins = self._of(tensor)
        node = origins[0]
        if len(origins) > 1 or node.path:
            node = Node("", "", width=tensor.shape[1], inputs=list(origins))
        if name == "GC" and len(node.inputs) < 2:
            return origins[0]
        node.name, node.what = name, what
        return node

    def _target_blocks(self) -> list[str]:
        target = self._layout.target
        blocks = [
            b for b in self._layout.blocks if target.start <= b.start and b.stop <= target.stop
        ]
        return [block.name.replace("gc", "GC") for block in blocks]

    # --- blocks ---------------------------------------------------------------------

    def _watch(self, path: str, module: nn.Module) -> Iterator[Any]:
        """Attach hooks to a module that is a block, or belongs to one."""
        if any(path.startswith(f"{readout}.") for readout in self._readouts):
            return
        if type(module) in _ABSORBED:
            yield module.register_forward_pre_hook(self._enter)
            yield module.register_forward_hook(self._absorb)
        elif is_readout(module) or not any(True for _ in module.children()):
            yield module.register_forward_pre_hook(self._enter)
            yield module.register_forward_hook(self._leave(path))

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._depth += 1

    def _leave(self, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            self._depth -= 1
            tensors = list(_tensors(result))
            node = Node(
                self._readable(path),
                type(module).__name__,
                path,
                width=sum(_width(tensor) for tensor in tensors),
                n_in=sum(_width(tensor) for tensor in _tensors(args)),
                n_parameters=self._count(module),
                inputs=list(self._of(args)),
            )
            for tensor in tensors:
                self._set(tensor, (node,))

        return hook

    def _absorb(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self._depth -= 1
        origins = self._of(args)
        name = _ABSORBED[type(module)]
        if isinstance(module, nn.Dropout):
            name = f"dropout {module.p:g}" if module.p else ""
        if isinstance(module, InputNoise):
            name = f"noise {module.std:g}" if module.std else ""
        if len(origins) == 1 and origins[0].path:
            node = origins[0]
            node.what += f" + {name}" if name else ""
            node.n_parameters += self._count(module)
        elif name:
            self._notes.append(name)
        self._set(result, origins)

    def _readable(self, path: str) -> str:
        """Say which part of the model a module is, in a few words."""
        parts = [part for part in path.split(".") if part not in _SILENT and not part.isdigit()]
        words = {**_WORDS, "sparse": self._model.config.decoder.sparse.block}
        name = " ".join(words.get(part, part) for part in parts) or "hidden"
        return name.replace("_", " ").replace("log var", "log variance")

    def _count(self, module: nn.Module) -> int:
        """Parameters and statistics of a module, the first time it is seen."""
        if module in self._counted:
            return 0
        self._counted.add(module)
        return sum(t.numel() for t in module.state_dict().values() if t.is_floating_point())

    # --- between blocks -------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and say where its results come from."""
        result = func(*args, **(kwargs or {}))
        if self._depth == 0:
            tensors = list(_tensors(result))
            if tensors:
                origins = self._origins_after(func, args, tensors[0])
                for tensor in tensors:
                    self._set(tensor, origins)
        return result

    def _origins_after(
        self, func: Callable[..., Any], args: tuple[Any, ...], result: Tensor
    ) -> tuple[Node, ...]:
        operation = func.__name__.strip("_")
        origins = self._of(args)
        if operation == "getitem" and origins == (self._row,):
            return (self._piece(args[1]),)
        for tensor in _tensors(args):
            if path := self._held.pop(id(tensor), ""):
                self._uncounted += tensor.numel()
                if operation == "matmul":
                    return (self._map(path, origins, args[0], result),)
        if len(origins) < 2:
            return origins
        if operation == "cat":
            if self._pieces.issuperset(origins):
                return (self._input(origins, _width(result)),)
            return (Node("", "concatenation", width=_width(result), inputs=list(origins)),)
        if operation in ("mul", "rmul"):
            return (self._join(_PRODUCT, origins, result),)
        if operation in ("add", "radd"):
            return self._added(origins, result)
        return origins

    def _map(self, path: str, origins: tuple[Node, ...], x: Tensor, result: Tensor) -> Node:
        """Make a node of a matrix, and of what was added to or taken from its input."""
        n_parameters, self._uncounted = self._uncounted, 0
        return Node(
            self._readable(path), _MAP, path, _width(result), _width(x), n_parameters, list(origins)
        )

    def _piece(self, index: Any) -> Node:
        """Make a node of the fields of a row that are picked out."""
        fields_ = index[-1]
        for block in self._layout.blocks:
            if isinstance(fields_, slice) and block.slice == fields_:
                piece = Node(block.name.replace("gc", "GC"), "input", width=block.size)
                self._pieces.add(piece)
                return piece
        return self._row

    def _input(self, pieces: tuple[Node, ...], width: int) -> Node:
        names = " + ".join(piece.name for piece in pieces)
        return Node(names, ", ".join(["input", *self._notes]), width=width)

    def _added(self, origins: tuple[Node, ...], result: Tensor) -> tuple[Node, ...]:
        """Join what is added up.

        What a product was made of adds nothing to it: in gate · value +
        (1 - gate) · floor the gate belongs to the product. A sum of sums is one.
        """
        products = [node for node in origins if node.what == _PRODUCT]
        factors = {factor for product in products for factor in product.inputs}
        origins = tuple(node for node in origins if node not in factors)
        if len(origins) == 1:
            return origins
        terms: dict[Node, None] = {}
        for node in origins:
            terms |= dict.fromkeys(node.inputs if node.what == "sum" else [node])
        return (self._join("sum", tuple(terms), result),)

    def _join(self, what: str, origins: tuple[Node, ...], result: Tensor) -> Node:
        """Find the node where these origins meet: computed twice it is still one."""
        key = (what, origins)
        if key not in self._joined:
            self._joined[key] = Node("", what, width=_width(result), inputs=list(origins))
        return self._joined[key]

    # --- origins --------------------------------------------------------------------

    def _set(self, tensor: Tensor, origins: tuple[Node, ...]) -> None:
        self._origins[id(tensor)] = (tensor, origins)

    def _of(self, value: Any) -> tuple[Node, ...]:
        """Origins of all tensors in a value, each once, in order."""
        found: dict[Node, None] = {}
        for tensor in _tensors(value):
            if id(tensor) in self._origins:
                found |= dict.fromkeys(self._origins[id(tensor)][1])
        return tuple(found)


def _held_tensors(model: nn.Module) -> Iterator[tuple[int, str]]:
    """Identities and names of the stored tensors of modules that have parts."""
    stored = model.state_dict(keep_vars=True)
    parts = {path for path, module in model.named_modules() if not any(module.children())}
    for path, tensor in stored.items():
        if path.rpartition(".")[0] not in parts:
            yield id(tensor), path


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tensors([getattr(value, field.name) for field in fields(value)])


def _width(tensor: Tensor) -> int:
    """Numbers per row."""
    return math.prod(tensor.shape[1:])
