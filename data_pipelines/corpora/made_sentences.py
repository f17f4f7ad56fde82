"""English sentences of any number, made of some 800 common words: what synthetic voices say.

Sentence i of a series is a function of (series, i) alone. Written for this project; Apache-2.0 as the rest of it.
"""

import json
import random
from collections.abc import Callable
from importlib import resources

_WORDS = json.loads((resources.files("data_pipelines.corpora") / "made_words.json").read_text(encoding="utf-8"))
_IRREGULAR = {"knife": "knives", "box": "boxes", "thief": "thieves", "child": "children", "woman": "women"}


def made_sentence(series: str, number: int) -> str:
    """Sentence `number` of a series, such as "Seven tired sailors painted the narrow bridge near the harbor at dawn."

    4 to 22 words, all of them in CMUdict, numbers spelled out. Python's generator gives the same ones everywhere.
    """
    chance = random.Random(f"{series} {number}")
    sentence = chance.choice(_FORMS)(chance)
    return sentence[0].upper() + sentence[1:]


def _statement(chance: random.Random) -> str:
    return f"{_clause(chance)}{_maybe(chance, 0.5, _when)}."


def _two_statements(chance: random.Random) -> str:
    link = chance.choice((", and", ", but", " because", " while", ", so", " when"))
    return f"{_clause(chance, 0.3)}{link} {_clause(chance, 0.3)}."


def _fronted(chance: random.Random) -> str:
    return f"{chance.choice(_WORDS['when'])}, {_clause(chance)}."


def _request(chance: random.Random) -> str:
    start = chance.choice(
        ("please", "do not", "you should", "could we", "let us", "I would like to", "they will", "why not")
    )
    place = _maybe(chance, 0.7, _place)
    end = "?" if start in ("could we", "why not") else "."
    return f"{start} {chance.choice(_WORDS['do'])} {_thing(chance)}{place}{_maybe(chance, 0.4, _when)}{end}"


def _question(chance: random.Random) -> str:
    start = chance.choice(("did", "who saw", "where did", "why did", "how did", "when will", "does", "can"))
    if start == "who saw":
        return f"{start} {_person(chance)}{_place(chance)}{_maybe(chance, 0.5, _when)}?"
    return f"{start} {_person(chance)} {chance.choice(_WORDS['do'])} {_thing(chance)}{_maybe(chance, 0.6, _place)}?"


def _existence(chance: random.Random) -> str:
    count = chance.choice(_WORDS["numbers"])
    things = f"{_maybe(chance, 0.7, _adjective)} {_plural(chance.choice(_WORDS['things']))}"
    return f"there {chance.choice(('are', 'were', 'must be'))} {count}{things}{_place(chance)}{_maybe(chance, 0.5, _when)}."


def _description(chance: random.Random) -> str:
    thing, quality = _thing(chance, 0.2), chance.choice(_WORDS["adjectives"])
    link = chance.choice(("was too", "looked very", "is not as", "seemed rather", "is always", "will never be"))
    other = f" as {_thing(chance, 0.2)}" if link.endswith(" as") else ""
    return f"{thing} {link} {quality}{other}{_maybe(chance, 0.6, _place)}."


def _listing(chance: random.Random) -> str:
    first, second, third = (chance.choice(_WORDS["things"]) for _ in range(3))
    who, did = _person(chance), chance.choice(_WORDS["did"])
    return f"{who} {did} a {first}, some {_plural(second)} and my {third}{_maybe(chance, 0.5, _when)}."


def _figures(chance: random.Random) -> str:
    digits = " ".join(chance.choice(("zero", "one", *_WORDS["numbers"][:8])) for _ in range(chance.randint(3, 5)))
    start = chance.choice(("the number is", "please dial", "the answer was", "her room was", "we counted"))
    return f"{start} {digits}{_maybe(chance, 0.5, _when)}."


_FORMS = (
    *(_statement, _statement, _statement, _two_statements, _two_statements, _fronted, _request, _request),
    *(_question, _existence, _description, _listing, _figures),
)


def _clause(chance: random.Random, more: float = 0.6) -> str:
    who = _person(chance)
    if chance.random() < 0.3:
        return f"{who} {chance.choice(_WORDS['went'])}{_maybe(chance, more, _how)}{_place(chance)}"
    how = f"{chance.choice(_WORDS['how'])} " if chance.random() < 0.3 else ""
    return f"{who} {how}{chance.choice(_WORDS['did'])} {_thing(chance)}{_maybe(chance, more, _place)}"


def _person(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.2:
        return chance.choice(_WORDS["names"])
    if kind < 0.35:
        return chance.choice(("he", "she", "they", "we", "you", "nobody", "someone", "everyone"))
    if kind < 0.5:
        count = chance.choice(_WORDS["numbers"])
        return f"{count}{_maybe(chance, 0.5, _adjective)} {_plural(chance.choice(_WORDS['people']))}"
    whose = chance.choice(("the", "the", "my", "your", "his", "her", "our", "their", "this", "that", "another"))
    return f"{whose}{_maybe(chance, 0.6, _adjective)} {chance.choice(_WORDS['people'])}"


def _thing(chance: random.Random, several: float = 0.3) -> str:
    if chance.random() < several:
        count = chance.choice((*_WORDS["numbers"], "these", "those", "both", "many", "the other", "some", "all the"))
        return f"{count}{_maybe(chance, 0.6, _adjective)} {_plural(chance.choice(_WORDS['things']))}"
    whose = chance.choice(("the", "the", "my", "your", "his", "her", "our", "their", "this", "that", "each", "every"))
    return f"{whose}{_maybe(chance, 0.6, _adjective)} {chance.choice(_WORDS['things'])}"


def _place(chance: random.Random) -> str:
    return f" {chance.choice(_WORDS['where'])} the{_maybe(chance, 0.3, _adjective)} {chance.choice(_WORDS['places'])}"


def _adjective(chance: random.Random) -> str:
    return f" {chance.choice(_WORDS['adjectives'])}"


def _how(chance: random.Random) -> str:
    return f" {chance.choice(_WORDS['how'])}"


def _when(chance: random.Random) -> str:
    return f" {chance.choice(_WORDS['when'])}"


def _maybe(chance: random.Random, share: float, part: Callable[[random.Random], str]) -> str:
    return part(chance) if chance.random() < share else ""


def _plural(noun: str) -> str:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("man"):
        return f"{noun[:-3]}men"
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
