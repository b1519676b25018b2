/** @file Timelines as text for terminals: a row per device, a column per stretch of time, in colour where wanted and readable without. */
import { formatMs } from '../core/units.ts';
import { escapeControls } from './picture/escape.ts';
import { type Look, type Palette, paletteOf, rgbOf } from './picture/palette.ts';
import { busyShares, extentOf, type Interval, isBusy, occupies, type Span, type Timeline } from './timeline.ts';
import type { DeviceId } from './types.ts';

export interface TimelineTextOptions {
	/** Paint boxes with ANSI colours. */
	readonly colour?: boolean;
	/** What stands before a device's row; `device 3` unless given. */
	readonly label?: (device: DeviceId) => string;
}

/** What fills a column of a row. */
interface Cell {
	readonly symbol: string;
	/** Absent for waiting. */
	readonly look?: Look;
}

const wait: Cell = { symbol: '.' };

/**
 * A row per device of `columns` characters, each the work that fills most of its stretch of time: the micro-batch as a digit for a forward, as a small
 * letter for a backward and as a capital for a weight gradient (from the start again after 9 and z; raised for a second backbone), `#` and other marks for frozen components, `*` for
 * other graphs, `=` for a collective (one that goes on beside work shows where the device would wait), `+` for an update, `<` and `>` for feed and fetch,
 * `:` for memory given back, `.` for waiting. Below them the time and the meaning of the marks in use.
 */
export function renderTimeline(timeline: Timeline, columns: number, options: TimelineTextOptions = {}): string {
	return renderTimelines([{ name: '', timeline }], columns, options);
}

/** Timelines below each other, each under its name, at one scale of time and with the same marks: `columns` characters are the longest of them. */
export function renderTimelines(
	timelines: readonly { readonly name: string; readonly timeline: Timeline }[],
	columns: number,
	options: TimelineTextOptions = {},
): string {
	const { colour = false, label = (device) => `device ${device}` } = options;
	const palette = paletteOf(timelines.map(({ timeline }) => timeline));
	const extents = timelines.map(({ timeline }) => extentOf(timeline));
	const longest = Math.max(0, ...extents.map(({ start, end }) => end - start));
	const labels = timelines.map(({ timeline }) => timeline.devices.map(({ device }) => escapeControls(label(device))));
	const width = Math.max(0, ...labels.flat().map((text) => text.length));
	const blocks = timelines.map(({ name, timeline }, t) => {
		const { start, end } = extents[t]!;
		const shares = busyShares(timeline);
		const own = longest > 0 ? Math.max(1, Math.round((columns * (end - start)) / longest)) : columns;
		const rows = timeline.devices.map(({ spans }, i) => {
			const percent = `${Math.round(100 * shares[i]!)}`.padStart(3);
			const cells = paint(rowOf(spans, { start, end }, own, palette), colour);
			return `${labels[t]![i]!.padEnd(width)} |${cells}|${' '.repeat(columns - own)} ${percent} % busy`;
		});
		const [from, to] = [formatMs(start), formatMs(end)];
		const axis = `${' '.repeat(width + 2)}${from}${to.padStart(Math.max(to.length + 1, own - from.length))}`;
		return [...(name === '' ? [] : [name]), ...rows, axis];
	});
	return `${[...blocks.flat(), legend(palette, colour)].join('\n')}\n`;
}

/** Columns that are left for the rows of `renderTimeline` on a terminal of `width` characters, at least 20. */
export function timelineColumns(width: number, longestLabel: number): number {
	return Math.max(20, width - longestLabel - ' || 100 % busy'.length);
}

function rowOf(spans: readonly Span[], { start, end }: Interval, columns: number, palette: Palette): Cell[] {
	const width = (end - start) / columns;
	const shares = Array.from({ length: columns }, () => new Map<string, { cell: Cell; ms: number }>());
	const beside = new Array<Cell | undefined>(columns).fill(undefined);
	for (const span of spans) {
		if (!isBusy(span.kind) || !(span.end > span.start)) continue;
		const look = palette.of(span);
		const cell: Cell = { symbol: symbolOf(span, look), look };
		for (let c = Math.max(0, Math.floor((span.start - start) / width)); c < columns && start + c * width < span.end; c++) {
			const overlap = Math.min(span.end, start + (c + 1) * width) - Math.max(span.start, start + c * width);
			if (!occupies(span)) {
				if (overlap >= width / 2) beside[c] = cell;
				continue;
			}
			const share = shares[c]!.get(cell.symbol + look.key) ?? { cell, ms: 0 };
			share.ms += Math.max(0, overlap);
			shares[c]!.set(cell.symbol + look.key, share);
		}
	}
	return shares.map((all, c) => {
		const busy = [...all.values()].reduce((sum, { ms }) => sum + ms, 0);
		const most = [...all.values()].reduce((a, b) => (b.ms > a.ms ? b : a), { cell: wait, ms: 0 });
		return most.ms > 0 && most.ms >= width - busy ? most.cell : (beside[c] ?? wait);
	});
}

function symbolOf({ action }: Span, { marks }: Look): string {
	return marks[(action?.micro ?? 0) % marks.length]!;
}

/** Neighbours of one look share one pair of escapes. */
function paint(cells: readonly Cell[], colour: boolean): string {
	if (!colour) return cells.map(({ symbol }) => symbol).join('');
	let text = '';
	for (let i = 0; i < cells.length; ) {
		const { look } = cells[i]!;
		let end = i + 1;
		while (end < cells.length && cells[end]!.look === look) end++;
		const run = cells
			.slice(i, end)
			.map(({ symbol }) => symbol)
			.join('');
		text += look ? box(look, run) : run;
		i = end;
	}
	return text;
}

function legend({ used }: Palette, colour: boolean): string {
	return used
		.filter(({ symbol }) => symbol !== '')
		.map((look) => `${colour && look.symbol !== wait.symbol ? box(look, look.symbol) : look.symbol} ${escapeControls(look.label)}`)
		.join(', ');
}

/** `text` on the look's colour, from the 256 that terminals share. */
function box({ fill, ink }: Look, text: string): string {
	return `\u001b[48;5;${ansiOf(fill)};38;5;${ink === '#ffffff' ? 231 : 16}m${text}\u001b[0m`;
}

/** The nearest of the 6 x 6 x 6 cube of colours 16 to 231, whose levels are 0, 95, 135, 175, 215, 255. */
function ansiOf(hex: string): number {
	const [r, g, b] = rgbOf(hex).map((c) => {
		const level = 255 * c;
		return level < 48 ? 0 : level < 115 ? 1 : Math.min(5, Math.round((level - 55) / 40));
	}) as [number, number, number];
	return 16 + 36 * r + 6 * g + b;
}
