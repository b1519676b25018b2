import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { ditChain, readDiTConfig } from '../../src/models/dit.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { checkTraining } from '../helpers/fixture.ts';

const config = readDiTConfig(JSON.parse(readFileSync(new URL('../fixtures/dit/config.json', import.meta.url), 'utf8')));
const run = {
	folder: 'dit',
	weights: 'diffusion_pytorch_model.safetensors',
	chain: ditChain(config),
	output: 'sample',
	inputs: (io: ReadonlyMap<string, Tensor>) => {
		const timestep = io.get('in.timestep')!;
		return {
			hidden_states: io.get('in.hidden_states')!,
			timestep: tensor('float32', timestep.shape, toNumbers(timestep)),
			class_labels: io.get('in.class_labels')!,
		};
	},
};

describe('DiTTransformer2DModel', () => {
	it('agrees with the reference loss and every gradient on one device', async () => {
		expect(await checkTraining({ ...run, cuts: [] }, 1e-4)).toBeLessThan(1e-4);
	});

	it('agrees when cut into three stages', async () => {
		expect(await checkTraining({ ...run, cuts: [1, 2] }, 1e-4)).toBeLessThan(1e-4);
	});

	it('is built for another size than the config says, in whole patches', () => {
		const trace = traceChain(ditChain(config, { height: 12, width: 4 }), 2);
		expect(trace.definitions.get(trace.outputs[0]!)!.shape).toEqual([2, config.out_channels ?? config.in_channels, 12, 4]);
		expect(() => ditChain(config, { height: 13 })).toThrow(/does not divide into patches/);
	});

	it('refuses a config option it does not implement, naming it', () => {
		expect(() => readDiTConfig({ norm_type: 'layer_norm' })).toThrow(/norm_type/);
		expect(() => readDiTConfig({ patchsize: 2 })).toThrow(/did you mean patch_size/);
	});
});
