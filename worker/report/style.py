"""How the page looks; its colours are those of the plots."""

SHEET = """
:root { --page: #ffffff; --card: #f6f8fa; --ink: #1b1f24; --faint: #57606a; --line: #d5dae0;
  --link: #005b8f; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #14181d; --card: #1d232a; --ink: #e6e9ed; --faint: #a3acb6; --line: #343b44;
    --link: #7cc4ee; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 976px; padding: 24px 16px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; }
h2 { font-size: 18px; margin: 0 0 4px; }
header p, footer, section > p, .note { color: var(--faint); margin: 0 0 12px; }
section { border-top: 1px solid var(--line); padding: 20px 0; }
section > p { max-width: 75ch; font-size: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 8px;
  margin: 12px 0 24px; }
@media (max-width: 480px) {
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles div:last-child:nth-child(odd) { grid-column: span 2; }
}
.tiles div { background: var(--card); border-radius: 6px; padding: 10px 12px; }
dt { color: var(--faint); font-size: 13px; }
dd { font-size: 22px; font-variant-numeric: tabular-nums; line-height: 1.3; margin: 0; }
dd small { color: var(--faint); display: block; font-size: 12px; }
figure { margin: 0 0 8px; }
img { display: block; height: auto; max-width: 100%; }
summary { color: var(--link); cursor: pointer; font-size: 14px; padding: 6px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  min-width: 100%; overflow-wrap: normal; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 14px 4px 0; text-align: left;
  vertical-align: top; }
th.number { text-align: right; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
td.short { white-space: nowrap; }
td.long { max-width: 44ch; min-width: 26ch; overflow-wrap: break-word; }
.number { text-align: right; white-space: nowrap; }
section > p.note { font-size: 13px; }
footer { border-top: 1px solid var(--line); font-size: 13px; padding-top: 16px; }
@media print { details > *, .scroll { display: block; overflow: visible; } }
"""
