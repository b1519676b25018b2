/**
 * @file The frozen parts of a run: an image autoencoder and a text encoder that run forward only, on the run's devices, for the
 * step after the one being trained. What they give is kept in memory, as far as it fits, and on disk where a run asks for it.
 */
import { access, cp, link, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DiffusionPipeError } from '../core/errors.ts';
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { type Forward, openForward } from '../engine/local/forward.ts';
import { toFloat32 } from '../io/half.ts';
import { readModelFolder } from '../io/model-folder.ts';
import type { TensorReader } from '../io/safetensors.ts';
import { openTokenizer, type Tokenizer } from '../io/tokenizer.ts';
import { asSpelledIn } from '../models/attention-names.ts';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, latentFactor, readAutoencoderKLConfig } from '../models/autoencoder-kl.ts';
import { createEncoder } from '../models/encoders.ts';
import type { Chain } from '../nn/chain.ts';
import { type CacheCounts, type DiskCacheOptions, digestOf, digestOfPart, openDiskCache } from './cache/disk-cache.ts';
import { rowCache } from './row-cache.ts';

/** Bytes that each frozen part may keep of what it has computed. */
const cacheBytes = 2 ** 28;

/** How frozen parts are run. */
export interface FrozenOptions {
	readonly devices: number;
	/** Samples one device computes at once. */
	readonly batch: number;
	readonly threads: number;
	/** Keeps what is computed on disk, too. */
	readonly disk?: DiskCacheOptions | undefined;
}

/** An autoencoder between pictures and the denoiser's latents. */
export interface FrozenVae {
	readonly folder: string;
	/** Pictures it takes, [channels, height, width]. */
	readonly pictures: readonly [number, number, number];
	/** Latents it gives. */
	readonly latents: readonly [number, number, number];
	/**
	 * Latents of a step's pictures: one draw from the posterior each, a function of (seed, step, picture), scaled for the denoiser. Pictures of the
	 * same key are the same, and encoded once. Without a step, the posteriors' means.
	 */
	encode(pictures: Float32Array, keys: readonly string[], step: number | undefined): Promise<Float32Array>;
	/** Pictures of latents. */
	decode(latents: Float32Array): Promise<Float32Array>;
	/** What the cache on disk was asked for, where there is one. */
	cached(): CacheCounts | undefined;
	close(): Promise<void>;
}

/** A text encoder with its tokenizer. */
export interface FrozenText {
	readonly folder: string;
	readonly tokenizerFolder: string;
	readonly className: string;
	/** States of a text, [tokens, width]. */
	readonly states: readonly [number, number];
	/** Width of the one vector that an encoder with a projection gives for a text. */
	readonly pooled: number | undefined;
	/** By the denoiser's inputs: `encoder_hidden_states` [texts, tokens, width], and `pooled_projections` [texts, width] where there is a projection. */
	encode(texts: readonly string[]): Promise<Readonly<Record<string, Float32Array>>>;
	cached(): CacheCounts | undefined;
	close(): Promise<void>;
}

/** A path as given, or, when there is nothing, the same path inside this package (`assets/...`). */
export async function packagedPath(path: string, key: string): Promise<string> {
	const own = fileURLToPath(new URL(`../../${path}`, import.meta.url));
	for (const candidate of [resolve(path), own]) {
		const found = await access(candidate).then(
			() => true,
			() => false,
		);
		if (found) return candidate;
	}
	throw new DiffusionPipeError('config', 'there is no such folder', {
		place: key,
		expected: 'a folder, or one of this package such as assets/emoji-vae',
		found: path,
	});
}

async function opened(chain: Chain, weights: TensorReader, { devices, batch, threads }: FrozenOptions): Promise<Forward> {
	const forward = await openForward(asSpelledIn(chain, weights.names), { devices, batch, threads });
	try {
		await forward.setWeights(async (name) => toFloat32(await weights.read(name)).data);
		return oneAtATime(forward);
	} catch (error) {
		await forward.close();
		throw error;
	}
}

