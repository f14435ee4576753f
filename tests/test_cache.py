"""The store: hits, damage of every kind, a failing file system, races, kills, and its tools."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lncompile
from lncompile import cache, cache_lock, cache_tools
from lncompile.cache import Artifact, Entry, fetch, key_of, lookup
from lncompile.errors import CompilerBug, LncValueError

SPEC = {"norm": "layer_norm", "features": 64, "eps": 1e-5}
ARTIFACT = Artifact(b"\x7fELF" + bytes(range(256)) * 8, "def kernel():\n    'µ'\n", {"norm": "layer_norm"})
DAY_S = 86400.0


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(root))
    return root


class Builder:
    """Counts the builds."""

    def __init__(self, artifact: Artifact = ARTIFACT) -> None:
        self.artifact = artifact
        self.count = 0

    def __call__(self) -> Artifact:
        self.count += 1
        return self.artifact


def must_not_build() -> Artifact:
    pytest.fail("built in spite of a sound entry")


def files(store: Path) -> dict[str, Path]:
    """The files of ``SPEC``'s entry by suffix."""
    key = key_of(SPEC)
    return {suffix: store / "v1" / key[:2] / (key + suffix) for suffix in (".so", ".py", ".json")}


def contents(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file()]


def assert_is_artifact(entry: Entry | None, artifact: Artifact = ARTIFACT) -> None:
    assert entry is not None
    assert (entry.library, entry.source, entry.meta) == (artifact.library, artifact.source, artifact.meta)


# Hits and keys


def test_first_fetch_builds_and_second_hits(store: Path) -> None:
    built = fetch(SPEC, Builder())
    hit = fetch(SPEC, must_not_build)
    assert built == hit == lookup(key_of(SPEC))
    assert_is_artifact(hit)
    assert hit.stored_at == str(files(store)[".so"])
    assert sorted(contents(store)) == sorted(files(store).values())


def test_record_is_json_that_describes_the_files(store: Path) -> None:
    fetch(SPEC, Builder())
    record = json.loads(files(store)[".json"].read_bytes())["record"]
    assert record["spec"] == SPEC
    assert record["meta"] == ARTIFACT.meta
    assert record["library"]["bytes"] == len(ARTIFACT.library)
    assert record["source"]["bytes"] == len(ARTIFACT.source.encode())


def test_fresh_and_cached_meta_are_equal() -> None:
    artifact = Artifact(b"", "", {"shape": (1, (2, 3)), "limit": float("inf")})
    fresh = fetch(SPEC, Builder(artifact))
    assert fresh == fetch(SPEC, must_not_build)
    assert fresh.meta == {"shape": [1, [2, 3]], "limit": float("inf")}


def test_specs_never_share_a_key() -> None:
    values: list[Any] = [0, 1, -1, 1.0, 0.0, -0.0, "1", "", True, False, None, [], {}, [1], [[1]], {"a": 1}]
    specs = [{name: value} for name in ("a", "b", "ab", 'a"') for value in values]
    assert len({key_of(spec) for spec in specs}) == len(specs)
    entries = [fetch(spec, Builder(Artifact(repr(spec).encode(), "", {}))) for spec in specs]
    assert [entry.library for entry in entries] == [repr(spec).encode() for spec in specs]
    assert [fetch(spec, must_not_build) for spec in specs] == entries


def test_key_depends_on_content_alone() -> None:
    assert key_of({"a": 1, "b": (2, 3)}) == key_of({"b": [2, 3], "a": 1})


@pytest.mark.parametrize("spec", [{1: "a"}, {"a": [{None: 1}]}])
def test_keys_that_json_would_turn_into_strings_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(CompilerBug, match="strings"):
        key_of(spec)


def test_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_dir() == os.environ["LNCOMPILE_CACHE_DIR"]
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == str(tmp_path / "xdg" / "lncompile")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == str(tmp_path / ".cache" / "lncompile")


def test_without_a_home_it_works_unstored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LNCOMPILE_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    entry = fetch(SPEC, Builder())
    assert_is_artifact(entry)
    assert entry.stored_at is None


# Damage


