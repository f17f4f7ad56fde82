"""How well a recogniser understands a codec's resynthesis: a script, whose figures the codec's model card holds.

    python tests/ellav_jax/codec/resynthesis_wer.py faster-whisper:MODEL bundled DIR/codec.safetensors [--folder DIR]

The bundled speech's test clips longer than 1.5 s, or a folder of recordings beside transcripts; eight codebooks.
"""

import argparse

from data_pipelines.corpora import open_corpus
from ellav_jax.codec import load_codec
from ellav_jax.evaluation.bootstrap import bootstrap_ratio
from ellav_jax.evaluation.intelligibility import text_counts, text_normalizer
from ellav_jax.evaluation.recognizers import Recognizer, open_recognizer
from ellav_jax.resampling import resample

SHORTEST_S = 1.5
"""A recogniser guesses at shorter clips, of a single word."""
RATE = 24_000


def main() -> None:
    """Prints a line for the recordings and for each codec."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recognizer")
    parser.add_argument("codecs", nargs="+")
    parser.add_argument("--folder")
    args = parser.parse_args()
    utterances = open_corpus(f"folder:{args.folder}" if args.folder else "bundled").utterances
    read = [(resample(*one.audio.read(), RATE), one.text) for one in utterances if args.folder or one.split == "test"]
    clips = [(wave_S, text) for wave_S, text in read if len(wave_S) > SHORTEST_S * RATE]
    recognizer = open_recognizer(args.recognizer, "en-us")
    print(f"{len(clips)} clips; recordings: {_rate(recognizer, clips)}")
    for spec in args.codecs:
        codec = load_codec(spec)
        decoded = codec.decode_batch(codec.encode_batch([wave_S for wave_S, _ in clips]))
        pairs = [(ours_S[: len(wave_S)], text) for ours_S, (wave_S, text) in zip(decoded, clips, strict=True)]
        print(f"{spec} ({codec.sha256[:12]}): {_rate(recognizer, pairs)}", flush=True)


def _rate(recognizer: Recognizer, clips: list) -> str:
    normalize = text_normalizer("en-us")
    counts = [
        text_counts(normalize(text), normalize(recognizer.transcribe(wave_S, RATE)), False) for wave_S, text in clips
    ]
    errors, words = ([one[name] for one in counts] for name in ("word_errors", "words"))
    rate = bootstrap_ratio(errors, words)
    interval = f"{100 * rate.low:.1f} … {100 * rate.high:.1f}"
    return f"WER {100 * rate.value:.1f} % ({interval}), {sum(errors)} of {sum(words)} words"


if __name__ == "__main__":
    main()
