/** @file Timelines as an SVG: a row per device, a box per span, transfers in a thin lane below, idle time hatched, a time axis and a legend. */
import { formatMs } from '../../core/units.ts';
import { besideLanes } from '../lanes.ts';
import { busyShares, extentOf, type Interval, occupies, type Span, type Timeline } from '../timeline.ts';
import type { DeviceId } from '../types.ts';
import { ticksOf } from './axis.ts';
import { describeSpan } from './describe.ts';
import { escapeXml } from './escape.ts';
import { type Palette, paletteOf } from './palette.ts';

/** One timeline of a picture. */
export interface Panel {
	/** Shown above its rows, such as "predicted"; nothing when empty. */
	readonly name: string;
	readonly timeline: Timeline;
	/** One or two lines at the left of a device's row; `device 3` unless given. */
	readonly label?: (device: DeviceId) => readonly string[];
	/** One or two lines at the right of it; the share of time in which it works unless given. */
	readonly note?: (device: DeviceId) => readonly string[];
}

export interface SvgOptions {
	/** Pixels; 1200 unless given. */
	readonly width?: number;
	readonly title?: string;
	/** Lines below the title. */
	readonly lines?: readonly string[];
}

interface SvgLayout {
	/** Edges of the plot, in which time runs from left to right, in pixels. */
	readonly left: number;
	readonly right: number;
	/** The longest of the timelines, ms: each is drawn from its own start, at one scale. */
	readonly spanMs: number;
}

const font = "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\"";
const textColour = '#16202c';
const softColour = '#5b6673';
const boxHeight = 26;
const laneHeight = 6;
const rowHeight = boxHeight + laneHeight + 10;
/** Pixels per character of the small font, on average. */
const characterWidth = 6.3;

/**
 * The picture of `panels` below each other, at one scale of time: a document by itself, and fit to be put into a page. What a page needs to stretch it is
 * in data attributes: the plot's edges in pixels and its time on the root, start and end in ms on each box, the texts a box may carry.
 */
