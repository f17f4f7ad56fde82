from concurrent.futures import ThreadPoolExecutor

from ellav_jax.frontend.espeak import EspeakPronouncer
from ellav_jax.frontend.inventory import IPA

WORDS = [
    first + second for first in ("bra", "stru", "kli", "mo", "zan", "fre", "gul") for second in ("dle", "nix", "porth")
]


def test_words_are_pronounced_the_same_in_threads_as_one_by_one():
    # Threads of one process are how several of Beam's runners work.
    alone = EspeakPronouncer("en-us", stress=False, phone_set=IPA)
    expected = [alone.pronounce(word) for word in WORDS]
    for _ in range(5):
        shared = EspeakPronouncer("en-us", stress=False, phone_set=IPA)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(shared.pronounce, WORDS)) == expected
