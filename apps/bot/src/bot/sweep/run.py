"""A sweep from its sampler to its results.

    sampler ─► variants ─► Blocks of what has no result yet ─► engine ─► checked ─► results ─► tell

What is known already is taken from the results; what comes back is checked against what its task
was for. A block that is lost is tried once more, each variant by itself: one that ends its worker
costs no other its result.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from statistics import fmean
from typing import Any, Final

import msgspec
from dydx_conn import ConnError

from bot.backtest.figures import Figures
from bot.config.document import ConfigError
from bot.config.varied import Base
from bot.ending import whole
from bot.engines.engine import Engine
from bot.engines.work import Lost
from bot.progress import Progress
from bot.run.composition import Bot
from bot.sweep.block import Block, Key, Outcome, Source, code_of, options_of_variant, play_block
from bot.sweep.grid import Grid, LeftOut, Variant, variants_of
from bot.sweep.results import Results, digest_of
from bot.sweep.samplers import Listed, Sampler

# A dozen variants share the cost of a front well; of more, a month's results would come late, and
# what is not done is lost when a sweep is stopped.
LARGEST: Final = 12
_ROUNDS: Final = 2  # blocks for each worker, so that all of them end together


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be swept: a grid over a base, on sources, judged by objectives."""

    grid: Grid
    base: Base
    sources: tuple[Source, ...]
    objectives: tuple[str, ...]


class Missing(msgspec.Struct, frozen=True):
    """Results that nobody got: of how many variants on which recording, and why."""

    name: str
    variants: int
    why: str


class Swept(msgspec.Struct, kw_only=True):
    """What a sweep has found: variants in the order they were tried, and what is not among them."""

    variants: dict[str, Variant] = {}
    outcomes: dict[Key, Outcome] = {}
    left_out: list[LeftOut] = []
    missing: list[Missing] = []
    known: int = 0

    @property
    def digest(self) -> str:
        """Return the hash over all results."""
        return digest_of(self.outcomes.values())


