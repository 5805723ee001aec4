# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The style sheet of the report's page. Text has a contrast of at least 4.5 in both schemes; nothing is told by colour alone."""

from __future__ import annotations

STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--text:#18202b;--soft:#566273;--line:#dfe3e9;--track:#eef1f5;--ok:#0b7a4b;--okbg:#e3f4ec;--bad:#b3261e;
--badbg:#fcebe9;
--link:#1f5fbf;--mark:#18202b;
--s0:#2f6fde;--s1:#d97706;--s2:#0d9488;--s3:#b5459b;--s4:#6d54d4;--s5:#7f8b1f;--s6:#c2492f;--s7:#64748b}
@media (prefers-color-scheme:dark){:root{--bg:#11151b;--card:#191f28;--text:#e7ebf0;--soft:#a3aebd;--line:#2c3541;--track:#232b36;
--ok:#5fd39b;--okbg:#143327;
--bad:#ff9a91;--badbg:#3d1c1a;--link:#8ab8ff;--mark:#f4f6f9;
--s0:#6ea3ff;--s1:#f2a541;--s2:#3cc5b7;--s3:#e184c9;--s4:#a693ff;--s5:#bccb52;--s6:#f08b70;--s7:#9fb0c6}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 28px}
header{display:flex;flex-wrap:wrap;gap:16px 32px;align-items:flex-end;justify-content:space-between;padding-top:44px;padding-bottom:24px}
h1{font-size:30px;line-height:1.2;margin:2px 0 4px;letter-spacing:-.015em;text-wrap:balance}
h2{font-size:20px;margin:44px 0 14px;letter-spacing:-.01em}
h3{font-size:16px;margin:0 0 6px}
h3 small{font-weight:400;color:var(--soft);font-size:14px;margin-left:6px}
.over{margin:0;color:var(--soft);font-size:14px}
.meta,.note,.none{color:var(--soft);margin:0}
.note{max-width:78ch;margin-bottom:16px}
.verdict{display:flex;align-items:center;gap:12px;margin:0;padding:12px 20px 12px 14px;border-radius:12px;font-size:18px;font-weight:600}
.verdict.ok{color:var(--ok);background:var(--okbg)}
.verdict.bad{color:var(--bad);background:var(--badbg)}
.sign{display:grid;place-items:center;width:30px;height:30px;border-radius:50%;border:2px solid currentColor;font-size:16px;line-height:1}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));margin:0;background:var(--card);border:1px solid var(--line);
border-radius:14px;overflow:hidden}
.tile{padding:18px 22px;box-shadow:-1px -1px 0 var(--line)}
.tile dt{color:var(--soft);font-size:14px}
.tile dd{margin:0}
.tile b{display:block;font-size:27px;line-height:1.3;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:14px}
article,.card,.failures ul{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:22px;margin:0 0 18px}
article>p{margin:0 0 14px;max-width:88ch}
figure{margin:0 0 18px}
figcaption{font-weight:600;font-size:14px;margin:4px 0 8px;display:flex;justify-content:space-between;gap:16px;flex-wrap:wrap}
.wide{overflow-x:auto}
svg{display:block;width:100%;min-width:680px;height:auto;font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
svg text{fill:var(--text)}
svg .head{font-size:14px;fill:var(--soft)}
svg .name{font-size:15px;font-weight:600}
svg .mono{font:12px ui-monospace,"SF Mono",Menlo,Consolas,monospace;fill:var(--soft)}
svg .small{fill:var(--soft);font-variant-numeric:tabular-nums}
svg .small.ok{fill:var(--ok)}
svg .small.bad{fill:var(--bad);font-weight:600}
svg .value{font-weight:600;font-variant-numeric:tabular-nums}
.node{fill:var(--card);stroke:var(--line);stroke-width:1.5}
.node.bad{stroke:var(--bad)}
.edge{fill:none;stroke:var(--soft);stroke-linecap:round}
.edge.used{stroke:var(--s0);stroke-opacity:.55}
.edge.bad{stroke:var(--bad)}
.edge.idle{stroke-dasharray:2 6;stroke-opacity:.75}
.track{fill:var(--track)}
.fair{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:5 4}
.least{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:2 3}
.grid{stroke:var(--line)}
.base{stroke:var(--soft);stroke-opacity:.6}
svg .p50{stroke:var(--mark);stroke-width:2}
svg .p95{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:3 3}
.legend{display:flex;flex-wrap:wrap;gap:6px 26px;list-style:none;padding:14px 0 0;margin:0;color:var(--soft);font-size:14px}
.legend li{display:flex;align-items:center;gap:10px}
.k{width:30px;border-top:4px solid var(--s0);border-radius:2px;opacity:.7}
.k.bad{border-color:var(--bad);opacity:1}
.k.idle{border-top:2px dashed var(--soft);border-radius:0;opacity:1}
.key{font-weight:400;color:var(--soft)}
.key i{display:inline-block;height:13px;border-left:2px solid var(--mark);margin:0 5px -2px 12px}
.key i.p95{border-left:2px dashed var(--mark)}
table{width:100%;border-collapse:collapse;font-size:14px}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{text-align:left;vertical-align:top;padding:9px 14px 9px 0;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:400;padding-top:0}
tbody th{font-weight:500}
.numbers{font-variant-numeric:tabular-nums;white-space:nowrap}
.numbers th:not(:first-child),.numbers td{text-align:right}
.numbers th:last-child,.numbers td:last-child{padding-right:0}
.total th,.total td{color:var(--soft)}
.dot{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:9px}
.checks td:first-child{width:104px;white-space:nowrap}
.checks tbody th{width:31%}
.checks td{overflow-wrap:anywhere}
.checks .time{text-align:right;white-space:nowrap;padding-right:0;color:var(--soft);font-variant-numeric:tabular-nums;width:84px}
.checks thead th:last-child{text-align:right;padding-right:0}
.status{font-weight:600}
.status.passed{color:var(--ok)}
.status.failed{color:var(--bad)}
.status.skipped,tr.skipped th,tr.skipped td{color:var(--soft)}
.layer{display:inline-block;font-size:13px;font-weight:600;color:var(--bad);background:var(--badbg);border-radius:6px;padding:0 8px;
margin-right:8px}
.failures ul{list-style:none;border-color:var(--bad)}
.failures li+li{border-top:1px solid var(--line);margin-top:14px;padding-top:14px}
.failures b{margin-right:6px}
.failures p{margin:4px 0 2px;overflow-wrap:anywhere}
.failures small,footer{color:var(--soft);font-size:14px}
.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace;font-size:13px;color:var(--soft)}
a{color:var(--link)}
footer{padding-top:18px;padding-bottom:52px}
@media (max-width:640px){header,main,footer{padding-left:16px;
padding-right:16px}article,.card,.failures ul{padding:16px}.checks{min-width:560px}}
@media print{body{background:#fff}article,.card{break-inside:avoid}.wide{overflow:visible}}
"""
