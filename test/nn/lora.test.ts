import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Shape, sizeOf, type Tensor, tensor } from '../../src/core/tensor.ts';
import { fluxChain, readFluxConfig } from '../../src/models/flux.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { readSD3Config, sd3Chain } from '../../src/models/sd3.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { traceChain } from '../../src/nn/chain.ts';
import type { Parameter } from '../../src/nn/context.ts';
import { adaptable, chooseModules, type LoraOptions, loraChain } from '../../src/nn/lora.ts';
import { chainGradients } from '../helpers/chain-gradients.ts';
import { relativeDifference, runForward, withLoss } from '../helpers/fixture.ts';
import { uniformStream } from '../helpers/random.ts';

const read = (path: string) => new URL(`../fixtures/${path}`, import.meta.url);
const configOf = (folder: string) => JSON.parse(readFileSync(read(`${folder}/config.json`), 'utf8'));

const unet = unetConditionChain(
	readUNetConditionConfig({
		sample_size: 8,
		block_out_channels: [16, 32],
		layers_per_block: 1,
		norm_num_groups: 8,
		attention_head_dim: 4,
		cross_attention_dim: 12,
		down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
		up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
	}),
	{ tokens: 5 },
);

/** Numbers in [-size, size). */
function numbers(shape: Shape, seed: number, size = 1): Tensor<'float32'> {
	const next = uniformStream(seed);
	return tensor(
		'float32',
		shape,
		Float32Array.from({ length: sizeOf(shape) }, () => size * (2 * next() - 1)),
	);
}

const weights = new Map(
	[...traceChain(unet, 1).parameters.values()].map(({ name, shape }, i) => [
		name,
		numbers(shape, i, shape.length > 1 ? 1 / Math.sqrt(sizeOf(shape.slice(1))) : 1),
	]),
);
const inputs: Record<string, Tensor> = {
	sample: numbers([2, 4, 8, 8], 1),
	timestep: tensor('float32', [2], [20, 700]),
	encoder_hidden_states: numbers([2, 5, 12], 2),
};
const target = numbers([2, 4, 8, 8], 3);
const own = (name: string) => weights.get(name)!.data;

/** A and B by parameter, small and not zero. */
function factors(names: Iterable<Parameter>): Map<string, Float32Array> {
	const next = uniformStream(5);
	return new Map(
		[...names].flatMap((p) => (p.trained ? [[p.name, Float32Array.from({ length: sizeOf(p.shape) }, () => 0.4 * (next() - 0.5))]] : [])),
	);
}

const pattern = '.*(to_q|to_out\\.0|net\\.0\\.proj|proj_in|time_emb_proj|conv1|conv_shortcut|downsamplers\\.0\\.conv)';
const options: LoraOptions = { rank: 3, alpha: 6, modules: chooseModules(unet, pattern), init: 'kaiming_uniform' };
const lora = loraChain(unet, options);

describe('chooseModules', () => {
	it('knows every linear layer and convolution by the path of its weight', () => {
		const matrices = [...traceChain(unet, 1).parameters.values()].filter((p) => p.name.endsWith('.weight') && p.shape.length > 1);
		expect(adaptable(unet).sort()).toEqual(matrices.map((p) => p.name.slice(0, -'.weight'.length)).sort());
	});

	it('takes names as the ends of paths, or one expression for whole paths', () => {
		const chosen = chooseModules(unet, ['to_q', 'attn2.to_k']);
		expect(chosen.filter((path) => path.endsWith('.to_q')).length).toBe(chosen.filter((path) => path.endsWith('attn2.to_k')).length * 2);
		expect(chosen.some((path) => path.endsWith('attn1.to_k'))).toBe(false);
		expect(chooseModules(unet, 'conv_in|conv_out')).toEqual(['conv_in', 'conv_out']);
		const sd3 = sd3Chain(readSD3Config(configOf('sd3')));
		expect(chooseModules(sd3, ['transformer_blocks.0.attn.add_q_proj'])).toEqual(['transformer_blocks.0.attn.add_q_proj']);
		const flux = fluxChain(readFluxConfig(configOf('flux')));
		expect(chooseModules(flux, ['proj_mlp']).every((path) => path.startsWith('single_transformer_blocks.'))).toBe(true);
	});

	it.each(['dit', 'pixart', 'sd3', 'sd35', 'flux', 'unet-ddpm', 'unet-sdxl'])('adapts attention of %s, leaving its weights', (folder) => {
		const config = configOf(folder);
		const { chain } = createDenoiser(config._class_name, config);
		const modules = chooseModules(chain, ['to_q', 'to_k', 'to_v', 'to_out.0']);
		expect(modules.length).toBeGreaterThan(0);
		const { parameters } = traceChain(loraChain(chain, { rank: 4, alpha: 4, modules, init: 'gaussian' }), 1);
		const trained = [...parameters.values()].filter((p) => p.trained);
		expect(trained.length).toBe(2 * modules.length);
		for (const path of modules) {
			const { shape } = parameters.get(`${path}.weight`)!;
			expect(parameters.get(`${path}.lora_A.weight`)).toMatchObject({ shape: [4, shape[1]], init: { kind: 'normal', std: 1 / 4 } });
			expect(parameters.get(`${path}.lora_B.weight`)!.shape).toEqual([shape[0], 4]);
		}
	});

	it('says which names there are when one means nothing', () => {
		expect(() => chooseModules(unet, ['to_q', 'to_vv'])).toThrow(
			/no projection of the model is called to_vv[\s\S]*to_out\.0[\s\S]*did you mean to_v\?/,
		);
		expect(() => chooseModules(unet, 'to_q')).toThrow(/no projection of the model is called to_q/);
		expect(() => chooseModules(unet, '(')).toThrow(/not a regular expression/);
	});
});

