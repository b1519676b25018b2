/** @file What each span is shown as in every picture: its class, colours, the character of terminals, and the words of the legend. */
import { isBusy, type Span, type Timeline } from '../timeline.ts';

/** One look that spans share. */
export interface Look {
	/** Same for spans shown alike. */
	readonly key: string;
	/** For the legend. */
	readonly label: string;
	/** `#rrggbb` of the box, and of text in it. */
	readonly fill: string;
	readonly ink: string;
	/** In the legend of terminals; nothing for what does not show there. */
	readonly symbol: string;
	/** In rows of terminals: by micro-batch for runs of an action. */
	readonly marks: string;
}

/** The looks of the spans of some timelines. */
export interface Palette {
	of(span: Span): Look;
	/** Those in use, in the order of the legend. */
	readonly used: readonly Look[];
}

const white = '#ffffff';
const black = '#16202c';
/** One row per backbone: forward, whole backward, backward for inputs, backward for weights. */
const backboneFills: readonly Readonly<Record<'F' | 'B' | 'I' | 'W', string>>[] = [
	{ F: '#3f7fd6', B: '#2f9467', I: '#2b8f9e', W: '#7cc79a' },
	{ F: '#7f67c9', B: '#8c8b2f', I: '#a06a2c', W: '#c3bf5c' },
	{ F: '#5b8fa8', B: '#4f7f3f', I: '#3f7f72', W: '#9fc27f' },
];
const frozenFills = ['#f0a535', '#e4674f', '#d877b4', '#d3c02f', '#b07d4f', '#f2a091'];
const frozenSymbols = ['#', '%', '&', '@', '$', '~'];
const actionWords = { F: 'forward', B: 'backward', I: 'backward for inputs', W: 'backward for weights' } as const;
const digits = '0123456789';
const letters = 'abcdefghijklmnopqrstuvwxyz';
const raisedDigits = '⁰¹²³⁴⁵⁶⁷⁸⁹';
/** Without q, which no plane of 16 bits has raised. */
const raisedLetters = 'ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ';
/** Micro-batches in terminals, from the start again at the end; backbones after the first are raised. */
const actionSymbols: Readonly<Record<'F' | 'B' | 'I' | 'W', readonly [first: string, others: string]>> = {
	F: [digits, raisedDigits],
	B: [letters, raisedLetters],
	I: [letters, raisedLetters],
	W: [letters.toUpperCase(), letters.toUpperCase()],
};

const others: Readonly<Record<string, Omit<Look, 'key' | 'ink' | 'marks'>>> = {
	graph: { label: 'other graph', fill: '#9aa6b4', symbol: '*' },
	allReduce: { label: 'sum of gradients', fill: '#66707d', symbol: '=' },
	allGather: { label: 'collective', fill: '#66707d', symbol: '=' },
	update: { label: 'optimiser', fill: '#2b323b', symbol: '+' },
	feed: { label: 'feed', fill: '#b8a9d9', symbol: '<' },
	fetch: { label: 'fetch', fill: '#b8a9d9', symbol: '>' },
	drop: { label: 'memory given back', fill: '#c9c2dd', symbol: ':' },
	send: { label: 'transfer', fill: '#b4bdc8', symbol: '' },
	wait: { label: 'idle', fill: '#eef1f5', symbol: '.' },
};
const order = ['F', 'B', 'I', 'W', 'graph', 'frozen', 'update', 'allReduce', 'allGather', 'feed', 'fetch', 'drop', 'send', 'wait'];

/** The looks of all spans of `timelines`: backbones and frozen components get colours in the order in which they first appear. */
export function paletteOf(timelines: readonly Timeline[]): Palette {
	const spans = timelines.flatMap(({ devices }) => devices.flatMap((device) => device.spans.filter((span) => span.end > span.start)));
	const backbones = namesOf(spans.filter((span) => span.action));
	const components = namesOf(spans.filter((span) => span.kind === 'frozen'));
	const looks = new Map<string, Look>();
	const of = (span: Span): Look => {
		const [kind, index] = classOf(span, backbones, components);
		const key = `${kind} ${index}`;
		let look = looks.get(key);
		if (!look) {
			look = makeLook(kind, index, backbones, components);
			looks.set(key, look);
		}
		return look;
	};
	for (const span of spans) of(span);
	const idle = makeLook('wait', 0, backbones, components);
	looks.set(idle.key, idle);
	const rank = ({ key }: Look) => order.indexOf(key.split(' ')[0]!) * 1000 + Number(key.split(' ')[1]);
	return { of, used: [...looks.values()].sort((a, b) => rank(a) - rank(b)) };
}

function namesOf(spans: readonly Span[]): string[] {
	return [...new Set(spans.map((span) => span.part ?? ''))];
}

function classOf(span: Span, backbones: readonly string[], components: readonly string[]): [kind: string, index: number] {
	const { kind, action, part = '' } = span;
	if (action) return [action.kind, Math.max(0, backbones.indexOf(part))];
	if (kind === 'frozen') return ['frozen', Math.max(0, components.indexOf(part))];
	if (kind === 'run') return ['graph', 0];
	return [isBusy(kind) || kind === 'send' ? kind : 'wait', 0];
}

function makeLook(kind: string, index: number, backbones: readonly string[], components: readonly string[]): Look {
	const key = `${kind} ${index}`;
	if (kind === 'frozen') {
		const name = components[index] || 'components';
		const fill = frozenFills[index % frozenFills.length]!;
		const symbol = frozenSymbols[index % frozenSymbols.length]!;
		return { key, label: `frozen ${name}`, fill, ink: inkOn(fill), symbol, marks: symbol };
	}
	if (kind === 'F' || kind === 'B' || kind === 'I' || kind === 'W') {
		const name = backbones.length > 1 && backbones[index] ? `${backbones[index]} ` : '';
		const fill = backboneFills[index % backboneFills.length]![kind];
		const marks = actionSymbols[kind][index === 0 ? 0 : 1];
		return { key, label: name + actionWords[kind], fill, ink: inkOn(fill), symbol: `${marks[0]}-${marks.at(-1)}`, marks };
	}
	const other = others[kind]!;
	return { key, ...other, ink: inkOn(other.fill), marks: other.symbol };
}

/** White where its contrast with `fill` is at least 3.6, otherwise black (relative luminance as in WCAG 2, section 1.4.3). */
export function inkOn(fill: string): string {
	const [r, g, b] = rgbOf(fill).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)) as [number, number, number];
	const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
	return 1.05 / (luminance + 0.05) >= 3.6 ? white : black;
}

/** Red, green and blue of `#rrggbb`, 0 to 1. */
export function rgbOf(hex: string): [red: number, green: number, blue: number] {
	return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255) as [number, number, number];
}