class Sweep:
    """Runs a plan on an engine; what was `swept` so far is there, however it ends."""

    def __init__(self, plan: Plan, engine: Engine, results: Results, progress: Progress) -> None:
        self.swept = Swept()
        self._plan, self._engine, self._results = plan, engine, results
        self._progress = progress
        self._made: set[tuple[str, ...]] = set()

    def run(self, sampler: Sampler) -> Swept:
        """Try what the sampler asks for, until it asks for nothing."""
        sources = len(self._plan.sources)
        self._progress.begin("results", sampler.trials * sources)
        while asked := sampler.ask():
            batch = self._validated(asked, whole=isinstance(sampler, Listed))
            self._play([variant for variant in batch if variant is not None])
            sampler.tell([None if one is None else self.objectives(one) for one in batch])
        if not self.swept.variants:
            raise ConnError(f"expected a variant that can run, got none: {self._reasons()}")
        return self.swept

    def objectives(self, variant: Variant) -> tuple[float, ...] | None:
        """Return the objectives of a variant, None where one of them does not exist."""
        return objectives_of(self.of_variant(variant), self._plan)

    def of_variant(self, variant: Variant) -> list[Outcome]:
        """Return its results, in the order of the sources."""
        keys = (key_of(self._plan, source, variant) for source in self._plan.sources)
        return [self.swept.outcomes[key] for key in keys if key in self.swept.outcomes]

    def _validated(self, asked: Sequence[dict[str, Any]], *, whole: bool) -> list[Variant | None]:
        """Return the variant of each, None for what contradicts itself."""
        found: list[Variant | None] = []
        for changes in [asked] if whole else [[one] for one in asked]:
            try:
                variants, left_out = variants_of(self._plan.base, self._plan.grid, changes)
            except ConfigError as error:
                if whole:
                    raise
                left_out = [LeftOut(changes[0], "; ".join(f.words for f in error.faults))]
                variants = []
            self.swept.left_out += left_out
            for one in variants:
                self._require_made(one)
            self.swept.variants |= {one.config: one for one in variants}
            found += variants or [None]
        return found

    def _require_made(self, variant: Variant) -> None:
        """Load each file of the user's own once, here, where that may be refused."""
        options = options_of_variant(self._plan.base, variant)
        own = options.strategy, options.signals, options.paper.book_model or ""
        if own not in self._made:
            self._made.add(own)
            Bot(options)

    def _reasons(self) -> str:
        return "; ".join(dict.fromkeys(one.why for one in self.swept.left_out[:5]))

    def _play(self, variants: Iterable[Variant]) -> None:
        fresh = {variant.config: variant for variant in variants}
        blocks = [*self._blocks([*fresh.values()])]
        if again := [*self._work(blocks, last=False)]:
            [*self._work(again, last=True)]

    def _blocks(self, variants: Sequence[Variant]) -> Iterator[Block]:
        """Yield blocks of what has no result yet, as many as keep all workers busy."""
        waiting: list[tuple[Source, list[Variant]]] = []
        for source in self._plan.sources:
            keys = {key_of(self._plan, source, variant): variant for variant in variants}
            have = {key: self._results.found[key] for key in keys if key in self._results.found}
            self.swept.known += len(have.keys() - self.swept.outcomes.keys())
            self._take(have.values())
            waiting.append((source, [one for key, one in keys.items() if key not in have]))
        count = sum(len(rest) for _, rest in waiting)
        size = min(LARGEST, max(1, ceil(count / (_ROUNDS * max(1, self._engine.workers)))))
        for source, rest in waiting:
            for alike in _alike(self._plan.base, rest):
                for n in range(0, len(alike), size):
                    yield self._block(source, alike[n : n + size])

    def _block(self, source: Source, variants: Sequence[Variant]) -> Block:
        code = code_of(self._plan.base, variants[0].changes)
        return Block(source=source, base=self._plan.base, variants=(*variants,), code=code)

    def _work(self, blocks: Sequence[Block], *, last: bool) -> Iterator[Block]:
        """Work on blocks; yield what to try again, in smaller ones."""
        add = whole(self._add)
        for number, result in self._engine.run(play_block, blocks):
            block = blocks[number]
            if isinstance(result, list) and not (why := _lie(block, result)):
                add(result)
                continue
            why = result.why if isinstance(result, Lost) else why
            if not last and len(block.variants) > 1:
                yield from (self._block(block.source, [one]) for one in block.variants)
                continue
            self.swept.missing.append(Missing(block.source.label, len(block.variants), why))
            for _ in block.variants:
                self._progress.step(f"{len(self.swept.missing)} lost")

    def _add(self, outcomes: Sequence[Outcome]) -> None:
        self._results.add(outcomes)
        self._take(outcomes)

    def _take(self, outcomes: Iterable[Outcome]) -> None:
        for one in outcomes:
            if one.key not in self.swept.outcomes:
                self.swept.outcomes[one.key] = one
                self._progress.step()


def _alike(base: Base, variants: Iterable[Variant]) -> Iterator[list[Variant]]:
    """Yield those that one pass can have: of the same code, and of one model of books."""
    groups: dict[tuple[Any, ...], list[Variant]] = {}
    for one in variants:
        of = code_of(base, one.changes), one.changes.get("paper.book_model")
        groups.setdefault(of, []).append(one)
    yield from groups.values()


def key_of(plan: Plan, source: Source, variant: Variant) -> Key:
    """Return what a result of a variant on a source is of."""
    code = code_of(plan.base, variant.changes)
    return Key(source.sha256, source.span, variant.config, code)


def _lie(block: Block, result: Sequence[Any]) -> str:
    """Return why results are not those of a block, "" if they are."""
    keys = [one.key for one in result if isinstance(one, Outcome)]
    if keys == block.keys() and all(
        one.changes == variant.changes for one, variant in zip(result, block.variants, strict=True)
    ):
        return ""
    wanted, got = (len({*ours}) for ours in (block.keys(), keys))
    return f"expected {wanted} results of the keys of the task, got {got} of other keys"


def objectives_of(outcomes: Sequence[Outcome], plan: Plan) -> tuple[float, ...] | None:
    """Return the mean of each objective over the sources; None where one does not exist."""
    if len(outcomes) < len(plan.sources) or any(one.failure for one in outcomes):
        return None
    found = []
    for name in plan.objectives:
        values = [figure(one.figures.total, name) for one in outcomes]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        found.append(fmean(known))
    return (*found,)


def figure(figures: Figures, name: str) -> float | None:
    """Return one of the figures by its name."""
    value: float | None = getattr(figures, name)
    return value
