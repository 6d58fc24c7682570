"""Preparation of many graphs of the catalog, by several processes, through the cache."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

import torch

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.features.prepare import PreparedGraph, is_cached, prepare


def prepare_many(
    ids: Sequence[str],
    catalog: Catalog,
    *,
    jobs: int = 1,
    broken: dict[str, str] | None = None,
) -> list[PreparedGraph]:
    """Load and prepare graphs of the catalog, in the order of ``ids``.

    Args:
        ids: Ids of the graphs.
        catalog: The catalog.
        jobs: Number of processes that fill the cache; the graphs are then read from it.
        broken: Dictionary that receives the ids of graphs that fail, and the reasons; these graphs
            are left out. Default: the first failure raises.

    Raises:
        GraphFMError: The error of the graph that fails, with its id; GFM191 for an error of
            another kind.
    """
    from tqdm import tqdm

    failed: dict[str, str] = {} if broken is None else broken
    wanted = []
    for id in dict.fromkeys(ids):  # one at a time: a server gives one download its full speed
        with _named(id, broken):
            catalog.fetch(id)
            wanted.append(id)
    prepared: dict[str, PreparedGraph] = {}
    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=len(wanted), desc="preparing", unit="graph", disable=None) as bar:
        new = []
        for id in wanted:
            with _named(id, broken):
                graph = catalog.load(id) if jobs == 1 or catalog.is_cached(id) else None
                if graph is not None and (jobs == 1 or is_cached(graph)):
                    prepared[id] = prepare(graph)
                    bar.update()
                else:
                    new.append(id)
        if new:
            # The largest first, so that all processes end at about the same time.
            new.sort(key=lambda id: -(catalog.entry(id).num_edges or 0))
            context = multiprocessing.get_context("spawn")  # fork and torch's threads do not mix
            with ProcessPoolExecutor(
                jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                waiting = {pool.submit(_fill_cache, catalog, id): id for id in new}
                for done in as_completed(waiting):
                    with _named(waiting[done], broken):
                        done.result()
                    bar.update()
        prepared |= {id: prepare(catalog.load(id)) for id in new if id not in failed}
    return [prepared[id] for id in ids if id not in failed]


@contextmanager
def _named(id: str, broken: dict[str, str] | None) -> Iterator[None]:
    """Add the id of the graph to an error, or record the error in ``broken`` and go on."""
    try:
        yield
    except MemoryError:
        raise  # the machine is at fault, not the graph
    except Exception as error:
        ours = error if isinstance(error, GraphFMError) else None
        if broken is not None:
            broken[id] = f"{ours.code} {ours.what}" if ours else f"{type(error).__name__}: {error}"
        elif ours is not None:
            where = ours.where if id in ours.where else f"{id}: {ours.where}".removesuffix(": ")
            raise type(ours)(
                ours.code, ours.what, where=where, why=ours.why, fix=ours.fix
            ) from error
        else:
            raise DataError(
                "GFM191",
                f"a graph cannot be read: {type(error).__name__}: {error}",
                where=id,
                fix="graphfm datasets verify, or leave it out: --skip-broken",
            ) from error


def _fill_cache(catalog: Catalog, id: str) -> None:
    """Prepare a graph in another process, which leaves it in the cache."""
    prepare(catalog.load(id))
