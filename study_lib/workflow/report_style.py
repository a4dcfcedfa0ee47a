"""How the report looks: in the light and in the dark, on a wide screen, on a phone, on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --soft: #57606a; --line: #d0d7de;
  --tint: #f3f5f7; --link: #0b57d0; --bad: #b42318; --good: #1a7f37; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #14171a; --soft: #a3adb8;
  --line: #3a424a; --tint: #1d2227; --link: #8ab4f8; --bad: #ff8a80; --good: #7ee2a0; --warn: #f0c36d; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 86rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-top: .5rem; }
h2 { font-size: 1.4rem; line-height: 1.25; } h3 { font-size: 1.15rem; margin: 0 0 .5rem; }
h4 { font-size: 1rem; margin: 0 0 .4rem; }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
nav ol { list-style: none; padding: 0; margin: .3rem 0 1rem; } nav li { margin: .25rem 0; }
nav h2 { font-size: 1.05rem; margin: .5rem 0 0; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
main > section { border-top: 1px solid var(--line); margin-top: 2rem; min-width: 0; }
section section { margin: 2.2rem 0; }
.question, .source { font-style: italic; } .facts, figcaption, .source, .note { color: var(--soft); font-size: .95rem; }
.done { color: var(--good); } .failed { color: var(--bad); font-weight: 600; } .running { color: var(--warn); }
.warnings { border-left: 4px solid var(--warn); background: var(--tint); padding: .1rem 1rem;
  border-radius: 0 4px 4px 0; }
.warnings h2 { font-size: 1.1rem; margin: .6rem 0 0; } .warnings ul { padding-left: 1.2rem; margin: .4rem 0 .6rem; }
figure { margin: 1.5rem 0; min-width: 0; } figcaption { margin-top: .4rem; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figure a.picture { display: inline-block; max-width: 100%; }
.scroll { overflow: auto; max-width: 100%; max-height: 26rem; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; max-width: 28rem;
  overflow-wrap: normal; }
thead th { position: sticky; top: 0; background: var(--tint); border-bottom: 1px solid var(--line);
  vertical-align: bottom; }
thead th[colspan], thead tr:first-child td { position: static; background: var(--tint); }
thead th[colspan] { text-align: center; border-left: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; } td.number { white-space: nowrap; }
pre { overflow-x: auto; background: var(--tint); padding: .8rem; font-size: .85rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--link); } details > .scroll { margin-top: .5rem; }
iframe { width: 100%; height: 36rem; max-height: 80vh; border: 1px solid var(--line); background: #ffffff; }
.cohort { background: var(--tint); border: 1px solid var(--line); border-radius: 4px; padding: 0 .35rem;
  white-space: nowrap; }
.paper { border-style: dashed; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; color: var(--soft); font-size: .95rem; }
@media (min-width: 70rem) {
  .columns { display: grid; grid-template-columns: 15rem minmax(0, 1fr); gap: 2rem; align-items: start; }
  nav { position: sticky; top: 0; max-height: 100vh; overflow-y: auto; padding: 1rem .3rem; font-size: .92rem; }
}
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; } h1 { font-size: 1.4rem; } }
@media print { nav, .skip, iframe { display: none; } figure { break-inside: avoid; } .scroll { max-height: none; } }
"""
