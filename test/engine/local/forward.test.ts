import { afterAll, beforeAll, expect, test } from 'vitest';
import { tensor } from '../../../src/core/tensor.ts';
import { type Forward, openForward } from '../../../src/engine/local/forward.ts';
import type { Chain } from '../../../src/nn/chain.ts';
import { linear } from '../../../src/nn/linear.ts';

// y = x W^T + b, and the sum of each row beside the sample's own number.
const chain: Chain = {
	name: 'line',
	inputs: { x: { dtype: 'float32', shape: [2] }, id: { dtype: 'int64', shape: [] } },
	layers: [
		{
			name: 'proj',
			build(ctx, live) {
				live.set('y', linear(ctx, live.get('x'), 3));
				live.set('twice', ctx.g.add(live.get('id'), live.get('id')));
			},
		},
	],
	outputs: ['y', 'twice'],
};

let forward: Forward;
beforeAll(async () => {
	forward = await openForward(chain, { batch: 2, devices: 2 });
	await forward.setWeights(async (name, shape) =>
		name === 'proj.weight' ? Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => i) : Float32Array.from([10, 20, 30]),
	);
});
afterAll(() => forward.close());

test.each([1, 3, 4, 7])('%i samples come back in order, whatever the batch', async (count) => {
	const each = Array.from({ length: count }, (_, i) => i);
	const { y, twice } = await forward.run({
		x: tensor(
			'float32',
			[count, 2],
			each.flatMap((i) => [i, 1]),
		),
		id: tensor('int64', [count], each),
	});
	expect(y!.shape).toEqual([count, 3]);
	expect([...y!.data]).toEqual(each.flatMap((i) => [11, 2 * i + 23, 4 * i + 35]));
	expect([...twice!.data]).toEqual(each.map((i) => BigInt(2 * i)));
});

test('inputs that do not fit are refused by name', async () => {
	const x = tensor('float32', [1, 2], [0, 0]);
	await expect(forward.run({ x })).rejects.toThrow(/input id does not fit[\s\S]*int64\[1\][\s\S]*nothing/);
	await expect(forward.run({ x, id: tensor('int64', [2], [0, 0]) })).rejects.toThrow(/input id/);
	await expect(forward.run({ x: tensor('float32', [1, 3], [0, 0, 0]), id: tensor('int64', [1], [0]) })).rejects.toThrow(/input x/);
});

test('weights may lie in many arrays', async () => {
	const parted = await openForward(chain, { batch: 2, bankElements: 4 });
	try {
		expect(parted.parameters.map((p) => p.name)).toEqual(['proj.weight', 'proj.bias']);
		await parted.setWeights((name, shape) => new Float32Array(shape.reduce((n, d) => n * d, 1)).fill(name === 'proj.bias' ? 7 : 1));
		const { y } = await parted.run({ x: tensor('float32', [1, 2], [2, 3]), id: tensor('int64', [1], [0]) });
		expect([...y!.data]).toEqual([12, 12, 12]);
	} finally {
		await parted.close();
	}
});
