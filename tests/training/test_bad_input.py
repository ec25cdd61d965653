"""Bad training records end in an error that says what to do, or in a bundle that works; never in between."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.batch import Batch, BoolArray, FloatArray, Status
from detector.bundles.serving import serve
from detector.bundles.store import BundleStore, load_bundle
from detector.models.families import FAMILIES
from detector.training.backtest import backtest
from detector.training.job import TrainingError, TrainingPlan, train
from tests.made import batch

N = 400
SHORT_FITS: dict[str, dict[str, Any]] = {
    "rbm": {"max_epochs": 2},
    "gan": {"max_epochs": 2, "hidden": (8,)},
    "vae": {"max_epochs": 2, "hidden": (8,), "samples": 2},
}
OPTIONS: dict[str, dict[str, int | str]] = {"hmm": {"n_states": 2}, "rbm": {"n_hidden": 2}}


class Case(NamedTuple):
    """What is wrong with the records, and what training may answer."""

    records: Callable[[], Batch]
    error: str | None = None
    """What the message says; None where a bundle must come out."""
    some_families_can: bool = False


def ordinary(n: int = N, d: int = 3, seed: int = 0) -> FloatArray:
    """Correlated features with a memory."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    for t in range(1, n):
        x[t] += 0.5 * x[t - 1]
    return x


def with_value(rows: slice | int | BoolArray, value: float) -> Batch:
    """Ordinary records but for feature f1 of some."""
    x = ordinary()
    x[rows, 1] = value
    return batch(x)


