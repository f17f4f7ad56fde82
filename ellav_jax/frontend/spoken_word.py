"""SpokenWord: what a normaliser makes of a text."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SpokenWord:
    """One word as it is spoken."""

    text: str
    """Lower case; a letter name as CMUdict writes it ("p.")."""
    is_letter: bool
    pause_after: bool
    """Whether a pause mark follows it."""

    @property
    def plain(self) -> str:
        """As dictionaries without CMUdict's letter names have it: "x." is "x", "x.s" is "x's"."""
        return self.text.replace(".s", "'s").rstrip(".")
