"""The errors that are told in one line, without a traceback."""

FAULTS = {
    "audio-missing": "there is no such recording",
    "audio-unreadable": "the file is empty, damaged, or no audio that can be read",
    "audio-truncated": "the recording is cut off",
    "audio-nan": "samples are NaN or infinite",
    "audio-silent": "the recording is silent",
    "audio-clipped": "the recording is overdriven: too many samples stand at its limits",
    "audio-too-long": "the recording is longer than the limit",
    "audio-too-short": "the recording is shorter than the limit",
    "text-missing": "the recording has no transcript",
    "text-empty": "the transcript holds no words",
    "text-encoding": "the transcript is not UTF-8",
    "text-unpronounceable": "a word of the transcript has no pronunciation",
    "text-mismatch": "the transcript is not what is said: alignment fails or scores far too low",
    "textgrid-missing": "there is no TextGrid for the recording",
    "textgrid-malformed": "the TextGrid can't be read, or lacks the tier of phones",
    "textgrid-overlap": "intervals of the TextGrid overlap or run backwards",
    "textgrid-length": "the TextGrid is longer or shorter than the recording",
    "phone-unknown": "the alignment holds a phone that is not in the frontend's inventory",
    "too-many-phones": "the alignment holds more phones than the recording has frames",
    "duplicate-id": "an utterance before it has the same id",
    "aligner-crash": "the aligner crashes on it",
}
"""Why a single utterance can't be used, in fixed words that can be counted."""


class InputError(ValueError):
    """Bad input or bad arguments: the message says what, where, what was expected and what to do.

    The command line prints the message on one line and exits with status 2, without a traceback.
    """


class UnusableError(InputError):
    """One recording, transcript or alignment can't be used; `fault` is a key of `FAULTS`.

    Where one utterance is all there is (synthesis) this is an InputError as any other; where there are many (prepare)
    the utterance is set aside and the others go on.
    """

    def __init__(self, fault: str, message: str):
        if fault not in FAULTS:
            raise ValueError(f"fault {fault!r}; expected one of {', '.join(FAULTS)}")
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fault, str(self))


class RunError(RuntimeError):
    """A run can't go on, and not for a mistake in what was given: the message says all there is to say.

    The command line prints the message on one line and exits with status 1, without a traceback.
    """
