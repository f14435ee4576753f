"""What every test has: a cache of its own for the session, and the option that rewrites golden files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from libraries import shared_library


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what the compiler emits now"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a ``sampled(n)`` test all but every n-th parametrization are slow: each compiles its kernels."""
    counted: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker is None:
            continue
        function = item.nodeid.partition("[")[0]
        if counted[function] % marker.args[0]:
            item.add_marker(pytest.mark.slow)
        counted[function] += 1


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or written to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def rows_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``layer_norm_1024_float32``, for every level of this processor and for AArch64."""
    return shared_library(tmp_path_factory)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))
