"""Prompts and what is spoken behind them, on real aligned utterances."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.evaluation.protocols import (
    beginning,
    choose_prompt,
    continuation,
    cross_sentence,
    nearest_cut,
    read_sentences,
)
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.inventory import SIL


@pytest.fixture(scope="module")
def dataset(prepared_bundled):
    return Dataset.open(prepared_bundled)


@pytest.fixture(scope="module")
def records(dataset):
    return [*dataset.records("train"), *dataset.records("test")]


@pytest.fixture(scope="module")
def analyzer(dataset):
    return TextAnalyzer(dataset.frontend)


@pytest.mark.parametrize("frames, phones", [(0, 1), (4, 1), (5, 1), (11, 2), (12, 2), (14, 2), (15, 3), (99, 3)])
def test_the_cut_is_the_nearest_inner_boundary(frames, phones):
    assert nearest_cut(np.array([5, 7, 4, 9]), frames) == phones


def test_prompt_and_rest_of_a_continuation_make_the_utterance(records, analyzer, dataset):
    inventory = dataset.frontend.phones
    long = [one for one in records if one.num_frames > 300]
    assert long
    for record in long:
        target = continuation(record, analyzer.phones(record.text), inventory, 225)
        frames = len(target.prompt.codes_Tx8)
        ends = np.cumsum(record.durations_N)[:-1]
        assert abs(frames - 225) == np.abs(ends - 225).min()
        np.testing.assert_array_equal(target.prompt.codes_Tx8, record.codes_Tx8[:frames])
        assert target.prompt.durations_P.sum() == frames
        assert target.reference_frames == record.num_frames - frames
        assert target.text == record.text
        # What is to be heard is what was recorded, up to pronunciations: the dictionary's first is what is spoken.
        recorded = [inventory[phone] for phone in record.phones_N if inventory[phone] != SIL]
        wanted = target.heard_phones(inventory)
        assert len(wanted) == pytest.approx(len(recorded), abs=3)
        assert sum(a == b for a, b in zip(wanted, recorded, strict=False)) > 0.5 * len(recorded)
        said = [inventory[phone] for phone in target.prompt.phones_P if inventory[phone] != SIL]
        assert wanted[: len(said)] == tuple(said)


def test_an_utterance_that_ends_with_the_prompt_can_not_be_continued(records, analyzer, dataset):
    record = records[0]
    assert continuation(record, analyzer.phones(record.text), dataset.frontend.phones, 10**6) is None


def test_a_voice_is_another_utterance_of_the_speaker(records, analyzer, dataset):
    stranger = dataclasses.replace(records[1], id="stranger", speaker="someone else")
    others = [*records, stranger]
    for record in records[:8]:
        target = cross_sentence(record, analyzer.phones(record.text), others, dataset.frontend.phones, 225)
        assert target.prompt_id not in (record.id, "stranger")
        assert target.phones == tuple(analyzer.phones(record.text))
        assert target.reference_frames == record.num_frames
        voice = next(one for one in records if one.id == target.prompt_id)
        assert voice.num_frames >= 225
        np.testing.assert_array_equal(target.prompt.codes_Tx8, voice.codes_Tx8[: len(target.prompt.codes_Tx8)])
    assert cross_sentence(stranger, ["AA"], others, dataset.frontend.phones, 225) is None


def test_the_choice_of_a_voice_does_not_depend_on_the_order(records):
    chosen = [choose_prompt("a text", voices, 150).id for voices in (records, records[::-1])]
    assert chosen[0] == chosen[1]
    assert choose_prompt("a text", records, 10**6) is max(records, key=lambda one: one.num_frames)
    assert choose_prompt("a text", [], 150) is None


def test_a_prompt_may_be_a_whole_recording(records):
    short = min(records, key=lambda one: one.num_frames)
    assert len(beginning(short, 10**6).codes_Tx8) == short.num_frames


def test_sentences_are_lines():
    assert read_sentences("# a remark\nOne.\n\n  Two.  \n", "list") == ["One.", "Two."]
    with pytest.raises(InputError, match="list: no sentences; expected one a line"):
        read_sentences("\n# nothing\n", "list")
