"""Where the codes of a data set stand in their recordings, against where prepare cut them."""

import numpy as np

from data_pipelines.records import Dataset
from ellav_jax.evaluation.recordings import matching_part
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.durations import trim_edges
from ellav_jax.resampling import resample


def test_the_part_is_the_one_that_prepare_encoded(prepared_bundled, small_corpus, bundled_codec):
    dataset = Dataset.open(prepared_bundled)
    aligner = Aligner(dataset.frontend, TextAnalyzer(dataset.frontend))
    audio = {one.id: one.audio for one in small_corpus.utterances}
    for record in list(dataset.records("test"))[:4]:
        wave_S, rate = audio[record.id].read()
        trimmed_S, _ = trim_edges(wave_S, rate, aligner.align(wave_S, rate, record.text), dataset.frontend)
        wanted_S = resample(trimmed_S, rate, 24000)
        decoded_S = bundled_codec.decode(record.codes_Tx8.astype(np.int32))
        found_S = matching_part(resample(wave_S, rate, 24000), decoded_S)
        assert len(found_S) == len(decoded_S)
        # Within 5 ms, a period of the voice: by more, speech no longer looks like itself.
        best = max(
            np.corrcoef(found_S[120:-400], wanted_S[120 + shift : len(found_S) - 400 + shift])[0, 1]
            for shift in range(-120, 121)
        )
        assert best > 0.95


def test_a_recording_that_ends_early_is_followed_by_silence():
    noise = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(matching_part(noise, np.pad(noise, (0, 50))), np.pad(noise, (0, 50)))
    np.testing.assert_array_equal(matching_part(noise, 0.5 * noise[300:700]), noise[300:700])
