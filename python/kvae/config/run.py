"""Configuration of the loss, of training, and of a run as a whole."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kvae import defaults
from kvae.config.base import Fraction, Frozen, NonNegative, Positive
from kvae.config.encoders import ProfileEncoderConfig
from kvae.config.model import ModelConfig
from kvae.featurizing import DEFAULT_MIN_LENGTH, DEFAULT_WINDOW


class LossConfig(Frozen):
    """Weights of the negative ELBO.

    ``w7`` weighs the 7-mers against the other groups, ``bce_weight`` their
    presence against their values, ``beta`` the KL divergence. With
    ``kl_warmup_epochs`` the weight of the KL rises linearly from
    ``beta / (n + 1)`` in the first epoch to ``beta`` after n epochs.

    ``cosine_weight`` adds the cosine distance between each k-mer group and its
    target; with an ``mse_weight`` of 0 it takes the place of their squared
    errors. ``zero_weight`` weighs the errors of absent 7-mers where there is no
    gate. ``zero_penalty`` adds the squared error of absent 7-mers whose output
    is too large: an error in one direction only.

    ``nats_weight`` weighs the negative log likelihood of the 7-mers under the
    decoded profile, in nats per 7-mer; it is as many as a row is taken to have
    independent ones. Where ``target`` is ``half``, each row is two: the halves of
    its sequence, and the latent of one half has to predict the other half, of
    which it cannot have learned the noise. ``contrast_weight`` weighs the
    supervised contrast between the latents of a batch at ``temperature``: those of
    one class (see `TrainConfig.positives`) attract, all others repel.
    """

    w7: NonNegative = 1.0
    bce_weight: NonNegative = 1.0
    mse_weight: NonNegative = 1.0
    cosine_weight: NonNegative = 0.0
    zero_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    zero_penalty: NonNegative = 0.0
    beta: NonNegative = 1.0
    kl_warmup_epochs: Annotated[int, Field(ge=0)] = 0
    nats_weight: NonNegative = 0.0
    target: Literal["row", "half"] = "row"
    contrast_weight: NonNegative = 0.0
    temperature: Positive = 0.1

    @model_validator(mode="after")
    def _check_contrast(self) -> Self:
        if self.contrast_weight > 0.0 and self.target == "row":
            raise ValueError(
                "contrast needs two latents of everything: set target to half, or "
                "contrast_weight to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_errors(self) -> Self:
        if self.mse_weight == 0.0 and self.cosine_weight == 0.0 and self.nats_weight == 0.0:
            raise ValueError(
                "with mse_weight, cosine_weight and nats_weight 0 nothing tells the k-mers "
                "what to be: give one of them"
            )
        return self

    @property
    def counts_errors(self) -> bool:
        """Whether errors of single k-mers count, or the likelihood of their profile alone."""
        weights = (self.mse_weight, self.cosine_weight, self.bce_weight, self.zero_penalty)
        return max(weights) > 0.0

    def kl_weight(self, epoch: int) -> float:
        """Weight of the KL divergence in an epoch, counted from 1."""
        return self.beta * min(1.0, epoch / (self.kl_warmup_epochs + 1))


class TrainConfig(Frozen):
    """How a model is trained.

    ``value_lr_factor`` scales the learning rate of the readout of linear 7-mer
    values, see `kvae.training.trainer.parameter_groups`.
    ``validation`` is the share of rows held out, by whole genomes where there
    are several; ``patience``, ``factor`` and ``min_lr`` are those of
    ReduceLROnPlateau on the validation loss. A checkpoint is written after every
    epoch, and within one where the last is ``checkpoint_minutes`` old (0: never).

    ``schedule`` is ``plateau``, or ``cosine`` for a rate that falls to 0 over all
    epochs, after a twentieth of them in which it rises.

    ``positives`` says which rows the contrast takes for alike: those of one
    ``contig``, of one ``source`` (right where every file is a genome, wrong where it
    is a sample), or those with the same entry in a column of ``labels``, a table as
    for `kvae.evaluate`. But for contigs, batches are then made of ``per_class`` rows of
    each of their classes, with related classes together.

    A run that starts from the weights of another model keeps ``init_share`` of them: the
    model that is written is that far from what the run has learned. Models are compared, and
    epochs go on, without. None is `defaults.INIT_SHARE` where the package's own model learns
    from contigs or sources, and nothing elsewhere.

    The parts in ``freeze`` stay as they are and compute as they will in use: without
    noise or dropout.

    ``precision`` is that of the hidden layers, see `kvae.training.precision`;
    ``compile`` says whether a step is compiled, None where that is left to the
    device. With ``deterministic`` a GPU, too, computes the same bits every time, or
    refuses.

    ``shuffle`` is ``rows``, or ``blocks`` where storage is slow at reading from
    everywhere: see `kvae.training.batches.shuffled_blocks`.
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
    schedule: Literal["plateau", "cosine"] = "plateau"
    positives: str = "contig"
    labels: str | None = None
    per_class: Annotated[int, Field(ge=1, le=1024)] = 4
    init_share: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    freeze: tuple[Literal["encoder", "decoder"], ...] = ()
    checkpoint_minutes: NonNegative = 10.0
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool | None = None
    deterministic: bool = False
    shuffle: Literal["rows", "blocks"] = "rows"

    @model_validator(mode="after")
    def _check_freeze(self) -> Self:
        if {"encoder", "decoder"} <= set(self.freeze):
            raise ValueError("with encoder and decoder frozen there is nothing to train")
        return self

    @model_validator(mode="after")
    def _check_shuffle(self) -> Self:
        if self.shuffle == "blocks" and self.positives != "contig":
            raise ValueError(
                "batches of classes are made of rows from everywhere: set shuffle to rows, or "
                "positives to contig"
            )
        return self

    @model_validator(mode="after")
    def _check_positives(self) -> Self:
        if self.positives not in ("contig", "source") and self.labels is None:
            raise ValueError(
                f"positives by {self.positives} are those of a column of a table: give labels, or "
                "contig or source"
            )
        return self


