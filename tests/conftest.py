"""What every test has: a cache of its own for the session, and the option that rewrites golden files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from libraries import shared_library


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what the compiler emits now"
    )


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
