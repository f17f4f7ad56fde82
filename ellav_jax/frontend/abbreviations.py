"""Tables of the normaliser: abbreviations, units, symbols and initials of American English."""

STREET_OR_SAINT = {"St": ("saint", "street"), "Dr": ("doctor", "drive")}
"""Ahead of a name, and else."""

ABBREVIATIONS = {
    "Mr": "mister", "Mrs": "mrs", "Ms": "ms", "Jr": "junior", "Sr": "senior", "Prof": "professor", "Rev": "reverend",
    "Gen": "general", "Col": "colonel", "Sgt": "sergeant", "Lt": "lieutenant", "Capt": "captain", "Cmdr": "commander",
    "Gov": "governor", "Sen": "senator", "Rep": "representative", "Pres": "president", "Hon": "honorable",
    "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Hwy": "highway", "Pkwy": "parkway", "Apt": "apartment",
    "Mt": "mount", "Ft": "fort", "Dept": "department", "Univ": "university", "Inc": "incorporated", "Ltd": "limited",
    "Co": "company", "Corp": "corporation", "Bros": "brothers", "approx": "approximately", "dept": "department",
    "ext": "extension", "Ext": "extension", "vs": "versus", "etc": "et cetera", "Ph.D": "PHD",
    "e.g": "for example", "i.e": "that is",
    "Jan": "january", "Feb": "february", "Apr": "april", "Aug": "august", "Sept": "september", "Sep": "september",
    "Oct": "october", "Nov": "november", "Dec": "december", "Mon": "monday", "Tue": "tuesday", "Tues": "tuesday",
    "Wed": "wednesday", "Thu": "thursday", "Thurs": "thursday", "Fri": "friday",
}  # fmt: skip
"""Read so when a full stop follows."""

BEFORE_NUMBERS = {"No": "number", "no": "number", "Nos": "numbers", "Vol": "volume", "vol": "volume", "pp": "pages",
                  "p": "page", "Fig": "figure", "fig": "figure", "Ch": "chapter", "Sec": "section"}  # fmt: skip
"""Read so ahead of digits."""

UNITS = {
    "%": ("percent", "percent"), "°C": ("degree celsius", "degrees celsius"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"), "°": ("degree", "degrees"), "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"), "mg": ("milligram", "milligrams"), "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"), "m": ("meter", "meters"),
    "ft": ("foot", "feet"), "ft.": ("foot", "feet"), "in.": ("inch", "inches"), "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"), "lbs.": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "mph": ("mile per hour", "miles per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"), "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"), "KB": ("kilobyte", "kilobytes"),
    "kB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"), "ms": ("millisecond", "milliseconds"), "sec": ("second", "seconds"),
    "k": ("thousand", "thousand"), "min": ("minute", "minutes"), "hrs": ("hour", "hours"), "hr": ("hour", "hours"),
}  # fmt: skip
"""After digits: one and many."""

SYMBOLS = {"&": "and", "@": "at", "+": "plus", "=": "equals", "*": "star", "#": "pound", "%": "percent"}
"""Keys and signs, read as on a telephone."""

SPELLED = {"US", "ID", "UN"}
"""Initials that the dictionary reads as a word of the same letters."""

ROMAN_NUMERALS = {
    "II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12, "XIII": 13, "XIV": 14,
    "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
}  # fmt: skip
"""Without I, V and X, which are more often letters."""

COUNTED_BY_ROMANS = {"War", "Chapter", "Part", "Volume", "Act", "Phase", "Section", "Book", "Class", "Type", "Title"}
"""Words after which a Roman numeral is a plain number; after others it is an ordinal, as in the names of kings."""
