"""TextGrids as Praat writes them, in the long format, UTF-8."""

from ellav_jax.frontend.textgrid_file import TextGrid


def textgrid_text(textgrid: TextGrid) -> str:
    """The file's content. Times are written with 6 digits behind the point."""

    def time(seconds: float) -> str:
        return f"{seconds:.6f}".rstrip("0").rstrip(".")

    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", f"xmin = {time(textgrid.start_s)}"]
    lines += [f"xmax = {time(textgrid.end_s)}", "tiers? <exists>", f"size = {len(textgrid.tiers)}", "item []:"]
    for number, tier in enumerate(textgrid.tiers, start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(tier.name)}"]
        lines += [f"        xmin = {time(textgrid.start_s)}", f"        xmax = {time(textgrid.end_s)}"]
        lines.append(f"        intervals: size = {len(tier.intervals)}")
        for place, one in enumerate(tier.intervals, start=1):
            lines += [f"        intervals [{place}]:", f"            xmin = {time(one.start_s)}"]
            lines += [f"            xmax = {time(one.end_s)}", f"            text = {_quoted(one.label)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