@pytest.mark.parametrize("suffix", [".so", ".py", ".json"])
def test_any_flipped_bit_is_a_miss_and_is_repaired(store: Path, suffix: str) -> None:
    fetch(SPEC, Builder())
    path = files(store)[suffix]
    sound = path.read_bytes()
    for position in range(0, len(sound), 1 if suffix == ".json" else 97):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        assert lookup(key_of(SPEC)) is None
        assert len(cache_tools.verify().damaged) == 1
    builder = Builder()
    assert_is_artifact(fetch(SPEC, builder))
    assert builder.count == 1
    assert_is_artifact(fetch(SPEC, must_not_build))
    assert path.read_bytes() == sound


@pytest.mark.parametrize("suffix", [".so", ".py", ".json"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file_is_repaired(store: Path, suffix: str, keep: float) -> None:
    fetch(SPEC, Builder())
    path = files(store)[suffix]
    os.truncate(path, int(path.stat().st_size * keep))
    (damage,) = cache_tools.verify().damaged
    assert damage.path == str(path)
    builder = Builder()
    assert_is_artifact(fetch(SPEC, builder))
    assert builder.count == 1
    assert cache_tools.verify().damaged == ()


@pytest.mark.parametrize("suffix", [".so", ".py", ".json"])
def test_missing_file_is_repaired(store: Path, suffix: str) -> None:
    fetch(SPEC, Builder())
    files(store)[suffix].unlink()
    # Without its record the entry does not exist, so that one is not damage.
    assert [damage.reason for damage in cache_tools.verify().damaged] == ["is missing"] * (suffix != ".json")
    assert_is_artifact(fetch(SPEC, Builder()))
    assert_is_artifact(fetch(SPEC, must_not_build))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[1]", b"{}", b"\xff\xfe", b'{"sha256":"","record":{}}\n']
)
def test_record_that_is_none_is_repaired(store: Path, data: bytes) -> None:
    fetch(SPEC, Builder())
    files(store)[".json"].write_bytes(data)
    assert len(cache_tools.verify().damaged) == 1
    assert_is_artifact(fetch(SPEC, Builder()))
    assert cache_tools.verify().damaged == ()


@pytest.mark.parametrize("suffix", [".so", ".py", ".json"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is no regular file"),
        (os.mkdir, "cannot be read: Is a directory"),
        (lambda path: os.symlink("/dev/zero", path), "is no regular file"),
    ],
    ids=["a pipe", "a directory", "a device"],
)
def test_what_is_no_file_is_damage_and_is_not_waited_for(
    store: Path, suffix: str, make: Callable[[Path], None], reason: str
) -> None:
    fetch(SPEC, Builder())
    path = files(store)[suffix]
    path.unlink()
    make(path)
    before = open_descriptors()
    assert lookup(key_of(SPEC)) is None
    assert cache_tools.verify().damaged == (cache_tools.Damage(str(path), reason),)
    assert open_descriptors() == before
    builder = Builder()
    assert_is_artifact(fetch(SPEC, builder))
    assert builder.count == 1
    # A directory stays in the way of what it was put in the place of.
    assert (lookup(key_of(SPEC)) is None) == path.is_dir()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"spec":[]}', b'{"spec":{"norm":"other"}}'])
def test_intact_record_of_something_else_is_a_miss(store: Path, body: bytes) -> None:
    fetch(SPEC, Builder())
    files(store)[".json"].write_bytes(cache.seal(body))
    assert lookup(key_of(SPEC)) is None
    assert len(cache_tools.verify().damaged) == 1


def test_entry_copied_to_another_key_is_a_miss(store: Path) -> None:
    other = {"norm": "rms_norm"}
    fetch(SPEC, Builder())
    shard = store / "v1" / key_of(other)[:2]
    shard.mkdir(exist_ok=True)
    for suffix, path in files(store).items():
        (shard / (key_of(other) + suffix)).write_bytes(path.read_bytes())
    assert lookup(key_of(other)) is None


