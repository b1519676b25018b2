/**
 * @file Tiny chains of five layers, each with one way in which values can cross the cuts of a pipeline. All have the input `x`
 * [batch, 6] and give a loss per sample, so that the loss and gradients of a batch do not depend on how it is cut into micro-batches.
 */
import { type DType, type Shape, sizeOf, type Tensor, tensor } from '../../src/core/tensor.ts';
import type { GraphBuilder } from '../../src/graph/builder.ts';
import type { Value } from '../../src/graph/types.ts';
import type { Chain, ChainInput, Layer } from '../../src/nn/chain.ts';
import type { LayerContext } from '../../src/nn/context.ts';
import { embedding, linear } from '../../src/nn/linear.ts';
import { uniformStream } from '../helpers/random.ts';

const width = 6;
const floats = (...shape: number[]): ChainInput => ({ dtype: 'float32', shape });
const integers = (...shape: number[]): ChainInput => ({ dtype: 'int64', shape });

type Build = Layer['build'];
const layer = (name: string, build: Build): Layer => ({ name, build });

/** h = gelu(linear(h)) of `from`, written to `to`. */
const block = (name: string, from: string, to: string, out = width): Layer =>
	layer(name, (ctx, live) => live.set(to, ctx.g.gelu(linear(ctx, live.get(from), out))));

/** Mean over features of (h - target)^2, per sample. */
const squareError = (g: GraphBuilder, h: Value, target: Value): Value => {
	const d = g.sub(h, target);
	return g.reduceMean(g.mul(d, d), [1], false);
};

const loss = (from = 'h'): Layer => layer('loss', ({ g }, live) => live.set('loss', squareError(g, live.get(from), live.get('target'))));

function chain(name: string, layers: readonly Layer[], inputs: Record<string, ChainInput> = {}): Chain {
	return { name, inputs: { x: floats(width), ...inputs, target: floats(width) }, layers, outputs: ['loss'] };
}

const table = (ctx: LayerContext, labels: Value, rows: number): Value => ctx.at('table', (c) => embedding(c, labels, rows, width));

/** Everything at once: what the full set of layouts is run on. */
export const mixedChain: Chain = chain(
	'mixed',
	[
		layer('in', (ctx, live) => {
			const h = ctx.g.tanh(linear(ctx, live.get('x'), width));
			live.set('h', h);
			live.set('skip', ctx.g.sigmoid(h));
			live.set(
				'emb',
				ctx.at('emb', (c) => linear(c, live.get('x'), 4)),
			);
		}),
		layer('one', (ctx, live) => live.set('h', ctx.g.gelu(linear(ctx, ctx.g.concat([live.get('h'), live.get('emb')], 1), width)))),
		layer('two', ({ g }, live) => live.set('h', g.mul(g.relu(live.get('h')), 2))),
		layer('three', (ctx, live) => {
			const { g } = ctx;
			const h = linear(ctx, g.concat([live.get('h'), live.get('skip'), live.get('emb')], 1), width);
			live.set('h', g.add(h, table(ctx, live.get('label'), 5)));
		}),
		loss(),
	],
	{ label: integers() },
);

/** Twelve layers, for more devices than cores. */
export const longChain: Chain = chain('long', [
	block('0', 'x', 'h'),
	...Array.from({ length: 10 }, (_, i) =>
		layer(`${i + 1}`, (ctx, live) => live.set('h', ctx.g.add(live.get('h'), linear(ctx, live.get('h'), width)))),
	),
	loss(),
]);

/** A small U-Net of seventeen layers: eight halves of skips, read in opposite order, and an embedding that most layers read. */
export const skipChain: Chain = chain('skips', [
	layer('in', (ctx, live) => {
		const h = linear(ctx, live.get('x'), width);
		live.set('h', h);
		live.set('skip0', h);
		live.set(
			'emb',
			ctx.at('emb', (c) => ctx.g.tanh(linear(c, live.get('x'), 4))),
		);
	}),
	...Array.from({ length: 7 }, (_, i) =>
		layer(`down${i + 1}`, (ctx, live) => {
			const { g } = ctx;
			const h = g.gelu(linear(ctx, i % 2 === 0 ? live.get('h') : g.concat([live.get('h'), live.get('emb')], 1), width));
			live.set('h', g.add(h, live.get('h')));
			live.set(`skip${i + 1}`, h);
		}),
	),
	...Array.from({ length: 8 }, (_, i) =>
		layer(`up${i}`, (ctx, live) => {
			const { g } = ctx;
			const whole = g.concat([live.get('h'), live.get(`skip${7 - i}`), ...(i % 3 === 0 ? [live.get('emb')] : [])], 1);
			live.set('h', g.add(live.get('h'), linear(ctx, whole, width)));
		}),
	),
	loss(),
]);

