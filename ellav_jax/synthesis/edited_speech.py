"""An edit carried out: new words spoken between what is kept of a recording."""

import dataclasses

import numpy as np

from ellav_jax.errors import RunError
from ellav_jax.models.nar import NUM_LAYERS
from ellav_jax.synthesis.control import Plan
from ellav_jax.synthesis.editing import Edit, merge_silences
from ellav_jax.synthesis.engine import Engine
from ellav_jax.synthesis.other_layers import Unfilled
from ellav_jax.synthesis.prompts import Prompt, phone_ids
from ellav_jax.synthesis.request import SpeechRequest
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.speech import Speech

VOICE_SECONDS = 3.0
"""Of left context that an edit wants to take the voice from."""


def carry_out(engine: Engine, recording: Prompt, edit: Edit, plan: Plan, sampling: SamplingConfig) -> Speech:
    """Speaks what is new and puts it between what is kept. Raises RunError when the GAR does not end a stretch."""
    starts = np.cumsum([0, *recording.durations_P])
    plan_ids = phone_ids(plan.phoned.phones, engine.frontend)
    ids = [(recording.phones_P if part.kept else plan_ids)[part.begin : part.end] for part in edit.parts]
    done = Prompt(*(array[:0] for array in (recording.phones_P, recording.durations_P, recording.codes_Tx8)))
    given, calls, rows = np.zeros(0, bool), 0, engine.placement.multiple
    for number, part in enumerate(edit.parts):
        if part.kept:
            durations_N = recording.durations_P[part.begin : part.end]
            codes_Tx8 = recording.codes_Tx8[starts[part.begin] : starts[part.end]]
        else:
            request = SpeechRequest(
                _voiced(engine, recording, done),
                plan.phoned.phones[part.begin : part.end],
                floors=plan.floors[part.begin : part.end],
                caps=plan.caps[part.begin : part.end],
            )
            right = np.concatenate([*ids[number + 1 :], np.zeros(0, np.int32)])
            stretch = dataclasses.replace(engine.stretch(request, sampling.seed), right_R=right)
            first = engine.decode([stretch], sampling, rows)[0]
            if not first.finished:
                raise RunError("the GAR did not end the new words by itself; give their phones a cap (--control)")
            durations_N = request.prompt.durations_behind(first.durations)
            codes_Tx8 = np.pad(first.codes_T[:, None], ((0, 0), (0, NUM_LAYERS - 1)))
            calls += first.calls
        done = Prompt(
            np.concatenate([done.phones_P, ids[number]]),
            np.concatenate([done.durations_P, durations_N]),
            np.concatenate([done.codes_Tx8, codes_Tx8]),
        )
        given = np.concatenate([given, np.full(len(codes_Tx8), part.kept)])
    phones, durations_N, words = merge_silences(
        [engine.frontend.phones[phone] for phone in done.phones_P], done.durations_P, edit.words
    )
    unfilled = Unfilled(phone_ids(phones, engine.frontend), durations_N, done.codes_Tx8, given)
    codes_Tx8 = engine.fill([unfilled], sampling, rows)[0]
    return Speech(engine.codec.decode(codes_Tx8), codes_Tx8, tuple(phones), durations_N, calls, True, words)


def _voiced(engine: Engine, recording: Prompt, left: Prompt) -> Prompt:
    """The left context; where it is too short to take the voice from, with the recording itself ahead of it."""
    if len(left.codes_Tx8) >= VOICE_SECONDS * engine.codec.frame_rate:
        return left
    names = [engine.frontend.phones[phone] for phone in (*recording.phones_P, *left.phones_P)]
    phones, durations, _ = merge_silences(names, np.concatenate([recording.durations_P, left.durations_P]))
    codes = np.concatenate([recording.codes_Tx8, left.codes_Tx8])
    return Prompt(phone_ids(phones, engine.frontend), durations, codes)
