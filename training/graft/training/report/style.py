"""How pages look, on light and dark screens, at a desk and in a hand."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --text: #1f2421; --quiet: #646d67; --back: #fafaf7; --card: #fff; --box: #f1f3ee;
  --line: #dfe2da; --accent: #23784a; --mark: #cdeed9; --good: #1a6b2f; --bad: #a3261b;
  --c0: #23855a; --c1: #c8434f; --c2: #3577a3; --c3: #b47a12; --c4: #83589f; --c5: #4f7f7f }
@media (prefers-color-scheme: dark) {
  :root { --text: #e2e5e1; --quiet: #97a09a; --back: #141615; --card: #1b1e1c; --box: #232725; --line: #353a37;
    --accent: #5cbf8b; --mark: #1f5138; --good: #6bbf80; --bad: #e5786d;
    --c0: #55bd8a; --c1: #e8727c; --c2: #6cabd4; --c3: #dda945; --c4: #b48ed0; --c5: #82b5b5 }
}
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 2rem 1.2rem 4rem;
  color: var(--text); background: var(--back); border-top: 4px solid var(--accent) }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line) }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere }
h4 { font-size: .78rem; font-weight: 600; margin: 0 0 .2rem; color: var(--quiet) }
a { color: var(--accent) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: 1rem; font-size: .88rem }
nav a { text-decoration: none }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .25rem 1.4rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere }
th { font-weight: 500; color: var(--quiet); white-space: nowrap }
td.bar { color: var(--accent) } td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
pre { background: var(--box); border-radius: 6px; margin: .4rem 0 1rem; padding: .6rem .8rem; font-size: .84rem;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22rem; overflow-y: auto }
mark { background: var(--mark); color: inherit; border-radius: 3px }
details { margin: .6rem 0 } summary { cursor: pointer; color: var(--accent); font-size: .92rem }
svg { display: block; width: 100%; height: auto }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .7rem }
.tiles > div, figure, article { background: var(--card); border: 1px solid var(--line); border-radius: 8px }
.tiles > div { padding: .55rem .8rem } .tiles b { font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere }
.tiles small { display: block; color: var(--quiet) }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: .8rem }
.charts > .whole { grid-column: 1 / -1 }
figure { margin: 0; padding: .7rem .9rem .5rem; display: flex; flex-direction: column; justify-content: space-between }
figcaption { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .85rem; color: var(--quiet) }
figure text { font: 11px system-ui, sans-serif; fill: var(--quiet) }
figure path { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round }
figure circle { fill: currentColor } figure .faint { stroke-width: 1; opacity: .38 }
figure line { stroke: var(--line) }
.c0 { color: var(--c0) } .c1 { color: var(--c1) } .c2 { color: var(--c2) } .c3 { color: var(--c3) }
.c4 { color: var(--c4) } .c5 { color: var(--c5) }
article { padding: .7rem .9rem; margin-bottom: .8rem } article pre { max-height: 11rem; color: var(--quiet) }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .6rem 1.4rem }
.answers p { margin: 0; font-size: .92rem; white-space: pre-wrap; overflow-wrap: anywhere }
.answers .after { border-left: 3px solid var(--accent); padding-left: .7rem }
.marks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 .9rem }
.wide { overflow-x: auto } .quiet { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
@media print { pre { max-height: none } body { border: 0 } nav { display: none } }
"""
