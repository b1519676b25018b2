/** @file The frozen parts of a filled run: the chains that run in the bubbles, where their weights come from, and what the host feeds them. */
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { randomStream } from '../../core/random.ts';
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import { toFloat32 } from '../../io/half.ts';
import { readModelFolder } from '../../io/model-folder.ts';
import { openTokenizer } from '../../io/tokenizer.ts';
import { asSpelledIn } from '../../models/attention-names.ts';
import { autoencoderKLEncoderChain, latentFactor, readAutoencoderKLConfig } from '../../models/autoencoder-kl.ts';
import { createEncoder } from '../../models/encoders.ts';
import type { Chain } from '../../nn/chain.ts';
import { withoutIdleLayers } from '../../nn/prune.ts';
import type { Given, OutputOf } from '../../program/fill/types.ts';

/** A frozen chain with its weights. */
export interface RunPart {
	readonly name: string;
	readonly chain: Chain;
	/** Chain inputs that other parts give. */
	readonly takes: Readonly<Record<string, OutputOf>>;
	/** A parameter's values, by its name in the chain. */
	readonly weights: (name: string) => Promise<Float32Array>;
}

/** The frozen side of a filled run. */
export interface RunParts {
	readonly parts: readonly RunPart[];
	/** Which inputs of the trained chain they give. */
	readonly given: Given;
	close(): Promise<void>;
}

/**
 * `encoder` (outputs `mean` and `logvar`) with one more layer: a draw from the posterior from the normal numbers fed as `posterior`, moved and scaled as the
 * denoiser expects (latents = (mean + exp(logvar / 2) posterior - shift) scale). Output `x0`.
 */
export function latentsChain(encoder: Chain, latents: readonly number[], { shift, scale }: { shift: number; scale: number }): Chain {
	return {
		...encoder,
		inputs: { ...encoder.inputs, posterior: { dtype: 'float32', shape: latents } },
		layers: [
			...encoder.layers,
			{
				name: 'posterior',
				path: '',
				build: ({ g }, live) => {
					const deviation = g.exp(g.mul(live.get('logvar'), 0.5));
					const drawn = g.add(live.get('mean'), g.mul(deviation, live.get('posterior')));
					live.set('x0', g.mul(shift === 0 ? drawn : g.sub(drawn, shift), scale));
				},
			},
		],
		outputs: ['x0'],
	};
}

/** An AutoencoderKL's encoder as part `vae`, which gives `x0`, for pictures of `height` x `width`. */
export async function vaePart(
	folder: string,
	pixels: { readonly height: number; readonly width: number },
): Promise<RunPart & { close(): Promise<void> }> {
	const { config: raw, weights } = await readModelFolder(folder);
	const config = readAutoencoderKLConfig(raw, join(folder, 'config.json'));
	const factor = latentFactor(config);
	if (pixels.height % factor !== 0 || pixels.width % factor !== 0) {
		await weights.close();
		throw new DiffusionPipeError('config', 'the pictures do not part into latents', {
			place: `${folder}: ${pixels.height} x ${pixels.width}`,
			expected: `multiples of ${factor}`,
		});
	}
	const latents = [config.latent_channels, pixels.height / factor, pixels.width / factor];
	const encoder = asSpelledIn(autoencoderKLEncoderChain(config, pixels), weights.names);
	return {
		name: 'vae',
		chain: latentsChain(encoder, latents, { shift: config.shift_factor ?? 0, scale: config.scaling_factor }),
		takes: {},
		weights: async (name) => toFloat32(await weights.read(name)).data,
		close: () => weights.close(),
	};
}

/** A text encoder as part `text_encoder`, which gives `encoder_hidden_states`, and where it has a projection that is wanted (`pooled`) `pooled_projections`. */
export async function textPart(folder: string, pooled = true): Promise<RunPart & { readonly projected: boolean; close(): Promise<void> }> {
	const { config: raw, weights } = await readModelFolder(folder);
	const className = String((raw as { architectures?: readonly unknown[] }).architectures?.[0] ?? 'CLIPTextModel');
	const projected = pooled && className === 'CLIPTextModelWithProjection';
	const { chain } = createEncoder(className, raw, join(folder, 'config.json'), {
		outputs: ['last_hidden_state', ...(projected ? ['text_embeds'] : [])],
		weightNames: weights.names,
	});
	return {
		name: 'text_encoder',
		chain: withoutIdleLayers(asSpelledIn(chain, weights.names)),
		takes: {},
		weights: async (name) => toFloat32(await weights.read(name)).data,
		projected,
		close: () => weights.close(),
	};
}

/** Opens what the folders name (empty: none); `pooled`: the denoiser takes `pooled_projections`. */
export async function openRunParts(
	vaeFolder: string,
	textFolder: string,
	pixels: { readonly height: number; readonly width: number },
	pooled: boolean,
): Promise<RunParts> {
	const parts: (RunPart & { close(): Promise<void> })[] = [];
	const given: Record<string, OutputOf> = {};
	try {
		if (vaeFolder !== '') {
			parts.push(await vaePart(vaeFolder, pixels));
			given.x0 = { part: 'vae', output: 'x0' };
		}
		if (textFolder !== '') {
			const text = await textPart(textFolder, pooled);
			parts.push(text);
			given.encoder_hidden_states = { part: 'text_encoder', output: 'last_hidden_state' };
			if (text.projected) given.pooled_projections = { part: 'text_encoder', output: 'text_embeds' };
		}
	} catch (error) {
		await Promise.all(parts.map((part) => part.close()));
		throw error;
	}
	return {
		parts,
		given,
		close: async () => {
			await Promise.all(parts.map((part) => part.close()));
		},
	};
}

/** What the host knows of a step. */
export interface HostBatch {
	/** [batch, channels, height, width]. */
	readonly images: Float32Array;
	readonly captions: readonly string[];
}

/**
 * Feeds of the parts `vae` and `text_encoder` for a step: pictures, the posterior's normal numbers (a function of seed, step and picture) and token ids.
 * `tokenizerFolder` is empty where there is no text encoder.
 */
export async function frozenFeeds(
	{ parts }: RunParts,
	tokenizerFolder: string,
	seed: number,
): Promise<(step: number, batch: HostBatch) => Record<string, Tensor>> {
	const vae = parts.find(({ name }) => name === 'vae');
	const text = parts.find(({ name }) => name === 'text_encoder');
	const tokenizer = text && (await openTokenizer(tokenizerFolder));
	const stream = randomStream(seed, 'train.posterior');
	return (step, { images, captions }) => {
		const feeds: Record<string, Tensor> = {};
		if (vae) {
			const { x, posterior } = vae.chain.inputs;
			const count = images.length / sizeOf(x!.shape);
			feeds['vae.x'] = { dtype: 'float32', shape: [count, ...x!.shape], data: images };
			feeds['vae.posterior'] = {
				dtype: 'float32',
				shape: [count, ...posterior!.shape],
				data: stream.normals(new Float32Array(count * sizeOf(posterior!.shape)), step),
			};
		}
		if (text && tokenizer) {
			const tokens = text.chain.inputs.input_ids!.shape[0]!;
			feeds['text_encoder.input_ids'] = tokenizer.encode(captions, { maxLength: tokens }).inputIds;
		}
		return feeds;
	};
}
