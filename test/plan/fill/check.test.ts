import { expect, test } from 'vitest';
import { checkFill, type FillProblem, type FillResult } from '../../../src/plan/fill/index.ts';

const layer = (name: string) => ({ name, forwardMs: [2, 3], outputBytes: 10, paramBytes: 5 });

const problem: FillProblem = {
	idle: [
		[
			{ start: 0, end: 4 },
			{ start: 8, end: 10 },
		],
		[{ start: 3, end: 20 }],
	],
	endMs: 20,
	batch: 2,
	batchSizes: [1, 2],
	components: [
		{ name: 'vae', after: [], layers: [layer('down'), layer('up')] },
		{ name: 'net', after: ['vae'], layers: [layer('in')] },
	],
	transferMs: (bytes, from, to) => (from === to ? 0 : 1 + bytes / 10),
	freeBytes: [10, 15],
};

const item = (device: number, startMs: number, endMs: number, component: string, index: number, from: number, to: number) => ({
	device,
	startMs,
	endMs,
	component,
	layer: index,
	samples: [from, to] as const,
});

const good: FillResult = {
	items: [
		item(0, 0, 3, 'vae', 0, 0, 2),
		item(0, 8, 10, 'vae', 1, 0, 1),
		item(1, 5, 7, 'vae', 1, 1, 2),
		item(1, 12, 14, 'net', 0, 0, 1),
		item(1, 20, 22, 'net', 0, 1, 2),
	],
	moves: [
		{ from: 0, to: 1, startMs: 3, endMs: 5, component: 'vae', layer: 0, samples: [1, 2] },
		{ from: 0, to: 1, startMs: 10, endMs: 12, component: 'vae', layer: 1, samples: [0, 1] },
	],
	iterationMs: 22,
	lowerBoundMs: 20,
	method: 'by hand',
};

/** The good filling with one item, or one move, changed. */
function changed(at: number, over: Partial<FillResult['items'][number]>): FillResult {
	return { ...good, items: good.items.map((each, i) => (i === at ? { ...each, ...over } : each)) };
}

function moved(at: number, over: Partial<FillResult['moves'][number]>): FillResult {
	return { ...good, moves: good.moves.map((each, i) => (i === at ? { ...each, ...over } : each)) };
}

test('a sound filling passes', () => {
	expect(() => checkFill(problem, good)).not.toThrow();
});

test.each<[string, FillResult, string]>([
	['samples left out', { ...good, items: good.items.slice(0, -1), iterationMs: 20 }, 'net, layer 0: samples left out'],
	['a layer left out', { ...good, items: good.items.slice(0, 3), iterationMs: 20 }, 'net, layer 0: samples left out'],
	['samples twice', changed(2, { samples: [0, 1] }), 'item vae, layer 1, samples [0, 1) on device 1: samples run twice'],
	['samples outside the batch', changed(4, { samples: [1, 3] }), 'samples [1, 3) on device 1: samples outside the batch'],
	['no samples', changed(4, { samples: [1, 1] }), 'samples outside the batch'],
	['an unknown layer', changed(4, { layer: 1 }), 'no such layer'],
	['an unknown component', changed(4, { component: 'x' }), 'no such layer'],
	['an unknown device', changed(4, { device: 2 }), 'no such device'],
	['too short', changed(4, { endMs: 21 }), 'not the time of this layer'],
	['not a number', changed(4, { endMs: Number.NaN }), 'not the time of this layer'],
	['a busy device', changed(1, { startMs: 9, endMs: 11 }), 'item vae, layer 1, samples [0, 1) on device 0: the device is not idle'],
	['a busy device before it is idle', changed(2, { startMs: 2, endMs: 4 }), 'the device is not idle'],
	['two at one time', changed(3, { startMs: 21, endMs: 23 }), 'two items at one time on one device'],
	['before its input', changed(4, { startMs: 4, endMs: 6 }), 'item net, layer 0, samples [1, 2) on device 1: input not there'],
	['before its input is moved', changed(2, { startMs: 4, endMs: 6 }), 'item vae, layer 1, samples [1, 2) on device 1: input not there'],
	['without its input moved', { ...good, moves: good.moves.slice(0, 1) }, 'item net, layer 0, samples [0, 1) on device 1: input not there'],
	['moved to another device', moved(1, { to: 0, startMs: 10, endMs: 10 }), 'input not there'],
	[
		'moved before it is made',
		moved(1, { startMs: 9, endMs: 11 }),
		'move of vae, layer 1, samples [0, 1) from device 0 to 1: moved before it is made',
	],
	['moved too fast', moved(1, { endMs: 11 }), 'not the time of this transfer'],
	[
		'moves at one time',
		{ ...good, moves: [...good.moves, { ...good.moves[0]!, startMs: 4, endMs: 6 }] },
		'two moves at one time on one link',
	],
	['a wrong iteration', { ...good, iterationMs: 21 }, 'iterationMs: wrong figure'],
	['a bound above', { ...good, lowerBoundMs: 23 }, 'lowerBoundMs: wrong figure'],
	['a bound below the end', { ...good, lowerBoundMs: 19 }, 'lowerBoundMs: wrong figure'],
])('%s', (_, result, message) => {
	expect(() => checkFill(problem, result)).toThrow(message);
});

test('weights that do not fit', () => {
	expect(() => checkFill({ ...problem, freeBytes: [10, 9] }, good)).toThrow(
		'item net, layer 0, samples [0, 1) on device 1: weights do not fit',
	);
	expect(() => checkFill({ ...problem, freeBytes: [10, 10] }, good)).not.toThrow();
});