describe('loraChain', () => {
	it('trains two matrices per projection and leaves the model’s own parameters as they are', () => {
		const { parameters } = traceChain(lora, 1);
		const trained = [...parameters.values()].filter((p) => p.trained);
		expect(trained.map((p) => p.name).sort()).toEqual(
			options.modules.flatMap((path) => [`${path}.lora_A.weight`, `${path}.lora_B.weight`]).sort(),
		);
		for (const [name, { shape }] of traceChain(unet, 1).parameters) expect(parameters.get(name)).toMatchObject({ shape, trained: false });
		const of = (path: string) => [`${path}.lora_A.weight`, `${path}.lora_B.weight`].map((name) => parameters.get(name)!.shape);
		const [outer, inner, ...kernel] = weights.get('down_blocks.0.downsamplers.0.conv.weight')!.shape;
		expect(of('down_blocks.0.downsamplers.0.conv')).toEqual([
			[3, inner, ...kernel],
			[outer, 3, 1, 1],
		]);
	});

	it('gives what the model gives while B is zero', async () => {
		const wanted = await runForward(unet, (p) => own(p.name), inputs);
		const start = factors(traceChain(lora, 1).parameters.values());
		const found = await runForward(
			lora,
			(p) => (p.name.endsWith('lora_B.weight') ? start.get(p.name)!.fill(0) : (start.get(p.name) ?? own(p.name))),
			inputs,
		);
		expect(found.get('sample')!.data).toEqual(wanted.get('sample')!.data);
	});

	it('has the loss and gradients of the model with merged weights, on one device and on two', async () => {
		const [plain, adapted] = [withLoss(unet, 'sample', target.shape), withLoss(lora, 'sample', target.shape)];
		const ab = factors(traceChain(adapted, 1).parameters.values());
		const scale = options.alpha / options.rank;
		const merged = new Map(weights);
		for (const path of options.modules) {
			const { dtype, shape, data } = weights.get(`${path}.weight`)!;
			const [outer, inner] = [shape[0]!, sizeOf(shape.slice(1))];
			const [a, b] = [ab.get(`${path}.lora_A.weight`)!, ab.get(`${path}.lora_B.weight`)!];
			const sum = data.map((w, k) => {
				let product = 0;
				for (let r = 0; r < 3; r++) product += b[Math.floor(k / inner) * 3 + r]! * a[r * inner + (k % inner)]!;
				return w + scale * product;
			});
			merged.set(`${path}.weight`, { dtype, shape, data: sum });
			expect(sum.length).toBe(outer * inner);
		}
		const wanted = await chainGradients(plain, (p) => merged.get(p.name)!.data, { ...inputs, target });
		const cut = Math.floor(adapted.layers.length / 2);
		for (const cuts of [[], [cut]]) {
			const found = await chainGradients(adapted, (p) => ab.get(p.name) ?? own(p.name), { ...inputs, target }, cuts);
			expect(Math.abs(found.loss - wanted.loss) / wanted.loss).toBeLessThan(1e-5);
			expect(found.gradients.size).toBe(2 * options.modules.length);
			for (const path of options.modules) {
				const full = wanted.gradients.get(`${path}.weight`)!;
				const [a, b] = [ab.get(`${path}.lora_A.weight`)!, ab.get(`${path}.lora_B.weight`)!];
				const inner = a.length / 3;
				// dA = scale B^T dW and dB = scale dW A^T.
				const [da, db] = [new Float32Array(a.length), new Float32Array(b.length)];
				for (let k = 0; k < full.length; k++) {
					const [o, i] = [Math.floor(k / inner), k % inner];
					for (let r = 0; r < 3; r++) {
						da[r * inner + i]! += scale * b[o * 3 + r]! * full[k]!;
						db[o * 3 + r]! += scale * full[k]! * a[r * inner + i]!;
					}
				}
				expect(relativeDifference(found.gradients.get(`${path}.lora_A.weight`)!, da), `${path} A`).toBeLessThan(2e-3);
				expect(relativeDifference(found.gradients.get(`${path}.lora_B.weight`)!, db), `${path} B`).toBeLessThan(2e-3);
			}
			for (const { banks } of found.program.devices) for (const { size, trained } of banks) expect(trained! < size).toBe(true);
		}
	});
});