export function timelineSvg(panels: readonly Panel[], options: SvgOptions = {}): string {
	const { width = 1200, title = '', lines = [] } = options;
	const palette = paletteOf(panels.map(({ timeline }) => timeline));
	const spanMs = Math.max(0, ...panels.map(({ timeline }) => extentOf(timeline).end - extentOf(timeline).start));
	const texts = panels.map((panel) => panel.timeline.devices.map(({ device }, i) => rowTexts(panel, device, i)));
	const longest = (side: 'left' | 'right') =>
		Math.max(0, ...texts.flat(2).map((row) => Math.max(0, ...row[side].map((line) => line.length))));
	const left = Math.round(24 + longest('left') * characterWidth);
	const right = Math.round(width - 24 - longest('right') * characterWidth);
	const layout = { left, right, spanMs };
	const parts: string[] = [];
	let y = 16;
	if (title !== '') {
		parts.push(text(16, y + 14, title, { size: 17, bold: true }));
		y += 28;
	}
	for (const line of lines) {
		parts.push(text(16, y + 9, line, { colour: softColour, size: 12 }));
		y += 18;
	}
	panels.forEach((panel, i) => {
		const drawn = drawPanel(panel, texts[i]!, palette, layout, y + 6);
		parts.push(drawn.svg);
		y = drawn.bottom;
	});
	const legend = drawLegend(palette, width, y + 12);
	parts.push(legend.svg);
	const height = legend.bottom + 12;
	const name = title || 'Timeline';
	return `<svg xmlns="http://www.w3.org/2000/svg" class="timeline" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(name)}" data-left="${left}" data-right="${right}" data-span="${num(spanMs)}" ${font} font-size="11">
<title>${escapeXml(name)}</title>
<defs><pattern id="idle" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="#f5f7f9"/><rect width="1.4" height="6" fill="#d3dae2"/></pattern>
<clipPath id="plot"><rect x="${left}" y="0" width="${right - left}" height="${height}"/></clipPath></defs>
<rect width="${width}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;
}

interface RowText {
	readonly left: readonly string[];
	readonly right: readonly string[];
}

function rowTexts({ timeline, label, note }: Panel, device: DeviceId, row: number): RowText {
	return {
		left: label?.(device) ?? [`device ${device}`],
		right: note?.(device) ?? [`${Math.round(100 * busyShares(timeline)[row]!)} % busy`],
	};
}

function drawPanel(
	{ name, timeline }: Panel,
	texts: readonly RowText[],
	palette: Palette,
	layout: SvgLayout,
	top: number,
): { svg: string; bottom: number } {
	const extent = extentOf(timeline);
	const { left, right, spanMs } = layout;
	const scale = spanMs > 0 ? (right - left) / spanMs : 0;
	const first = top + 22;
	const bottom = first + timeline.devices.length * rowHeight;
	const parts: string[] = [];
	if (name !== '') parts.push(text(16, top + 12, name, { size: 13, bold: true }));
	const ticks = ticksOf(0, spanMs, Math.max(1, Math.floor((right - left) / 80)));
	const grid = ticks.map((ms) => {
		const x = num(left + ms * scale);
		return `<line x1="${x}" x2="${x}" y1="${first - 4}" y2="${bottom}" stroke="#e3e8ee"/>`;
	});
	const rows = timeline.devices.map(({ spans }, i) => {
		const y = first + i * rowHeight;
		const oneStage = new Set(spans.flatMap(({ action }) => (action ? [action.stage] : []))).size < 2;
		const busy = spans.filter((span) => span.end > span.start);
		const idle = `<rect class="s" data-a="0" data-b="${num(extent.end - extent.start)}" x="${left}" y="${y}" width="${num((extent.end - extent.start) * scale)}" height="${boxHeight}" fill="url(#idle)"><title>idle</title></rect>`;
		// Waits are what is left of the row; a lane below the work takes what goes on beside it.
		const boxes = busy
			.filter(occupies)
			.map((span) => drawSpan(span, palette, extent, layout, { y, height: boxHeight, texts: boxTexts(span, oneStage) }));
		const { laneOf, lanes } = besideLanes(busy);
		const tall = laneHeight / Math.max(1, lanes);
		const lane = [...laneOf].map(([span, at]) =>
			drawSpan(span, palette, extent, layout, { y: y + boxHeight + 2 + at * tall, height: tall, texts: [] }),
		);
		return { labels: rowLabels(texts[i]!, layout, y), plot: [idle, ...boxes, ...lane].join('\n') };
	});
	const labels = ticks.map((ms, i) => {
		const unit = i === 0 || i === ticks.length - 1 ? ' ms' : '';
		return `<text x="${num(left + ms * scale)}" y="${bottom + 14}">${num(ms)}${unit}</text>`;
	});
	const end = num(left + (extent.end - extent.start) * scale);
	parts.push(
		...rows.map((row) => row.labels),
		`<g clip-path="url(#plot)">\n<g class="grid" data-y="${first - 4}" data-to="${bottom}">${grid.join('')}</g>\n${rows.map((row) => row.plot).join('\n')}\n<line class="at" data-a="${num(extent.end - extent.start)}" x1="${end}" x2="${end}" y1="${first - 6}" y2="${bottom}" stroke="${textColour}" stroke-width="1.2"/>\n</g>`,
		`<g class="axis" data-y="${bottom + 14}" text-anchor="middle" fill="${softColour}">${labels.join('')}</g>`,
		`<text x="${right}" y="${top + 12}" text-anchor="end" fill="${textColour}" font-weight="600">${escapeXml(formatMs(extent.end - extent.start))}</text>`,
	);
	return { svg: parts.join('\n'), bottom: bottom + 22 };
}

function rowLabels({ left: leftLines, right: rightLines }: RowText, { right }: SvgLayout, y: number): string {
	const lines = (all: readonly string[], x: number) =>
		all.map((line, i) => text(x, y + (all.length === 1 ? 17 : 11 + 13 * i), line, { size: 11, ...(i > 0 ? { colour: softColour } : {}) }));
	return [...lines(leftLines, 16), ...lines(rightLines, right + 10)].join('');
}

/** Where a box stands and what may be written into it, the most telling first. */
interface Box {
	readonly y: number;
	readonly height: number;
	readonly texts: readonly string[];
}

function drawSpan(span: Span, palette: Palette, extent: Interval, { left, right, spanMs }: SvgLayout, { y, height, texts }: Box): string {
	const { fill, ink } = palette.of(span);
	const scale = (right - left) / spanMs;
	const x = left + (span.start - extent.start) * scale;
	const wide = (span.end - span.start) * scale;
	// A hair of the row shows between neighbours, in proportion where boxes are narrow.
	const gap = Math.min(1, wide / 8);
	const label =
		texts.length === 0
			? ''
			: `<text data-w="${escapeXml(texts.join('|'))}" x="${num(x + wide / 2)}" y="${y + 17}" text-anchor="middle" fill="${ink}">${escapeXml(texts.find((words) => fits(words, wide)) ?? '')}</text>`;
	const [a, b] = [num(span.start - extent.start), num(span.end - extent.start)];
	return `<g class="s" data-a="${a}" data-b="${b}"><title>${escapeXml(describeSpan(span, extent.start).join('\n'))}</title><rect x="${num(x)}" y="${num(y)}" width="${num(wide - gap)}" height="${num(height)}" rx="${wide > 6 ? Math.min(2, height / 2) : 0}" fill="${fill}"/>${label}</g>`;
}

/** The micro-batch alone where a device has one stage. */
function boxTexts({ action, kind, name, part, details }: Span, oneStage: boolean): string[] {
	const texts: string[] = [];
	if (action) texts.push(...(oneStage ? [] : [name]), String(action.micro));
	else if (kind === 'frozen') texts.push(...(details?.samples === undefined ? [] : [`${name} [${details.samples}]`]), name, part ?? '');
	else if (kind === 'update') texts.push('step');
	else if (kind === 'run') texts.push(name);
	return texts.filter((words) => words !== '').map((words) => words.replaceAll('|', '/'));
}

/** Whether `words` stand in a box of `wide` pixels. */
function fits(words: string, wide: number): boolean {
	return words !== '' && words.length * characterWidth + 5 <= wide;
}

function drawLegend({ used }: Palette, width: number, top: number): { svg: string; bottom: number } {
	let [x, y] = [16, top];
	const parts = used.map(({ key, label, fill }) => {
		const wide = 30 + label.length * 6.6;
		if (x + wide > width - 16) [x, y] = [16, y + 20];
		const paint = key.startsWith('wait') ? 'url(#idle)' : fill;
		const tall = key.startsWith('send') || key.startsWith('all') ? 6 : 12;
		const part = `<rect x="${num(x)}" y="${y + (12 - tall) / 2}" width="16" height="${tall}" rx="2" fill="${paint}"${paint === fill ? '' : ' stroke="#c9d1da" stroke-width="0.6"'}/>${text(x + 22, y + 10, label, { size: 11 })}`;
		x += wide;
		return part;
	});
	return { svg: `<g class="legend">${parts.join('\n')}</g>`, bottom: y + 16 };
}

function text(x: number, y: number, words: string, { size = 11, bold = false, colour = textColour } = {}): string {
	return `<text x="${num(x)}" y="${num(y)}" font-size="${size}"${bold ? ' font-weight="600"' : ''} fill="${colour}">${escapeXml(words)}</text>`;
}

/** Short decimals: a hundredth of a pixel, a ten-thousandth of a millisecond of any size that is drawn. */
function num(value: number): string {
	return String(Number(value.toFixed(Math.abs(value) < 1 ? 5 : 2)));
}
