"""Options that take several values, with commas between them."""

from ellav_jax.errors import InputError


def whole_numbers(option: str, text: str) -> list[int]:
    """The numbers of an option. Raises InputError unless each is 1 or more."""
    parts = [one.strip() for one in text.split(",")]
    if not all(one.isascii() and one.isdigit() and int(one) for one in parts):
        raise InputError(f"--{option} {text}: expected whole numbers of 1 or more, with commas between them")
    return [int(one) for one in parts]
