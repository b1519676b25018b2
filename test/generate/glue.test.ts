/** @file What stands between the parts, computed here a second time: conditions, guidance, noise levels, packing, the scale of latents. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { createPipeline, type GenerateOptions } from '../../src/generate/index.ts';
import { createEncoder } from '../../src/models/encoders.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import type { Recording } from '../helpers/recorded-forward.ts';
import { runChain } from '../helpers/run-chain.ts';
import { clipIds, type RecipeName, readPart, t5Ids, tinyPipelines } from '../helpers/tiny-pipelines.ts';

const recording = vi.hoisted((): Recording => ({ runs: [], open: 0, mostOpen: 0 }));
vi.mock('../../src/engine/local/forward.ts', async (original) => {
	const { recordForward } = await import('../helpers/recorded-forward.ts');
	return recordForward(await original<typeof import('../../src/engine/local/forward.ts')>(), recording);
});

let root = '';
let folder: ReturnType<typeof tinyPipelines>;
beforeAll(() => {
	root = mkdtempSync(join(tmpdir(), 'glue-'));
	folder = tinyPipelines(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
	recording.runs.length = 0;
	recording.mostOpen = 0;
});

const floats = (t: Tensor | undefined) => t!.data as Float32Array;
const runsOf = (chain: string) => recording.runs.filter((run) => run.chain === chain);
const rowsOf = (t: Tensor) => {
	const stride = t.data.length / t.shape[0]!;
	return Array.from({ length: t.shape[0]! }, (_, r) => floats(t).subarray(r * stride, (r + 1) * stride));
};
const zip = (a: ArrayLike<number>, b: ArrayLike<number>, f: (x: number, y: number) => number) =>
	Float32Array.from({ length: a.length }, (_, i) => f(a[i]!, b[i]!));
const close = (found: ArrayLike<number>, wanted: ArrayLike<number>) => {
	expect(found.length).toBe(wanted.length);
	expect(relativeDifference(found, wanted)).toBeLessThan(2e-5);
};

async function draw(name: RecipeName, options: GenerateOptions) {
	const pipeline = await createPipeline(await folder(name), { threads: 1 });
	try {
		return await pipeline.generate({ height: 16, width: 24, seed: 3, steps: 2, ...options });
	} finally {
		await pipeline.close();
	}
}

/** An encoder of a folder run by itself on ids. */
async function encoded(name: RecipeName, part: string, ids: readonly (readonly number[])[], output: string, mask?: readonly number[]) {
	const { config, weights } = await readPart(join(root, name, part));
	const className = 'd_model' in config ? 'T5EncoderModel' : output === 'text_embeds' ? 'CLIPTextModelWithProjection' : 'CLIPTextModel';
	const shape = [ids.length, ids[0]!.length];
	const { chain } = createEncoder(className, config, part, {
		tokens: ids[0]!.length,
		outputs: [output],
		weightNames: weights.keys(),
		...(mask ? { attentionMask: true } : {}),
	});
	const inputs = { input_ids: tensor('int64', shape, ids.flat()), ...(mask ? { attention_mask: tensor('int64', shape, mask) } : {}) };
	return rowsOf((await runChain(chain, weights, inputs)).get(output)!);
}

/** alpha_bar of the scaled linear schedule of the folders. */
function alphaBars(): number[] {
	const [from, to] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
	let product = 1;
	return Array.from({ length: 1000 }, (_, t) => {
		product *= 1 - (from + ((to - from) * t) / 999) ** 2;
		return product;
	});
}

