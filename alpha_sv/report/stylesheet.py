"""The style of the page: one column on a phone, ink on paper, no web font."""

CSS = """
:root { color-scheme: light; --ink: #1f2328; --muted: #57606a; --line: #d8dee4; --accent: #0b5c94; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55; -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1, h2, h3, p, figure, dl, dd { margin: 0; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; font-weight: 650; margin-bottom: .6rem; }
section h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .4rem; }
section > .about { max-width: 54rem; margin: 0 0 .8rem; font-size: .9rem; }
section { margin-top: 2.5rem; }
.eyebrow { color: var(--accent); font-size: .85rem; font-weight: 600; margin-bottom: .3rem; }
.verdict { font-size: 1.2rem; line-height: 1.5; max-width: 54rem; margin-top: 1.1rem; padding-left: 1rem;
  border-left: 4px solid var(--accent); text-wrap: pretty; }
.about { color: var(--muted); margin-top: .9rem; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin-top: 1.8rem; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; }
.card h3 { font-size: .9rem; font-weight: 600; color: var(--muted); margin: 0; }
.card .value { font-size: 2rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.card small { font-size: 1.1rem; font-weight: 500; color: var(--muted); }
.card p { font-size: .85rem; line-height: 1.4; color: var(--muted); }
.card .value { color: var(--ink); }
.card .interval { color: var(--ink); font-size: .95rem; font-variant-numeric: tabular-nums; }
.na, .card .value .na { color: var(--muted); font-weight: 400; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 2.5rem;
  margin-bottom: -2.5rem; }
figure { padding-bottom: 2.5rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption { color: var(--muted); font-size: .9rem; margin-top: .6rem; }
.scroll { overflow-x: auto; background:  /* a shadow at the right edge while there is more to see */
  linear-gradient(to left, #fff 40%, #fff0) right / 3rem 100% no-repeat local,
  linear-gradient(to left, #1f23282e, #1f232800) right / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem 0 .5rem 1rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: #fff; }
thead th { font-size: .85rem; font-weight: 600; color: var(--muted); vertical-align: bottom;
  white-space: normal; line-height: 1.35; border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 600; min-width: 8rem; max-width: 22rem; white-space: normal;
  overflow-wrap: anywhere; }
td small { display: block; font-size: .8rem; line-height: 1.3; color: var(--muted); }
th.words, td.words { text-align: left; }
.listing { table-layout: fixed; font-size: .85rem; }
.listing th, .listing td { padding-block: .35rem; white-space: normal; overflow-wrap: anywhere; }
.listing tbody th { font-weight: 400; min-width: 0; }
.listing th:last-child { width: 9.8rem; }
.listing:has(code) th:first-child { width: 5rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 2.5rem; }
.pairs > div { margin-bottom: 1rem; }
.whole { white-space: nowrap; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem; }
td code { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
pre { margin: 0; padding: .8rem 1rem; background: #f6f8fa; border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); padding: .6rem 0; }
details table { margin: .4rem 0 1rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(7rem, 10rem) 1fr; }
dt, dd { padding: .45rem 0; border-top: 1px solid var(--line); min-width: 0; overflow-wrap: anywhere; }
dt { color: var(--muted); font-weight: 600; padding-right: 1rem; }
dd { font-variant-numeric: tabular-nums; }
.reading dl { max-width: 60rem; }
@media (max-width: 1000px) {
  .figures { display: flex; flex-direction: column; }
  .figures > div { display: contents; }
  figure { width: 100%; max-width: 680px; }
}
@media (max-width: 640px) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .verdict { font-size: 1.08rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .7rem; }
  .card .value { font-size: 1.6rem; }
  table { font-size: .9rem; }
  .listing { font-size: .8rem; }
  .listing th:last-child { width: 6.8rem; }
  dl { grid-template-columns: 1fr; }
  dd { border-top: 0; padding-top: 0; }
}
@media print {
  main { max-width: none; padding: 0; }
  figure, .card, tr, dt, dd { break-inside: avoid; }
  h2, h3, thead { break-after: avoid; }
  table { font-size: .75rem; }
  .scroll { overflow: visible; background: none; }
}
"""
