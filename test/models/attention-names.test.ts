import { describe, expect, it } from 'vitest';
import { asSpelledIn } from '../../src/models/attention-names.ts';
import { autoencoderKLDecoderChain, readAutoencoderKLConfig } from '../../src/models/autoencoder-kl.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { traceChain } from '../../src/nn/chain.ts';

const decoder = autoencoderKLDecoderChain(readAutoencoderKLConfig({ block_out_channels: [32], sample_size: 8 }));
const names = (chain: typeof decoder) => [...traceChain(chain, 1).parameters.keys()];
const attention = 'decoder.mid_block.attentions.0';

describe('old spellings of attention', () => {
	it('are taken over from a checkpoint that has them, all else unchanged', () => {
		const spelled = asSpelledIn(decoder, [`${attention}.query.weight`]);
		const now = names(decoder);
		const then = names(spelled);
		const parts = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
		const expected = Object.entries(parts).reduce(
			(list, [part, old]) => list.map((name) => name.replace(`${attention}.${part}.`, `${attention}.${old}.`)),
			now,
		);
		expect(then).toEqual(expected);
		expect(then).toContain(`${attention}.proj_attn.bias`);
		expect(then).toContain(`${attention}.group_norm.weight`);
		expect(traceChain(spelled, 1).layers.map((layer) => layer.parameters.length)).toEqual(
			traceChain(decoder, 1).layers.map((layer) => layer.parameters.length),
		);
	});

	it('leave a chain alone that is saved with the present ones', () => {
		expect(asSpelledIn(decoder, [`${attention}.to_q.weight`])).toBe(decoder);
	});

	it('do not reach into transformers', () => {
		const unet = unetConditionChain(
			readUNetConditionConfig({
				block_out_channels: [32],
				down_block_types: ['CrossAttnDownBlock2D'],
				up_block_types: ['UpBlock2D'],
				sample_size: 8,
			}),
		);
		expect(names(asSpelledIn(unet, [`${attention}.key.bias`]))).toEqual(names(unet));
	});
});
