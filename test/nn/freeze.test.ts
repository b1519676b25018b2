import { describe, expect, it } from 'vitest';
import { readUNetConfig, unetChain } from '../../src/models/unet.ts';
import { stageGraph, traceChain } from '../../src/nn/chain.ts';
import { freezeLayers } from '../../src/nn/freeze.ts';

const chain = unetChain(
	readUNetConfig({
		sample_size: 8,
		block_out_channels: [32, 32],
		down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
		up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
	}),
);

describe('freezeLayers', () => {
	it('trains no parameter of the layers it is given, and changes nothing else', () => {
		const before = traceChain(chain, 1);
		const after = traceChain(
			freezeLayers(chain, (name) => name.startsWith('up_blocks')),
			1,
		);
		expect([...after.parameters.keys()]).toEqual([...before.parameters.keys()]);
		for (const [name, { trained, shape }] of after.parameters) {
			expect(trained, name).toBe(!name.startsWith('up_blocks'));
			expect(shape).toEqual(before.parameters.get(name)!.shape);
		}
		const last = chain.layers.length;
		expect(stageGraph(after, 0, last).graph.nodes).toEqual(stageGraph(before, 0, last).graph.nodes);
	});

	it('freezes the whole chain unless told otherwise', () => {
		expect([...traceChain(freezeLayers(chain), 1).parameters.values()].some((p) => p.trained)).toBe(false);
	});
});
