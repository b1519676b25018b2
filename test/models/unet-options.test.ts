/** @file Options that the fixtures of whole models do not have, each against outputs of the reference (fixtures/unet-options/make.py). */
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { sizeOf, type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import {
	autoencoderKLDecoderChain,
	autoencoderKLEncoderChain,
	latentFactor,
	readAutoencoderKLConfig,
} from '../../src/models/autoencoder-kl.ts';
import { controlNetChain, readControlNetConfig } from '../../src/models/controlnet.ts';
import { readUNetConfig, unetChain } from '../../src/models/unet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { type Chain, traceChain } from '../../src/nn/chain.ts';
import type { Parameter } from '../../src/nn/context.ts';
import { relativeDifference, runForward } from '../helpers/fixture.ts';
import { joinAutoencoder } from './join-autoencoder.ts';

interface Case {
	readonly class: string;
	readonly config: Record<string, unknown>;
	readonly options: { readonly height: number; readonly width: number };
}

const chains: Record<string, (config: unknown, options: Case['options']) => Chain> = {
	UNet2DConditionModel: (config, options) => unetConditionChain(readUNetConditionConfig(config), options),
	UNet2DModel: (config, options) => unetChain(readUNetConfig(config), options),
	ControlNetModel: (config, options) => controlNetChain(readControlNetConfig(config), options),
	AutoencoderKL: (raw, options) => {
		const config = readAutoencoderKLConfig(raw);
		const factor = latentFactor(config);
		const latents = { height: options.height / factor, width: options.width / factor };
		return joinAutoencoder(autoencoderKLEncoderChain(config, options), autoencoderKLDecoderChain(config, latents));
	},
};

const folder = new URL('../fixtures/unet-options/', import.meta.url);
const cases: Record<string, Case> = JSON.parse(readFileSync(new URL('cases.json', folder), 'utf8'));

/** The finaliser of MurmurHash3 (32 bits), brought to [-1, 1). */
function hashed(at: number): number {
	let x = at >>> 0;
	x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
	x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
	x ^= x >>> 16;
	return (x >>> 0) / 2 ** 31 - 1;
}

/** Weights as make.py has them: from the place of the name among all and the place in the tensor. */
function weights(names: readonly string[]): (p: Parameter) => Float32Array {
	const place = new Map([...names].sort().map((name, k) => [name, k]));
	return ({ name, shape }) => {
		const start = Math.imul(2654435769, place.get(name)!);
		const scale = shape.length > 1 ? 1 / Math.sqrt(sizeOf(shape.slice(1))) : 0.2;
		const offset = shape.length === 1 && name.endsWith('weight') ? 1 : 0;
		return Float32Array.from({ length: sizeOf(shape) }, (_, i) => offset + scale * hashed(start + i));
	};
}

describe('options of U-Nets and autoencoders', () => {
	let tensors: ReadonlyMap<string, Tensor>;
	beforeAll(async () => {
		({ tensors } = await readSafetensors(new URL('cases.safetensors', folder).pathname));
	});

	it.each(Object.keys(cases))('%s', async (name) => {
		const { class: className, config, options } = cases[name]!;
		const chain = chains[className]!(config, options);
		const inputs = Object.entries(chain.inputs).map(([input, { dtype }]) => {
			const given = tensors.get(`${name}.in.${input}`)!;
			return [input, given.dtype === dtype ? given : tensor(dtype, given.shape, toNumbers(given))];
		});
		expect(inputs.length).toBe([...tensors.keys()].filter((key) => key.startsWith(`${name}.in.`)).length);
		const results = await runForward(chain, weights([...traceChain(chain, 1).parameters.keys()]), Object.fromEntries(inputs));
		expect(results.size).toBe([...tensors.keys()].filter((key) => key.startsWith(`${name}.out.`)).length);
		for (const [output, found] of results) {
			const wanted = tensors.get(`${name}.out.${output}`)!;
			expect(found.shape, output).toEqual(wanted.shape);
			expect(relativeDifference(found.data as Float32Array, wanted.data as Float32Array), output).toBeLessThan(1e-5);
		}
	});
});
