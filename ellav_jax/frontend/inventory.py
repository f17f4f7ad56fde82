"""The phones: the 39 of CMUdict's ARPAbet, with or without stress, and SIL.

Source of the set: the CMU Pronouncing Dictionary's phone list, which pocketsphinx's English acoustic model shares.
"""

SIL = "SIL"

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y",
    "Z", "ZH",
)  # fmt: skip
STRESSES = ("0", "1", "2")


def phone_inventory(stress: bool) -> tuple[str, ...]:
    """All phone names, SIL first, then alphabetical; with `stress` each vowel stands three times (AH0, AH1, AH2)."""
    vowels = [vowel + digit for vowel in VOWELS for digit in STRESSES] if stress else VOWELS
    return (SIL, *sorted([*vowels, *CONSONANTS]))


def without_stress(phone: str) -> str:
    """AH0 → AH; other names stay as they are."""
    return phone[:-1] if phone[-1:] in STRESSES else phone