describe('StableDiffusionPipeline', () => {
	it('steers by the text of each row, steps as DDIM does, and decodes what is left', async () => {
		const { images } = await draw('sd', { prompts: ['ab', 'cd'], negativePrompt: 'x', guidanceScale: 4 });
		const [first, second] = runsOf('UNet2DConditionModel') as [(typeof recording.runs)[0], (typeof recording.runs)[0]];
		expect(runsOf('UNet2DConditionModel')).toHaveLength(2);
		const states = await encoded('sd', 'text_encoder', [['ab'], ['cd'], ['x']].map(clipIds), 'last_hidden_state');
		const rows = rowsOf(first.inputs.encoder_hidden_states!);
		expect(rows).toHaveLength(4);
		[0, 1, 2, 2].forEach((text, row) => {
			close(rows[row]!, states[text]!);
		});
		expect(toNumbers(first.inputs.timestep!)).toEqual([501, 501, 501, 501]);
		expect(toNumbers(second.inputs.timestep!)).toEqual([1, 1, 1, 1]);

		// Both prompts start from the noise of (seed, first time): the prompts differ, the noise does not.
		const noise = randomStream(3, 'sample.noise').normals(new Float32Array(4 * 8 * 12), 0);
		for (const row of rowsOf(first.inputs.sample!)) expect(row).toEqual(noise);
		const bars = alphaBars();
		const step = (run: typeof first, image: number, from: number, to: number) => {
			const [x, wanted, none] = [run.inputs.sample!, run.outputs.sample!, run.outputs.sample!].map(
				(t, k) => rowsOf(t)[k === 2 ? image + 2 : image]!,
			) as [Float32Array, Float32Array, Float32Array];
			const eps = zip(none, wanted, (n, w) => n + 4 * (w - n));
			return zip(x, eps, (v, e) => (Math.sqrt(to) * (v - Math.sqrt(1 - from) * e)) / Math.sqrt(from) + Math.sqrt(1 - to) * e);
		};
		const latents = rowsOf(runsOf('AutoencoderKL.decoder')[0]!.inputs.z!);
		for (const image of [0, 1]) {
			const next = step(first, image, bars[501]!, bars[1]!);
			close(rowsOf(second.inputs.sample!)[image]!, next);
			close(rowsOf(second.inputs.sample!)[image + 2]!, next);
			close(
				latents[image]!,
				step(second, image, bars[1]!, 1).map((v) => v / 0.18215),
			);
		}
		const decoded = floats(runsOf('AutoencoderKL.decoder')[0]!.outputs.sample);
		expect(images).toEqual(decoded.map((v) => Math.min(1, Math.max(-1, v))));
		expect(decoded.some((v) => Math.abs(v) > 1)).toBe(true);
	});

	it('runs half the rows without guidance, and one part at a time', async () => {
		await draw('sd', { prompts: ['ab'], guidanceScale: 7 });
		expect(runsOf('UNet2DConditionModel').map((run) => run.inputs.sample!.shape[0])).toEqual([2, 2]);
		expect(runsOf('CLIPTextModel').map((run) => run.inputs.input_ids!.shape[0])).toEqual([2]);
		recording.runs.length = 0;
		await draw('sd', { prompts: ['ab'], guidanceScale: 1 });
		expect(runsOf('UNet2DConditionModel').map((run) => run.inputs.sample!.shape[0])).toEqual([1, 1]);
		expect(runsOf('CLIPTextModel').map((run) => run.inputs.input_ids!.shape[0])).toEqual([1]);
		expect(recording).toMatchObject({ open: 0, mostOpen: 1 });
	});

	it('gives the same image for the same seed', async () => {
		const one = await draw('sd', { prompts: ['ab'] });
		expect((await draw('sd', { prompts: ['ab'] })).images).toEqual(one.images);
		expect(relativeDifference((await draw('sd', { prompts: ['ab'], seed: 4 })).images, one.images)).toBeGreaterThan(0.02);
	});
});

describe('StableDiffusionXLPipeline', () => {
	it('joins the states before the last blocks, and gives the pooled text and the size', async () => {
		await draw('sdxl', { prompts: ['ab'], guidanceScale: 5 });
		const [{ inputs }] = runsOf('UNet2DConditionModel') as [(typeof recording.runs)[0]];
		const ids = [clipIds(['ab'])];
		const narrow = (await encoded('sdxl', 'text_encoder', ids, 'hidden_states.1'))[0]!;
		const wide = (await encoded('sdxl', 'text_encoder_2', ids, 'hidden_states.1'))[0]!;
		const joined = Array.from({ length: 12 }, (_, t) => [...narrow.subarray(16 * t, 16 * t + 16), ...wide.subarray(12 * t, 12 * t + 12)]);
		const [wanted, none] = rowsOf(inputs.encoder_hidden_states!) as [Float32Array, Float32Array];
		close(wanted, joined.flat());
		const [pooled, pooledNone] = rowsOf(inputs.text_embeds!) as [Float32Array, Float32Array];
		close(pooled, (await encoded('sdxl', 'text_encoder_2', ids, 'text_embeds'))[0]!);
		expect([...none, ...pooledNone].every((v) => v === 0)).toBe(true);
		expect(rowsOf(inputs.time_ids!).map((row) => [...row])).toEqual([
			[16, 24, 0, 0, 16, 24],
			[16, 24, 0, 0, 16, 24],
		]);
		// Euler starts with noise of its largest level, and scales it back to unit variance for the model.
		const noise = randomStream(3, 'sample.noise').normals(new Float32Array(4 * 8 * 12), 0);
		close(rowsOf(inputs.sample!)[0]!, noise);
	});

	it('takes a negative prompt that is given, empty or not, as a text', async () => {
		await draw('sdxl', { prompts: ['ab'], negativePrompt: '', guidanceScale: 5 });
		const [{ inputs }] = runsOf('UNet2DConditionModel') as [(typeof recording.runs)[0]];
		close(rowsOf(inputs.text_embeds!)[1]!, (await encoded('sdxl', 'text_encoder_2', [clipIds([])], 'text_embeds'))[0]!);
	});
});

