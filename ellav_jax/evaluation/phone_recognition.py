"""Phones that were to be said and were not heard, by pocketsphinx's phone decoder."""

from collections.abc import Mapping, Sequence
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.evaluation.edit_counts import count_edits
from ellav_jax.evaluation.metric import Column, Heard
from ellav_jax.evaluation.pocketsphinx_audio import decode_pcm, pcm_for_pocketsphinx
from ellav_jax.frontend.frontend import Frontend
from ellav_jax.frontend.inventory import ARPABET, without_stress

_SETTINGS = {"lw": 1.0, "beam": 1e-60, "pbeam": 1e-60}
"""A low weight of the phonetic language model: the decoder should hear what was said, not what English would say. Of the
weights 1, 1.5, 2, 4 and 6.5, 1 left the fewest phones of 27 real recordings unheard (42 %; 1.5: 43 %, 6.5: 63 %)."""


class PhonesHeard:
    """The share of phones that the phone decoder did not hear where they should stand: deleted or heard as another.

    The decoder knows the phones of English and which follow which, but no words, so that it can't make up what a
    language model would expect. It is hard of hearing: it misses 42 % of the bundled recordings' phones too, so
    the figure means something beside the ground truth's only. Speech that is far too long hides missing phones among what
    is heard by chance: the phone error rate shows it. A forced alignment was not taken in its place because it
    finds every phone by construction; its scores tell how well one fits, but where to draw the line depends on the voice.
    """

    name = "phones-pocketsphinx"
    columns = (
        Column("not heard %", "phones deleted or heard as others", "phones_missed", "phones", 100, 1, "lower"),
        Column("deleted %", "phones deleted", "phones_deleted", "phones", 100, 1, "lower"),
        Column(
            "PER %", "phone error rate: those, and phones heard beside them", "phone_errors", "phones", 100, 1, "lower"
        ),
    )

    def __init__(self, frontend: Frontend):
        """Raises InputError for phones that aren't ARPAbet."""
        if frontend.phone_set != ARPABET:
            raise InputError(
                f"the phone decoder knows ARPAbet, the models' phones are {frontend.phone_set}; give --phones none"
            )
        from pocketsphinx import Decoder, get_model_path

        model = get_model_path("en-us/en-us-phone.lm.bin")
        self._decoder = Decoder(lm=None, dict=None, allphone=model, **_SETTINGS, loglevel="FATAL")

    def measure(self, heard: Heard) -> Mapping[str, Any]:
        """Counts of phones, and those that were heard."""
        found = self.hear(heard)
        counts = count_edits([without_stress(phone) for phone in heard.phones], found)
        return {
            "phones": counts.length,
            "phones_missed": counts.substitutions + counts.deletions,
            "phones_deleted": counts.deletions,
            "phones_inserted": counts.insertions,
            "phone_errors": counts.errors,
            "phones_heard": " ".join(found),
        }

    def hear(self, heard: Heard) -> Sequence[str]:
        """Phones that are heard, silence and noises left out."""
        self._decoder.reinit_feat()  # what it hears must not depend on what it heard before
        decode_pcm(self._decoder, pcm_for_pocketsphinx(heard.waveform_S, heard.sample_rate))
        names = [segment.word for segment in self._decoder.seg()] if self._decoder.hyp() is not None else []
        return [name for name in names if name != "SIL" and name.isalpha()]
