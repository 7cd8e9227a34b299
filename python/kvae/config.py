"""Configuration of models, losses and training runs.

Everything that shapes a model or its training is a frozen, validated pydantic
model, so that a run can be written to ``config.json`` and read back without
guessing: unknown keys are errors, numbers have bounds, and nothing is patched
on loading. No torch here: the command line reads configurations without it.

A *readout* is the last layer of the 7-mer decoder, the one with 8,192 outputs.
Its configuration is chosen by ``kind`` among all subclasses of `ReadoutConfig`,
so a new readout needs no change in this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from kvae import defaults
from kvae.errors import KvaeError

# Bounds keep a forged configuration from asking for more memory than exists.
Width = Annotated[int, Field(ge=1, le=65_536)]
Widths = Annotated[tuple[Width, ...], Field(max_length=16)]
HiddenWidths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Frozen(BaseModel):
    """Base of every configuration: immutable, finite numbers, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReadoutConfig(Frozen):
    """Base of the configurations of a 7-mer readout.

    A subclass sets ``kind`` to a ``Literal`` with a default and is found by that
    name from then on; `kvae.model.readout.readout` ties it to a torch module.
    """

    kinds: ClassVar[dict[str, type[ReadoutConfig]]] = {}
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the subclass under its ``kind``."""
        super().__pydantic_init_subclass__(**kwargs)
        ReadoutConfig.kinds[cls.model_fields["kind"].default] = cls


class DotReadout(ReadoutConfig):
    """Embedding dot product: every k-mer is a learned vector, a row is a query."""

    kind: Literal["dot"] = "dot"
    embedding: Width = 64


def _readout_of_kind(value: object) -> object:
    """Replace a mapping with ``kind`` by the configuration class of that kind."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in ReadoutConfig.kinds:
        known = ", ".join(sorted(ReadoutConfig.kinds))
        raise ValueError(f"unknown readout kind {kind!r}, known: {known}")
    return ReadoutConfig.kinds[kind].model_validate(value)


Readout = Annotated[SerializeAsAny[ReadoutConfig], BeforeValidator(_readout_of_kind)]


class BranchConfig(Frozen):
    """Hidden layers of one feature block, in the encoder or in the decoder."""

    block: str
    hidden: HiddenWidths


class EncoderConfig(Frozen):
    """One branch per block, each with copies of the context fields, then shared layers."""

    branches: tuple[BranchConfig, ...] = Field(min_length=1)
    context: tuple[str, ...] = ("gc", "length")
    shared: HiddenWidths


class SparseBranchConfig(Frozen):
    """Decoder branch of the block whose k-mers are mostly absent (the 7-mers).

    With ``gate_hidden`` a second pathway predicts which k-mers are present at
    all; without it the values stand alone.
    """

    block: str = "7-mers"
    value_hidden: HiddenWidths
    gate_hidden: HiddenWidths | None
    readout: Readout


class DecoderConfig(Frozen):
    """Shared layers, then one branch for the sparse block and one per dense block."""

    shared: HiddenWidths
    sparse: SparseBranchConfig
    dense: tuple[BranchConfig, ...]


class ModelConfig(Frozen):
    """Architecture of a `kvae.model.KmerVAE`; widths of the blocks come from the layout.

    ``output_space`` is where the 7-mer values live: ``linear`` for frequencies
    (softplus of the readout, times the gate), ``log`` for log frequencies
    (``gate * value + (1 - gate) * floor``). A 7-mer is *present* in a row where
    its frequency exceeds ``presence_threshold``.

    BatchNorm's epsilon and LeakyReLU's slope are Keras's defaults, which the
    design was tuned with. BatchNorm's momentum is torch's (0.1, in Keras's
    notation 0.9 rather than 0.99): with Keras's the running statistics, and with
    them every validation figure, lag hundreds of steps behind a short run.
    """

    encoder: EncoderConfig
    latent: Width
    decoder: DecoderConfig
    output_space: Literal["linear", "log"]
    presence_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    negative_slope: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    batch_norm_eps: Positive = 1e-3
    batch_norm_momentum: Fraction = 0.1

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        decoded = [self.decoder.sparse.block, *(b.block for b in self.decoder.dense)]
        encoded = [b.block for b in self.encoder.branches]
        for side, names in (("encoder", encoded), ("decoder", decoded)):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {side} has two branches for {', '.join(sorted(twice))}")
        return self


class LossConfig(Frozen):
    """Weights of the negative ELBO.

    ``w7`` weighs the 7-mers against the other groups, ``bce_weight`` their
    presence against their values, ``beta`` the KL divergence. With
    ``kl_warmup_epochs`` the weight of the KL rises linearly from
    ``beta / (n + 1)`` in the first epoch to ``beta`` after n epochs.
    """

    w7: NonNegative = 1.0
    bce_weight: NonNegative = 1.0
    beta: NonNegative = 1.0
    kl_warmup_epochs: Annotated[int, Field(ge=0)] = 0

    def kl_weight(self, epoch: int) -> float:
        """Weight of the KL divergence in an epoch, counted from 1."""
        return self.beta * min(1.0, epoch / (self.kl_warmup_epochs + 1))


class TrainConfig(Frozen):
    """How a model is trained.

    ``value_lr_factor`` scales the learning rate of the readout of linear 7-mer
    values, see `kvae.training.trainer.parameter_groups`.
    ``validation`` is the share of rows held out, by whole genomes where there
    are several; ``patience``, ``factor`` and ``min_lr`` are those of
    ReduceLROnPlateau on the validation loss.
    """

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = defaults.EPOCHS
    batch_size: Annotated[int, Field(ge=2, le=1_048_576)] = defaults.BATCH_SIZE
    lr: Positive = defaults.LR
    weight_decay: NonNegative = 0.01
    value_lr_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = defaults.SEED
    validation: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 20
    factor: Fraction = 0.5
    min_lr: NonNegative = 1e-6


class RunConfig(Frozen):
    """All of a run's ``config.json``."""

    format: Literal[1] = 1
    preset: str | None = None
    model: ModelConfig
    loss: LossConfig = LossConfig()
    training: TrainConfig = TrainConfig()


ConfigT = TypeVar("ConfigT", bound=Frozen)


def parse_config(cls: type[ConfigT], text: str | bytes, origin: str) -> ConfigT:
    """Read a configuration from JSON.

    Parameters
    ----------
    cls
        The configuration class expected.
    text
        JSON text.
    origin
        Where the text came from, for the message.

    Raises
    ------
    KvaeError
        Where the text is not JSON or not a valid configuration; the message
        names the first offending key.
    """
    try:
        return cls.model_validate_json(text)
    except ValidationError as error:
        raise KvaeError(f"{origin}: {first_problem(error)}") from None


def override(config: ConfigT, changes: Mapping[str, Any]) -> ConfigT:
    """Return a configuration with some keys changed, validated as a whole.

    Parameters
    ----------
    config
        The configuration to start from; it is not modified.
    changes
        Dotted keys to values, for example ``{"latent": 64}`` or
        ``{"decoder.sparse.readout.embedding": 32}``.

    Raises
    ------
    KvaeError
        For an unknown key or a value out of bounds.
    """
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        *path, last = key.split(".")
        node: Any = tree
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise KvaeError(f"configuration: no key {key!r}")
        node[last] = value
    return parse_config(type(config), json.dumps(tree), "configuration")


def first_problem(error: ValidationError) -> str:
    """First problem of a validation error in one line, with the key it concerns."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").replace("\n", " ")
    return f"{where}: {message}" if where else message
