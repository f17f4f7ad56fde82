"""IPA as espeak-ng writes American English → ARPAbet.

The segments were collected by running espeak-ng 1.52 (en-us) over all words of CMUdict; the choice of ARPAbet follows
CMUdict's own transcriptions (unstressed ə is AH, ᵻ is IH, syllabic consonants are AH + consonant, the flap is T).
"""

from ellav_jax.errors import InputError
from ellav_jax.frontend.inventory import VOWELS

_STRESS = {"ˈ": "1", "ˌ": "2"}

_SEGMENTS = {
    # vowels
    "ɑː": "AA", "ɑ": "AA", "æ": "AE", "a": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔː": "AO", "ɔ": "AO", "ɒ": "AA",
    "ɛ": "EH", "e": "EH", "ɜː": "ER", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "ɪ": "IH", "ᵻ": "IH", "i": "IY", "iː": "IY",
    "iːː": "IY", "ʊ": "UH", "u": "UW", "uː": "UW", "o": "OW", "oː": "OW",
    # diphthongs and vowel pairs
    "aʊ": "AW", "aɪ": "AY", "eɪ": "EY", "oʊ": "OW", "ɔɪ": "OY", "iə": "IY AH", "aɪə": "AY AH", "aʊə": "AW AH",
    "aɪɚ": "AY ER", "aʊɚ": "AW ER",
    # r-coloured vowels
    "ɑːɹ": "AA R", "ɔːɹ": "AO R", "oːɹ": "AO R", "ɛɹ": "EH R", "ɪɹ": "IH R", "ʊɹ": "UH R", "ɜːɹ": "ER",
    # nasal vowels of French words
    "ɑ̃": "AA N", "ɔ̃": "AO N", "æ̃": "AE N", "ɛ̃": "AE N",
    # syllabic consonants
    "əl": "AH L", "əm": "AH M", "ən": "AH N", "l̩": "AH L", "m̩": "AH M", "n̩": "AH N",
    # consonants; the flap ɾ, the glottal stop ʔ ("button") and x ("loch") have no ARPAbet phone of their own
    "b": "B", "tʃ": "CH", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "g": "G", "h": "HH", "dʒ": "JH", "k": "K", "l": "L",
    "ɫ": "L", "ɬ": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "r": "R", "s": "S", "ʃ": "SH", "t": "T",
    "ɾ": "T", "ʔ": "T", "θ": "TH", "v": "V", "w": "W", "ʍ": "W", "j": "Y", "z": "Z", "ʒ": "ZH", "x": "K", "ç": "HH",
    "nʲ": "N Y", "ɲ": "N Y", "ɡʲ": "G Y",
}  # fmt: skip


def arpabet(segments: list[str], stress: bool) -> tuple[str, ...]:
    """ARPAbet phones of IPA segments ("ˈæ", "s", "t", "ɚ", …); with `stress` vowels carry 0, 1 or 2.

    Raises InputError that names a segment without a mapping.
    """
    phones: list[str] = []
    for segment in segments:
        symbol = segment.lstrip("ˈˌ")
        if symbol not in _SEGMENTS:
            raise InputError(f"the IPA symbol {segment!r} has no ARPAbet phone")
        digit = _STRESS.get(segment[0], "0")
        for phone in _SEGMENTS[symbol].split():
            # espeak-ng writes the r of "asterisk" twice (ɚ ɹ), CMUdict once (ER).
            if phone == "R" and phones and (phones[-1] == "R" or phones[-1].startswith("ER")):
                continue
            if phone in VOWELS:
                phones.append(phone + digit if stress else phone)
                digit = "0"
            else:
                phones.append(phone)
    return tuple(phones)
