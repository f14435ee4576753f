"""The tuner's decision, on times that are made up: the same in every run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from lncompile.autotune.search import Search

Times = tuple[float, float]


class Machine:
    """Measures contenders of these times, forward and backward, each with a little noise."""

    def __init__(self, *times: Times, noise: float = 0.01, seed: int = 0) -> None:
        self.times = times
        self.noise = noise
        self.random = random.Random(seed)
        self.calls: Counter[int] = Counter()
        self.clock = 0

    def __call__(self, number: int) -> Times:
        self.calls[number] += 1
        self.clock += 1
        forward, backward = self.times[number]
        return forward * self.lognormal(), backward * self.lognormal()

    def lognormal(self) -> float:
        return self.random.lognormvariate(0.0, self.noise)


def silent(what: str, done: int, of: int) -> None:
    assert 0 <= done < of
    assert what in ("measuring", "confirming")


def search(machine: Callable[[int], Times], count: int) -> Search:
    return Search(count, machine, silent)


def chosen(machine: Machine) -> int:
    return search(machine, len(machine.times)).run()


def test_the_fastest_is_chosen() -> None:
    machine = Machine((1.0, 2.0), (0.95, 1.9), (0.8, 1.6), (1.1, 2.0))
    run = search(machine, 4)
    assert run.run() == 2
    assert [s.verdict for s in run.standings] == ["heuristic", "no faster", "fastest", "slower"]
    assert run.standings[2].ratio == pytest.approx(0.8, rel=0.02)
    assert run.standings[2].medians == pytest.approx((0.8, 1.6), rel=0.02)


@pytest.mark.parametrize("times", [(1.0, 2.0), (0.995, 1.99), (1.01, 1.99), (0.999, 2.002)])
def test_what_is_as_fast_does_not_replace_the_heuristic(times: Times) -> None:
    assert chosen(Machine((1.0, 2.0), times, noise=0.0)) == 0


def test_no_noise_replaces_the_heuristic() -> None:
    """Contenders that are all the same, on machines of every noise."""
    for seed in range(300):
        noise = (0.01, 0.05, 0.2, 0.5)[seed % 4]
        assert chosen(Machine(*[(1.0, 1.0)] * 8, noise=noise, seed=seed)) == 0


def test_never_slower() -> None:
    """Of contenders around the heuristic's time, one that is chosen is faster."""
    replaced = 0
    for seed in range(200):
        rng = random.Random(seed)
        others = [(rng.uniform(0.8, 1.3), rng.uniform(0.8, 1.3)) for _ in range(6)]
        machine = Machine((1.0, 1.0), *others, noise=rng.choice([0.01, 0.1, 0.3]), seed=seed)
        forward, backward = machine.times[chosen(machine)]
        assert forward * backward <= 1.0
        replaced += (forward, backward) != (1.0, 1.0)
    assert replaced > 50


def test_neither_phase_may_lose() -> None:
    assert chosen(Machine((1.0, 1.0), (0.5, 1.05))) == 0
    assert chosen(Machine((1.0, 1.0), (1.05, 0.5))) == 0
    assert chosen(Machine((1.0, 1.0), (0.5, 1.0))) == 1


def test_a_loser_is_not_measured_to_the_end() -> None:
    machine = Machine((1.0, 1.0), (2.0, 2.0), (1.05, 1.05), (0.9, 0.9))
    assert chosen(machine) == 3
    assert machine.calls[1] == machine.calls[2] == 3
    assert machine.calls[3] > 20


def test_where_all_have_lost_nothing_more_is_measured() -> None:
    machine = Machine((1.0, 1.0), (1.5, 1.5), (1.2, 1.2))
    assert chosen(machine) == 0
    assert machine.calls.total() == 9


def test_a_lone_heuristic_is_not_measured() -> None:
    machine = Machine((1.0, 1.0))
    assert chosen(machine) == 0
    assert not machine.calls


class Drifting(Machine):
    """Becomes slower from call to call, three times as slow in the end."""

    def __call__(self, number: int) -> Times:
        forward, backward = super().__call__(number)
        slowness = 1.0 + self.clock / 100
        return forward * slowness, backward * slowness


def test_a_machine_that_slows_down_misleads_nobody() -> None:
    assert chosen(Drifting((1.0, 1.0), (1.0, 1.0), (0.99, 0.99))) == 0
    assert chosen(Drifting((1.0, 1.0), (1.0, 1.0), (0.8, 0.8))) == 2


class Lucky(Machine):
    """Contender 1 is fast until the rounds are over, and as all others when it counts."""

    def __call__(self, number: int) -> Times:
        forward, backward = super().__call__(number)
        luck = 0.7 if number == 1 and self.calls[1] <= 15 else 1.0
        return forward * luck, backward * luck


def test_luck_in_the_rounds_is_not_enough() -> None:
    machine = Lucky((1.0, 1.0), (1.0, 1.0), (0.85, 0.85))
    # The next one has its turn then.
    assert chosen(machine) == 2
    assert machine.calls[1] == 36


def test_the_order_of_a_round_turns() -> None:
    order: list[int] = []

    def measure(number: int) -> Times:
        order.append(number)
        return 1.0, 1.0

    search(measure, 3).run()
    assert order[:9] == [0, 1, 2, 1, 2, 0, 2, 0, 1]


def test_what_is_known_survives_an_interrupt() -> None:
    machine = Machine((1.0, 1.0), (1.5, 1.5), (0.9, 0.9))

    def measure(number: int) -> Times:
        if machine.clock == 11:
            raise KeyboardInterrupt
        return machine(number)

    run = search(measure, 3)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert [s.verdict for s in run.standings] == ["heuristic", "slower", "unfinished"]
    assert run.standings[2].ratio == pytest.approx(0.9, rel=0.05)
