"""Codes that another program computed: read from files, scored, and compared in the report."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from deft_lightning import DeftError, evaluate
from deft_lightning.common import results
from deft_lightning.evaluation import tables
from deft_lightning.metrics import active_units, mig, modularity
from deft_lightning.report.loading import Record, load
from deft_lightning.report.study import Study

N = 300
RANDOM = np.random.default_rng(0)
FACTORS = np.stack([RANDOM.integers(0, 3, N), RANDOM.integers(0, 4, N)], axis=1)
CODES = np.stack([FACTORS[:, 1] + 0.1 * RANDOM.normal(size=N), FACTORS[:, 0], RANDOM.normal(size=N)], axis=1)
FILES = [f"{i}.png" for i in range(N)]
FAST = ("metrics=fast", "metrics.num_points=100000")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Codes as `encode` writes them, with the factors in columns of their own."""
    frame = pd.DataFrame({"file": FILES, **{f"mean latent {j}": CODES[:, j] for j in range(3)}})
    for j in range(3):
        frame[f"log_variance latent {j}"] = -1.0
    frame["shape"] = np.array(["disc", "heart", "square"])[FACTORS[:, 0]]
    frame["scale"] = FACTORS[:, 1]
    path = tmp_path / "codes.csv"
    path.write_text("# run 1234, data 5678\n" + frame.to_csv(index=False))
    return path


def npz(tmp_path: Path) -> tuple[Path, str]:
    np.savez(tmp_path / "codes.npz", mean=CODES, log_variance=np.full_like(CODES, -1), factors=FACTORS)
    return tmp_path / "codes.npz", "factors"


def h5(tmp_path: Path) -> tuple[Path, str]:
    with h5py.File(tmp_path / "codes.h5", "w") as file:
        file["codes"], file["files"] = CODES, FILES
    np.save(tmp_path / "labels.npy", FACTORS)
    return tmp_path / "codes.h5", str(tmp_path / "labels.npy")


def test_a_csv_file_with_its_factors_in_columns(csv: Path) -> None:
    table = tables.read(csv, "shape, scale")
    np.testing.assert_allclose(table.codes, CODES)
    assert table.factors.tolist() == FACTORS.tolist()
    assert table.factor_names == ("shape", "scale")
    assert table.log_variance.shape == (N, 3)


@pytest.mark.parametrize("write", [npz, h5])
def test_arrays(write, tmp_path: Path) -> None:
    table = tables.read(*write(tmp_path))
    np.testing.assert_array_equal(table.codes, CODES)
    assert table.factors.tolist() == FACTORS.tolist()
    assert (table.log_variance is None) == (write is h5)


def test_a_plain_csv_file_of_numbers_and_one_of_factors_in_another_order(tmp_path: Path) -> None:
    codes = pd.DataFrame(CODES, columns=["a", "b", "c"])
    codes["file"] = FILES
    codes.to_csv(tmp_path / "codes.csv", index=False)
    labels = pd.DataFrame(FACTORS, columns=["shape", "scale"])
    labels.insert(0, "file", FILES)
    labels.iloc[::-1].to_csv(tmp_path / "labels.csv", index=False)
    table = tables.read(tmp_path / "codes.csv", str(tmp_path / "labels.csv"))
    assert table.codes.shape == (N, 3)
    assert table.factors.tolist() == FACTORS.tolist()


