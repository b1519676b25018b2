/** @file Timelines as text for terminals: a row per device, a column per stretch of time. */
import { busyShares, extentOf, type Interval, isBusy, type Span, type Timeline } from './timeline.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/**
 * A row per device of `columns` characters, each the work that fills most of its stretch of time: the micro-batch as a digit for a forward, as a small
 * letter for a backward and as a capital for a weight gradient (from the start again after 9 and z), `*` for other graphs, `=` for a collective, `+` for
 * an update, `<` and `>` for feed and fetch, `.` for waiting. Below them the time and the meaning.
 */
export function renderTimeline(timeline: Timeline, columns: number): string {
	const extent = extentOf(timeline);
	const shares = busyShares(timeline);
	const label = Math.max(0, ...timeline.devices.map(({ device }) => `device ${device}`.length));
	const rows = timeline.devices.map(({ device, spans }, i) => {
		const percent = `${Math.round(100 * shares[i]!)}`.padStart(3);
		return `${`device ${device}`.padEnd(label)} |${renderRow(spans, extent, columns)}| ${percent} % busy`;
	});
	const [start, end] = [formatMs(extent.start), formatMs(extent.end)];
	const axis = `${' '.repeat(label + 2)}${start}${end.padStart(Math.max(end.length + 1, columns - start.length))}`;
	return `${[...rows, axis, '0-9 F, a-z B or I, A-Z W, * other graph, = collective, + update, < feed, > fetch, . wait'].join('\n')}\n`;
}

function renderRow(spans: readonly Span[], { start, end }: Interval, columns: number): string {
	const width = (end - start) / columns;
	const shares = Array.from({ length: columns }, () => new Map<string, number>());
	for (const span of spans) {
		if (!isBusy(span.kind)) continue;
		const symbol = symbolOf(span);
		const first = Math.floor((span.start - start) / width);
		for (let c = Math.max(0, first); c < columns && start + c * width < span.end; c++) {
			const overlap = Math.min(span.end, start + (c + 1) * width) - Math.max(span.start, start + c * width);
			shares[c]!.set(symbol, (shares[c]!.get(symbol) ?? 0) + Math.max(0, overlap));
		}
	}
	return shares
		.map((cell) => {
			const busy = [...cell.values()].reduce((a, b) => a + b, 0);
			const [symbol, most] = [...cell].reduce((a, b) => (b[1] > a[1] ? b : a), ['.', 0]);
			return most > 0 && most >= width - busy ? symbol : '.';
		})
		.join('');
}

function symbolOf({ kind, action }: Span): string {
	if (kind === 'run') {
		if (!action) return '*';
		if (action.kind === 'F') return String(action.micro % 10);
		const letter = LETTERS[action.micro % LETTERS.length]!;
		return action.kind === 'W' ? letter.toUpperCase() : letter;
	}
	return kind === 'update' ? '+' : kind === 'feed' ? '<' : kind === 'fetch' ? '>' : '=';
}

function formatMs(ms: number): string {
	return `${Number(ms.toFixed(ms < 10 ? 3 : 1))} ms`;
}
