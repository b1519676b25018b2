/** @file Convolutions over blocks of channels: the same numbers by the reference interpreter and by ONNX Runtime, and which convolutions they are. */
import { describe, expect, it } from 'vitest';
import { tensor, toNumbers } from '../../../../src/core/tensor.ts';
import { measureChannelBlock } from '../../../../src/engine/local/channel-block.ts';
import { sharedEnvironment } from '../../../../src/engine/local/engine.ts';
import { blockedConvolutions } from '../../../../src/engine/local/lowering/blocked-conv.ts';
import { lowerForOrt } from '../../../../src/engine/local/lowering.ts';
import type { ConvOptions } from '../../../../src/graph/builder/product.ts';
import type { GraphBuilder } from '../../../../src/graph/builder.ts';
import { gradients } from '../../../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../../../src/graph/evaluate.ts';
import { expectClose } from '../../../helpers/close.ts';
import { runOnOrt } from '../../../helpers/ort.ts';
import { operators, passed } from '../../../helpers/passes.ts';
import { randomFeeds } from '../../../helpers/random-graph.ts';

interface Case {
	readonly x: readonly number[];
	readonly w: readonly number[];
	readonly options?: ConvOptions;
	readonly bias?: boolean;
}

const padded: ConvOptions = { pads: [1, 1, 1, 1] };

const forward =
	({ x, w, options = padded, bias = false }: Case) =>
	(g: GraphBuilder) => [
		g.conv(g.input('x', 'float32', x), g.input('w', 'float32', w), bias ? g.input('b', 'float32', [w[0]!]) : undefined, options),
	];

/** The gradient of x alone. */
const backward =
	({ x, w, options = padded }: Case) =>
	(g: GraphBuilder) => {
		const [a, b] = [g.input('x', 'float32', x), g.input('w', 'float32', w)];
		const y = g.conv(a, b, undefined, options);
		return [gradients(g, [{ value: y, grad: g.input('dy', 'float32', y.shape) }], [a])[0]!];
	};

const wide = { x: [1, 16, 32, 32], w: [32, 16, 3, 3] };
const forwards: readonly Case[] = [
	wide,
	{ ...wide, bias: true },
	{ x: [2, 16, 66, 64], w: [16, 16, 3, 2], options: { strides: [2, 2], pads: [0, 1, 1, 0] }, bias: true },
	{ x: [2, 32, 32, 40], w: [16, 32, 3, 3], options: { dilations: [2, 1], pads: [2, 1, 2, 1] } },
];
const backwards: readonly Case[] = [
	{ x: [1, 16, 16, 16], w: [32, 16, 3, 3] },
	{ x: [2, 32, 16, 12], w: [16, 32, 2, 3], options: { pads: [1, 0, 0, 1] } },
];

describe('convolutions over blocks of channels', () => {
	const blocked = ['NchwcReorderInput', 'NchwcReorderInput', 'NchwcConv', 'NchwcReorderOutput'];

	it.each([8, 16])('give the same results, of blocks of %i', (block) => {
		const pass = blockedConvolutions(block);
		for (const c of forwards) {
			const kinds = operators(passed(pass, forward(c)).after).filter((op) => op.startsWith('Nchwc') || op === 'Conv');
			expect([...kinds].sort()).toEqual([...blocked].sort());
		}
		for (const c of backwards) {
			const kinds = operators(passed(pass, backward(c)).after);
			expect(kinds.filter((op) => op.startsWith('Nchwc')).sort()).toEqual([...blocked].sort());
			// The kernels are turned round on the way to blocks, not before.
			expect(kinds.filter((op) => op === 'Slice' || op === 'Transpose')).toEqual(['Transpose', 'Slice']);
		}
	});

	it('are not made of groups, single taps, other element types, parts of blocks, or few places', () => {
		const same = (build: ReturnType<typeof forward>) => {
			const { after } = passed(blockedConvolutions(16), build);
			expect(operators(after).filter((op) => op.startsWith('Nchwc'))).toEqual([]);
		};
		same(forward({ ...wide, w: [32, 8, 3, 3], options: { ...padded, group: 2 } }));
		same(forward({ ...wide, w: [32, 16, 1, 1], options: {} }));
		same(forward({ ...wide, w: [8, 16, 3, 3] }));
		same(forward({ x: [1, 8, 32, 32], w: [16, 8, 3, 3] }));
		same(forward({ x: [1, 16, 31, 32], w: [16, 16, 3, 3] }));
		same(backward({ x: [1, 16, 15, 16], w: [32, 16, 3, 3] }));
		same((g) => [g.conv(g.input('x', 'float32', [1, 16, 1024]), g.input('w', 'float32', [16, 16, 3]), undefined, { pads: [1, 1] })]);
		same((g) => [g.conv(g.input('x', 'float64', wide.x), g.input('w', 'float64', wide.w), undefined, padded)]);
	});

	it('see a turned weight only where it is one', () => {
		const turned = (perm: readonly number[], step: number) => (g: GraphBuilder) => {
			const w = g.input('w', 'float32', [16, 16, 3, 3]);
			const first = g.transpose(g.reshape(w, [1, 16, 144]), [0, 2, 1]);
			const [from, to] = step < 0 ? [-1, -10] : [0, 9];
			const slice = g.slice(g.reshape(first, [16, 9, 16]), [from], [to], [1], [step]);
			return [g.conv(g.input('x', 'float32', [1, 16, 32, 32]), g.reshape(g.transpose(slice, perm), [16, 16, 3, 3]), undefined, padded)];
		};
		const slices = (perm: readonly number[], step: number) =>
			operators(passed(blockedConvolutions(16), turned(perm, step)).after).filter((op) => op === 'Transpose').length;
		expect(slices([0, 2, 1], -1)).toBe(1);
		expect(slices([0, 2, 1], 1)).toBe(3);
		expect(slices([2, 0, 1], -1)).toBe(3);
	});

	const block = measureChannelBlock(sharedEnvironment());

	it.runIf(block !== undefined)('run on ONNX Runtime with the block found of it', () => {
		for (const { before } of [
			...forwards.map((c) => passed((graph) => graph, forward(c))),
			...backwards.map((c) => passed((graph) => graph, backward(c))),
		]) {
			const feeds = randomFeeds(before);
			const lowered = lowerForOrt(before, block);
			expect(operators(lowered)).toContain('NchwcConv');
			const [name] = before.outputs as [(typeof before.outputs)[number]];
			const [found, wanted] = [runOnOrt(lowered, feeds).get(name)!, runOnOrt(before, feeds).get(name)!];
			expectClose(found, wanted, { rtol: 1e-5, atol: 1e-5, what: name });
		}
	});
});

describe('operators over blocks', () => {
	it('refuse channels that are no whole blocks', () => {
		const build = (g: GraphBuilder) => g.one('NchwcReorderInput', [g.input('x', 'float32', [1, 12, 2, 2])], { block: 8 });
		expect(() =>
			passed(
				(graph) => graph,
				(g) => [build(g)],
			),
		).toThrow('whole blocks');
	});

	it('put a run of channels innermost', () => {
		const { after } = passed(
			(graph) => graph,
			(g) => [
				g.one('NchwcReorderInput', [g.constant(tensor('float32', [1, 4, 1, 3], [...Array(12).keys()]))], { block: 2 }),
				g.input('x', 'float32', [1]),
			],
		);
		expect(toNumbers(evaluateGraph(after, randomFeeds(after)).get(after.outputs[0]!)!)).toEqual([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
	});
});
