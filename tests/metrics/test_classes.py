"""The torchmetrics classes: the score over batches and ranks is that of the whole table."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torchmetrics import MetricCollection

from deft_lightning.common.errors import DeftError
from deft_lightning.metrics import (
    ActiveUnitsMetric,
    DCIMetric,
    ExplicitnessMetric,
    InfoMECMetric,
    IRSMetric,
    MIGMetric,
    ModularityMetric,
    SAPMetric,
    TableMetric,
    TotalCorrelationMetric,
    active_units,
    infomec,
    mig,
    total_correlation,
)


def _table(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.randint(size, (count,), generator=random) for size in (3, 5)], dim=1)
    return factors + 0.3 * torch.randn(count, 2, generator=random), factors


def accuracy(codes, factors, codes_test, factors_test, threshold: float = 0.5) -> float:
    """Share of test rows on the same side of the threshold as their label; needs a test table."""
    assert not set(codes[:, 0]) & set(codes_test[:, 0])
    assert len(codes) == 2 * len(codes_test)
    return float(((codes_test[:, 0] > threshold) == (factors_test[:, 0] > threshold)).mean())


def test_batches_are_one_table() -> None:
    codes, factors = _table()
    for metric, expected in [
        (MIGMetric(bins=10), mig(codes, factors, bins=10).score),
        (ActiveUnitsMetric(threshold=1.0), active_units(codes, threshold=1.0).score),
        (TotalCorrelationMetric(), total_correlation(codes).score),
    ]:
        for first in range(0, 300, 70):
            metric.update(codes[first : first + 70], factors[first : first + 70])
        assert metric.compute().item() == pytest.approx(expected, abs=1e-6)
    assert isinstance(metric.result, type(total_correlation(codes)))
    metric.reset()
    metric.update(codes[:50], factors[:50])
    assert metric.compute().item() == pytest.approx(total_correlation(codes[:50]).score, abs=1e-6)


@pytest.mark.parametrize(
    "metric", [ModularityMetric(), IRSMetric(), SAPMetric(seed=3), DCIMetric(estimator="fast"), ExplicitnessMetric()]
)
def test_each_class_equals_its_function(metric: TableMetric) -> None:
    random = np.random.default_rng(0)
    factors = random.integers(0, 3, size=(240, 2))
    codes = factors @ random.normal(size=(2, 3)) + 0.1 * random.normal(size=(240, 3))
    for part in range(0, 240, 60):
        metric.update(torch.as_tensor(codes[part : part + 60]), torch.as_tensor(factors[part : part + 60]))
    score = metric.compute()
    table = [codes, factors]
    if metric.tables == 2:
        rows = np.random.default_rng(metric.seed).permutation(240)
        table = [codes[rows[80:]], factors[rows[80:]], codes[rows[:80]], factors[rows[:80]]]
    expected = metric.function(*table, **metric.options)
    scores = score if isinstance(score, dict) else {"score": score}
    assert scores
    for name, value in scores.items():
        assert float(value) == pytest.approx(getattr(expected, name), abs=1e-5)


def test_several_scores_are_a_dict_and_join_a_collection() -> None:
    codes, factors = _table()
    collection = MetricCollection([MIGMetric(), InfoMECMetric(mi="binned")])
    collection.update(codes, factors)
    scores, expected = collection.compute(), infomec(codes, factors, "binned")
    assert scores["MIGMetric"].item() == pytest.approx(mig(codes, factors).score, abs=1e-6)
    for name in ("modularity", "compactness", "explicitness"):
        assert scores[name].item() == pytest.approx(getattr(expected, name), abs=1e-6)


def test_a_third_of_the_rows_is_the_test_table() -> None:
    codes, factors = _table()
    metric = TableMetric(accuracy, threshold=1.5)
    metric.update(codes, factors)
    assert metric.compute().item() > 0.9
    assert TableMetric(accuracy, seed=1).seed == 1


def test_half_precision_and_pickling() -> None:
    codes, factors = _table()
    metric = MIGMetric(bins=10)
    metric.update(codes.bfloat16(), factors)
    restored = pickle.loads(pickle.dumps(metric))
    assert restored.compute() == metric.compute() > 0.3


def _score_a_part(rank: int, folder: Path) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    codes, factors = _table()
    rows = slice(0, 100) if rank == 0 else slice(100, 300)  # different sizes per rank
    metrics = MetricCollection([MIGMetric(), TotalCorrelationMetric(), InfoMECMetric(mi="binned")])
    metrics.update(codes[rows], factors[rows])
    scores = metrics.compute()
    assert len(metrics["MIGMetric"].codes[0]) == len(codes[rows])  # the rank's rows are restored after the sync
    torch.save({name: score.item() for name, score in scores.items()}, folder / f"scores_{rank}")
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_have_the_score_of_the_whole_table(tmp_path) -> None:
    multiprocessing.start_processes(_score_a_part, (tmp_path,), nprocs=2, start_method="fork")
    codes, factors = _table()
    whole = infomec(codes, factors, "binned")
    expected = {
        "MIGMetric": mig(codes, factors).score,
        "TotalCorrelationMetric": total_correlation(codes).score,
        "modularity": whole.modularity,
        "compactness": whole.compactness,
        "explicitness": whole.explicitness,
    }
    for rank in (0, 1):
        assert torch.load(tmp_path / f"scores_{rank}") == pytest.approx(expected, abs=1e-6)
    assert not np.isclose(mig(codes[:100], factors[:100]).score, expected["MIGMetric"], atol=1e-3)


def test_invalid_input_is_one_sentence() -> None:
    with pytest.raises(DeftError, match="TableMetric has no function"):
        TableMetric()
    with pytest.raises(DeftError, match=r"MIGMetric got codes of shape \[3, 2\] and factors of shape \[2, 2\]"):
        MIGMetric().update(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.warns(UserWarning, match="before the"), pytest.raises(DeftError, match="no codes yet"):
        MIGMetric().compute()