/** `forward`, whose runs wait for each other: pictures are drawn while the next step's texts are being encoded. */
function oneAtATime(forward: Forward): Forward {
	let last: Promise<unknown> = Promise.resolve();
	return {
		...forward,
		run(inputs) {
			const result = last.then(() => forward.run(inputs));
			last = result.catch(() => {});
			return result;
		},
	};
}

/** The rows of `a`, each with that of `b` after it. */
function joinedRows(a: Float32Array, b: Float32Array, count: number): Float32Array[] {
	const [first, second] = [a.length / count, b.length / count];
	return Array.from({ length: count }, (_, i) => {
		const row = new Float32Array(first + second);
		row.set(a.subarray(i * first, (i + 1) * first));
		row.set(b.subarray(i * second, (i + 1) * second), first);
		return row;
	});
}

/** Opens the AutoencoderKL in `folder` for pictures of `height` x `width`. */
export async function openFrozenVae(
	folder: string,
	pixels: { readonly height: number; readonly width: number },
	seed: number,
	options: FrozenOptions,
): Promise<FrozenVae> {
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
	const latents = [config.latent_channels, pixels.height / factor, pixels.width / factor] as const;
	const pictures = [config.in_channels, pixels.height, pixels.width] as const;
	const shift = config.shift_factor ?? 0;
	const { scaling_factor: scale } = config;
	// Each half is opened when it is first used: a filled run encodes within its training program.
	let encoder: Forward | undefined;
	let decoder: Forward | undefined;
	const stream = randomStream(seed, 'train.posterior');
	const posteriors = rowCache(cacheBytes);
	const size = sizeOf(latents);
	const own = sizeOf(pictures);
	/** Of each picture the means, then the standard deviations. */
	const compute = async (chosen: readonly Float32Array[]): Promise<Float32Array[]> => {
		const x = new Float32Array(chosen.length * own);
		chosen.forEach((picture, i) => {
			x.set(picture, i * own);
		});
		encoder ??= await opened(autoencoderKLEncoderChain(config, pixels), weights, options);
		const { mean, logvar } = await encoder.run({ x: { dtype: 'float32', shape: [chosen.length, ...pictures], data: x } });
		const deviations = (logvar!.data as Float32Array).map((v) => Math.exp(0.5 * v));
		return joinedRows(mean!.data as Float32Array, deviations, chosen.length);
	};
	const disk =
		options.disk &&
		(await openDiskCache({ name: 'vae', digest: await digestOfPart(weights, { config, pictures }), shape: [2, ...latents] }, options.disk));
	return {
		folder,
		pictures,
		latents,
		async encode(data, keys, step) {
			const rows = await posteriors(keys, async (places) => {
				const chosen = places.map((place) => data.subarray(place * own, (place + 1) * own));
				return disk ? disk.rows(chosen.map(digestOf), (missing) => compute(missing.map((i) => chosen[i]!))) : compute(chosen);
			});
			const out = new Float32Array(keys.length * size);
			if (step !== undefined) stream.normals(out, step);
			rows.forEach((row, p) => {
				for (let k = 0; k < size; k++) out[p * size + k] = (row[k]! + row[size + k]! * out[p * size + k]! - shift) * scale;
			});
			return out;
		},
		async decode(data) {
			decoder ??= await opened(autoencoderKLDecoderChain(config, { height: latents[1], width: latents[2] }), weights, {
				...options,
				batch: Math.min(options.batch, 16),
			});
			const count = data.length / sizeOf(latents);
			const z: Tensor = { dtype: 'float32', shape: [count, ...latents], data: data.map((x) => x / scale + shift) };
			return (await decoder.run({ z })).sample!.data as Float32Array;
		},
		cached: () => disk?.counts(),
		async close() {
			await disk?.flush();
			await encoder?.close();
			await decoder?.close();
			await weights.close();
		},
	};
}

