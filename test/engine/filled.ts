/** @file A training chain two of whose inputs frozen parts give, and random plans of that frozen work. */
import fc from 'fast-check';
import { type Chain, type ChainTrace, traceChain } from '../../src/nn/chain.ts';
import { linear } from '../../src/nn/linear.ts';
import type { FillItem } from '../../src/plan/fill/types.ts';
import type { FrozenPart, Given } from '../../src/program/fill/types.ts';

const width = 6;

/** Pixels to `x`, three layers with a value that crosses all of them. */
export const encoderChain: Chain = {
	name: 'encoder',
	inputs: { pixels: { dtype: 'float32', shape: [width] }, noise: { dtype: 'float32', shape: [width] } },
	layers: [
		{
			name: 'first',
			build: (ctx, live) => {
				live.set('h', ctx.g.tanh(linear(ctx, live.get('pixels'), width)));
				live.set('skip', ctx.g.mul(live.get('pixels'), 0.5));
			},
		},
		{ name: 'second', build: (ctx, live) => live.set('h', ctx.g.tanh(linear(ctx, live.get('h'), width))) },
		{ name: 'third', build: ({ g }, live) => live.set('z', g.add(g.add(live.get('h'), live.get('skip')), g.mul(live.get('noise'), 0.1))) },
	],
	outputs: ['z'],
};

/** The encoder's output and words to the target, two layers. */
export const teacherChain: Chain = {
	name: 'teacher',
	inputs: { z: { dtype: 'float32', shape: [width] }, words: { dtype: 'float32', shape: [width] } },
	layers: [
		{ name: 'mix', build: (ctx, live) => live.set('h', linear(ctx, ctx.g.concat([live.get('z'), live.get('words')], 1), width)) },
		{ name: 'out', build: ({ g }, live) => live.set('target', g.sigmoid(live.get('h'))) },
	],
	outputs: ['target'],
};

/** Both as parts of a job, traced at one sample. */
export function frozenParts(): { parts: readonly FrozenPart[]; given: Given; traces: readonly ChainTrace[] } {
	const traces = [traceChain(encoderChain, 1), traceChain(teacherChain, 1)];
	return {
		traces,
		parts: [
			{ name: 'encoder', trace: traces[0]!, takes: {} },
			{ name: 'teacher', trace: traces[1]!, takes: { z: { part: 'encoder', output: 'z' } } },
		],
		given: { x: { part: 'encoder', output: 'z' }, target: { part: 'teacher', output: 'target' } },
	};
}

/** Any split of the batch of every layer over devices, each layer after the one before, at any time from 0 to twice `endMs`. */
export function fillItems(batch: number, devices: number, endMs: number): fc.Arbitrary<readonly FillItem[]> {
	const layers = [
		['encoder', 0],
		['encoder', 1],
		['encoder', 2],
		['teacher', 0],
		['teacher', 1],
	] as const;
	const split = fc
		.array(fc.integer({ min: 1, max: batch - 1 }), { maxLength: 3 })
		.map((cuts) => [...new Set([0, ...cuts, batch])].sort((a, b) => a - b));
	const one = fc.record({ cuts: split, devices: fc.array(fc.nat(devices - 1), { minLength: 4, maxLength: 4 }), wait: fc.boolean() });
	return fc.array(one, { minLength: layers.length, maxLength: layers.length }).map((plan) => {
		const items: FillItem[] = [];
		const free = new Array<number>(devices).fill(0);
		let ready = 0;
		const step = endMs / 8;
		plan.forEach(({ cuts, devices: where, wait }, l) => {
			const [component, layer] = layers[l]!;
			let latest = ready;
			for (const [i, to] of cuts.slice(1).entries()) {
				const device = where[i]!;
				const startMs = Math.max(ready, free[device]!) + (wait ? step / 2 : 0);
				free[device] = startMs + step;
				latest = Math.max(latest, startMs + step);
				items.push({ device, startMs, endMs: startMs + step, component, layer, samples: [cuts[i]!, to] });
			}
			ready = latest;
		});
		return items;
	});
}