def test_builder_error_passes_through_and_the_next_build_repairs(store: Path) -> None:
    fetch(SPEC, Builder())
    os.truncate(files(store)[".so"], 3)

    def fail() -> Artifact:
        raise OSError("the compiler's own trouble")

    with pytest.raises(OSError, match="own trouble"):
        fetch(SPEC, fail)
    assert_is_artifact(fetch(SPEC, Builder()))
    assert sorted(contents(store)) == sorted(files(store).values())


# A file system that does not play along


FAULTS = {
    "no space": errno.ENOSPC,
    "over quota": errno.EDQUOT,
    "read-only": errno.EROFS,
    "forbidden": errno.EACCES,
}


def fail_from(monkeypatch: pytest.MonkeyPatch, name: str, first: int, error: BaseException) -> None:
    """Let ``os.<name>`` fail from its ``first``-th call on."""
    original = getattr(os, name)
    calls = 0

    def faulty(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= first:
            raise error
        return original(*arguments, **keywords)

    monkeypatch.setattr(os, name, faulty)


# mkdir: the root, v1, the shard. open: the lock, the record to read, then the three files.
# The others: one a file.
STEPS = [
    (name, n)
    for name, count in (("mkdir", 3), ("open", 5), ("fsync", 3), ("replace", 3))
    for n in range(1, count + 1)
]


@pytest.mark.parametrize("code", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize(("step", "first"), STEPS)
def test_failing_write_leaves_nothing_and_the_entry_works(
    monkeypatch: pytest.MonkeyPatch, store: Path, step: str, first: int, code: int
) -> None:
    with monkeypatch.context() as patch:
        fail_from(patch, step, first, OSError(code, os.strerror(code)))
        entry = fetch(SPEC, Builder())
    assert_is_artifact(entry)
    assert entry.stored_at is None
    assert contents(store) == []
    assert fetch(SPEC, Builder()).stored_at is not None


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupt_while_writing_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, store: Path, step: str, first: int
) -> None:
    with monkeypatch.context() as patch:
        fail_from(patch, step, first, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            fetch(SPEC, Builder())
    assert contents(store) == []


def test_interrupt_while_building_releases_the_lock(store: Path) -> None:
    def interrupted() -> Artifact:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(SPEC, interrupted)
    assert contents(store) == []
    assert fetch(SPEC, Builder()).stored_at is not None


def test_file_size_limit_of_the_system(store: Path) -> None:
    script = """
import resource
from lncompile.cache import Artifact, fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
entry = fetch({}, lambda: Artifact(bytes(1_000_000), "", {}))
assert entry.library == bytes(1_000_000) and entry.stored_at is None
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=environment(store))
    assert contents(store) == []


def test_hits_work_in_a_read_only_store(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    fetch(SPEC, Builder())
    os.utime(files(store)[".json"], (0, 0))
    for name in ("mkdir", "unlink", "utime", "replace"):
        fail_from(monkeypatch, name, 1, OSError(errno.EROFS, "read-only"))
    open_file = os.open

    def opened_to_read(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, "read-only")
        return open_file(path, flags, *rest)

    monkeypatch.setattr(os, "open", opened_to_read)
    assert_is_artifact(fetch(SPEC, must_not_build))


def test_store_that_is_a_file_is_not_used(store: Path) -> None:
    store.write_text("not a directory")
    assert fetch(SPEC, Builder()).stored_at is None
    assert store.read_text() == "not a directory"


def test_directories_are_private_whatever_the_umask(store: Path) -> None:
    before = os.umask(0)
    try:
        fetch(SPEC, Builder())
    finally:
        os.umask(before)
    directories = [store, *(path for path in store.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o7777 for path in directories} == {0o700}
    assert {path.stat().st_mode & 0o7777 for path in contents(store)} == {0o600}


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_directory_that_others_can_write_is_not_used(store: Path, mode: int, level: int) -> None:
    fetch(SPEC, Builder())
    directory = [store, store / "v1", files(store)[".so"].parent][level]
    directory.chmod(mode)
    builder = Builder()
    assert fetch(SPEC, builder).stored_at is None
    assert builder.count == 1
    assert f"{mode:04o}" in (cache_tools.info().problem or "")


def test_directory_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    fetch(SPEC, Builder())
    if os.geteuid() == 0:
        os.chown(store, 4321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert fetch(SPEC, Builder()).stored_at is None
    assert "belongs to user" in (cache_tools.info().problem or "")


# Opening the library


def answering(number: int) -> Artifact:
    """A real library whose ``answer()`` is that number."""
    llvm = pytest.importorskip("llvmlite.binding")
    elf = pytest.importorskip("lncompile.backends.cpu.elf")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(f"define i32 @answer() {{\n  ret i32 {number}\n}}\n")
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="default")
    return Artifact(elf.link(machine.emit_object(module), ["answer"], soname="answer.so"), "", {})


def answer(entry: Entry) -> int:
    return int(entry.open_library(ctypes.CDLL).answer())


def open_descriptors() -> set[str]:
    return {name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def test_libraries_open_and_stay_apart() -> None:
    entries = [fetch({"answer": number}, partial(answering, number)) for number in range(20)]
    before = open_descriptors()
    # All through the same descriptor number, under which glibc would find the first again.
    assert [answer(entry) for entry in entries] == list(range(20))
    assert open_descriptors() == before


def test_path_spellings_are_distinct_and_lead_to_the_same_place() -> None:
    spellings = [cache._spelling(number) for number in range(1, 2000)]
    assert len(set(spellings)) == len(spellings)
    assert {os.path.normpath(f"/proc/self/fd/{spelling}7") for spelling in spellings} == {"/proc/self/fd/7"}


def test_library_is_opened_from_the_verified_bytes(store: Path) -> None:
    entry = fetch(SPEC, lambda: answering(1))
    files(store)[".so"].write_bytes(answering(2).library)
    assert answer(entry) == 1
    assert answer(fetch(SPEC, lambda: answering(1))) == 1


def test_open_library_survives_truncation_of_the_store(store: Path) -> None:
    library = fetch(SPEC, lambda: answering(7)).open_library(ctypes.CDLL)
    os.truncate(files(store)[".so"], 0)
    assert library.answer() == 7


@pytest.mark.parametrize("trouble", ["missing", "forbidden"])
def test_library_opens_without_memfd(monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    entries = [fetch({"answer": number}, partial(answering, number)) for number in range(3)]
    if trouble == "missing":
        monkeypatch.delattr(os, "memfd_create")
    else:
        fail_from(monkeypatch, "memfd_create", 1, OSError(errno.EACCES, "forbidden"))
    assert [answer(entry) for entry in entries] == [0, 1, 2]


def test_what_is_no_library_is_refused() -> None:
    with pytest.raises(OSError, match=r"ELF|file too short"):
        fetch(SPEC, Builder()).open_library(ctypes.CDLL)


# Many at once


def environment(store: Path) -> dict[str, str]:
    source_root = str(Path(lncompile.__file__).parents[1])
    return os.environ | {"LNCOMPILE_CACHE_DIR": str(store), "PYTHONPATH": source_root}


def test_threads_build_once() -> None:
    barrier = threading.Barrier(8)
    entries: list[Entry] = []

    class SlowBuilder(Builder):
        def __call__(self) -> Artifact:
            time.sleep(0.05)
            return super().__call__()

    builder = SlowBuilder()

    def work() -> None:
        barrier.wait()
        entries.append(fetch(SPEC, builder))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.count == 1
    assert len(entries) == 8
    for entry in entries:
        assert_is_artifact(entry)


RACER = """
import os, sys, time
from lncompile.cache import Artifact, fetch

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
key_count = int(sys.argv[2])

def build():
    token = f"{os.getpid()}-{time.monotonic_ns()}"
    time.sleep(0.01)
    os.write(log, b"built\\n")
    return Artifact(token.encode() * 3000, token, {"norm": "race", "token": token})

print("ready", flush=True)
sys.stdin.readline()
for number in range(key_count):
    entry = fetch({"number": number}, build)
    # A builder leaves its token everywhere, so a mixture of two would show.
    token = entry.meta["token"]
    assert entry.source == token and entry.library == token.encode() * 3000
print("done", flush=True)
"""


def start_racers(store: Path, log: Path, key_count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RACER, str(log), str(key_count)]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(store))
        for _ in range(8)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return racers


def test_processes_build_each_key_once(store: Path, tmp_path: Path) -> None:
    racers = start_racers(store, tmp_path / "log", key_count=10)
    assert [racer.communicate(timeout=60)[0] for racer in racers] == ["done\n"] * 8
    assert (tmp_path / "log").read_text().count("built") == 10
    verification = cache_tools.verify()
    assert (verification.entries, verification.damaged, verification.leftovers) == (10, (), ())


@pytest.mark.parametrize("seed", [0, 1, 2, pytest.param(range(3, 30), marks=pytest.mark.slow)])
def test_killed_builders_leave_a_sound_store(store: Path, tmp_path: Path, seed: int | range) -> None:
    for round_seed in seed if isinstance(seed, range) else (seed,):
        moments = random.Random(round_seed)
        racers = start_racers(store, tmp_path / "log", key_count=30)
        for racer in racers[1:]:
            time.sleep(moments.uniform(0.0, 0.05))
            racer.kill()
        outputs = [racer.communicate(timeout=60)[0] for racer in racers]
        assert outputs[0] == "done\n"
        assert {racer.returncode for racer in racers[1:]} <= {0, -signal.SIGKILL}
        verification = cache_tools.verify()
        assert (verification.entries, verification.damaged) == (30, ())
        assert fetch({"number": 0}, must_not_build).meta["norm"] == "race"
        cache_tools.clear()
        assert contents(store) == []


CRASHER = """
import os, sys
from lncompile.cache import Artifact, fetch

steps_left = int(sys.argv[1])

def crashing(function):
    def stand_in(*arguments, **keywords):
        global steps_left
        if steps_left == 0:
            os._exit(9)
        steps_left -= 1
        return function(*arguments, **keywords)
    return stand_in

for name in ("mkdir", "open", "unlink", "fsync", "replace"):
    setattr(os, name, crashing(getattr(os, name)))
fetch({"number": 0}, lambda: Artifact(b"new library", "new source", {}))
"""


@pytest.mark.parametrize("repairing", [False, True])
def test_crash_before_any_step_of_writing_is_harmless(store: Path, repairing: bool) -> None:
    spec = {"number": 0}
    for step in range(100):
        cache_tools.clear()
        if repairing:
            entry = fetch(spec, lambda: Artifact(b"old library", "old source", {}))
            assert entry.stored_at is not None
            old_source = entry.stored_at.removesuffix(".so") + ".py"
            os.truncate(old_source, 1)
        crashed = subprocess.run(
            [sys.executable, "-c", CRASHER, str(step)], env=environment(store)
        ).returncode
        if crashed:
            # The old damage may still be there; the crash adds none.
            damaged = {damage.path for damage in cache_tools.verify().damaged}
            assert damaged <= ({old_source} if repairing else set())
        entry = fetch(spec, Builder(Artifact(b"newest library", "newest source", {})))
        # The new one is right too if only the lock was yet to be given back.
        assert (entry.library, entry.source) in (
            (b"new library", "new source"),
            (b"newest library", "newest source"),
        )
        assert cache_tools.verify().damaged == ()
        if not crashed:
            break
    assert step > 10


def test_killed_builder_with_a_forked_child_does_not_block_others(store: Path) -> None:
    script = """
import os, signal, sys
from lncompile.cache import fetch

def build():
    if os.fork() == 0:
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

fetch({"number": 0}, build)
"""
    pipe = subprocess.PIPE
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True, env=environment(store)
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "forked\n"
    parent.wait()
    try:
        assert fetch({"number": 0}, Builder()).stored_at is not None
    finally:
        parent.communicate()


def test_lock_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    shard = files(store)[".so"].parent
    shard.mkdir(parents=True, mode=0o700)
    for directory in (store, store / "v1"):
        directory.chmod(0o700)
    monkeypatch.setattr(cache, "LOCK_PATIENCE_S", 0.05)
    with cache_lock.locked(str(shard), key_of(SPEC), 0) as held:
        assert held
        entry = fetch(SPEC, Builder())
        assert entry.stored_at is None
        assert_is_artifact(entry)
    assert fetch(SPEC, Builder()).stored_at is not None


def test_lock_on_a_file_that_was_just_unlinked_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The holder gives the lock back between our opening the file and our locking it."""
    path = tmp_path / "key.lock"
    original = fcntl.flock
    replaced: list[os.stat_result] = []

    def flock(descriptor: int, operation: int) -> None:
        if not replaced:
            replaced.append(os.fstat(descriptor))
            path.unlink()
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with cache_lock.locked(str(tmp_path), "key", 1.0) as held:
        assert held
        with cache_lock.locked(str(tmp_path), "key", 0) as held_twice:
            assert not held_twice
    assert replaced
    assert not path.exists()


def test_forked_child_can_use_the_store_while_the_parent_builds(store: Path) -> None:
    script = """
import os
from lncompile.cache import Artifact, fetch

def build():
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return Artifact(b"parent", "", {})
    entry = fetch({"number": 1}, lambda: Artifact(b"child", "", {}))
    os._exit(entry.stored_at is None)

assert fetch({"number": 0}, build).stored_at
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=environment(store))
    assert fetch({"number": 0}, must_not_build).library == b"parent"
    assert fetch({"number": 1}, must_not_build).library == b"child"


def test_hit_imports_nothing_heavy(store: Path) -> None:
    fetch(SPEC, lambda: answering(3))
    script = f"""
import sys
import lncompile
already = set(sys.modules)
import ctypes
from lncompile.cache import fetch
assert fetch({SPEC!r}, None).open_library(ctypes.CDLL).answer() == 3
forbidden = {{"numba", "llvmlite", "cupy", "torch", "click", "rich"}}
print(*(forbidden & set(sys.modules)), *({{"tempfile", "importlib.metadata"}} & (set(sys.modules) - already)))
"""
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, check=True, env=environment(store), capture_output=True, text=True)
    assert ran.stdout.split() == []


# Tools


def fill(store: Path, count: int, age_days: float = 0.0) -> list[str]:
    """That many entries of 1000 bytes of library, the first one used last; their keys."""
    keys = []
    for number in range(count):
        norm = "layer_norm" if number % 2 else "rms_norm"
        entry = fetch({"number": number}, Builder(Artifact(bytes(1000), "", {"norm": norm})))
        keys.append(entry.key)
        used = time.time() - age_days * DAY_S - number
        os.utime(store / "v1" / entry.key[:2] / (entry.key + ".json"), (used, used))
    return keys


def leave_over(store: Path, age_s: float) -> list[Path]:
    """What killed builders leave."""
    key = key_of({"left": "over"})
    shard = store / "v1" / key[:2]
    for directory in (store, store / "v1", shard):
        directory.mkdir(mode=0o700, exist_ok=True)
    paths = [shard / (key + suffix) for suffix in (".lock", ".so", ".so.77-0123456789abcdef.tmp")]
    for path in paths:
        path.write_bytes(b"left")
        os.utime(path, (time.time() - age_s,) * 2)
    return sorted(paths)


def test_tools_on_no_store(store: Path) -> None:
    assert cache_tools.info() == cache_tools.Info(str(store), 0, 0, {}, 0, None)
    assert cache_tools.verify() == cache_tools.Verification(0, (), ())
    nothing = cache_tools.Removal(0, 0, 0, 0)
    assert cache_tools.prune(0, 0) == cache_tools.clear() == nothing
    assert not store.exists()


def test_info_counts(store: Path) -> None:
    fill(store, 5)
    leave_over(store, age_s=0)
    fetch({"norm": "none in meta"}, Builder(Artifact(b"", "", {})))
    info = cache_tools.info()
    assert (info.path, info.entries, info.leftovers, info.problem) == (str(store), 6, 3, None)
    assert info.norms == {"layer_norm": 2, "rms_norm": 3}
    assert info.bytes == sum(path.stat().st_size for path in contents(store))


def test_verify_tells_leftovers_from_damage(store: Path) -> None:
    keys = fill(store, 4)
    leftovers = leave_over(store, age_s=0)
    damaged = store / "v1" / keys[2][:2] / (keys[2] + ".py")
    damaged.write_text("x")
    verification = cache_tools.verify()
    assert verification.entries == 4
    assert verification.damaged == (cache_tools.Damage(str(damaged), "has 1 bytes, expected 0"),)
    assert sorted(verification.leftovers) == [str(path) for path in leftovers]


def test_leftovers_do_not_hinder_a_build(store: Path) -> None:
    leave_over(store, age_s=0)
    assert fetch({"left": "over"}, Builder()).stored_at is not None
    assert cache_tools.verify().damaged == ()


def test_prune_removes_least_recently_used(store: Path) -> None:
    keys = fill(store, 6)
    size = cache_tools.info().bytes // 6
    removal = cache_tools.prune(max_bytes=3 * size + size // 2)
    assert (removal.entries, removal.leftovers, removal.kept) == (3, 0, 0)
    assert [lookup(key) is not None for key in keys] == [True] * 3 + [False] * 3
    assert cache_tools.info().bytes + removal.bytes == pytest.approx(6 * size, abs=6)
    assert cache_tools.prune(max_bytes=3 * size + size // 2).entries == 0


def test_prune_by_age_spares_what_was_used(store: Path) -> None:
    keys = fill(store, 3, age_days=10)
    assert lookup(keys[1]) is not None
    assert cache_tools.prune(max_age_days=9).entries == 2
    assert [lookup(key) is not None for key in keys] == [False, True, False]


def test_hit_renews_at_most_daily(store: Path) -> None:
    (key,) = fill(store, 1, age_days=0.9)
    record = store / "v1" / key[:2] / (key + ".json")
    before = record.stat().st_mtime
    lookup(key)
    assert record.stat().st_mtime == before
    os.utime(record, (before - DAY_S,) * 2)
    lookup(key)
    assert record.stat().st_mtime > before


def test_prune_removes_old_leftovers_alone(store: Path) -> None:
    fill(store, 1)
    leave_over(store, age_s=600)
    assert cache_tools.prune() == cache_tools.Removal(0, 0, 0, 0)
    leave_over(store, age_s=7200)
    assert cache_tools.prune() == cache_tools.Removal(0, 3, 12, 0)
    assert cache_tools.info().entries == 1
    assert cache_tools.info().leftovers == 0


@pytest.mark.parametrize("tool", [cache_tools.prune, cache_tools.clear])
def test_what_is_being_built_is_kept(store: Path, tool: Callable[[], cache_tools.Removal]) -> None:
    leftovers = leave_over(store, age_s=7200)
    with cache_lock.locked(str(leftovers[0].parent), key_of({"left": "over"}), 0) as held:
        assert held
        assert tool() == cache_tools.Removal(0, 0, 0, 1)
        assert sorted(contents(store)) == leftovers


def test_clear_removes_what_is_ours_alone(store: Path) -> None:
    fill(store, 3)
    leave_over(store, age_s=0)
    foreign = [store / "notes.txt", store / "v1" / "a.json", leave_over(store, age_s=0)[0].parent / "b.so"]
    for path in foreign:
        path.write_text("not ours")
    removal = cache_tools.clear()
    assert (removal.entries, removal.leftovers, removal.kept) == (3, 3, 0)
    assert sorted(contents(store)) == sorted(foreign)


def test_clear_removes_damaged_entries(store: Path) -> None:
    fetch(SPEC, Builder())
    files(store)[".json"].write_bytes(b"{")
    assert cache_tools.clear().entries == 1
    assert contents(store) == []


def test_tools_say_what_they_could_not_remove(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    fill(store, 2)
    fail_from(monkeypatch, "unlink", 1, OSError(errno.EACCES, "forbidden"))
    assert cache_tools.clear() == cache_tools.Removal(0, 0, 0, 2)
    assert cache_tools.verify().entries == 2
    assert cache_tools.verify().damaged == ()


@pytest.mark.parametrize("limits", [{"max_bytes": -1}, {"max_age_days": -0.5}])
def test_negative_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(LncValueError, match=next(iter(limits))):
        cache_tools.prune(**limits)
