"""Numbers, money, times and dates as American English reads them; the words come from num2words.

Every function takes digits as text and gives lower-case words without punctuation.
"""

import re

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
MONTHS = {
    name[:3]: name
    for name in (
        "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
        "december",
    )
}  # fmt: skip
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DENOMINATORS = (2, 3, 4, 5, 6, 8, 10, 16)
_LARGEST_DIGITS = 15
"""Longer runs of digits are codes, not quantities, and are read digit by digit."""


def digits(text: str) -> str:
    """Digit by digit: "1234" → "one two three four"."""
    return " ".join(_DIGITS[int(digit)] for digit in text if digit.isdecimal())


def cardinal(text: str) -> str:
    """ "1,234" → "one thousand two hundred thirty four"; leading zeros and very long runs digit by digit."""
    text = text.replace(",", "")
    if len(text) > _LARGEST_DIGITS or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return _words(int(text))


def decimal(text: str) -> str:
    """ "28.8" → "twenty eight point eight"; "1.2.3" reads each part."""
    whole, *parts = text.split(".")
    return " point ".join([cardinal(whole) if whole else "", *map(digits, parts)]).strip()


def ordinal(text: str) -> str:
    """ "21" → "twenty first"."""
    return _words(int(text.replace(",", "")), to="ordinal")


def year(text: str) -> str:
    """ "1984" → "nineteen eighty four", "2007" → "two thousand seven", "2024" → "twenty twenty four"."""
    value = int(text)
    if 2000 <= value < 2010:
        return _words(value)
    return _words(value, to="year")


def decade(text: str) -> str:
    """ "1990" of "1990s" → "nineteen nineties"; "80" → "eighties"."""
    words = year(text) if len(text) == 4 else cardinal(text)
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def money(sign: str, amount: str, scale: str = "") -> str:
    """ "$", "5.20" → "five dollars and twenty cents"; scale is "million" and the like."""
    one, many, cent, cents = CURRENCIES[sign]
    whole, _, fraction = amount.replace(",", "").partition(".")
    if scale:
        return f"{decimal(amount.replace(',', ''))} {scale} {many}"
    if len(fraction) not in (0, 2):
        return f"{decimal(amount.replace(',', ''))} {many}"
    parts = []
    if int(whole or 0) or not int(fraction or 0):
        parts.append(f"{cardinal(whole or '0')} {one if int(whole or 0) == 1 else many}")
    if int(fraction or 0):
        parts.append(f"{_words(int(fraction))} {cent if int(fraction) == 1 else cents}")
    return " and ".join(parts)


def clock(hours: str, minutes: str, has_suffix: bool) -> str:
    """ "3", "05" → "three oh five"; full hours are "o'clock" unless a.m. or p.m. follows."""
    hour = _words(int(hours))
    if minutes == "00":
        return hour if has_suffix else f"{hour} o'clock"
    return f"{hour} oh {digits(minutes[1])}" if minutes[0] == "0" else f"{hour} {_words(int(minutes))}"


def fraction(numerator: str, denominator: str) -> str:
    """ "1", "2" → "one half"; "3", "4" → "three quarters"; "24", "7" are no fraction: "twenty four seven"."""
    top, bottom = int(numerator), int(denominator)
    if bottom not in _DENOMINATORS or not 0 < top < bottom:
        return f"{cardinal(numerator)} {cardinal(denominator)}"
    name = {2: "half", 4: "quarter"}.get(bottom) or _words(bottom, to="ordinal")
    return f"{_words(top)} {name}{'s' if top > 1 else ''}"


def date(month: str, day: str, year_digits: str) -> str:
    """Month, day and year of "1/31/2024" (American order) → "january thirty first twenty twenty four"."""
    name = list(MONTHS.values())[int(month) - 1]
    return f"{name} {ordinal(day)} {year(year_digits)}"


def _words(value: int, to: str = "cardinal") -> str:
    from num2words import num2words

    words = num2words(value, lang="en", to=to)
    return re.sub(r"\band\b", " ", words.replace("-", " ").replace(",", " ")).strip().replace("  ", " ")