/** Opens a text encoder folder and its tokenizer. The class is the config's `architectures[0]`. */
export async function openFrozenText(folder: string, tokenizerFolder: string, options: FrozenOptions): Promise<FrozenText> {
	const tokenizer: Tokenizer = await openTokenizer(tokenizerFolder);
	const { config: raw, weights } = await readModelFolder(folder);
	try {
		const className = String((raw as { architectures?: readonly unknown[] }).architectures?.[0] ?? 'CLIPTextModel');
		const projected = className === 'CLIPTextModelWithProjection';
		const { chain } = createEncoder(className, raw, join(folder, 'config.json'), {
			outputs: ['last_hidden_state', ...(projected ? ['text_embeds'] : [])],
			weightNames: weights.names,
		});
		let forward: Promise<Forward> | undefined;
		const tokens = chain.inputs.input_ids!.shape[0]!;
		const { hidden_size, d_model, projection_dim = 512 } = raw as { hidden_size?: number; d_model?: number; projection_dim?: number };
		const width = hidden_size ?? d_model!;
		const pooled = projected ? projection_dim : undefined;
		const kept = rowCache(cacheBytes);
		/** Of each text, [tokens], its states, then what they are projected to. */
		const compute = async (texts: readonly BigInt64Array[]): Promise<Float32Array[]> => {
			const data = new BigInt64Array(texts.length * tokens);
			texts.forEach((ids, i) => {
				data.set(ids, i * tokens);
			});
			forward ??= opened(chain, weights, options);
			const { last_hidden_state, text_embeds } = await (await forward).run({
				input_ids: { dtype: 'int64', shape: [texts.length, tokens], data },
			});
			const [states, vectors] = [last_hidden_state!.data as Float32Array, (text_embeds?.data ?? new Float32Array()) as Float32Array];
			return joinedRows(states, vectors, texts.length);
		};
		const disk =
			options.disk &&
			(await openDiskCache(
				{ name: 'text_encoder', digest: await digestOfPart(weights, { config: raw, tokens }), shape: [tokens * width + (pooled ?? 0)] },
				options.disk,
			));
		return {
			folder,
			tokenizerFolder,
			className,
			states: [tokens, width],
			pooled,
			async encode(texts) {
				const rows = await kept(texts, (places) => {
					const { inputIds } = tokenizer.encode(
						places.map((place) => texts[place]!),
						{ maxLength: tokens },
					);
					const ids = places.map((_, i) => (inputIds.data as BigInt64Array).subarray(i * tokens, (i + 1) * tokens));
					return disk ? disk.rows(ids.map(digestOf), (missing) => compute(missing.map((i) => ids[i]!))) : compute(ids);
				});
				const states = new Float32Array(texts.length * tokens * width);
				const vectors = new Float32Array(texts.length * (pooled ?? 0));
				rows.forEach((row, i) => {
					states.set(row.subarray(0, tokens * width), i * tokens * width);
					vectors.set(row.subarray(tokens * width), i * (pooled ?? 0));
				});
				return { encoder_hidden_states: states, ...(projected ? { pooled_projections: vectors } : {}) };
			},
			cached: () => disk?.counts(),
			async close() {
				await disk?.flush();
				await (await forward?.catch(() => undefined))?.close();
				await weights.close();
			},
		};
	} catch (error) {
		await weights.close();
		throw error;
	}
}

/** Puts a copy of a frozen part's folder at `to`: as links where the file system allows, since nobody changes these files. */
export async function copyPart(from: string, to: string): Promise<void> {
	await mkdir(to, { recursive: true });
	for (const name of await readdir(from)) {
		// A folder of the hub's cache holds links, which lead nowhere from elsewhere.
		const [source, target] = [await realpath(join(from, name)), join(to, name)];
		if ((await stat(source)).isDirectory()) await copyPart(source, target);
		else await link(source, target).catch(() => cp(source, target));
	}
}
