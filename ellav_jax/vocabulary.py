"""Token ids of the hybrid sequence.

Ids 0 … 1023 are the codes of RVQ layer 1, then come EOP and EOS: these 1,026 are what the GAR's head predicts. BOS, PAD
and the phones follow; they are only ever inputs, so the head has no outputs for them.
"""

import dataclasses

import numpy as np

NUM_CODES = 1024
"""Codes of one EnCodec codebook."""
EOP = NUM_CODES
"""End of phone."""
EOS = NUM_CODES + 1
"""End of sequence; a target only."""
NUM_OUTPUTS = NUM_CODES + 2
"""Width of the GAR's head: codes, EOP, EOS."""
BOS = NUM_CODES + 2
"""Begin of speech: separates the phones of the global advance from what follows."""
PAD = NUM_CODES + 3
"""Fills a row behind its last segment; carries segment id 0 and no loss."""
FIRST_PHONE = NUM_CODES + 4
"""Phone `p` of the inventory has token id `FIRST_PHONE + p`."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Ids for an inventory of `num_phones` phones (their order is that of `frontend.json`)."""

    num_phones: int

    @property
    def size(self) -> int:
        """Number of input token ids."""
        return FIRST_PHONE + self.num_phones

    def phone_tokens(self, phones_N: np.ndarray) -> np.ndarray:
        """Phone ids [N] → token ids [N], int32. Raises ValueError for an id outside the inventory."""
        phones_N = np.asarray(phones_N, np.int32)
        if phones_N.size and (phones_N.min() < 0 or phones_N.max() >= self.num_phones):
            raise ValueError(
                f"phone ids {phones_N.min()} … {phones_N.max()} do not fit an inventory of {self.num_phones} phones"
            )
        return phones_N + FIRST_PHONE
