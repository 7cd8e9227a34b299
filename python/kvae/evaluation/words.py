"""Sentences about an evaluation: what its figures can tell, and what they cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from kvae.evaluation.outcome import LATENT, WithinGroups
from kvae.evaluation.presence import THRESHOLDS
from kvae.evaluation.reconstruction import GATE, MODEL, REFINED, TILTED
from kvae.evaluation.scores import Nats, Reconstruction
from kvae.evaluation.usefulness import Usefulness

__all__ = ["sentences"]

# Predictors that know a row, as far as that goes.
_INFORMED = ("markov2", "markov3", "markov3_corrected", "genome_oracle")
# Accuracies as close as this to what the truth would reach are at the limit.
_CLOSE = 0.005
# Standard errors that a difference has to exceed.
_SIGNIFICANT = 2.0


def sentences(
    reconstruction: Reconstruction,
    usefulness: Mapping[str, Mapping[str, Usefulness]],
    within: WithinGroups | None,
) -> list[str]:
    """Write a few sentences for people."""
    found = [*_presence(reconstruction), *_nats(reconstruction), *_errors(reconstruction)]
    for label, vectors in usefulness.items():
        found += _useful(label, vectors)
    if within is not None:
        found += _useful(f"{within.label} within {within.group}", within.vectors)
    return found


def _presence(scores: Reconstruction) -> Iterator[str]:
    chains = [name for name in _INFORMED if name != scores.truth]
    for key, threshold in THRESHOLDS.items():
        found = {name: score.presence[key] for name, score in scores.profiles.items()}
        truth, own = found[scores.truth], found[MODEL].accuracy
        limit = truth.expected_accuracy
        others = [found[name].accuracy for name in chains if name in found]
        verdict = (
            "the model is at the limit of sampling noise: more would be memory of these rows"
            if own >= limit - _CLOSE
            else f"the model is {100 * (limit - own):.1f} points below what sampling noise allows"
        )
        yield (
            f"Presence above {threshold:g}: the model {own:.1%}, the majority class"
            f" {scores.majority[key].accuracy:.1%}, {scores.truth} {truth.accuracy:.1%}"
            f" ({limit:.1%} if its profile were the truth), chains of the row's own k-mers, which"
            f" remember some of its noise, {min(others):.1%} to {max(others):.1%}, and the model"
            f" tilted by the same {found[TILTED].accuracy:.1%}: {verdict}."
        )


def _nats(scores: Reconstruction) -> Iterator[str]:
    informed = [name for name in (*_INFORMED, GATE, TILTED, REFINED) if name in scores.profiles]
    own = {name: score.own for name, score in scores.profiles.items()}
    cross = {name: score.cross for name, score in scores.profiles.items()}
    model = cross[MODEL]
    if model is None:
        yield (
            f"The model's profile costs {own[MODEL].mean:.4f} nats per k-mer of the rows that it"
            " has seen, which rewards memory of sampling noise; without sequences there is no"
            " other half to score, so nothing can be said about the composition itself."
        )
        return
    yield (
        f"The model's profile costs {model.mean:.4f} nats per k-mer of the half that it has not"
        f" seen ({own[MODEL].mean:.4f} of the row that it has seen, where memory of sampling"
        " noise is rewarded)."
    )
    for name in informed:
        found = cross[name]
        if found is not None:
            yield f"{name}: {_difference(found)}."


def _difference(found: Nats) -> str:
    value, error = found.minus_model
    if abs(value) <= _SIGNIFICANT * error:
        return f"cannot be told from the model ({value:+.4f} ± {error:.4f} nats)"
    verdict = "worse" if value > 0 else "better"
    return f"{verdict} than the model by {abs(value):.4f} ± {error:.4f} nats"


def _errors(scores: Reconstruction) -> Iterator[str]:
    for name, mse in scores.mse.items():
        model, constant, noise = mse["model"], mse["constant"], mse["noise"]
        if math.isnan(noise):
            continue
        if name == "7-mers":
            yield (
                f"Logarithms of 7-mers: squared error {model:.3g} of the model, {constant:.3g} of"
                f" a constant, {scores.truth_mse:.3g} of the profile of {scores.truth}; sampling"
                f" noise alone costs {noise:.3g}. Nearly all of it is whether a k-mer occurs, so"
                " profiles are to be judged by nats instead."
            )
            continue
        if model >= constant:
            verdict = "the model explains nothing"
        elif model < noise:
            verdict = "the model is below that, so it remembers some of the noise of these rows"
        else:
            share = (constant - model) / (constant - noise)
            verdict = f"of what is left to explain, the model explains {share:.0%}"
        yield (
            f"Logarithms of {name}: squared error {model:.3g} of the model, {constant:.3g} of a"
            f" constant; sampling noise alone costs {noise:.3g}, and {verdict}."
        )


def _useful(label: str, vectors: Mapping[str, Usefulness]) -> Iterator[str]:
    own = vectors.get(LATENT)
    if own is None or len(vectors) < 2:
        return
    parts = []
    for metric, title in (("knn5", "5-NN"), ("kmeans_ari", "k-means ARI")):
        known = {name: v.scores[metric] for name, v in vectors.items() if metric in v.scores}
        if LATENT not in known:
            continue
        others = {name: value for name, value in known.items() if name != LATENT}
        best = max(others, key=lambda name: others[name].mean)
        ours, theirs = known[LATENT], others[best]
        better = sum(value.mean > ours.mean for value in others.values())
        spread = max(ours.sd or 0.0, theirs.sd or 0.0)
        close = (
            ", which is within the spread over seeds"
            if spread and abs(ours.mean - theirs.mean) <= _SIGNIFICANT * spread
            else ""
        )
        parts.append(
            f"{title} {ours.mean:.3f}, {better} of {len(others)} baselines are above it; the"
            f" best is {best} with {theirs.mean:.3f}{close}"
        )
    if parts:
        yield f"From the latent by {label}: " + "; ".join(parts) + "."
