import { describe, expect, it } from 'vitest';
import { ditChain, readDiTConfig } from '../../../src/models/dit.ts';
import { modelSize, rounded } from '../../helpers/model-size.ts';

/*
 * Published numbers are of the original layout, with one timestep and label embedder (in MACs, its timestep MLP); diffusers' checkpoints hold a copy
 * in every block. The position table is computed, not stored, so it is in neither count.
 */
const repeated = /^transformer_blocks\.(?!0\.)\d+\.norm1\.emb\./;
const repeatedProducts = /^transformer_blocks\.(?!0\.)\d+\.norm1\.emb\..*linear_\d\.weight$/;

const sizes: readonly [
	name: string,
	layers: number,
	heads: number,
	headDim: number,
	parameters: string,
	macs: readonly [string, string, string],
][] = [
	['S', 12, 6, 64, '32.9', ['6.1', '1.4', '0.4']],
	['B', 12, 12, 64, '130.3', ['23.0', '5.6', '1.4']],
	['L', 24, 16, 64, '457.8', ['80.7', '19.7', '5.0']],
	['XL', 28, 16, 72, '674.8', ['118.6', '29.0', '7.4']],
];

describe('DiT as published', () => {
	it.each(sizes)('%s at 256 pixels', (_, num_layers, num_attention_heads, attention_head_dim, parameters, macs) => {
		macs.forEach((wanted, i) => {
			const config = { num_layers, num_attention_heads, attention_head_dim, patch_size: 2 << i, sample_size: 32, out_channels: 8 };
			const size = modelSize(ditChain(readDiTConfig(config)));
			expect(rounded(size.macs - size.matching(repeatedProducts), 1e9, 1)).toBe(wanted);
			if (i === 0) expect(rounded(size.parameters - size.matching(repeated), 1e6, 1)).toBe(parameters);
		});
	});

	it('XL/2 at 512 pixels', () => {
		const size = modelSize(ditChain(readDiTConfig({ sample_size: 64, out_channels: 8 })));
		expect(rounded(size.macs - size.matching(repeatedProducts), 1e9, 1)).toBe('524.5');
	});
});
