import dataclasses

import numpy as np
import pytest

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Heard
from ellav_jax.evaluation.phone_recognition import PhonesHeard
from ellav_jax.frontend.inventory import IPA, SIL


@pytest.fixture(scope="module")
def recordings(prepared_bundled, small_corpus):
    dataset = Dataset.open(prepared_bundled)
    audio = {one.id: one.audio for one in small_corpus.utterances}
    found = []
    for record in dataset.records("test"):
        phones = tuple(dataset.frontend.phones[phone] for phone in record.phones_N)
        spoken = tuple(phone for phone in phones if phone != SIL)
        found.append(Heard(record.text, spoken, *audio[record.id].read(), 0, np.zeros(0, np.float32), True))
    return dataset.frontend, found


def test_more_phones_are_heard_in_what_says_them_than_in_another_recording(recordings):
    frontend, heard = recordings
    metric = PhonesHeard(frontend)
    right = [metric.measure(one) for one in heard]
    others = [dataclasses.replace(one, phones=heard[i - 1].phones) for i, one in enumerate(heard)]
    wrong = [metric.measure(one) for one in others]
    shares = [sum(one["phones_missed"] for one in run) / sum(one["phones"] for one in run) for run in (right, wrong)]
    assert shares[0] < 0.6 < shares[1]
    # Whatever was heard before: the same again.
    assert [metric.measure(one) for one in heard[::-1]] == right[::-1]


def test_phones_of_ipa_are_refused(recordings):
    frontend, _ = recordings
    with pytest.raises(InputError, match="knows ARPAbet"):
        PhonesHeard(dataclasses.replace(frontend, phone_set=IPA, aligner="textgrid"))