/** Learns `x0` from `x` and an earlier guess of it. Its first and fifth layers read the guess; the sweep that makes it ends two layers before the loss. */
export const selfChain: Chain = chain(
	'self-conditioned',
	[
		layer('in', (ctx, live) => {
			const h = linear(ctx, ctx.g.concat([live.get('x'), live.get('self_cond')], 1), width);
			live.set('h', h);
			live.set('skip', ctx.g.tanh(h));
		}),
		...Array.from({ length: 3 }, (_, i) => block(`${i}`, 'h', 'h')),
		layer('again', (ctx, live) => live.set('h', ctx.g.add(linear(ctx, live.get('h'), width), live.get('self_cond')))),
		block('3', 'h', 'h'),
		layer('out', (ctx, live) => live.set('x0', linear(ctx, ctx.g.concat([live.get('h'), live.get('skip')], 1), width))),
		layer('weigh', (ctx, live) => live.set('weighed', ctx.g.mul(live.get('x0'), ctx.param('scale', [1, width], { kind: 'ones' })))),
		loss('weighed'),
	],
	{ self_cond: floats(width) },
);

/** Buffers, which training leaves as they are: alone in the first layer, beside parameters in others. */
export const bufferChain: Chain = chain('buffers', [
	layer('0', (ctx, live) => live.set('h', ctx.g.add(live.get('x'), ctx.buffer('table', [1, width], { kind: 'ones' })))),
	layer('1', (ctx, live) => live.set('h', ctx.g.mul(live.get('h'), ctx.buffer('mask', [width], { kind: 'ones' })))),
	layer('2', (ctx, live) => live.set('h', ctx.g.mul(linear(ctx, live.get('h'), width), ctx.buffer('mask', [width], { kind: 'ones' })))),
	block('3', 'h', 'h'),
	loss(),
]);