describe('PixArt', () => {
	it('lower-cases, masks padding in both models, and leaves the predicted variance out', async () => {
		await draw('pixartSized', { prompts: ['  AB '], guidanceScale: 1, steps: 1 });
		const [{ inputs, outputs }] = runsOf('PixArtTransformer2DModel') as [(typeof recording.runs)[0]];
		const ids = t5Ids('ab', 300);
		const mask = ids.map((id) => (id === 0 ? 0 : 1));
		expect(mask.slice(0, 6)).toEqual([1, 1, 1, 1, 0, 0]);
		expect(toNumbers(inputs.encoder_attention_mask!)).toEqual(mask);
		close(floats(inputs.encoder_hidden_states), (await encoded('pixartSized', 'text_encoder', [ids], 'last_hidden_state', mask))[0]!);
		expect(toNumbers(inputs.resolution!)).toEqual([16, 24]);
		expect(toNumbers(inputs.aspect_ratio!)).toEqual([Math.fround(2 / 3)]);
		expect(outputs.sample!.shape).toEqual([1, 8, 8, 12]);
		// The one step of the solver goes to x0.
		const bar = alphaBars()[toNumbers(inputs.timestep!)[0]!]!;
		const eps = floats(outputs.sample).subarray(0, 4 * 8 * 12);
		const x0 = zip(floats(inputs.hidden_states), eps, (x, e) => (x - Math.sqrt(1 - bar) * e) / Math.sqrt(bar));
		close(
			floats(runsOf('AutoencoderKL.decoder')[0]!.inputs.z),
			x0.map((v) => v / 0.18215),
		);
	});

	it('of 512 pixels takes 120 tokens and no size', async () => {
		await draw('pixart', { prompts: ['ab'], guidanceScale: 3, steps: 1 });
		const [{ inputs }] = runsOf('PixArtTransformer2DModel') as [(typeof recording.runs)[0]];
		expect(inputs.encoder_hidden_states!.shape).toEqual([2, 120, 20]);
		expect(Object.keys(inputs).sort()).toEqual(['encoder_attention_mask', 'encoder_hidden_states', 'hidden_states', 'timestep']);
	});
});

