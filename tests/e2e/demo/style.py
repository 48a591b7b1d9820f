"""The report's style: system fonts, light and dark, no colour that carries a meaning alone."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--paper:#fcfcfa;--card:#f2f3f0;--ink:#1b1f24;--soft:#57606a;
--line:#dcdfe3;--faint:#eceef0;--ticket:#0a4a8f;--upload:#7db4e8;--done:#1f7a4d;--direct:#c8500b;
--bad:#b3261e;--down:#b3261e22;--scene:#1f7a4d14;--grace:#0a4a8f18;--measured:#1668b8}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1d2226;--ink:#e8eaed;
--soft:#a3adb8;--line:#343b42;--faint:#252b30;--ticket:#9ccbff;--upload:#2f6ea8;--done:#6ad09b;
--direct:#ff9d5c;--bad:#ff8a80;--down:#ff8a8030;--scene:#6ad09b1c;--grace:#9ccbff22;
--measured:#5aa9f2}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1060px;padding:2rem 1.25rem 4rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.25rem;margin:2.6rem 0 .4rem}
p{max-width:46rem;margin:.4rem 0}.soft{color:var(--soft)}
.verdict{font-weight:650}.kept{color:var(--done)}.broken{color:var(--bad)}
.note{border-left:4px solid var(--direct);background:var(--card);padding:.7rem 1rem;
margin:1.2rem 0;border-radius:0 6px 6px 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(215px,1fr));gap:.8rem;
margin:1.4rem 0;padding:0;list-style:none;max-width:none}
.figures li{background:var(--card);border-radius:8px;padding:.8rem 1rem}
.figures b{display:block;font-size:1.65rem;line-height:1.25;font-variant-numeric:tabular-nums}
.figures span{color:var(--soft);font-size:.9rem;line-height:1.35;display:block}
figure{margin:.8rem 0 0}.scroll{overflow-x:auto}
svg{display:block;width:100%;min-width:820px;height:auto;font-size:11.5px}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .name{font-size:11.5px}
svg .strong{font-weight:650}svg .alarm{fill:var(--bad)}
svg .grid{stroke:var(--faint)}svg .row{stroke:var(--faint)}svg .base{stroke:var(--soft)}
svg .edge{stroke:var(--done);stroke-width:1;stroke-dasharray:2 3}
svg .deadline{stroke:var(--ink);stroke-width:1.6}svg .grace{fill:var(--grace)}
svg .down{fill:var(--down)}svg .scene{fill:var(--scene)}
svg .begun{fill:none;stroke:var(--soft)}svg .ticket{fill:var(--ticket)}
svg .upload{fill:var(--upload)}svg .collected{fill:var(--done)}
svg .refused{fill:none;stroke:var(--bad);stroke-width:2.4}
svg .direct{fill:color-mix(in srgb,var(--direct) 22%,transparent);stroke:var(--direct);
stroke-width:1.4;stroke-dasharray:4 2}
svg .measured{fill:color-mix(in srgb,var(--measured) 60%,transparent);stroke:var(--measured);
stroke-width:1.4}
svg .relay{fill:color-mix(in srgb,var(--upload) 65%,transparent);stroke:var(--measured)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.3rem 0}
th,td{text-align:left;padding:.32rem .6rem .32rem 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-weight:600}td.n,th.n{text-align:right}
@media (min-width:760px){.promises td:nth-child(2){width:24rem}}
td ul{margin:.2rem 0}td.n+td:not(.n),th.n+th:not(.n){padding-left:.5rem}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--soft)}
ul{max-width:46rem;padding-left:1.2rem}code{font-size:.92em}
@media print{body{max-width:none}svg{min-width:0}}
"""
