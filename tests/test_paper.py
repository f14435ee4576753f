"""The paper's experiments: gradients by finite differences, data, tables, verdicts, the command line."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.paper import images, jobs, records, text
from benchmarks.paper.commands import paper
from benchmarks.paper.experiments import classify, dynamics, generate, invariances
from benchmarks.paper.nets import adam, build, cells
from benchmarks.paper.nets.language import LanguageModel
from benchmarks.paper.nets.normalize import OF_FEATURES, BatchNormalize
from benchmarks.paper.nets.skipthought import SkipThought
from benchmarks.paper.nets.training import Model, shuffled
from benchmarks.paper.shown import claims, curves, plots, report

#: Of most dense networks here, so that they have their kernels in common.
SIZES, BATCH = (5, 8, 8, 3), 6


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def check_gradients(model: Model, batch: Any) -> None:
    """Of every parameter along a random direction, by differences in float64."""
    _, gradients = model.loss(batch)
    assert gradients.keys() == model.params.keys()
    for place, (name, array) in enumerate(model.params.items()):
        assert gradients[name].shape == array.shape
        direction = np.random.default_rng(place).standard_normal(array.shape)
        before, step, found = array.copy(), 1e-6, []
        for sign in (1, -1):
            array += sign * step * direction
            found.append(model.loss(batch)[0])
            array[...] = before
        slope = (found[0] - found[1]) / (2 * step)
        assert np.vdot(gradients[name], direction) == pytest.approx(slope, rel=2e-5, abs=2e-8), name


def moved(model: Model) -> Any:
    """Away from where gains and biases start, whose symmetry hides mistakes."""
    for place, array in enumerate(model.params.values()):
        array += 0.1 * np.random.default_rng(100 + place).standard_normal(array.shape)
    return model


@pytest.mark.parametrize("norm", OF_FEATURES)
def test_gradients_of_dense_networks(norm: str) -> None:
    model = moved(build.dense(SIZES, norm, seed=0, dtype="float64"))
    check_gradients(model, (rng().standard_normal((BATCH, SIZES[0])), rng().integers(3, size=BATCH)))


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_gradients_of_convolutional_networks(norm: str) -> None:
    model = moved(build.convolutional(4, (4, 8), 3, norm, seed=0, dtype="float64"))
    check_gradients(model, (rng().standard_normal((3, 1, 4, 4)), rng().integers(3, size=3)))


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "LNGRU"])
def test_gradients_of_language_models(kind: str) -> None:
    model = moved(LanguageModel(kind, vocabulary=7, size=4, hidden=5, seed=0, dtype="float64"))
    check_gradients(model, rng().integers(7, size=(5, 3)))


def tiny_sentences() -> text.Sentences:
    """Three sentences in one triple and its reverse, of different lengths."""
    words = np.array([[2, 3, text.END, text.END], [4, 2, 3, text.END], [3, text.END, text.END, text.END]])
    triples = np.array([[0, 1, 2], [2, 1, 0]])
    return text.Sentences(words, np.array([3, 4, 2]), triples, triples, vocabulary=5)


def test_gradients_of_skip_thoughts() -> None:
    sentences = tiny_sentences()
    model = moved(SkipThought("GRU", sentences, size=3, hidden=4, seed=0, dtype="float64"))
    check_gradients(model, sentences.seen)
    assert model.loss(sentences.seen)[0] == pytest.approx(model.unseen_loss(sentences.seen))


def test_what_fills_up_a_sentence_counts_for_nothing() -> None:
    sentences = tiny_sentences()
    loss = SkipThought("GRU", sentences, size=3, hidden=4, seed=0, dtype="float64").loss(sentences.seen)[0]
    sentences.words[0, 3] = 4
    sentences.words[2, 2:] = 3
    other = SkipThought("GRU", sentences, size=3, hidden=4, seed=0, dtype="float64")
    assert other.loss(sentences.seen)[0] == loss


@pytest.mark.parametrize("kind", [cells.GRU, cells.LSTM])
def test_plain_cells_go_on_from_their_state_and_give_gradients_of_inputs(kind: Any) -> None:
    cell = kind(3, 4, seed=1, dtype="float64")
    xs, dhs = rng().standard_normal((5, 2, 3)), rng().standard_normal((5, 2, 4))
    hs, ctx = cell.forward(xs)
    first, half = cell.forward(xs[:2])
    rest, _ = cell.forward(xs[2:], half.state)
    np.testing.assert_allclose(np.concatenate([first, rest]), hs, rtol=1e-12)
    _, dxs = cell.backward(dhs, ctx)
    direction, step = rng().standard_normal(xs.shape), 1e-6
    ends = [float(np.vdot(cell.forward(xs + sign * step * direction)[0], dhs)) for sign in (1, -1)]
    assert np.vdot(dxs, direction) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_adam_is_that_of_the_paper() -> None:
    params = {"w": rng().standard_normal((3, 2))}
    x, mean, square = params["w"].copy(), 0.0, 0.0
    optimizer = adam.Adam(params, rate=0.1)
    for step in range(1, 4):
        gradient = np.random.default_rng(step).standard_normal((3, 2))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        x = x - 0.1 * (mean / (1 - 0.9**step)) / np.sqrt(square / (1 - 0.999**step))
        optimizer.step({"w": gradient})
    np.testing.assert_allclose(params["w"], x, rtol=1e-5)


def test_batch_norm_uses_running_statistics_when_it_is_judged() -> None:
    layer, x = BatchNormalize(SIZES[1], "float64"), 3 + rng().standard_normal((BATCH, SIZES[1]))
    np.testing.assert_allclose(layer.forward(x, training=False)[0], x, rtol=1e-5)
    for _ in range(200):
        layer.forward(x, training=True)
    expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + 1e-5)
    np.testing.assert_allclose(layer.forward(x, training=False)[0], expected, rtol=1e-6)


def test_an_epoch_has_every_sample_once() -> None:
    inputs = np.arange(10)
    found = list(shuffled(inputs, inputs, 3, rng()))
    assert [len(labels) for _, labels in found] == [3, 3, 3]
    assert len(np.unique(np.concatenate([labels for _, labels in found]))) == 9
    again = list(shuffled(inputs, inputs, 3, rng()))
    np.testing.assert_array_equal([x for x, _ in found], [x for x, _ in again])


def test_curves_depend_on_the_seed_alone() -> None:
    inputs, labels = rng().random((20, SIZES[0])), np.arange(20) % 3
    found = images.Images("", inputs, labels, inputs, labels)

    def rows(seed: int) -> list[Any]:
        job = classify.Job("layer", BATCH, 1e-2, seed, epochs=3)
        return classify.curve(job, lambda: build.dense(SIZES, "layer", seed, "float64"), found)

    assert rows(0) == rows(0) != rows(1)
    assert [row[5] for row in rows(0)] == [3, 6, 9]


def test_text() -> None:
    characters = text.characters()
    assert 50 < characters.vocabulary < 256
    assert characters.seen.max() < characters.vocabulary
    windows = text.windows(characters.seen, 5, 4, rng())
    assert windows.shape == (5, 4)
    joined = characters.seen.tobytes()
    assert all(np.ascontiguousarray(column).tobytes() in joined for column in windows.T)
    sentences = text.sentences(200)
    assert sentences.vocabulary == 200
    assert len(sentences.seen) > 500 < 20 * len(sentences.unseen)
    rows = np.arange(len(sentences.words))
    assert (sentences.words[rows, sentences.lengths - 1] == text.END).all()
    assert (np.diff(sentences.seen, axis=1) == 1).all()


def test_invariances_agree_with_the_papers_table() -> None:
    found = {(norm, change): invariant for norm, change, _, _, invariant in invariances.run(seed=3)}
    assert found == {
        (norm, change): "yes" if invariances.paper_says(norm, change) else "no"
        for norm in invariances.LAYERS
        for change in invariances.CHANGES
    }
    assert list(found.values()).count("yes") == 10


def test_dynamics_leave_the_cell_as_it_was() -> None:
    cell = cells.LSTM(3, 4, seed=0)
    before = {name: array.copy() for name, array in cell.params.items()}
    xs = rng().standard_normal((6, 2, 3)).astype(np.float32)
    small, _ = dynamics.measured(cell, xs, 0.1, seed=0)
    large, states = dynamics.measured(cell, xs, 3.0, seed=0)
    assert small.shape == states.shape == (6,)
    assert (large / large[-1])[0] > (small / small[-1])[0]
    for name, array in cell.params.items():
        np.testing.assert_array_equal(array, before[name])


def idx(values: Any) -> bytes:
    array = np.asarray(values, np.uint8)
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path) -> None:
    """Eight tiny images to learn from, packed or not, and four unseen."""
    for part, count in (("train", 8), ("t10k", 4)):
        pictures = np.arange(count * 9).reshape(count, 3, 3) % 256
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pictures)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))


def test_files_of_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    found = images.mnist(tmp_path)
    assert (found.inputs.shape, found.test_inputs.shape) == ((8, 9), (4, 9))
    assert found.inputs.dtype == np.float32
    np.testing.assert_array_equal(found.labels, np.arange(8))
    np.testing.assert_allclose(found.inputs[0], np.arange(9) / 255, rtol=1e-6)


Damage = Callable[[Path], object]
LABELS, PIXELS = "train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / LABELS).unlink(), "expected one of the files train-labels-idx1-ubyte"),
        (lambda folder: (folder / LABELS).write_bytes(b"hello"), "expected an idx file of bytes"),
        (lambda folder: (folder / LABELS).write_bytes(idx(range(8))[:-1]), "expected (8,) bytes"),
        (
            lambda folder: (folder / LABELS).write_bytes(idx(range(7))),
            "expected a label for each of 8 images",
        ),
        (lambda folder: (folder / LABELS).write_bytes(idx([11] * 8)), "expected labels from 0 to 9; got 11"),
        (lambda folder: (folder / PIXELS).write_bytes(b"\x1f\x8bnothing"), "cannot be read"),
        (
            lambda folder: (folder / PIXELS).write_bytes((folder / PIXELS).read_bytes()[:-9]),
            "cannot be read",
        ),
        (lambda folder: (folder / PIXELS).write_bytes(gzip.compress(idx(np.ones((8, 2, 2))))), "of one size"),
    ],
)
def test_bad_files_of_mnist_are_named(tmp_path: Path, damage: Damage, message: str) -> None:
    write_mnist(tmp_path)
    damage(tmp_path)
    result = invoke("digits", "--mnist", str(tmp_path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert str(tmp_path) in result.output.replace("\n", "")
    assert not (tmp_path / "out").exists()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(paper, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("digits", "--mnist", "/nowhere/at/all"),
        ("digits", "--norm", "batch", "--batch", "1"),
        ("digits", "--batch", "5000"),
        ("digits", "--norm", "nonsense"),
        ("convnet", "--rate", "0"),
        ("sequence", "--cell", "RNN"),
        ("skipthought", "--steps", "1"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = invoke(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert "Error: " in result.output
    assert not (tmp_path / "out").exists()


def test_experiments_and_report_from_the_command_line(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    quick = ("--quick", "--jobs", "1", *out)
    for arguments in (
        ("digits", *quick, "--norm", "layer", "--batch", "128", "--epochs", "1", "--no-plots"),
        ("skipthought", *quick, "--cell", "GRU", "--no-plots"),
        ("sequence", *quick, "--cell", "GRU,LSTM", "--no-plots"),
        ("invariances", "--seed", "1", *out),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
    result = invoke("report", *out)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "Not measured: convnet." in page
    assert (tmp_path / "sequence.png").stat().st_size > 10_000
    assert "![Language model of characters" in page
    assert "| Invariances under changes of weights and data, table 1 | one layer | 18 of 18 entries" in page
    assert not list(tmp_path.glob(".*"))


def test_a_report_of_nothing_or_of_something_else_fails(tmp_path: Path) -> None:
    result = invoke("report", "--out", str(tmp_path))
    assert (result.exit_code, "holds no tables" in result.output) == (1, True)
    (tmp_path / "digits.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    result = invoke("report", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "expected the columns norm, batch" in " ".join(result.output.split())
    assert not (tmp_path / "REPORT.md").exists()


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    table = records.Table("sequence", generate.COLUMNS, about={"machine": "a: b, c", "data": "x"})
    table.add("GRU", 1e-3, 0, 20, 1.25, math.nan, 3.0)
    table.add("LNGRU", 3e-3, 1, 40, 0.5, 2.0, 4.5)
    path = records.save(table, tmp_path)
    again = records.load(path, generate.COLUMNS)
    assert again.about == table.about
    assert again.rows[1] == table.rows[1]
    assert math.isnan(again.rows[0]["unseen"])
    assert records.save(again, tmp_path / "again").read_text() == path.read_text()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b'norm,"batch\n', b"norm,batch\n1,2,3\n"])
def test_files_that_are_no_tables(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits.csv"
    path.write_bytes(content)
    with pytest.raises(records.NotRecords, match=r"digits\.csv"):
        records.load(path, classify.COLUMNS)


def classified(losses: dict[tuple[str, int, float], list[float]], errors: dict[str, float]) -> records.Table:
    """A table of digits with these losses by norm, batch and rate, and these last errors by norm."""
    table = records.Table("digits", classify.COLUMNS)
    for (norm, batch, rate), values in losses.items():
        for epoch, loss in enumerate(values, start=1):
            table.add(norm, batch, rate, 0, epoch, epoch, loss, errors.get(f"{norm} {batch}", 0.01))
    return table


def test_verdicts_follow_the_numbers() -> None:
    table = classified(
        {
            ("layer", 128, 0.1): [1.0, 0.3, 0.1, 0.05],
            ("layer", 128, 0.2): [1.0, 0.9, 0.8, 0.7],
            ("none", 128, 0.1): [1.0, 0.5, 0.3, 0.2],
            ("none", 128, 0.2): [1.0, 0.5, math.nan, math.nan],
            ("batch", 128, 0.1): [1.0, 0.5, 0.3, 0.2],
            ("layer", 4, 0.1): [1.0, 0.5, 0.4, 0.3],
            ("none", 4, 0.1): [1.0, 0.4, 0.3, 0.2],
            ("batch", 4, 0.1): [1.0, 0.9, 0.8, 0.7],
        },
        {"batch 4": 0.2, "layer 4": 0.02},
    )
    best = curves.curves(table)
    assert best["layer", 128].rate == best["none", 128].rate == 0.1
    assert curves.share_of_the_way(best["layer", 128], best["none", 128]) == pytest.approx(2.5 / 4)
    assert math.isinf(curves.share_of_the_way(best["layer", 4], best["none", 4]))
    verdicts = {(claim.claim, claim.where): claim.agrees for claim in claims.claims({"digits": table})}
    assert verdicts == {
        ("Layer norm trains faster than the baseline, each at its best rate", "digits, batch 128"): True,
        ("Layer norm trains faster than the baseline, at the same rate", "digits, batch 128"): True,
        ("Layer norm trains faster than the baseline, each at its best rate", "digits, batch 4"): False,
        (
            "Layer norm is robust in small batches, where batch norm degrades",
            "digits, batch 128 to 4",
        ): True,
    }
    page = report.page({"digits": table}, Path("/nowhere"))
    assert "3 of 4 comparisons agree with the paper." in page


def test_wrong_invariances_are_named() -> None:
    table = records.Table("invariances", invariances.COLUMNS)
    table.add("layer norm", "dataset re-scaling", 0, 0.5, "no")
    (claim,) = claims.claims({"invariances": table})
    assert not claim.agrees
    assert "0 of 1 entries as in the table; not layer norm under dataset re-scaling" in claim.found
    assert "(paper: invariant)" in report.page({"invariances": partial(table)}, Path("/nowhere"))


def partial(table: records.Table) -> records.Table:
    """The same with a row for every change."""
    for change in invariances.CHANGES:
        if not table.where(change=change):
            table.add("layer norm", change, 0, 0.0, "yes")
    return table


def squared(value: int) -> int:
    return value * value


def test_jobs_give_results_in_their_order() -> None:
    done: list[int] = []
    for processes in (1, 2):
        assert jobs.run_all(squared, [3, 1, 2], processes, lambda: done.append(1)) == [9, 1, 4]
    assert len(done) == 6


def test_dynamics_are_judged_by_how_far_gradients_are_from_one(tmp_path: Path) -> None:
    table = records.Table("dynamics", dynamics.COLUMNS)
    for cell, by_factor in {"LNGRU": {0.5: 0.02, 1: 0.02}, "GRU": {0.5: 0.001, 1: 3.0}}.items():
        for factor, last in by_factor.items():
            table.add(cell, 1e-3, 0, factor, 0, 2.0, 0.5)
            table.add(cell, 1e-3, 0, factor, 5, 2 * last, 0.5)
    stable, trained = claims.claims({"dynamics": table})
    assert stable.agrees
    assert "5 steps back" in stable.found
    assert "GRU 0.001 to 3, a factor of 3e+03" in stable.found
    # A gradient of a fiftieth is farther from one than one of three.
    assert not trained.agrees
    # A row of plots may have one cell alone.
    table.add("LSTM", 1e-3, 0, 1, 0, 2.0, 0.5)
    assert plots.draw(table, tmp_path) == [tmp_path / "dynamics.png"]
    assert (tmp_path / "dynamics.png").stat().st_size > 10_000