/** One chain per way of crossing cuts. */
export const crossingChains: readonly Chain[] = [
	chain('plain', [block('0', 'x', 'h'), block('1', 'h', 'h', 9), block('2', 'h', 'h', 5), block('3', 'h', 'h'), loss()]),
	chain('skip over stages', [
		block('0', 'x', 'first'),
		block('1', 'first', 'h'),
		block('2', 'h', 'h'),
		layer('3', (ctx, live) => live.set('h', ctx.g.add(linear(ctx, live.get('h'), width), live.get('first')))),
		loss(),
	]),
	chain('used in one stage and in all later ones', [
		block('0', 'x', 'emb', 4),
		layer('1', (ctx, live) => live.set('h', linear(ctx, ctx.g.concat([live.get('x'), live.get('emb')], 1), width))),
		layer('2', (ctx, live) => live.set('h', ctx.g.gelu(linear(ctx, ctx.g.concat([live.get('h'), live.get('emb')], 1), width)))),
		layer('3', (ctx, live) => live.set('h', ctx.g.mul(live.get('h'), linear(ctx, live.get('emb'), width)))),
		loss(),
	]),
	chain('passes through untouched', [
		layer('0', (ctx, live) => {
			live.set('far', linear(ctx, live.get('x'), width));
			live.set(
				'h',
				ctx.at('near', (c) => linear(c, live.get('x'), width)),
			);
		}),
		block('1', 'h', 'h'),
		block('2', 'h', 'h'),
		block('3', 'h', 'h'),
		layer('loss', ({ g }, live) => live.set('loss', squareError(g, g.add(live.get('h'), live.get('far')), live.get('target')))),
	]),
	chain(
		'integers: a chain input used late, and a computed one that passes',
		[
			layer('0', (ctx, live) => {
				const h = linear(ctx, live.get('x'), width);
				live.set('bucket', ctx.g.argMax(h, 1, false));
				live.set('h', h);
			}),
			block('1', 'h', 'h'),
			block('2', 'h', 'h'),
			layer('3', (ctx, live) => {
				const chosen = ctx.at('bucket', (c) => table(c, live.get('bucket'), width));
				live.set('h', ctx.g.add(live.get('h'), ctx.g.add(chosen, table(ctx, live.get('label'), 5))));
			}),
			loss(),
		],
		{ label: integers() },
	),
	chain('a stage without parameters', [
		block('0', 'x', 'h'),
		layer('1', ({ g }, live) => live.set('h', g.sin(live.get('h')))),
		layer('2', ({ g }, live) => live.set('h', g.reshape(g.transpose(g.reshape(live.get('h'), [-1, 2, 3]), [0, 2, 1]), [-1, width]))),
		block('3', 'h', 'h'),
		loss(),
	]),
	chain('nothing trained at the start: no gradient goes back', [
		layer('0', ({ g }, live) => {
			live.set('wave', g.cos(live.get('x')));
			live.set('h', g.sin(live.get('x')));
		}),
		layer('1', ({ g }, live) => live.set('h', g.mul(live.get('h'), live.get('x')))),
		block('2', 'h', 'h'),
		layer('3', (ctx, live) => live.set('h', linear(ctx, ctx.g.add(live.get('h'), live.get('wave')), width))),
		loss(),
	]),
	chain('outputs that are saved and sent', [
		layer('0', (ctx, live) => live.set('h', ctx.g.tanh(linear(ctx, live.get('x'), width)))),
		layer('1', (ctx, live) => {
			live.set('other', ctx.g.sigmoid(linear(ctx, live.get('h'), width)));
			live.set('h', ctx.g.softmax(live.get('h')));
		}),
		layer('2', (ctx, live) => live.set('h', ctx.g.exp(linear(ctx, ctx.g.mul(live.get('h'), live.get('other')), width)))),
		layer('3', (ctx, live) => live.set('h', ctx.g.sqrt(ctx.g.add(live.get('h'), ctx.g.mul(live.get('other'), live.get('other')))))),
		loss(),
	]),
	chain('a parameter that the loss does not reach, a value nobody reads', [
		layer('0', (ctx, live) => {
			const h = linear(ctx, live.get('x'), width);
			live.set(
				'unread',
				ctx.at('unread', (c) => linear(c, live.get('x'), 3)),
			);
			live.set('h', h);
		}),
		layer('1', (ctx, live) => {
			const choice = ctx.at('choice', (c) => ctx.g.argMax(linear(c, live.get('h'), 5), 1, false));
			live.set('h', ctx.g.add(live.get('h'), table(ctx, choice, 5)));
		}),
		block('2', 'h', 'h'),
		block('3', 'h', 'h'),
		loss(),
	]),
	chain('one value under two names, inputs and parameters that are sent on', [
		layer('0', (ctx, live) => {
			const h = linear(ctx, live.get('x'), width);
			live.set('h', h);
			live.set('again', h);
			live.set('h', ctx.g.sigmoid(h));
			live.set('scale', ctx.param('scale', [1, width], { kind: 'ones' }));
			live.set('offset', live.get('x'));
		}),
		layer('1', ({ g }, live) => {
			live.set('copy', live.get('h'));
			live.set('h', g.mul(g.gelu(live.get('h')), live.get('scale')));
		}),
		layer('2', (ctx, live) => live.set('h', ctx.g.add(linear(ctx, live.get('h'), width), live.get('offset')))),
		layer('3', ({ g }, live) => live.set('h', g.add(g.mul(live.get('h'), live.get('again')), live.get('copy')))),
		loss(),
	]),
	bufferChain,
	chain('the loss is made before the last stage', [
		block('0', 'x', 'h'),
		block('1', 'h', 'h'),
		layer('2', ({ g }, live) => live.set('loss', squareError(g, live.get('h'), live.get('target')))),
		layer('3', ({ g }, live) => live.set('unused', g.neg(live.get('loss')))),
		layer('4', ({ g }, live) => live.set('unused too', g.neg(live.get('unused')))),
	]),
];

/** Seeded tensors for the chain's inputs at `batch` samples; labels are below 5. */
export function chainFeeds({ inputs }: Chain, batch: number, seed = 1): Record<string, Tensor> {
	const next = uniformStream(seed);
	const draw = (dtype: DType, shape: Shape) =>
		tensor(
			dtype,
			shape,
			Array.from({ length: sizeOf(shape) }, () => (dtype === 'int64' ? Math.floor(5 * next()) : 2 * next() - 1)),
		);
	return Object.fromEntries(Object.entries(inputs).map(([name, { dtype, shape }]) => [name, draw(dtype, [batch, ...shape])]));
}
