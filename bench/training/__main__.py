"""`make bench-training`: what the adapter gains where no trainer has looked, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench.corpora import CORPORA
from bench.report import Measured, write
from bench.training.material import Material, all_docstrings, docstrings, news
from bench.training.minilm import MiniLM
from bench.training.public_docstrings import public_docstrings
from bench.training.throwaway import throwaway
from cli.progress import shown
from mlops.evaluation.comparison import Answer, compare
from mlops.evaluation.lexical import Lexical, lexical_and_hybrid_ranks
from mlops.evaluation.metrics import Ranks, gain
from mlops.serving.adapter import Adapter
from mlops.training.encoders import Encoder, ServedEncoder
from mlops.training.fitting import FitSettings, fit
from mlops.training.pairs import ranks_of, ranks_with
from mlops.training.progress import Progress

CACHE = Path("var/bench-training")
SEED = 7
KINDS = {"vectors": "384 numbers", "tokens": "256 numbers with their tokens"}
MAX_TRAINING_S = 60
MAX_TRAINING_MIB = 1024


def mrr(ranks: Ranks) -> float:
    return float((1 / ranks).mean())


def gained(name: str, better: Ranks, than: Ranks, *, must_be_clear: bool) -> Measured:
    """A gain in MRR; its interval is among the peers."""
    found = gain(better, than, SEED)
    return Measured(
        name=name,
        value=found.value,
        unit="MRR",
        goal="interval > 0" if must_be_clear else ">= 0",
        holds=found.is_gain if must_be_clear else found.value >= 0,
        peers={"low": found.low, "high": found.high},
    )


def measured(
    name: str, encoder: Encoder, material: Material, progress: Progress
) -> tuple[list[Measured], Adapter]:
    """The rows of one encoder."""
    lexical = Lexical(material.passages)
    pairs = material.pairs(encoder, CACHE, progress)
    adapter = fit(pairs, seed=SEED, settings=FitSettings()).adapter
    simple = throwaway(pairs, SEED)
    rows: list[Measured] = []
    for part, which in (("held out", material.held_out), ("new domain", material.new_domain)):
        frozen, ours, theirs = (ranks_with(pairs, which, one) for one in (None, adapter, simple))
        words, hybrid = lexical_and_hybrid_ranks(
            lexical,
            [material.questions[row] for row in which],
            *pairs.adapted(which, adapter),
            which,
        )
        peers = {"frozen": mrr(frozen), "throw-away": mrr(theirs), "BM25": mrr(words)}
        title = f"{name}, {part}, {len(which):,} of {len(pairs.documents):,}"
        rows += [
            Measured(name=title, value=mrr(ours), unit="MRR", peers=peers),
            Measured(name=f"{name}, {part}: with BM25", value=mrr(hybrid), unit="MRR"),
            gained(f"{name}, {part}: over frozen", ours, frozen, must_be_clear=part == "held out"),
        ]
        if part == "held out":
            rows.append(
                gained(f"{name}, {part}: over throw-away", ours, theirs, must_be_clear=True)
            )
    return rows, adapter


def checked(adapter: Adapter, encoder: Encoder, progress: Progress) -> list[Measured]:
    """The second corpus: an adapter trained on docstrings must not harm what it never saw."""
    material = news()
    pairs = material.pairs(encoder, CACHE, progress)
    positives = pairs.positives
    frozen = ranks_with(pairs, positives, None)
    ours_queries, ours_documents = pairs.adapted(positives, adapter)
    ours = ranks_of(ours_queries, ours_documents, positives)
    words, hybrid = lexical_and_hybrid_ranks(
        Lexical(material.passages), material.questions, ours_queries, ours_documents, positives
    )
    title = f"news, {len(positives):,} titles, trained on docstrings"
    peers = {"frozen": mrr(frozen), "BM25": mrr(words), "with BM25": mrr(hybrid)}
    return [
        Measured(name=title, value=mrr(ours), unit="MRR", peers=peers),
        gained("news: over frozen", ours, frozen, must_be_clear=False),
        refused(ours, frozen),
    ]


def refused(ours: Ranks, frozen: Ranks) -> Measured:
    """Were these the queries that are asked: what harms them must not be found better."""
    found = compare(
        {"candidate": ours, "frozen": frozen},
        candidate="candidate",
        baseline="frozen",
        slices={},
        slice_margin=0.05,
        seed=SEED,
    )
    harms = found.gain.high < 0
    is_refused = found.answer is not Answer.BETTER
    return Measured(
        name="news: where it harms, evaluation refuses it",
        value=float(is_refused),
        unit="0/1",
        goal="1 where it harms",
        holds=is_refused or not harms,
    )


def cost(kind: str) -> list[Measured]:
    """In a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "bench.training.cost", kind]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout)
    return [
        Measured(
            name=f"10,000 pairs of {KINDS[kind]}, every step that there can be",
            value=found["seconds"],
            unit="s",
            goal=f"<= {MAX_TRAINING_S}",
            holds=found["seconds"] <= MAX_TRAINING_S,
            peers={"CPU, s": found["cpu_seconds"], "epochs": found["epochs"]},
        ),
        Measured(
            name=f"10,000 pairs of {KINDS[kind]}: peak memory of the process",
            value=found["peak_mib"],
            unit="MiB",
            goal=f"<= {MAX_TRAINING_MIB}",
            holds=found["peak_mib"] <= MAX_TRAINING_MIB,
        ),
    ]


def main() -> None:
    public, every = docstrings(public_docstrings()), docstrings(all_docstrings())
    served = ServedEncoder()
    with shown("text") as progress:
        rows, _ = measured("wordllama", served, public, progress)
        for name, encoder, material in (
            ("MiniLM", MiniLM(CORPORA), public),
            ("wordllama, methods too", served, every),
        ):
            more, adapter = measured(name, encoder, material, progress)
            rows += more
        rows += checked(adapter, served, progress)
    for kind in KINDS:
        rows += cost(kind)
    names = ("numpy", "scipy", "scikit-learn", "wordllama", "bm25s")
    write("training", rows, {name: version(name) for name in names})


if __name__ == "__main__":
    main()