describe('StableDiffusion3Pipeline', () => {
	it.each(['sd3', 'sd3WithoutT5'] as const)('joins the texts, walks shifted levels, and shifts latents back (%s)', async (name) => {
		await draw(name, { prompts: ['ab'], guidanceScale: 6 });
		const [first, second] = runsOf('SD3Transformer2DModel') as [(typeof recording.runs)[0], (typeof recording.runs)[0]];
		for (const [row, words] of [['ab'], []].entries()) {
			const ids = [clipIds(words)];
			const one = (await encoded(name, 'text_encoder', ids, 'hidden_states.1'))[0]!;
			const two = (await encoded(name, 'text_encoder_2', ids, 'hidden_states.1'))[0]!;
			const t5 =
				name === 'sd3'
					? (await encoded(name, 'text_encoder_3', [t5Ids(words.join(), 256)], 'last_hidden_state'))[0]!
					: new Float32Array(256 * 32);
			const tokens = Array.from({ length: 12 }, (_, t) => [
				...one.subarray(16 * t, 16 * t + 16),
				...two.subarray(12 * t, 12 * t + 12),
				0,
				0,
				0,
				0,
			]);
			close(rowsOf(first.inputs.encoder_hidden_states!)[row]!, [...tokens.flat(), ...t5]);
			const pooled = [
				...(await encoded(name, 'text_encoder', ids, 'text_embeds'))[0]!,
				...(await encoded(name, 'text_encoder_2', ids, 'text_embeds'))[0]!,
			];
			close(rowsOf(first.inputs.pooled_projections!)[row]!, pooled);
		}
		const shifted = (s: number) => (3 * s) / (1 + 2 * s);
		const sigmas = [1, shifted(shifted(0.001))] as const;
		expect(toNumbers(first.inputs.timestep!)).toEqual([1000, 1000]);
		close(toNumbers(second.inputs.timestep!), [1000 * sigmas[1], 1000 * sigmas[1]]);
		const move = (run: typeof first, by: number) => {
			const [wanted, none] = rowsOf(run.outputs.sample!) as [Float32Array, Float32Array];
			const velocity = zip(none, wanted, (n, w) => n + 6 * (w - n));
			return zip(rowsOf(run.inputs.hidden_states!)[0]!, velocity, (x, v) => x + by * v);
		};
		close(rowsOf(second.inputs.hidden_states!)[1]!, move(first, sigmas[1] - 1));
		close(
			floats(runsOf('AutoencoderKL.decoder')[0]!.inputs.z),
			move(second, -sigmas[1]).map((v) => v / 1.5305 + 0.0609),
		);
	});
});

describe('FluxPipeline', () => {
	/** [C, H, W] to [H/2 * W/2, 4 C] by index arithmetic from the other side: each packed number looks up its place. */
	const packed = (x: ArrayLike<number>, [channels, rows, columns]: readonly [number, number, number]) =>
		Array.from({ length: channels * rows * columns }, (_, i) => {
			const token = Math.floor(i / (4 * channels));
			const place = i % (4 * channels);
			const row = 2 * Math.floor(token / (columns / 2)) + (Math.floor(place / 2) % 2);
			const column = 2 * (token % (columns / 2)) + (place % 2);
			return x[(Math.floor(place / 4) * rows + row) * columns + column]!;
		});

	it('packs latents two by two, numbers the tokens, shifts levels by their count, and hands the guidance over', async () => {
		await draw('flux', { prompts: ['ab'], guidanceScale: 2.5 });
		const [first, second] = runsOf('FluxTransformer2DModel') as [(typeof recording.runs)[0], (typeof recording.runs)[0]];
		const noise = randomStream(3, 'sample.noise').normals(new Float32Array(4 * 8 * 12), 0);
		expect(first.inputs.hidden_states!.shape).toEqual([1, 24, 16]);
		expect(toNumbers(first.inputs.hidden_states!)).toEqual(packed(noise, [4, 8, 12]));
		expect(toNumbers(first.inputs.img_ids!)).toEqual(Array.from({ length: 24 }, (_, t) => [0, Math.floor(t / 6), t % 6]).flat());
		expect(first.inputs.txt_ids!.shape).toEqual([1, 512, 3]);
		expect(toNumbers(first.inputs.txt_ids!).every((v) => v === 0)).toBe(true);
		expect(toNumbers(first.inputs.guidance!)).toEqual([2.5]);
		close(floats(first.inputs.pooled_projections), (await encoded('flux', 'text_encoder', [clipIds(['ab'])], 'pooler_output'))[0]!);
		close(
			floats(first.inputs.encoder_hidden_states),
			(await encoded('flux', 'text_encoder_2', [t5Ids('ab', 512)], 'last_hidden_state'))[0]!,
		);
		const mu = 0.5 + ((24 - 256) * 0.65) / 3840;
		const half = Math.exp(mu) / (Math.exp(mu) + 1 / 0.5 - 1);
		expect(toNumbers(first.inputs.timestep!)).toEqual([1]);
		close(toNumbers(second.inputs.timestep!), [half]);
		const next = zip(floats(first.inputs.hidden_states), floats(first.outputs.sample), (x, v) => x + (half - 1) * v);
		close(floats(second.inputs.hidden_states), next);
		const last = zip(floats(second.inputs.hidden_states), floats(second.outputs.sample), (x, v) => x - half * v);
		const z = floats(runsOf('AutoencoderKL.decoder')[0]!.inputs.z).map((v) => (v - 0.1159) * 0.3611);
		close(packed(z, [4, 8, 12]), last);
	});
});
