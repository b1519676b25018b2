/** @file A timeline with its figures and tables as one page that needs nothing else: no network, no other file. */
import { escapeXml } from './escape.ts';
import { pageScript } from './page-script.ts';
import type { Figure, Table, TableRow } from './plan-tables.ts';
import { type Panel, timelineSvg } from './svg.ts';

export interface PageOptions {
	readonly title: string;
	/** Lines below the title. */
	readonly lines?: readonly string[];
	readonly figures?: readonly Figure[];
	/** Above each other, such as predicted above measured. */
	readonly panels: readonly Panel[];
	readonly tables?: readonly Table[];
	/** Texts that open on a click, by name, such as the rows of the schedule. */
	readonly texts?: Readonly<Record<string, string>>;
}

const style = `
:root { color-scheme: light dark; --ink: #16202c; --soft: #5b6673; --line: #dde3ea; --page: #f4f6f9; --card: #ffffff; --bar: #d6e4f7; --chosen: #eef5ff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf3; --soft: #a3afbd; --line: #333d49; --page: #12171d; --card: #1b222b; --bar: #27405f; --chosen: #1f2c3d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 28px 24px 48px; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
h1 { margin: 0 0 4px; font-size: 22px; overflow-wrap: anywhere; }
h2 { margin: 28px 0 8px; font-size: 16px; }
.lines { margin: 0; color: var(--soft); overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin: 20px 0; }
.figures div { padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.figures dt { color: var(--soft); }
.figures dd { margin: 0; }
.figures dd.value { font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures dd.note { color: var(--soft); font-size: 12.5px; }
.card { padding: 12px; overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card.picture { background: #ffffff; }
svg.timeline { display: block; width: 100%; min-width: 720px; height: auto; outline-offset: 4px; touch-action: pan-y; }
.tools { display: none; gap: 6px; align-items: center; margin: 0 0 8px; color: var(--soft); font-size: 12.5px; }
.live .tools { display: flex; }
.tools button { padding: 3px 10px; font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px; cursor: pointer; }
.live .s:hover rect { filter: brightness(1.12); }
table { width: 100%; border-collapse: collapse; }
th, td { padding: 6px 10px; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:last-child { white-space: normal; min-width: 10em; }
th { color: var(--soft); font-weight: 500; }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
tr.chosen { background: var(--chosen); font-weight: 600; }
td.bar { background: linear-gradient(90deg, var(--bar) var(--share), transparent var(--share)); }
details { margin-top: 20px; }
summary { cursor: pointer; }
pre { overflow-x: auto; padding: 12px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; font: 12px/1.5 ui-monospace, 'DejaVu Sans Mono', monospace; }
#tip { position: fixed; z-index: 1; max-width: 420px; padding: 8px 10px; color: #ffffff; background: #16202cf2; border-radius: 6px; font-size: 12.5px; white-space: pre-line; pointer-events: none; }
#tip[hidden] { display: none; }
@media print { body { background: #ffffff; } .tools { display: none !important; } }
`;

/** The page. Every name in it is escaped; a policy in its head forbids it to load anything. */
export function timelinePage({ title, lines = [], figures = [], panels, tables = [], texts = {} }: PageOptions): string {
	const figure = ({ name, value, note }: Figure) =>
		`<div><dt>${escapeXml(name)}</dt><dd class="value">${escapeXml(value)}</dd>${note === undefined ? '' : `<dd class="note">${escapeXml(note)}</dd>`}</div>`;
	const details = Object.entries(texts).map(
		([name, text]) => `<details><summary>${escapeXml(name)}</summary><pre>${escapeXml(text)}</pre></details>`,
	);
	return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escapeXml(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeXml(title)}</h1>
${lines.map((line) => `<p class="lines">${escapeXml(line)}</p>`).join('\n')}
${figures.length > 0 ? `<dl class="figures">${figures.map(figure).join('\n')}</dl>` : ''}
<div class="card picture">
<p class="tools"><button type="button" data-zoom="in" aria-label="Zoom in">+</button><button type="button" data-zoom="out" aria-label="Zoom out">&#8722;</button><button type="button" data-zoom="all">all</button> Ctrl and wheel zoom, dragging moves, pointing at a box explains it</p>
${timelineSvg(panels)}</div>
${tables.map(drawTable).join('\n')}
${details.join('\n')}
<div id="tip" hidden></div>
<script>${pageScript}</script>
</body>
</html>
`;
}

function drawTable({ heading, columns, right, rows }: Table): string {
	const side = (i: number) => (right.includes(i) ? ' class="right"' : '');
	const barColumn = right.find((i) => columns[i] === 'iteration');
	const cell = (words: string, i: number, { share }: TableRow) =>
		share !== undefined && i === barColumn
			? `<td class="right bar" style="--share: ${(100 * share).toFixed(1)}%">${escapeXml(words)}</td>`
			: `<td${side(i)}>${escapeXml(words)}</td>`;
	const body = rows.map(
		(row) => `<tr${row.chosen ? ' class="chosen"' : ''}>${row.cells.map((words, i) => cell(words, i, row)).join('')}</tr>`,
	);
	return `<h2>${escapeXml(heading)}</h2>
<div class="card"><table>
<thead><tr>${columns.map((name, i) => `<th scope="col"${side(i)}>${escapeXml(name)}</th>`).join('')}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table></div>`;
}
