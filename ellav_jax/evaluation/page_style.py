"""The style sheet of the page: light and dark, wide and narrow, on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fcfcfa; --ink: #1d1f22; --soft: #5b6067; --rule: #d9dadc; --panel: #f3f3f0;
  --faint: #a3a7ad; --first: #2b6cb0; --second: #c05f12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --ink: #e3e4e6; --soft: #a2a7ae; --rule: #34383e; --panel: #1d2024;
    --faint: #6d737b; --first: #6fa9e6; --second: #ec9a52;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 70rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
header { border-bottom: 2px solid var(--ink); padding-bottom: 1.1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 0.5rem; text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.6rem; }
h3 { font-size: 1.05rem; margin: 0 0 0.6rem; }
p { margin: 0.5rem 0; max-width: 46rem; }
figcaption { color: var(--soft); }
.id { color: var(--soft); font-weight: normal; font-size: 0.85em; }
section.sentence { border-top: 1px solid var(--rule); padding: 1.1rem 0 1.4rem; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.75rem; }
.players figure { background: var(--panel); border-radius: 6px; padding: 0.6rem 0.7rem 0.7rem; }
.players figure.emphasis { outline: 2px solid var(--first); }
.players figure { display: flex; flex-direction: column; justify-content: space-between; gap: 0.5rem; }
.players figcaption { line-height: 1.3; }
.players figcaption strong { display: block; color: var(--ink); }
audio { width: 100%; height: 2.4rem; display: block; }
figure { margin: 0; }
figcaption { font-size: 0.85rem; }
.plot { margin-top: 1rem; overflow-x: auto; }
.plot svg { display: block; width: 100%; min-width: 46rem; height: auto; }
svg text { font-family: inherit !important; }
.plot + figcaption, .caption { font-size: 0.85rem; color: var(--soft); max-width: none; margin-top: 0.4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0 0.4rem; font-variant-numeric: tabular-nums; font-size: 0.94rem; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.4rem; }
th, td { padding: 0.3rem 1.1rem 0.3rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; }
tbody th { font-weight: normal; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
.made { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 0 2.5rem; }
.made table { width: 100%; }
.made tbody th { color: var(--soft); white-space: nowrap; }
.made td { overflow-wrap: anywhere; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.9em; }
footer {
  border-top: 1px solid var(--rule); margin-top: 2.5rem; padding-top: 0.8rem; font-size: 0.85rem; color: var(--soft);
}
@media print { .plot, section.sentence { break-inside: avoid; } audio { display: none; } }
"""
