"""How the page looks: one column, light and dark as the reader's system is, from a phone to a wide screen."""

STYLE = """
:root{color-scheme:light dark;--line:#8886;--soft:#88888818;--faint:#6b7280;--bad:#dc2626;--link:#2563eb}
@media(prefers-color-scheme:dark){:root{--faint:#9ca3af;--bad:#f87171;--link:#60a5fa}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:1.5rem auto;padding:0 1rem;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:0 0 .3rem}a{color:var(--link)}p{margin:.4rem 0}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;margin:.8rem 0}.soft,small{color:var(--faint)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.6rem;margin:1rem 0}
.tiles div{background:var(--soft);border-radius:8px;padding:.6rem .8rem}.tiles b{display:block;font-size:1.45rem}
.tiles b span{font-size:.9rem;font-weight:400}
.scroll{overflow:auto;max-height:85vh}
table{border-collapse:collapse;font-size:13px;margin:.4rem 0;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid var(--line);padding:.28rem .7rem;text-align:right;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child,.words th,.words td{text-align:left;white-space:normal;min-width:7rem}
.scroll thead th{position:sticky;top:0;background:Canvas;box-shadow:inset 0 -2px var(--line)}
.clips th{white-space:normal;overflow-wrap:normal;vertical-align:bottom;max-width:8rem}
.clips th:nth-child(2),.clips td:nth-child(2){text-align:left;white-space:normal;min-width:13rem}
td small{font-weight:400;margin-left:.35em}
tr.family th{background:var(--soft);text-align:left;font-weight:600}
code{background:var(--soft);border-radius:4px;padding:.05rem .3rem;font-size:12px}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(110px,1fr));gap:.7rem}
.sheet figure{margin:0;text-align:center;font-size:12px;line-height:1.3}.sheet img{display:block;margin:0 auto 2px}
.flow{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}.flow figure{margin:0;max-width:100%}
.flow figure img{max-width:min(100%,600px)}
figcaption{font-size:12px;color:var(--faint);margin-bottom:.2rem}
img,svg,video{max-width:100%;height:auto}img,video{border-radius:4px}video{height:240px;min-width:240px;background:#000}
.clip{border:1px solid var(--line);border-radius:8px;padding:.9rem 1rem;margin:1rem 0}
.numbers{columns:3 300px;font-size:12.5px;padding:0;margin:.3rem 0;list-style:none}.numbers b{float:right}
svg text{font:11px system-ui,sans-serif;fill:currentColor}svg .title{font-weight:600;font-size:12px}
svg .grid{stroke:var(--line);fill:none}svg .axis{stroke:currentColor}svg .faint{fill:var(--faint)}
details{margin:.5rem 0}summary{cursor:pointer}pre{overflow-x:auto;font-size:12px;background:var(--soft);padding:.6rem}
@media(max-width:600px){body{padding:0 .6rem;margin:.8rem auto}th,td{padding:.25rem .4rem}.clip{padding:.6rem}
td small{display:block;margin:0}.flow{gap:.6rem}}
"""
