"""What is made of measured rounds: medians, ratios, tables, lines of reach, cliffs, the README's figures."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.commands import bench
from benchmarks.grid import Case
from benchmarks.rounds import machine, memory, stats, store
from benchmarks.rounds.stats import Spread
from benchmarks.rounds.store import Cell, Results
from benchmarks.shown import figures, growth, reach, table

ROOT = Path(__file__).parent.parent
MACHINE = {
    "cpu": "Intel(R) Xeon(R) CPU E5 @ 2GHz",
    "vectors": "avx2",
    "cores": 8,
    "system": "Linux 6 x86_64",
}


def cell(
    times: dict[str, float],
    shape: tuple[int, ...] = (4096, 1024),
    phase: str = "forward",
    threads: int = 1,
    mode: str = "mapped",
    dtype: str = "float32",
) -> Cell:
    """A cell with three rounds of the same times."""
    made = Cell(Case("layer_norm", shape, "rows", dtype, phase), threads, mode)
    for name in times:
        made.admit(name, {name: "1"}, {"": "f(x)"})
    for _ in range(3):
        made.add_round({name: {"": value} for name, value in times.items()})
    return made


def test_spread_of_the_rounds_that_there_are() -> None:
    assert stats.spread([3.0, None, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0, 3)
    assert stats.spread([None]) is None


def test_ratio_is_taken_round_by_round() -> None:
    # The second round was twice as slow for both.
    assert stats.ratio([2.0, 4.0, None], [1.0, 2.0, 9.0]) == Spread(2.0, 2.0, 2.0, 2)
    unpaired = stats.ratio([2.0, 4.0], [None, None, 1.0, 1.0])
    assert unpaired == Spread(3.0, 2.0, 4.0, 0, paired=False)
    assert stats.ratio([1.0], []) is None


def test_geometric_mean() -> None:
    assert stats.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert stats.geometric_mean([]) is None


def test_the_best_variant_counts() -> None:
    made = cell({})
    for plain, streaming in ((5.0, 4.0), (5.0, 6.0), (5.0, 4.5)):
        made.add_round({"limit": {"plain": plain, "streaming": streaming}})
    assert made.rounds == 6
    assert made.time("limit") == Spread(4.5, 4.0, 6.0, 3)


def test_another_version_begins_anew() -> None:
    made = cell({"lncompile": 2.0, "torch": 4.0})
    made.admit("lncompile", {"lncompile": "2"}, {"": "f(x)"})
    made.add_round({"lncompile": {"": 1.0}, "torch": {"": 4.0}})
    assert list(made.series("lncompile")) == [None, None, None, 1.0]
    assert made.ratio("torch", "lncompile") == Spread(4.0, 4.0, 4.0, 1)


def test_results_survive_the_file(tmp_path: Path) -> None:
    made = cell({"lncompile": 2.0, "torch": 4.0})
    made.refuse("jax", "missing: jax is not installed")
    results = Results(MACHINE, [made], {"import_ms": {"median": 9.0}}, [{"workspace": 1}], {"1": 80.0})
    store.save(results, tmp_path / "folder" / "bench.json")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["bench.json"]
    loaded = store.load(tmp_path / "folder" / "bench.json")
    assert store.dumps(loaded) == store.dumps(results)
    assert vars(loaded.cells[0]) == vars(made)
    assert loaded.find(made.case, 1, "mapped") is loaded.cells[0]
    assert loaded.find(made.case, 2, "mapped") is None


def test_names_of_a_machine() -> None:
    assert machine.slug(MACHINE) == "intel-xeon-e5-avx2-8-cores"
    assert machine.sentence(MACHINE) == "Intel(R) Xeon(R) CPU E5 @ 2GHz with AVX2, 8 cores, Linux"
    here = machine.describe()
    assert here["cores"] >= 1
    assert machine.slug(here)


def test_reach() -> None:
    cells = [
        cell({"lncompile": 1.2, "limit": 1.0, "torch": 2.4}),
        cell({"lncompile": 1.0, "limit": 1.0, "torch": 0.9}, (4096, 4096)),
        cell({"lncompile": 5.0, "limit": 1.0}, (8, 512)),
        cell({"lncompile": 0.25}, (1, 64)),
        cell({"lncompile": 1.5}, dtype="float16"),
        # Not of the grid: what a user measures beside it does not count.
        cell({"lncompile": 9.0, "limit": 1.0}, (4097, 1024)),
    ]
    startup = {"import_ms": {"median": 16.0}}
    found = {line.what: line for line in reach.lines(Results(MACHINE, cells, startup))}
    mean = found["forward over the copy, from 16 MiB, mean"]
    assert mean.value == pytest.approx(math.sqrt(1.2))
    assert mean.met
    assert found["forward over the copy, from 16 MiB, worst cell"].value == pytest.approx(1.2)
    assert "forward over the copy, 64 KiB to 16 MiB, mean" not in found, "8×512 is below"
    behind = found["forward, times as fast as torch, worst cell"]
    assert not behind.met
    assert behind.where == "layer_norm 4096×4096 forward; behind in 1 of 2 cells"
    assert found["one call, layer_norm 1×64"].met
    assert found["float16 over float32, worst cell"].value == pytest.approx(1.25)
    assert not found["import lncompile after NumPy"].met
    printed = io.StringIO()
    reach.show(Console(file=printed, width=200), list(found.values()))
    assert "of 7 lines are met" in printed.getvalue()


def test_table_names_who_is_absent() -> None:
    made = cell({"lncompile": 1.234, "limit": 1.0, "torch": 2.468})
    made.refuse("jax", "missing: jax is not installed in python")
    made.others = 0.25
    printed = io.StringIO()
    table.show(Console(file=printed, width=200), [made])
    row = next(line for line in printed.getvalue().splitlines() if line.startswith("layer_norm"))
    assert row.split() == [
        "layer_norm",
        "4096×1024",
        "forward",
        "32",
        "1",
        "1.23",
        "(1.23–1.23)",
        "1.23",
        "2.00",
        "missing",
    ]
    assert "jax, all cells: missing: jax is not installed in python" in printed.getvalue()
    assert "in 1 of 1 cells, up to 25% (layer_norm 4096×1024 forward)" in printed.getvalue()


def line(times: list[float], copies: list[float] | None = None) -> list[Cell]:
    """Cells of 1, 2, 4, ... rows that take so long."""
    copies = copies or [1.0 * 2**at for at in range(len(times))]
    return [
        cell({"lncompile": ours, "limit": copy}, (2**at, growth.FEATURES))
        for at, (ours, copy) in enumerate(zip(times, copies, strict=True))
    ]


def test_straight_lines_have_no_cliffs() -> None:
    overhead = [1 + 0.1 * 2**at for at in range(12)]
    assert not list(growth.cliffs(line(overhead), "rows"))
    assert not list(growth.cliffs(line([1.0] * 12), "rows"))


def test_cliffs() -> None:
    up, down = growth.cliffs(line([1.0, 2.0, 6.0, 12.0, 9.0]), "rows")
    assert (up.sizes, up.slow, up.factor) == ((2, 4), 4, pytest.approx(1.5))
    assert (down.sizes, down.slow, down.factor) == ((8, 16), 8, pytest.approx(4 / 3))
    assert not up.of_the_machine
    (shared,) = growth.cliffs(line([1.0, 2.0, 6.0], [1.0, 2.0, 6.0]), "rows")
    assert shared.of_the_machine


def test_noise_is_no_cliff() -> None:
    cells = line([1.0, 3.0])
    cells[1].add_round({"lncompile": {"": 1.9}})
    assert not list(growth.cliffs(cells, "rows"))


def test_sizes_of_growth() -> None:
    found = growth.sizes()
    assert found[:9] == [1, 2, 3, 4, 5, 6, 8, 9, 12]
    assert found[-1] == 2**20
    shapes = {case.shape for case in growth.cases("layer_norm", "features", largest=2, phases=["forward"])}
    assert shapes == {(16, 1), (16, 2), (16, 3), (16, 4)}


def test_growth_with_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's attribute of that name is the command.
    monkeypatch.setattr(sys.modules["benchmarks.commands.growth"], "MEMORY_SHAPES", [(4096, 64)])
    arguments = "growth --axis rows --phase backward --largest 1 --rounds 1 --threads 1 --no-plots --json"
    result = CliRunner().invoke(bench, [*arguments.split(), str(tmp_path / "growth.json")])
    assert result.exit_code == 0, result.output
    results = store.load(tmp_path / "growth.json")
    assert [made.case.shape for made in results.cells] == [(1, 64), (2, 64)]
    forward, backward = results.memory
    assert forward["x"] == backward["x"] == 4096 * 64 * 4
    assert forward["workspace"] == 0
    assert backward["workspace"] > 0, "partial sums of the gradients of parameters"
    assert "memory of one call beyond inputs and results" in result.output
    memory.show(Console(file=io.StringIO()), results.memory)


README = """
<!-- bench results: bench.json -->
before <!-- bench: rows -->
old
<!-- end --> between
<!-- bench: small --><!-- end -->
<!-- bench: small -->
<!-- end -->
after
"""


def test_figures_stand_between_marks(tmp_path: Path) -> None:
    made = cell({"lncompile": 2.0, "limit": 1.0, "torch": 6.0})
    store.save(
        Results(MACHINE, [made], {"import_ms": {"median": 9, "least": 8, "largest": 12}}),
        tmp_path / "bench.json",
    )
    path = tmp_path / "README.md"
    path.write_text(README)
    assert CliRunner().invoke(bench, ["readme", "--check", str(path)]).exit_code == 1
    assert path.read_text() == README
    assert CliRunner().invoke(bench, ["readme", str(path)]).exit_code == 0
    text = path.read_text()
    assert "| layer_norm 4096×1024 forward | 2 (2–2) | 2.00 | 3.00 |" in text
    assert "| `import lncompile` after NumPy | 9 (8–12) ms |  |" in text
    assert "old" not in text
    assert "before <!-- bench: rows -->" in text
    assert "<!-- end --> between" in text
    assert text.rstrip().endswith("after")
    assert CliRunner().invoke(bench, ["readme", "--check", str(path)]).exit_code == 0
    path.write_text(README.replace("small", "smell"))
    result = CliRunner().invoke(bench, ["readme", str(path)])
    assert result.exit_code == 1
    assert "expected one of described, small, summary, rows" in result.output
    path.write_text("no marks")
    assert "expected a line `<!-- bench results" in CliRunner().invoke(bench, ["readme", str(path)]).output


def test_every_figure_can_be_made_of_nothing() -> None:
    for make in figures.FIGURES.values():
        assert isinstance(make(Results(MACHINE)), str)


@pytest.mark.parametrize("file", ["README.md", "benchmarks/RESULTS.md", "benchmarks/RESULTS_EPYC.md"])
def test_pages_have_the_figures_of_the_results(file: str) -> None:
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    results = store.load(path.parent / figures.source(text))
    assert figures.fill(text, results) == text, f"run `python -m benchmarks readme {file}`"


def test_the_summary_is_of_means_and_worst_cells() -> None:
    cells = [
        cell({"lncompile": 2.0, "limit": 1.0, "torch": 6.0}),
        cell({"lncompile": 1.0, "limit": 1.0, "torch": 12.0}, shape=(4096, 4096)),
    ]
    text = figures.FIGURES["summary"](Results(MACHINE, cells))
    assert "| forward, 1 thread | 1.41 (2.00) | – | 6.00 (3.00) | – | – | – |" in text


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.shown import plots

    cells = [
        *line([1.0, 2.0, 4.0]),
        cell({"lncompile": 2.0, "limit": 1.0, "torch": 3.0}),
        cell({"lncompile": 2.0, "limit": 1.0}, phase="backward"),
    ]
    results = Results(MACHINE, cells, peaks={"1": 80.0})
    made = [*plots.draw(results, tmp_path), plots.draw_growth(results, tmp_path)]
    assert [path.stem for path in made] == ["ratio-mapped", "rate-mapped", "roofline-mapped", "growth"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
