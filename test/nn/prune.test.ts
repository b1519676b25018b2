import { expect, test } from 'vitest';
import type { Chain } from '../../src/nn/chain.ts';
import { linear } from '../../src/nn/linear.ts';
import { withoutIdleLayers } from '../../src/nn/prune.ts';

const chain: Chain = {
	name: 'two ends',
	inputs: { x: { dtype: 'float32', shape: [3] } },
	layers: [
		{ name: 'first', build: (ctx, live) => live.set('h', linear(ctx, live.get('x'), 3)) },
		{ name: 'side', build: (ctx, live) => live.set('side', linear(ctx, live.get('h'), 2)) },
		{ name: 'last', build: ({ g }, live) => live.set('out', g.tanh(live.get('h'))) },
	],
	outputs: ['out'],
};

test('layers that no output depends on are left out, others keep their order', () => {
	expect(withoutIdleLayers(chain).layers.map(({ name }) => name)).toEqual(['first', 'last']);
	const both = { ...chain, outputs: ['out', 'side'] };
	expect(withoutIdleLayers(both)).toBe(both);
});