@pytest.mark.parametrize(("separator", "decimal", "suffix"), [(";", ",", "csv"), ("\t", ",", "tsv"), (";", ".", "csv")])
def test_tables_as_spreadsheets_write_them(separator: str, decimal: str, suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(CODES, columns=["a", "b", "c"])
    frame["shape"], frame["angle"] = FACTORS[:, 0], np.linspace(0, 1, N) + 0.5
    path = tmp_path / f"codes.{suffix}"
    frame.to_csv(path, sep=separator, decimal=decimal, index=False)
    table = tables.read(path, "shape,angle")
    np.testing.assert_allclose(table.codes, CODES)
    assert table.factors[:, 0].tolist() == FACTORS[:, 0].tolist()
    assert "factor angle has 300 different values" in table.notices[0]


def test_the_scores_are_those_of_the_metrics_and_the_report_compares_them(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "outputs" / "mine"
    command = [str(csv), "--factors", "shape,scale", *FAST, "metrics.bootstrap=20", "--method", "mine"]
    assert evaluate.main([*command, "--data", "sprites", "--seed", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Without the model there is no score of reconstruction." in printed
    assert f"{out}/results.json" in printed
    content = results.read(out)
    stage = content["stages"]["stage_1"]
    tested = N // 3
    rows = np.random.default_rng(0).permutation(N)[tested:]
    codes, factors = np.float64(pd.read_csv(csv, comment="#").filter(like="mean "))[rows], FACTORS[rows]
    assert stage["scores"]["mig"] == pytest.approx(mig(codes, factors).score)
    assert stage["scores"]["modularity"] == pytest.approx(modularity(codes, factors).score)
    assert stage["scores"]["active_units"] == active_units(codes).score
    kl = 0.5 * (CODES**2 + np.exp(-1) - 1 + 1)[rows]
    assert stage["scores"]["kl"] == pytest.approx(kl.sum(axis=1).mean())
    gaps = Record(out, content).gaps
    assert stage["scores"]["mig"] == pytest.approx(sum(gaps.values()) / len(gaps))  # of the same rows
    low, high = stage["intervals"]["mig"]
    assert 0 < low < high <= 1
    assert (content["seed"], content["data"]["name"]) == (3, "sprites")
    study = Study(load([str(tmp_path / "outputs")]))
    assert list(study.methods) == ["mine"]
    assert study.compared["mig"].tolist() == [stage["scores"]["mig"]]


def test_scores_are_added_to_those_of_the_same_codes_and_to_no_others(
    csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--factors", "shape,scale", "--out", str(tmp_path / "out")]
    assert evaluate.main([str(csv), *command, *FAST]) == 0
    assert evaluate.main([str(csv), *command, *FAST, "metrics.each_stage=[irs]"]) == 0
    assert {"mig", "irs"} <= set(results.read(tmp_path / "out")["stages"]["stage_1"]["scores"])
    before = (tmp_path / "out" / "results.json").read_text()
    csv.write_text(csv.read_text().replace("disc", "ring"))
    assert evaluate.main([str(csv), *command, *FAST]) == 1
    assert "holds the results of other codes" in capsys.readouterr().err
    assert (tmp_path / "out" / "results.json").read_text() == before


def test_scores_of_other_factors_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "codes.npz", codes=CODES, good=FACTORS, bad=FACTORS[::-1])
    command = [str(tmp_path / "codes.npz"), *FAST, "--out", str(tmp_path / "out")]
    assert evaluate.main([*command, "--factors", "good"]) == 0
    assert evaluate.main([*command, "--factors", "bad"]) == 1
    assert "holds the results of other codes, factors or settings" in capsys.readouterr().err
    assert evaluate.main([*command, "--factors", "good", "metrics.bins=10"]) == 1


def test_a_factor_is_never_scored_as_a_code(tmp_path: Path) -> None:
    frame = pd.DataFrame({"z0": CODES[:, 0], "z1": CODES[:, 1], "mean intensity": FACTORS[:, 0]})
    frame.to_csv(tmp_path / "codes.csv", index=False)
    np.testing.assert_allclose(tables.read(tmp_path / "codes.csv", "mean intensity").codes, CODES[:, :2])
    frame.to_csv(tmp_path / "codes.csv")
    with pytest.raises(DeftError, match=r"has a column without a name: name it, or leave it out"):
        tables.read(tmp_path / "codes.csv", "mean intensity")


def test_missing_and_repeated_values_are_one_sentence(tmp_path: Path) -> None:
    for column in (["a", None, "b", "c"], [1.0, 2.0, np.nan, 3.0]):
        frame = pd.DataFrame({"z0": CODES[:4, 0], "shape": column})
        frame.to_csv(tmp_path / "codes.csv", index=False)
        with pytest.raises(DeftError, match="factor shape has missing values"):
            tables.read(tmp_path / "codes.csv", "shape")
    frame[["z0"]].assign(file=FILES[:4]).to_csv(tmp_path / "codes.csv", index=False)
    pd.DataFrame({"file": [FILES[0], *FILES[:4]], "shape": range(5)}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DeftError, match="has more than one row for the same file"):
        tables.read(tmp_path / "codes.csv", str(tmp_path / "labels.csv"))


def test_factors_of_many_values_are_binned_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factors = np.random.default_rng(1).uniform(size=(2000, 2))
    np.savez(tmp_path / "codes.npz", codes=factors, factors=factors)
    path = tmp_path / "codes.npz"
    assert evaluate.main([str(path), "--factors", "factors", *FAST, "--out", str(tmp_path / "out")]) == 0
    assert "factor factors_0 has 2,000 different values: it is taken as continuous" in capsys.readouterr().out
    assert results.read(tmp_path / "out")["stages"]["stage_1"]["scores"]["mig"] > 0.9


def test_batches_with_a_fixed_factor_are_drawn_from_the_rows(csv: Path, tmp_path: Path) -> None:
    overrides = ("metrics=fast", "metrics.at_end=[factor_vae,beta_vae,sap]", "metrics.votes=[200,100]")
    assert evaluate.main([str(csv), "--factors", "shape,scale", *overrides, "--out", str(tmp_path / "out")]) == 0
    scores = results.read(tmp_path / "out")["stages"]["stage_1"]["scores"]
    assert scores["factor_vae"] > 0.9
    assert scores["beta_vae"] > 0.9
    assert 0 < scores["sap"] <= 1


@pytest.mark.parametrize(
    ("change", "factors", "sentence"),
    [
        (lambda path: path.unlink(), "shape", "there is no file"),
        (lambda path: path.write_bytes(b"\x00\xff" * 50), "shape", "cannot be read as a .csv file: save it again"),
        (lambda path: None, "colour", "has no colour: --factors is a file, or some of file, mean latent 0"),
        (lambda path: None, "labels.csv", "there is no file labels.csv"),
        (lambda path: None, "labels.txt", "has no labels.txt: --factors is a file"),
        (lambda path: path.write_text("file,shape\n1.png,2\n"), "shape", "has no columns of codes"),
        (lambda path: path.write_text("mean 1,shape\nx,2\n"), "shape", "has codes that are not numbers"),
        (lambda path: path.write_text("mean 1,shape\n,2\n"), "shape", "without missing values"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(change, factors: str, sentence: str, csv: Path) -> None:
    change(csv)
    with pytest.raises(DeftError, match=sentence):
        tables.read(csv, factors)


@pytest.mark.parametrize("shape", [(50, 2), (50, 1), (49, 3)])
def test_log_variances_that_do_not_fit_the_codes_are_one_sentence(tmp_path: Path, shape: tuple[int, int]) -> None:
    factors = np.arange(50)[:, None] % 3
    np.savez(tmp_path / "codes.npz", mean=np.ones((50, 3)), log_variance=np.zeros(shape), factors=factors)
    with pytest.raises(DeftError, match=r"codes of shape \[50, 3\] and log variances of shape"):
        tables.read(tmp_path / "codes.npz", "factors")


def test_factors_of_other_images_are_refused(csv: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", FACTORS[:-1])
    with pytest.raises(DeftError, match="has 300 codes and the factor factor_0 299 values"):
        tables.read(csv, str(tmp_path / "labels.npy"))
    pd.DataFrame({"file": FILES[1:], "shape": FACTORS[1:, 0]}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DeftError, match=r"has no row for 0\.png"):
        tables.read(csv, str(tmp_path / "labels.csv"))
    np.savez(tmp_path / "objects.npz", codes=np.array([{}, {}], dtype=object))
    with pytest.raises(DeftError, match=r"objects.npz cannot be read as a .npz file: save it again; Python objects"):
        tables.read(tmp_path / "objects.npz", "factors")


def test_the_command_asks_for_factors_and_one_file(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(csv)]) == 1
    assert "--factors is missing" in capsys.readouterr().err
    assert evaluate.main([str(csv), "outputs", "--factors", "shape"]) == 1
    assert "--factors is given with 2 files or folders: give one file of codes" in capsys.readouterr().err
