"""A page on a pair of trained models: one HTML file, sound and figures inside it, that opens without a network."""

import dataclasses
import html
from collections.abc import Mapping, Sequence

import numpy as np

from ellav_jax.evaluation.figures import RANGE_DB, Curves, Spoken, spectrograms, training_curves
from ellav_jax.evaluation.page_parts import Clip, document, paragraphs, player, table
from ellav_jax.evaluation.teacher_forced import SMOOTHING, TeacherForced

SPECTROGRAMS = (
    f"Both spectrograms of a sentence share one time axis and one scale of levels ({RANGE_DB:.0f} dB). Lines are phone "
    "boundaries: in the resynthesis those of the forced aligner, in the synthesis those where the GAR ended a phone."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Sentence:
    """A text, the clips to compare, and those of them whose spectrograms are drawn above each other."""

    id: str
    text: str
    clips: Sequence[Clip]
    drawn: Sequence[Spoken]


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """What the page tells. accuracy_by_layer: held-out share of codes that are the first choice, by RVQ layer from 1.

    made: tables of how it was made, {caption: {name: value}}. lead, listening, credit: paragraphs.
    """

    title: str
    lead: Sequence[str]
    listening: str
    sentences: Sequence[Sentence]
    curves: Sequence[Curves]
    accuracy_by_layer: Mapping[int, float]
    teacher_forced: TeacherForced
    made: Mapping[str, Mapping[str, str]]
    credit: str


def render(page: Page) -> str:
    """The page as HTML5. Raises InputError where matplotlib is missing."""
    main = f"""<h2 id="listen">Listen</h2>
{paragraphs([page.listening, SPECTROGRAMS])}
{"".join(map(_sentence, page.sentences))}
<h2 id="learning">Learning</h2>
{_learning(page)}
<h2 id="teacher-forced">Teacher-forced layer-1 codes</h2>
{_teacher_forced(page.teacher_forced)}"""
    return document(page.title, page.lead, main, page.made, page.credit)


def _sentence(sentence: Sentence) -> str:
    lengths = "; ".join(
        f"{one.title}: {one.seconds:.2f} seconds, {len(one.phones)} phones: {' '.join(one.phones)}"
        for one in sentence.drawn
    )
    drawing = spectrograms(sentence.drawn, f"Spectrograms with phone boundaries. {lengths}.")
    return f"""
<section class="sentence" aria-labelledby="{html.escape(sentence.id)}">
<h3 id="{html.escape(sentence.id)}">“{html.escape(sentence.text)}” <span class="id">{html.escape(sentence.id)}</span></h3>
<div class="players">
{"".join(map(player, sentence.clips))}
</div>
<div class="plot" tabindex="0" role="group" aria-label="Spectrograms">{drawing}</div>
</section>
"""


def _learning(page: Page) -> str:
    ends = "; ".join(
        f"{run.title}: held-out loss {run.held_out[1][-1]:.2f} after {run.held_out[0][-1]} steps" for run in page.curves
    )
    shares = {f"{layer}": f"{value:.1%}" for layer, value in sorted(page.accuracy_by_layer.items())}
    return f"""<figure>
<div class="plot" tabindex="0" role="group" aria-label="Loss curves">{
        training_curves(page.curves, page.accuracy_by_layer, f"Loss curves. {ends}.")
    }</div>
<figcaption>Training losses are means over the steps since the point before, with dropout; held-out ones are of the test
split, without. The GAR's loss counts codes, EOP and EOS, the NAR's the codes of layers 2 … 8 behind the prompt.</figcaption>
</figure>
{table("Held-out accuracy by RVQ layer, silence included", ["RVQ layer", *shares], [("accuracy", *shares.values())])}"""


def _teacher_forced(figures: TeacherForced) -> str:
    rows = [
        ("GAR", f"{figures.accuracy:.1%}", f"{figures.cross_entropy:.2f}", f"{np.exp(figures.cross_entropy):.0f}"),
        ("Best constant guess for the phone", f"{figures.constant_accuracy:.1%}", "—", "—"),
        (
            "Unigram of the phone",
            "—",
            f"{figures.unigram_cross_entropy:.2f}",
            f"{np.exp(figures.unigram_cross_entropy):.0f}",
        ),
    ]
    return f"""<p>How well the GAR predicts the next layer-1 code of held-out speech when all before it is given, beside what
the phone alone tells. Over {figures.frames:,} frames; silence is left out throughout.</p>
{
        table(
            "Held-out layer-1 codes",
            ["predictor", "accuracy", "cross-entropy, nats a code", "perplexity"],
            rows,
        )
    }
<p>The GAR is right <strong>{figures.accuracy_ratio:.1f} times</strong> as often as the constant guess, and
<strong>{abs(figures.margin):.2f} nats</strong> a code {"below" if figures.margin >= 0 else "above"} the unigram.</p>
<p class="caption">Both baselines are counted on the whole training split, of the phone that each frame stands behind; the
unigram adds {SMOOTHING:g} to each count. The GAR chooses among EOP and EOS too, which is counted against it.</p>"""
