"""Token ids."""

import numpy as np
import pytest

from ellav_jax.vocabulary import BOS, EOP, EOS, FIRST_PHONE, NUM_CODES, NUM_OUTPUTS, PAD, Vocabulary


def test_ids_are_apart_and_the_heads_outputs_come_first():
    assert (NUM_CODES, EOP, EOS, NUM_OUTPUTS) == (1024, 1024, 1025, 1026)
    assert min(BOS, PAD) >= NUM_OUTPUTS
    assert len({EOP, EOS, BOS, PAD, FIRST_PHONE}) == 5
    assert Vocabulary(40).size == FIRST_PHONE + 40


def test_phone_tokens_are_int32_behind_the_special_symbols():
    tokens = Vocabulary(40).phone_tokens(np.array([0, 39], np.uint16))
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [FIRST_PHONE, FIRST_PHONE + 39]
    assert Vocabulary(40).phone_tokens([]).tolist() == []


@pytest.mark.parametrize("phones", [[40], [0, -1]])
def test_a_phone_outside_the_inventory_is_refused(phones):
    with pytest.raises(ValueError, match="do not fit an inventory of 40 phones"):
        Vocabulary(40).phone_tokens(phones)