def of_two(x: FloatArray) -> Batch:
    """The rows as those of entities a and b in turn."""
    return batch(x, entity=["a", "b"] * (len(x) // 2))


def lacking_for_a(until: int) -> Batch:
    """The first rows of entity a have no f1."""
    x = ordinary()
    x[:until:2, 1] = np.nan
    return of_two(x)


def constant_within_an_entity() -> Batch:
    x = ordinary()
    x[::2, 1], x[1::2, 1] = 3.0, 8.0
    return of_two(x)


def one_gap_in_every_row() -> Batch:
    x = ordinary()
    x[np.arange(N), np.arange(N) % 3] = np.nan
    return batch(x)


def counters() -> Batch:
    steps = np.random.default_rng(0).integers(0, 2_000_000, size=(N, 3))
    return batch(1.7e18 + np.cumsum(steps, axis=0, dtype=np.float64))


def at(time: FloatArray) -> Batch:
    return batch(ordinary(), time=time)


ALL = slice(None)
TOO_FEW = r"\d+ usable rows.* too few .*; give at least \d+"
EIGHTH = np.arange(N) == 7
TIME = 1.7e9 + 60.0 * np.arange(N, dtype=np.float64)
CASES = {
    "no records": Case(lambda: batch(np.empty((0, 2))), r"no records to train on; check the file"),
    "no features": Case(lambda: batch(np.empty((N, 0))), r"no features; name at least one"),
    "a feature without any value": Case(
        lambda: with_value(ALL, np.nan), r"\['f1'\] have no .* leave them out"
    ),
    "no value at all": Case(
        lambda: batch(np.full((N, 2), np.nan)), r"\['f0', 'f1'\] have no .* leave them out"
    ),
    "values in the held-out part only": Case(
        lambda: with_value(slice(0, 300), np.nan),
        r"\['f1'\] have no value in the oldest 70 %.* leave them out",
    ),
    "a value in the first record only": Case(
        lambda: with_value(slice(1, N), np.nan), r"\['f1'\] have no value after the first 1 .* leave them out"
    ),
    "no value in the held-out part": Case(
        lambda: batch(np.where(np.arange(N)[:, None] < 280, ordinary(), np.nan)),
        r"none of the 120 held-out records can be scored .* train with more",
    ),
    "a feature that ends before the held-out part": Case(lambda: with_value(slice(280, N), np.nan)),
    "a feature lacking in the fitting rows of an entity": Case(lambda: lacking_for_a(280), TOO_FEW, True),
    "a feature lacking for an entity": Case(lambda: lacking_for_a(N), TOO_FEW, True),
    "a gap in every row": Case(one_gap_in_every_row),
    "an infinite value": Case(lambda: with_value(5, np.inf), r"'f1' is infinite in 1 records .*; drop those"),
    "a time that is no number": Case(
        lambda: at(np.where(EIGHTH, np.nan, TIME)), r"1 records have no finite time \(.* 'e'\); drop those"
    ),
    "an infinite time": Case(
        lambda: at(np.where(EIGHTH, -np.inf, TIME)), r"1 records have no finite time \(.* 'e'\); drop those"
    ),
    "one time for all records": Case(
        lambda: at(np.full(N, 1.7e9)), r"the 1\d\d held-out records cover no time.*; check the field"
    ),
    "every time twice": Case(lambda: at(np.repeat(TIME[::2], 2))),
    "few records": Case(lambda: batch(ordinary(20)), r"20 records are too few .*; give at least 30"),
    "fewer records than parameters": Case(
        lambda: batch(ordinary(36, 30)),
        r"\d+ .*(too few|can be scored).*; (give|train)",
        some_families_can=True,
    ),
    "200 features of 250 records": Case(
        lambda: batch(ordinary(250, 200)), r"\d+ .*too few.*; give at least", some_families_can=True
    ),
    "one feature": Case(lambda: batch(ordinary(d=1))),
    "a constant feature": Case(lambda: with_value(ALL, 7.0)),
    "a feature that is always zero": Case(lambda: with_value(ALL, 0.0)),
    "nothing but constants": Case(lambda: batch(np.tile([0.0, 7.0, -1e9], (N, 1)))),
    "a feature constant within each entity": Case(constant_within_an_entity),
    "duplicated features": Case(lambda: batch(ordinary()[:, [0, 0, 1, 1]])),
    "an absurd value among fitting rows": Case(lambda: with_value(50, 1e300)),
    "an absurd value among held-out rows": Case(lambda: with_value(380, -1e300)),
    "enormous values": Case(lambda: batch(1e300 * ordinary())),
    "the largest floats": Case(lambda: batch(1.7e308 * np.sign(ordinary()))),
    "subnormal values": Case(lambda: batch(1e-310 * ordinary())),
    "the smallest floats": Case(lambda: batch(5e-324 * np.round(ordinary()))),
    "features of scales far apart": Case(lambda: batch(ordinary() * [1e-300, 1.0, 1e300])),
    "counters of 19 digits": Case(counters),
    "entities of three records and of one": Case(
        lambda: batch(ordinary(), entity=["big"] * (N - 4) + ["three"] * 3 + ["one"])
    ),
    "entities of two records": Case(
        lambda: batch(ordinary(), entity=[f"e{i // 2}" for i in range(N)]),
        r"needs 1 records .* no entity has more than 1 to fit; give more time, or take predictor none",
    ),
    "entities of one record": Case(
        lambda: batch(ordinary(), entity=[f"e{i}" for i in range(N)]),
        r"each of the 400 needs an older one .* check the field that the entity",
    ),
}


def assert_works(bundle_path: Path, records: Batch) -> None:
    """What was held out, and ordinary rows, have numbers and p-values under the bundle as it was saved."""
    own = serve(load_bundle(bundle_path), AlertRules())
    d = len(records.feature_names)
    for rows in (records, batch(ordinary(60, d, seed=1), entity=[records.entity[-1]] * 60)):
        scores = backtest(own, rows).scores
        scored = scores.status == Status.SCORED
        assert scored.any()
        assert np.isfinite(scores.log_likelihood[scored]).all()
        assert ((scores.p_value[scored] > 0) & (scores.p_value[scored] <= 1)).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_error_says_what_to_do_or_the_bundle_works(
    family: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family in ("gan", "vae"):
        pytest.importorskip("torch", reason="torch is not installed: neither VAE nor GAN can be fitted")
    module = import_module(f"detector.training.fit_{family}")
    fit = f"fit_{family}"
    monkeypatch.setattr(module, fit, partial(getattr(module, fit), **SHORT_FITS.get(family, {})))
    if family == "gan":
        monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 5)
    make, error, some_families_can = CASES[case]
    records, plan = make(), TrainingPlan("hosts", family, options=OPTIONS.get(family, {}))
    if error is not None and not some_families_can:
        with pytest.raises(TrainingError, match=error):
            train(records, plan, 1e9)
        return
    try:
        bundle = train(records, plan, 1e9)
    except TrainingError as raised:
        if error is None or not re.search(error, str(raised)):
            raise
        return
    assert_works(BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out), records)
