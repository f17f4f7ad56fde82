"""The phones: SIL, and either the 39 of CMUdict's ARPAbet or the IPA symbols of a dictionary.

Source of the ARPAbet set: the CMU Pronouncing Dictionary's phone list, which pocketsphinx's English acoustic model
shares. What IPA symbols a language has is for its dictionary to say.
"""

import unicodedata

SIL = "SIL"

ARPABET = "arpabet"
IPA = "ipa"

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y",
    "Z", "ZH",
)  # fmt: skip
STRESSES = ("0", "1", "2")
STRESS_MARKS = "ˈˌ"
"""IPA's primary and secondary stress, ahead of the vowel."""


def phone_inventory(stress: bool) -> tuple[str, ...]:
    """All ARPAbet phones, SIL first, then alphabetical; with `stress` each vowel stands three times (AH0, AH1, AH2)."""
    vowels = [vowel + digit for vowel in VOWELS for digit in STRESSES] if stress else VOWELS
    return (SIL, *sorted([*vowels, *CONSONANTS]))


def without_stress(phone: str, phone_set: str = ARPABET) -> str:
    """AH0 → AH in ARPAbet, ˈuː → uː in IPA (where a digit at the end is a tone); other names stay as they are."""
    if phone_set == IPA:
        return "".join(symbol for symbol in phone if symbol not in STRESS_MARKS)
    return phone[:-1] if phone[-1:] in STRESSES else phone


def phone_name(symbol: str, phone_set: str, stress: bool) -> str:
    """The one name of a phone that a dictionary, a TextGrid or espeak-ng writes as `symbol`."""
    # ã is one character or two, whoever wrote it.
    symbol = unicodedata.normalize("NFC", symbol)
    return symbol if stress else without_stress(symbol, phone_set)