class SequencesConfig(Frozen):
    """How sequence files become rows; feature files hold rows already.

    ``window`` and ``min_length`` are those of `kvae.featurize`. With
    ``resample`` training rows are windows drawn anew for every epoch, of lengths
    from ``min_length`` to twice ``window``.
    """

    window: Annotated[int, Field(ge=0, lt=2**31)] = DEFAULT_WINDOW
    min_length: Annotated[int, Field(ge=0, lt=2**31)] = DEFAULT_MIN_LENGTH
    resample: bool = False

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.resample and self.window < 100:
            raise ValueError(
                f"resample draws windows of up to twice window, which is {self.window}: give a "
                "window of 100 or more"
            )
        if self.resample and self.min_length > 2 * self.window:
            raise ValueError(
                "resample draws windows between min_length and twice window: give a smaller "
                "min_length or a larger window"
            )
        return self


class RunConfig(Frozen):
    """All of a run's ``config.json``."""

    format: Literal[1] = 1
    preset: str | None = None
    model: ModelConfig
    loss: LossConfig = LossConfig()
    training: TrainConfig = TrainConfig()
    sequences: SequencesConfig = SequencesConfig()

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.loss.zero_weight != 1.0 and self.model.decoder.sparse.gate_hidden is not None:
            raise ValueError(
                "zero_weight weighs the errors of absent 7-mers, but with a gate the values of "
                "absent 7-mers have no error: set gate_hidden to null, or zero_weight to 1"
            )
        return self

    @model_validator(mode="after")
    def _check_likelihood(self) -> Self:
        if self.loss.nats_weight > 0.0 and self.model.output_space != "profile":
            raise ValueError(
                "nats_weight weighs the likelihood of a profile: set output_space to profile, or "
                "nats_weight to 0"
            )
        if isinstance(self.model.encoder, ProfileEncoderConfig) and self.loss.target == "row":
            raise ValueError(
                "a profile encoder learns what varies within a contig from the halves of its "
                "rows: set target to half"
            )
        return self
