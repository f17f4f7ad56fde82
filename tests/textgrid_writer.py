"""TextGrids as Praat and MFA write them, line by line, for tests of what reads them."""

Part = tuple[str, float, float]
"""Label, start and end in seconds."""


def long_textgrid(tiers: dict[str, list[Part]], length: float, announced: int | None = None) -> str:
    """Long format. announced: the size that every tier states, if not its own."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {length} "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for number, (name, parts) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f"        name = {quoted(name)} "]
        lines += ["        xmin = 0 ", f"        xmax = {length} "]
        lines.append(f"        intervals: size = {len(parts) if announced is None else announced} ")
        for place, (label, start, end) in enumerate(parts, start=1):
            lines += [f"        intervals [{place}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines.append(f"            text = {quoted(label)} ")
    return "\n".join(lines) + "\n"


def short_textgrid(tiers: dict[str, list[Part]], length: float) -> str:
    """Short format: the values alone."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", f"{length}", "<exists>", f"{len(tiers)}"]
    for name, parts in tiers.items():
        lines += ['"IntervalTier"', quoted(name), "0", f"{length}", f"{len(parts)}"]
        for label, start, end in parts:
            lines += [f"{start}", f"{end}", quoted(label)]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """In Praat's quotes."""
    return '"' + text.replace('"', '""') + '"'
